"""Train one trial again, alone, and hold it to what its run has recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.config.settings import Settings
from core.data.dataset import Dataset
from core.data.images import Images
from core.errors import InputError, reason
from core.ops import Ops
from core.storage import npz
from core.tracking import tags
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from core.training.loop import train_group
from core.training.progress import EpochReport, TrialResult, Verdict
from sweep.records.trial_files import CONFIG, MODEL, read_config
from sweep.search import grouping


@dataclass(frozen=True)
class Verification:
    """How a trial that was trained again compares with its run.

    epochs       trained again, and recorded
    accuracies   validation accuracy by epoch: recorded, and again
    differences  of each metric or array that is not the same, the largest; nan where shapes or epochs differ
    arrays       of the model that were compared
    """

    epochs: tuple[int, int]
    accuracies: list[tuple[float, float]]
    differences: dict[str, float]
    arrays: int

    @property
    def equal(self) -> bool:
        """Whether nothing differs, bit for bit."""
        return not self.differences


def settings_of(tracker: Tracker, run: RunInfo) -> Settings:
    """What the run was trained with. Raises InputError if it is no trial, or its record is damaged."""
    if run.tags.get(tags.KIND) != tags.TRIAL:
        raise InputError(f"run {run.run_id} ({run.name}) is not a trial: only trials are trained again")
    path = tracker.artifacts.path(run, CONFIG)
    try:
        values: Mapping[str, Any] = read_config(path)["settings"]
        return Settings(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {reason(error)}") from None


def verify(tracker: Tracker, run: RunInfo, ops: Ops, data: Dataset) -> Verification:
    """Train the run's trial alone, for as many epochs as it had, and compare everything but the time it took."""
    settings = settings_of(tracker, run)
    recorded = tracker.artifacts.history(run)
    again = _trained(ops, data, settings, int(run.tags[tags.DATA_SEED]), len(recorded))
    differences: dict[str, float] = {}
    if len(again.history) != len(recorded):
        differences["epochs"] = abs(len(again.history) - len(recorded))
    for name in [name for name in recorded[0] if name not in ("epoch", "epoch_seconds")]:
        pairs = [(before[name], after[name]) for before, after in zip(recorded, again.history, strict=False)]
        _note(differences, name, *(np.array(values) for values in zip(*pairs, strict=True)))
    arrays = npz.read(tracker.artifacts.path(run, MODEL)) if again.model is not None else {}
    now = again.model or {}
    for name in {**arrays, **now}:
        _note(differences, name, arrays.get(name), now.get(name))
    accuracies = [
        (before["val_accuracy"], after["val_accuracy"]) for before, after in zip(recorded, again.history, strict=False)
    ]
    return Verification((len(again.history), len(recorded)), accuracies, differences, len(arrays))


def _note(differences: dict[str, float], name: str, then: np.ndarray | None, now: np.ndarray | None) -> None:
    if then is None or now is None or then.shape != now.shape:
        differences[name] = float("nan")
    elif not np.array_equal(then, now, equal_nan=True):
        differences[name] = float(np.nanmax(np.abs(then.astype(float) - now.astype(float))))


def _trained(ops: Ops, data: Dataset, settings: Settings, data_seed: int, epochs: int) -> TrialResult:
    """The trial's result, ended after so many epochs if it has not by itself: by a pruner or a budget, then."""
    split = data.split(data_seed)
    train = Images.on_device(ops, split.x_train, split.y_train, data.scale)
    validation = Images.on_device(ops, split.x_validation, split.y_validation, data.scale)

    def judge(report: EpochReport) -> Mapping[int, Verdict]:
        return {0: ("cut", "")} if report.epoch == epochs else {}

    architecture = grouping.architecture(settings, data)
    result: Any = None
    for report in train_group(ops, architecture, [settings], train, validation, data_seed=data_seed, judge=judge):
        result = report.ended.get(0, result)
    found: TrialResult = result
    return found
