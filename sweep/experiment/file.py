"""experiments/*.toml -> validated, typed stages. An experiment is data: nothing in the file is executed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.config.settings import check_setting
from core.errors import InputError, reason
from core.project import root
from sweep.experiment.checks import Value, check_keys, settings, typed
from sweep.experiment.parse_stage import parse_stage
from sweep.experiment.stage import Experiment, Stage
from sweep.experiment.synonyms import nearest

_TEXTS = ("data", "data_dir", "backend", "precision")
_TOP = ("seed", *_TEXTS, "settings", "stages")


def names() -> list[str]:
    """What experiments there are in experiments/."""
    return sorted(path.stem for path in (root() / "experiments").glob("*.toml"))


def find(name: str) -> Path:
    """The file of an experiment given by its name in experiments/, or by a path ending in .toml."""
    path = Path(name) if name.endswith(".toml") else root() / "experiments" / f"{name}.toml"
    if path.is_file():
        return path
    known = names()
    raise InputError(f'there is no experiment "{name}" ({path}){nearest(name, known)}; there are: {", ".join(known)}')


def load(name: str, overrides: Mapping[str, Value] | None = None) -> Experiment:
    """Read and check an experiment. overrides (settings, and seed) replace what the file says for every stage.

    Raises InputError naming the file, the key and the nearest valid key.
    """
    path = find(name)
    if not re.fullmatch(r"[\w .-]+", path.stem):  # it becomes the name of a folder, a model, an MLflow experiment
        raise InputError(f"{path}: an experiment's name may hold letters, digits, blanks and . _ -; rename the file")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {reason(error)}") from None
    try:
        return _experiment(path, text, content, dict(overrides or {}))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _experiment(path: Path, text: str, content: dict[str, Any], overrides: dict[str, Any]) -> Experiment:
    check_keys("", content, _TOP)
    for key in _TEXTS:
        typed(key, content.get(key), str, "text")
    seed = overrides.pop("seed", content.get("seed", 0))
    check_setting("seed", seed)
    shared = settings("settings", content.get("settings", {}))
    tables = typed("stages", content.get("stages"), dict, "a table of stages")
    if not tables:
        raise InputError("stages is missing: an experiment needs at least one, like [stages.grid]")
    stages: dict[str, Stage] = {}
    for name, table in tables.items():
        typed(f"stages.{name}", table, dict, "a table")
        stages[name] = parse_stage(name, table, shared, overrides, stages)
    texts = {key: content.get(key) for key in _TEXTS}
    return Experiment(path.stem, path, text, seed, stages=stages, overrides=overrides, **texts)
