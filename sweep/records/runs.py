"""What a sweep leaves in MLflow: one experiment for each file and data set, a run a stage, a child run a trial."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import core
from core.data.dataset import Dataset
from core.errors import printable
from core.evaluate.metrics import LargestClass, class_warnings, largest_in_validation
from core.export import model_npz
from core.machine.environment import environment
from core.machine.origin import origin
from core.ops import Ops
from core.tracking.entities import DatasetInfo, RunInfo
from core.tracking.errors import RefusedError, UnreachableError
from core.tracking.model_registry import ACCURACY, DATA, RegisteredModel
from core.tracking.served_package import ServedModel
from core.tracking.tracker import Tracker
from core.training.progress import METRICS, Metrics, TrialResult
from sweep.experiment.space import Range, Values
from sweep.experiment.stage import Experiment, Stage
from sweep.records import views
from sweep.results import advice, ranking, tables
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome

if TYPE_CHECKING:
    from core.figures.style import Picture

_PARENT = "mlflow.parentRunId"
_WAS = "rebuilt.from"  # of a run that was rebuilt from its files: its id in Optuna's record
CORE = Path(core.__file__).parent
SERVED_WITH = ("numpy", "pandas", "threadpoolctl")  # what core.export.mlflow_model and the reference backend import
_DELAY = 1.0  # seconds until an epoch is in MLflow, at the next one
_PAUSE = 5.0  # seconds before a store that did not answer is asked again
NOT_REGISTERED = "none"
_SHOWN = 30  # rows of the table in a stage's description, which MLflow cuts at 8,000 characters


def experiment_name(experiment: Experiment, data: Dataset) -> str:
    """Like "report-digits-1a2b3c4d": runs on different data never share an experiment."""
    return f"{experiment.name}-{data.name}-{data.sha256[:8]}"


class Records:
    """The MLflow side of one experiment on one data set."""

    def __init__(
        self,
        tracker: Tracker,
        experiment: Experiment,
        data: Dataset,
        ops: Ops,
        owner: str,
        draws: bool = True,
        anew: bool = False,
        model: str = "",
    ) -> None:
        """
        owner  tells the runs of this project folder from those of others
        draws  whether runs get pictures
        anew   whether to begin another MLflow experiment if it was deleted
        model  the name that winners are registered under; "" for the experiment's, "none" for not at all

        Raises InputError if it was, unless anew.
        """
        self._model = model
        self.tracker, self._experiment, self._data, self._ops = tracker, experiment, data, ops
        self._draws = draws
        self._largest = largest_in_validation(data, experiment.seed)
        self._pending: dict[str, dict[int, tuple[float, Metrics]]] = {}  # epochs that MLflow does not know yet
        self._known: dict[str, Collection[tuple[str, int]]] = {}  # metrics and epochs of runs that go on
        self._due: dict[str, float] = {}  # when they are to be written
        self._not_before = 0.0
        self._owner, self._origin = owner, origin()
        self.environment = environment(ops.name, ops.device, ops.precision)
        tags = {"data.name": data.name, "data.sha256": data.sha256}
        tags["mlflow.experimentKind"] = "custom_model_development"  # the page opens on runs, not on language models
        tags |= {name: self._origin[name] for name in ("host", "project")}
        self.experiment_id = tracker.experiment(experiment_name(experiment, data), tags, owner, anew)
        self.name = tracker.lookup.experiment_name(self.experiment_id)  # with a number where another has the plain name

    def _tags(self, kind: str, stage: str) -> dict[str, str]:
        data = {"data.name": self._data.name, "data.source": self._data.source, "data.sha256": self._data.sha256}
        data |= {"data.largest_class": self._largest.told()}
        return (
            {"kind": kind, "stage": stage, "owner": self._owner, "data.seed": str(self._experiment.seed)}
            | data
            | self.environment
            | self._origin
        )

    def stage(self, stage: Stage, inherited: dict[str, Any], cells: Sequence[Cell], reopen: bool) -> tuple[str, bool]:
        """The stage's run, the one it had (running again on reopen) or a new one, and whether it tells of these cells.

        A stage has one run for each set of fixed values, so that a grid that grew stays one table.
        """
        fixed, fingerprint = stage.settings | inherited, self._fingerprint(stage, inherited)
        run = self.stage_run(stage, inherited)
        if run and not reopen:
            ended = run.status in ("FINISHED", "FAILED") and "reason" not in run.tags  # which what broke it off has
            if not ended or run.tags.get("plan") != _plan_hash(cells):
                return run.run_id, False
            seen = views.titles(
                self.tracker.lookup.experiment_tags(self.experiment_id)
            )  # an earlier version wrote none
            return run.run_id, views.key(stage.name, run.run_id) in seen
        if run:
            run_id = run.run_id
            self._reopen(run_id, _title(stage))
        else:
            tags = self._tags("stage", stage.name) | {"fingerprint": fingerprint}
            run_id = self.tracker.start(self.experiment_id, _title(stage), params=fixed, tags=tags)
        self.tracker.set_tags(run_id, _search(stage))  # tags, because the file may change and params cannot
        self.tracker.artifacts.log_text(run_id, self._experiment.text, self._experiment.path.name)
        return run_id, False

    def _reopen(self, run_id: str, name: str | None = None) -> None:
        """Let a run that was broken off be as one that was not."""
        self.tracker.update(run_id, status="RUNNING", name=name)
        self.tracker.remove_tags(run_id, ["reason"])

    def stage_run(self, stage: Stage, inherited: Mapping[str, Any]) -> RunInfo | None:
        """The stage's run with these fixed values; None if it has none."""
        found = self.runs(kind="stage", stage=stage.name, fingerprint=self._fingerprint(stage, inherited))
        return next(iter(found.values()), None)

    def _fingerprint(self, stage: Stage, inherited: Mapping[str, Any]) -> str:
        return json.dumps(stage.settings | dict(inherited) | {"seed": self._experiment.seed}, sort_keys=True)

    def runs(self, **tags: str) -> dict[str, RunInfo]:
        """This folder's runs of the experiment with these tags, by run id, oldest first."""
        return {run.run_id: run for run in self.tracker.lookup.runs(self.experiment_id, owner=self._owner, **tags)}

    def trials(self, runs: Mapping[str, RunInfo] | None = None) -> dict[str, str]:
        """The trials' runs, by the ids that Optuna's record has of them: a run that was rebuilt has another now.

        runs  all of this folder's, where they are known
        """
        trials = runs if runs is not None else self.runs(kind="trial")
        return {run.tags.get(_WAS, id_): id_ for id_, run in trials.items() if run.tags["kind"] == "trial"}

    def start_trial(self, cell: Cell, parent: str, then: Mapping[str, Any] | None = None) -> str:
        """A run for a trial that starts training; or, of one that was trained before, what its config.json tells."""
        data = DatasetInfo(name=self._data.name, source=self._data.source, sha256=self._data.sha256)
        tags = self._tags("trial", cell.stage) | {"key": cell.key}
        if then is not None:
            tags = {name: value for name, value in tags.items() if name not in self._origin}
            tags |= {name: str(value) for name, value in (then["environment"] | then.get("origin", {})).items()}
        tags |= {"attempt": str(cell.attempt)} if cell.attempt else {}
        params = cell.settings.effective()
        return self.tracker.start(self.experiment_id, cell.name, parent=parent, params=params, tags=tags, dataset=data)

    def go_on(self, cell: Cell, run_id: str, parent: str, history: Sequence[Metrics], code: str) -> str:
        """The run of a trial that goes on after these epochs; a new one if it is gone, or if it knows later epochs that
        another version of the code has trained, since they may come out differently now.

        What it does not know of them is told to it, and none of its epochs is told again.
        """
        there = run_id in self.runs(kind="trial", key=cell.key)
        known = self.tracker.lookup.metrics(run_id, METRICS).keys() if there else set()
        other_code = code != self.environment["code"]
        if there and not (other_code and any(epoch > len(history) for _, epoch in known)):
            self._reopen(run_id)
            self._known[run_id] = known
        else:
            run_id = self.start_trial(cell, parent)
        here = f"on {self._origin['host']} by {self._origin['mlflow.user']}"
        how = f"after epoch {len(history)}, with code {self.environment['code']}, {here}"
        self.tracker.set_tags(run_id, {"resumed": how})
        self._pending[run_id] = {epoch: (time.time(), metrics) for epoch, metrics in enumerate(history, start=1)}
        return run_id

    def epoch(self, run_id: str, epoch: int, metrics: Metrics) -> None:
        """Note an epoch of a trial. Short ones are written together, as MLflow may take longer than the training."""
        self._pending.setdefault(run_id, {})[epoch] = time.time(), metrics
        now = time.monotonic()  # which a clock that is set back does not change
        if now >= self._due.setdefault(run_id, now + _DELAY) and now >= self._not_before:
            try:
                with self.tracker.store.waiting(0.0):
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
            self.tracker.log_steps(run_id, new)
            del self._pending[run_id]  # once it is written
            self._due.pop(run_id, None)

    def results(self, run_id: str, cell: Cell, result: TrialResult, outcome: Outcome) -> None:
        """Metrics of the best epoch, and artifacts."""
        self._write_epochs(run_id)
        self.tracker.log_metrics(run_id, best_metrics(outcome))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if result.model is not None:
                model_npz.save_model(folder / "model.npz", result.model)
            _write_history(folder / "history.csv", result.history)
            (folder / "config.json").write_text(json.dumps(self._config(cell, outcome), indent=2) + "\n")
            if self._draws:
                from core import figures  # matplotlib takes half a second to import

                best_accuracy = "none" if result.best_accuracy is None else f"{result.best_accuracy:.4f}"
                title = f"{cell.name}: best validation accuracy {best_accuracy}"
                curves = partial(figures.curves, result.history, result.best_epoch, title)
                for file, drawn in figures.rendered({"curves": curves}, "png"):
                    (folder / file).write_bytes(drawn)
            self.tracker.artifacts.log_files(run_id, folder)
        if outcome.reason:
            self.tracker.set_tags(run_id, {"reason": outcome.reason})

    def _config(self, cell: Cell, outcome: Outcome) -> dict[str, Any]:
        return {
            "experiment": self._experiment.name,
            "stage": cell.stage,
            "trial": cell.name,
            "key": cell.key,
            "settings": cell.settings.effective(),
            "data": {"name": self._data.name, "sha256": self._data.sha256, "seed": self._experiment.seed},
            "environment": self.environment,
            "origin": self._origin,
            "result": asdict(outcome),
        }

    def rebuild(self, cell: Cell, parent: str, outcome: Outcome, history: Sequence[Metrics], artifacts: Path) -> str:
        """A run for a trial whose own is lost or wrong, from what its files tell. The run there was is deleted.

        It counts once it is whole: what was broken off before that is closed like any other that was.
        """
        config = json.loads((artifacts / "config.json").read_text(encoding="utf-8"))
        run_id = self.start_trial(cell, parent, config)
        self._pending[run_id] = {epoch: (time.time(), metrics) for epoch, metrics in enumerate(history, start=1)}
        self._write_epochs(run_id)
        self.tracker.log_metrics(run_id, best_metrics(outcome))
        for folder in (artifacts, *(path for path in artifacts.iterdir() if path.is_dir())):
            self.tracker.artifacts.log_files(run_id, folder, "" if folder == artifacts else folder.name)
        if outcome.reason:
            self.tracker.set_tags(run_id, {"reason": outcome.reason})
        self.tracker.set_tags(run_id, {_WAS: outcome.run_id})
        self.close(run_id, outcome)
        for former in self.superseded(self.runs(kind="trial", key=cell.key)):
            self.tracker.delete(former.run_id)
        return run_id

    def superseded(self, runs: Mapping[str, RunInfo]) -> list[RunInfo]:
        """Those of these trials' runs in whose place there is a newer one."""
        now = set(self.trials(runs).values())
        return [run for run in runs.values() if run.run_id not in now]

    def close(self, run_id: str, outcome: Outcome) -> None:
        """Give the run the status that its trial ended with; MLflow has none for pruned, the tag outcome tells."""
        self.tracker.set_tags(run_id, {"outcome": outcome.status})
        self.tracker.finish(run_id, "FAILED" if outcome.status == "failed" else "FINISHED")

    def break_off(self, run_id: str, status: str, reason: str) -> None:
        """Close a run whose training did not come to an end: "KILLED", or "FAILED" by an error."""
        self._write_epochs(run_id)
        self.tracker.set_tags(run_id, {"reason": reason})
        self.tracker.finish(run_id, status)

    def end_stage(self, run_id: str, stage: Stage, cells: Sequence[Cell], rows: Sequence[ranking.Row]) -> None:
        """The ranked table, the stage's status, and its winner, which alone of its trials is tagged winner=true."""
        self.tracker.artifacts.log_text(run_id, tables.to_csv(rows), "summary.csv")
        self.tracker.artifacts.log_text(run_id, tables.to_markdown(rows), "summary.md")
        best = ranking.winner(rows)
        self._tend(run_id, stage, rows, best)
        ended = Counter(outcome.status for row in rows for outcome in row.outcomes)
        warnings, edges = class_warnings(self._data, self._experiment.seed), advice.edges(stage, rows, self._data)
        description = _description(stage, rows, self._largest, warnings, edges)
        tags = {"mlflow.note.content": description, "plan": _plan_hash(cells)}
        # Tags, since of every metric the page makes a chart: those are for curves.
        tags |= {f"trials_{status}": str(ended[status]) for status in ("finished", "cut", "pruned", "failed")}
        metrics: dict[str, float] = {}
        if best and best.accuracy is not None:
            metrics |= {"best_val_accuracy": best.accuracy, "val_largest_class": self._largest.share}
            tags |= {"winner.run_id": best.outcome.run_id, "winner.name": best.cell.name}
            self._draw(run_id, best.outcome.run_id)
            self.register(stage, rows)
        if lead := ranking.lead(rows):
            metrics |= {"lead": lead.difference, "lead_low": lead.low, "lead_high": lead.high}
        own = self.runs(kind="stage", stage=stage.name)[run_id].tags
        self.tracker.remove_tags(run_id, {"winner.run_id", "winner.name", "reason"} & own.keys() - tags.keys())
        self.tracker.log_metrics(run_id, metrics)
        self.tracker.set_tags(run_id, tags)
        searched = tables.searched([row.cell for row in rows])
        kept = views.of_stages() | views.of_trials(stage.name, run_id, searched)
        with _unless_refused(f"MLflow's page has no views of {stage.name}"):
            self.tracker.tag_experiment(self.experiment_id, kept)
        self.tracker.update(run_id, name=_title(stage, best))
        self.tracker.finish(run_id, "FINISHED" if best else "FAILED")

    def _tend(self, parent: str, stage: Stage, rows: Sequence[ranking.Row], best: ranking.Row | None) -> None:
        """Bring the names, the parent, the rank and the tags of the stage's trials up to date."""
        cells = {o.run_id: c for row in rows for c, o in zip(row.cells, row.outcomes, strict=True)}
        ranks = {o.run_id: float(rank) for rank, row in enumerate(rows, start=1) for o in row.outcomes}
        for trial in self.runs(kind="trial", stage=stage.name).values():
            if trial.run_id not in cells and trial.tags.get(_PARENT) != parent:
                continue
            winner = best is not None and trial.run_id == best.outcome.run_id
            cell, rank = cells.get(trial.run_id), ranks.get(trial.run_id)
            tags = {"winner": str(winner).lower(), "ranked": str(cell is not None).lower(), _PARENT: parent}
            if cell:
                tags["source"] = "point" if cell.point in stage.every_point else stage.sampler
            changed = {key: value for key, value in tags.items() if trial.tags.get(key) != value}
            moved = {} if rank is None or trial.metrics.get("rank") == rank else {"rank": rank}
            if changed or moved:
                self.tracker.set_tags(trial.run_id, changed, moved, trial.logged)
            if cell and trial.name != cell.name:
                self.tracker.update(trial.run_id, name=cell.name)

    def augmented(self, run_id: str, rows: Sequence[tuple[str, np.ndarray]]) -> None:
        """A picture of augmented training images, for the stage: see core.figures.augmented."""
        from core import figures

        title = f"Training images of {self._data.name}, as they are and as augmentation changes them"
        self._log_figures(run_id, {"augmented": partial(figures.augmented, rows, title)})

    @property
    def registry(self) -> RegisteredModel | None:
        """The model that the stages' winners are versions of; None if they are not registered."""
        if self._model == NOT_REGISTERED:
            return None
        return self.tracker.model(self._model or self.name)

    def register(self, stage: Stage, rows: Sequence[ranking.Row]) -> None:
        """Make the stage's winner a version of the experiment's model, unless it is one; the best of all stages is its
        champion.

        Where the store has no registry, or does not let us use it, a line says so, and nothing else is lost.
        """
        best, registry, known = ranking.winner(rows), self.registry, None
        if registry is None or best is None or best.accuracy is None:
            return
        refused = f"the winner of {stage.name} is not registered"
        with _unless_refused(refused):
            known = registry.has(best.outcome.run_id)
        if known is False:
            run = self.tracker.lookup.find(best.outcome.run_id)
            tags = {"stage": stage.name, "trial": best.cell.name, ACCURACY: str(best.accuracy), DATA: self._data.sha256}
            with tempfile.TemporaryDirectory() as folder:
                model = self._served(run, Path(folder))
                with _unless_refused(refused):
                    registry.register(run, model, tags)
                    known = True
        if known:
            with _unless_refused(f"no champion of model {registry.name} is set"):
                registry.crown()

    def _served(self, run: RunInfo, folder: Path) -> ServedModel:
        """What MLflow serves the run's model from; a file of it is written into folder."""
        shape = tuple(self._data.x.shape[1:])
        about = {"classes": self._data.classes, "scale": self._data.scale, "input_shape": shape}
        about["offset"] = self._data.pixels.offset
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
        files = {"model": self.tracker.artifacts.path(run, "model.npz"), "about": folder / "about.json"}
        return ServedModel(CORE / "export/mlflow_model.py", files, CORE, SERVED_WITH, shape)

    def _draw(self, stage: str, winner: str) -> None:
        """The pictures of a stage's run, and of its winner's."""
        if self._draws:
            from core.figures import runs

            trial = self.tracker.lookup.find(winner)
            drawn = runs.of_stage(self.tracker, self.tracker.lookup.find(stage))
            self._log_figures(stage, drawn | runs.of_beginning(self.tracker, trial, self._ops, self._data))
            self._log_figures(winner, runs.of_trial(self.tracker, trial, self._ops, self._data))

    def _log_figures(self, run_id: str, pictures: Mapping[str, Picture]) -> None:
        from core import figures

        with tempfile.TemporaryDirectory() as name:
            for file, drawn in figures.rendered(pictures, "png"):
                (Path(name) / file).write_bytes(drawn)
            self.tracker.artifacts.log_files(run_id, Path(name), "figures")


@contextmanager
def _unless_refused(what: str) -> Iterator[None]:
    """Go on where the store will not do something that nothing else needs; a line says so, and what follows."""
    try:
        yield
    except RefusedError as error:
        print(f"{printable(error)}: {what}", file=sys.stderr)


def best_metrics(outcome: Outcome) -> dict[str, float]:
    """The metrics that a trial has one each of."""
    names = ("best_val_accuracy", "best_val_loss", "best_epoch", "epochs")
    return {name: float(value) for name in names if (value := getattr(outcome, name)) is not None}


def _title(stage: Stage, best: ranking.Row | None = None) -> str:
    """A stage's name in MLflow, where a list of runs may be all that is seen: once it has ended, with its winner."""
    if best is None or best.accuracy is None:
        return f"{stage.name} stage"
    winner = f"{best.label} {best.cell.setting}".rstrip()
    return f"{stage.name} stage: {winner}, {best.accuracy:.4f}"


def _description(
    stage: Stage, rows: Sequence[ranking.Row], largest: LargestClass, warnings: Sequence[str], edges: Sequence[str]
) -> str:
    """What MLflow shows of a stage, in Markdown: what was searched, what won, how sure that is, and the table."""
    images, worth = largest.images, ""
    searched = "; ".join(f"**{key}** {choices(values)}" for key, values in stage.space.dimensions.items())
    lines = [f"Searched by {stage.sampler}: {searched}.", ""]
    if (best := ranking.winner(rows)) and best.accuracy is not None:
        low, high = advice.interval(best.accuracy, images)
        lines += [
            f"Winner: **{best.cell.name}**, validation accuracy **{best.accuracy:.4f}** "
            f"(95 %: {low:.4f} to {high:.4f}, by {images} images; {largest}).",
            "",
        ]
        worth = largest.warning(best.accuracy)
    said = [worth, *warnings, advice.certainty(stage, rows, images), advice.mattered(rows), *edges]
    lines += [f"- {line}" for line in said if line]
    return "\n".join([*lines, "", tables.to_markdown(rows[:_SHOWN])])


def choices(values: Values) -> str:
    """What a stage searches of one setting, as text."""
    return str(values) if isinstance(values, Range) else ", ".join(map(str, values))


def _search(stage: Stage) -> dict[str, str]:
    """How a stage searches, as tags."""
    told: dict[str, Any] = {"sampler": stage.sampler, "seeds": stage.seeds}
    told |= {"trials": stage.trials} if stage.trials else {}
    told |= {"at_once": stage.at_once} if stage.adaptive else {}
    told |= {f"space.{key}": values for key, values in stage.space.dimensions.items()}
    told |= {f"when.{key}": condition for key, condition in stage.space.conditions.items()}
    told |= {f"pruner.{key}": value for key, value in asdict(stage.pruner).items()} if stage.pruner else {}
    told |= {f"budget.{key}": value for key, value in asdict(stage.budget).items() if value is not None}
    return {key: str(value) for key, value in told.items()}


def _plan_hash(cells: Sequence[Cell]) -> str:
    return hashlib.sha256("".join(sorted(cell.key for cell in cells)).encode()).hexdigest()[:16]


def _write_history(path: Path, history: Sequence[Metrics]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", *history[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch} | row for epoch, row in enumerate(history, start=1))
