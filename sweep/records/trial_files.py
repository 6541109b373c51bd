"""The files of a trial, written and read here alone.

config.json   what it was, where it was trained, and what came of it
history.csv   the metrics of each epoch
model.npz     the weights of its best epoch, if an epoch was finite
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from core.errors import InputError, reason
from core.export import model_npz
from core.storage import checksums
from core.training.progress import Metrics, TrialResult
from sweep.experiment.checks import Value
from sweep.records.provenance import Provenance
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome

CONFIG, HISTORY, MODEL = "config.json", "history.csv", "model.npz"
TOLD = (CONFIG, HISTORY)  # by every trial, beside their checksums


class DataConfig(TypedDict):
    """The data set in a trial's config.json, and the seed of its split."""

    name: str
    sha256: str
    seed: int


class TrialConfig(TypedDict):
    """A trial's config.json."""

    experiment: str
    stage: str
    trial: str
    key: str
    settings: dict[str, Value]
    data: DataConfig
    environment: dict[str, str]
    origin: NotRequired[dict[str, str]]
    result: dict[str, str | float | int | None]


@dataclass(frozen=True)
class TrialFiles:
    """What the files of a trial tell."""

    config: TrialConfig
    history: list[Metrics]
    outcome: Outcome


def write_trial(folder: Path, cell: Cell, result: TrialResult, outcome: Outcome, provenance: Provenance) -> None:
    """Write a trial's files into the folder."""
    if result.model is not None:
        model_npz.save_model(folder / MODEL, result.model)
    _write_history(folder / HISTORY, result.history)
    data, seed = provenance.data, provenance.experiment.seed
    config: TrialConfig = {
        "experiment": provenance.experiment.name,
        "stage": cell.stage,
        "trial": cell.name,
        "key": cell.key,
        "settings": cell.settings.effective(),
        "data": {"name": data.name, "sha256": data.sha256, "seed": seed},
        "environment": provenance.environment,
        "origin": provenance.origin,
        "result": asdict(outcome),
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _write_history(path: Path, history: Sequence[Metrics]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", *history[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch} | row for epoch, row in enumerate(history, start=1))


def read_trial(folder: Path) -> TrialFiles:
    """What a trial's files tell. Raises InputError if one is missing or damaged, also of those that are not read."""
    for name in (checksums.SUMS, *TOLD):
        _require(folder / name)
    try:
        config = read_config(folder / CONFIG)
        if not all(isinstance(value, str) for value in (config["stage"], config["trial"], config["key"])):
            raise TypeError("stage, trial and key must be text")
        config["settings"].items()
        outcome = _outcome(config["result"])
        history = _read_history(folder / HISTORY)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is damaged: {type(error).__name__}: {reason(error)}") from None
    if outcome.best_epoch:
        _require(folder / MODEL)
    return TrialFiles(config, history, outcome)


def read_config(path: Path) -> TrialConfig:
    """What a config.json tells, as it is. Raises OSError or ValueError if it cannot be read."""
    return cast(TrialConfig, json.loads(path.read_text(encoding="utf-8")))


def _outcome(result: Mapping[str, object]) -> Outcome:
    known = {field.name for field in fields(Outcome)}
    values: dict[str, object] = {name: value for name, value in result.items() if name in known}
    return Outcome(**values)  # type: ignore[arg-type]  # as they were written


def _read_history(path: Path) -> list[Metrics]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if name != "epoch"} for row in rows]


def _require(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing")
    checksums.check(path)
