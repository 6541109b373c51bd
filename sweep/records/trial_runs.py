"""A trial's run in MLflow, from its start to its end."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from core.errors import printable
from core.tracking import tags
from core.tracking.entities import DatasetInfo
from core.tracking.errors import UnreachableError
from core.tracking.tracker import Tracker
from core.training.progress import METRICS, Metrics, TrialResult
from sweep.records.provenance import Provenance
from sweep.records.runs import ExperimentRuns
from sweep.records.trial_files import CONFIG, TrialConfig, read_config, write_trial
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome

_DELAY = 1.0  # seconds until an epoch is in MLflow, at the next one
_PAUSE = 5.0  # seconds before a store that did not answer is asked again


class TrialRuns:
    """Writes what trials tell while they train, and what came of them.

    The order is a guarantee. A trial's epochs, its best metrics and its artifacts are written first (log_results); then
    Optuna is told (sweep.records.study); then the run gets its status (close). So a run that is FINISHED has all that
    it should have, and whatever breaks off earlier leaves a run that is RUNNING, which the next start closes.
    """

    def __init__(self, tracker: Tracker, runs: ExperimentRuns, provenance: Provenance, draws: bool = True) -> None:
        """draws: whether runs get pictures."""
        self._tracker, self._runs, self._provenance, self._draws = tracker, runs, provenance, draws
        self._pending: dict[str, dict[int, tuple[float, Metrics]]] = {}  # epochs that MLflow does not know yet
        self._known: dict[str, Collection[tuple[str, int]]] = {}  # metrics and epochs of runs that go on
        self._due: dict[str, float] = {}  # from which time.monotonic() on a run's pending epochs are written
        self._not_before = 0.0

    def start(self, cell: Cell, parent: str, trained_before: TrialConfig | None = None) -> str:
        """A run for a trial that starts training; or, of one that was trained before, what its config.json tells."""
        data = self._provenance.data
        used = DatasetInfo(name=data.name, source=data.source, sha256=data.sha256)
        told = self._provenance.tags(tags.TRIAL, cell.stage) | {tags.KEY: cell.key}
        if trained_before is not None:
            told = {name: value for name, value in told.items() if name not in self._provenance.origin}
            then = trained_before["environment"] | trained_before.get("origin", {})
            told |= {name: str(value) for name, value in then.items()}
        told |= {tags.ATTEMPT: str(cell.attempt)} if cell.attempt else {}
        params = cell.settings.effective()
        return self._tracker.start(
            self._runs.experiment_id, cell.name, parent=parent, params=params, tags=told, dataset=used
        )

    def resume(self, cell: Cell, run_id: str, parent: str, history: Sequence[Metrics], code: str) -> str:
        """The run of a trial that goes on after these epochs; a new one if it is gone, or if it knows later epochs that
        another version of the code has trained, since they may come out differently now.

        What it does not know of them is told to it, and none of its epochs is told again.
        """
        environment, origin = self._provenance.environment, self._provenance.origin
        there = run_id in self._runs.find(kind=tags.TRIAL, key=cell.key)
        known = self._tracker.lookup.metrics(run_id, METRICS).keys() if there else set()
        other_code = code != environment["code"]
        if there and not (other_code and any(epoch > len(history) for _, epoch in known)):
            reopen(self._tracker, run_id)
            self._known[run_id] = known
        else:
            run_id = self.start(cell, parent)
        here = f"on {origin['host']} by {origin['mlflow.user']}"
        how = f"after epoch {len(history)}, with code {environment['code']}, {here}"
        self._tracker.set_tags(run_id, {tags.RESUMED: how})
        self._pending[run_id] = _now(history)
        return run_id

    def log_epoch(self, run_id: str, epoch: int, metrics: Metrics) -> None:
        """Note an epoch of a trial. Short ones are written together, as MLflow may take longer than the training."""
        self._pending.setdefault(run_id, {})[epoch] = time.time(), metrics
        now = time.monotonic()  # which a clock that is set back does not change
        if now >= self._due.setdefault(run_id, now + _DELAY) and now >= self._not_before:
            try:
                with self._tracker.store.waiting(0.0):
                    self._write_epochs(run_id)
            except UnreachableError as error:  # they are written later, in their order
                took = time.monotonic() - now
                self._not_before = now + max(_PAUSE, 10 * took)  # nine tenths of the time are for training
                print(f"{printable(error)}: training goes on, and its epochs are written later", file=sys.stderr)

    def _write_epochs(self, run_id: str) -> None:
        known = self._known.get(run_id, ())
        new = [
            (epoch, moment, {name: value for name, value in metrics.items() if (name, epoch) not in known})
            for epoch, (moment, metrics) in self._pending.get(run_id, {}).items()
        ]
        if new:
            self._tracker.log_steps(run_id, new)
            del self._pending[run_id]  # once it is written
            self._due.pop(run_id, None)

    def log_results(self, run_id: str, cell: Cell, result: TrialResult, outcome: Outcome) -> None:
        """Metrics of the best epoch, and artifacts."""
        self._write_metrics(run_id, outcome)
        with tempfile.TemporaryDirectory() as folder:
            write_trial(Path(folder), cell, result, outcome, self._provenance)
            if self._draws:
                _draw_curves(Path(folder), cell, result)
            self._write_files(run_id, outcome, Path(folder))

    def _write_metrics(self, run_id: str, outcome: Outcome) -> None:
        self._write_epochs(run_id)
        self._tracker.log_metrics(run_id, best_metrics(outcome))

    def _write_files(self, run_id: str, outcome: Outcome, artifacts: Path) -> None:
        """The files, then the reason."""
        for folder in (artifacts, *(path for path in artifacts.iterdir() if path.is_dir())):
            self._tracker.artifacts.log_files(run_id, folder, "" if folder == artifacts else folder.name)
        if outcome.reason:
            self._tracker.set_tags(run_id, {tags.REASON: outcome.reason})

    def rebuild(self, cell: Cell, parent: str, outcome: Outcome, history: Sequence[Metrics], artifacts: Path) -> str:
        """A run for a trial whose own is lost or wrong, from what its files tell. The run there was is deleted.

        Until it is complete it is treated as interrupted.
        """
        run_id = self.start(cell, parent, read_config(artifacts / CONFIG))
        self._pending[run_id] = _now(history)
        self._write_metrics(run_id, outcome)
        self._write_files(run_id, outcome, artifacts)
        self._tracker.set_tags(run_id, {tags.REBUILT_FROM: outcome.run_id})
        self.close(run_id, outcome)
        for former in self._runs.superseded(self._runs.find(kind=tags.TRIAL, key=cell.key)):
            self._tracker.delete(former.run_id)
        return run_id

    def close(self, run_id: str, outcome: Outcome) -> None:
        """Give the run the status that its trial ended with; MLflow has none for pruned, the tag outcome tells."""
        self._tracker.set_tags(run_id, {tags.OUTCOME: outcome.status})
        self._tracker.finish(run_id, "FAILED" if outcome.status == "failed" else "FINISHED")

    def break_off(self, run_id: str, status: str, reason: str) -> None:
        """Close a run whose training did not come to an end: "KILLED", or "FAILED" by an error."""
        self._write_epochs(run_id)
        self._tracker.set_tags(run_id, {tags.REASON: reason})
        self._tracker.finish(run_id, status)


def best_metrics(outcome: Outcome) -> dict[str, float]:
    """The metrics that a trial has one each of."""
    names = (tags.BEST_VAL_ACCURACY, tags.BEST_VAL_LOSS, tags.BEST_EPOCH, tags.EPOCHS)
    return {name: float(value) for name in names if (value := getattr(outcome, name)) is not None}


def reopen(tracker: Tracker, run_id: str, name: str | None = None) -> None:
    """Let a run that was broken off be as one that was not."""
    tracker.update(run_id, status="RUNNING", name=name)
    tracker.remove_tags(run_id, [tags.REASON])


def _now(history: Sequence[Metrics]) -> dict[int, tuple[float, Metrics]]:
    """These epochs, as of now."""
    return {epoch: (time.time(), metrics) for epoch, metrics in enumerate(history, start=1)}


def _draw_curves(folder: Path, cell: Cell, result: TrialResult) -> None:
    from core import figures  # matplotlib takes half a second to import

    best_accuracy = "none" if result.best_accuracy is None else f"{result.best_accuracy:.4f}"
    title = f"{cell.name}: best validation accuracy {best_accuracy}"
    curves = partial(figures.curves, result.history, result.best_epoch, title)
    for file, drawn in figures.rendered({"curves": curves}, "png"):
        (folder / file).write_bytes(drawn)
