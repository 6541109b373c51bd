"""The files of a trial, written and read."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from core.errors import InputError, reason
from core.storage import checksums
from core.training.progress import Metrics
from sweep.search.outcome import Outcome

TOLD = ("config.json", "history.csv")  # by every trial, beside their checksums


@dataclass(frozen=True)
class TrialFiles:
    """What the files of a trial tell."""

    config: Mapping[str, Any]
    history: list[Metrics]
    outcome: Outcome


def read_trial(folder: Path) -> TrialFiles:
    """What a trial's files tell. Raises InputError if one is missing or damaged, also of those that are not read."""
    for name in (checksums.SUMS, *TOLD):
        _require(folder / name)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not all(isinstance(config[name], str) for name in ("stage", "trial", "key")):
            raise TypeError("stage, trial and key must be text")
        config["settings"].items()
        known = {field.name for field in fields(Outcome)}
        outcome = Outcome(**{name: value for name, value in config["result"].items() if name in known})
        with open(folder / "history.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        history = [{name: float(value) for name, value in row.items() if name != "epoch"} for row in rows]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is damaged: {type(error).__name__}: {reason(error)}") from None
    if outcome.best_epoch:
        _require(folder / "model.npz")
    return TrialFiles(config, history, outcome)


def _require(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing")
    checksums.check(path)
