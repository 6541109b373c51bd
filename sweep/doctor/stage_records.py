"""What Optuna's journal, MLflow and the trials' files tell of one stage. Nothing here writes."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from core.errors import DamageError
from core.tracking import tags
from core.tracking.entities import RunInfo
from sweep.experiment.checks import Value
from sweep.experiment.space import Range
from sweep.experiment.stage import Stage
from sweep.records.records import Records
from sweep.records.trial_files import TrialFiles, read_trial
from sweep.search import plan
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome
from sweep.stages.state import inherit
from sweep.stages.sweep import Sweep


@dataclass(frozen=True)
class StageRecords:
    """One stage.

    runs      of its trials in MLflow, by id
    outcomes  of the journal, by key: those that this store has a run of, if it has
    """

    sweep: Sweep
    records: Records
    stage: Stage
    runs: Mapping[str, RunInfo]
    outcomes: Mapping[str, Outcome]

    @classmethod
    def of(cls, sweep: Sweep, records: Records, stage: Stage) -> StageRecords:
        """As they are now."""
        every = sweep.journal.outcomes(stage.name)
        runs = records.runs.find(kind=tags.TRIAL, stage=stage.name)  # later: a run is there before its outcome
        here = sweep.journal.outcomes(stage.name, records.runs.current_ids(runs))
        return cls(sweep, records, stage, runs, every | here)

    @cached_property
    def inherited(self) -> dict[str, Value]:
        """What the winner of the stage before hands on, by all that the journal knows. Raises UnfinishedError."""
        return inherit(self.sweep, self.stage)

    def superseded(self) -> list[RunInfo]:
        """Runs in whose place there is a newer one."""
        return self.records.runs.superseded(self.runs)

    def without(self, runs: Iterable[RunInfo]) -> StageRecords:
        """The same, but for these runs."""
        ids = {run.run_id for run in runs}
        return replace(self, runs={id_: run for id_, run in self.runs.items() if id_ not in ids})

    def with_outcomes(self, trials: Mapping[str, TrialFiles]) -> StageRecords:
        """The same, with the outcomes of further trials, by key, as their files tell them."""
        now = self.records.runs.current_ids(self.runs)
        outcomes = {key: trial.outcome for key, trial in trials.items()}
        known = {key: replace(o, run_id=now.get(o.run_id, o.run_id)) for key, o in outcomes.items()}
        return replace(self, outcomes={**self.outcomes, **known})

    def artifacts(self, run_id: str) -> Path:
        """Where a run's files are: those of one that MLflow lacks, or has no server for, are in the folder."""
        run = self.runs.get(run_id)
        return self.records.tracker.artifacts.folder(run) if run else self.sweep.folder.path / run_id / "artifacts"

    def read(self, folder: Path, key: str) -> TrialFiles:
        """What the files in the folder of the trial of this key tell. Raises InputError if damaged, or another's."""
        trial = read_trial(folder)
        if (trial.config["stage"], trial.config["key"]) != (self.stage.name, key):
            raise DamageError(f"{folder} holds the files of another trial, {trial.config['trial']}")
        return trial

    def recorded(self, trial: TrialFiles, outcome: Outcome) -> Outcome:
        """What the trial's files tell of how it ended, with the id of its run that the journal has."""
        was = {now: id_ for id_, now in self.records.runs.current_ids(self.runs).items()}
        return replace(trial.outcome, run_id=was.get(outcome.run_id, outcome.run_id))

    def cell(self, trial: TrialFiles) -> Cell | None:
        """The trial's cell; None if the experiment's file would not make it any more."""
        cells = [cell for cell in self._cells([trial]) if cell.key == trial.config["key"]]
        return next((cell for cell in cells if self.stage.space.contains(cell.point)), None)

    def _cells(self, trials: Iterable[TrialFiles]) -> list[Cell]:
        """The cells of their settings, a cell for each seed and attempt."""
        cells: dict[str, Cell] = {}
        for _ in range(self.stage.retries + 1):
            cells |= {cell.key: cell for cell in self.plan(self.settings(trials), cells)}
        return list(cells.values())

    def plan(self, settings: Sequence[dict[str, Value]], diverged: Container[str]) -> list[Cell]:
        """The cells of these settings: see sweep.search.plan."""
        sweep = self.sweep
        return plan.cells(sweep.experiment, self.stage, self.inherited, sweep.data, settings, diverged)

    def settings(self, trials: Iterable[TrialFiles]) -> list[dict[str, Value]]:
        """What the stage searches, as these trials had it; once, where they are seeds of one setting."""
        settings: list[dict[str, Value]] = []
        for trial in trials:
            setting: dict[str, Value] = {}
            for key, values in self.stage.space.active(setting):
                irrelevant = values.low if isinstance(values, Range) else values[0]  # to a trial that does not tell it
                setting[key] = trial.config["settings"].get(key, irrelevant)
            if setting not in settings:
                settings.append(setting)
        return settings

    def points_flag(self, run: RunInfo) -> str:
        """With what flag a sweep trains the run's trial, after a blank; "" if it needs none."""
        for name, points in self.stage.points.items():
            for point in points:
                if all(run.params.get(key) == str(value) for key, value in point.items()):
                    return f" with --points {name}"
        return ""
