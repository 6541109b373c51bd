"""An experiment's runs in MLflow: one experiment for each file and data set, a run a stage, a child run a trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from core.data.dataset import Dataset
from core.tracking import tags
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.experiment.stage import Experiment, Stage
from sweep.records.provenance import Provenance


def experiment_name(experiment: Experiment, data: Dataset) -> str:
    """Like "report-digits-1a2b3c4d": runs on different data never share an experiment."""
    return f"{experiment.name}-{data.name}-{data.sha256[:8]}"


class ExperimentRuns:
    """The runs that a project folder has of an experiment on one data set: what reads them."""

    def __init__(self, tracker: Tracker, experiment: Experiment, owner: str, experiment_id: str | None) -> None:
        """
        owner          tells the runs of this project folder from those of others
        experiment_id  MLflow's; None if there is none yet
        """
        self._lookup, self._experiment, self._owner = tracker.lookup, experiment, owner
        self._id = experiment_id

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment; "" if there is none yet."""
        return self._id or ""

    @property
    def name(self) -> str:
        """What MLflow calls the experiment: with a number where another has the plain name."""
        return self._lookup.experiment_name(self.experiment_id)

    def find(self, **wanted: str) -> dict[str, RunInfo]:
        """The runs with these tags, by run id, oldest first."""
        if self._id is None:
            return {}
        return {run.run_id: run for run in self._lookup.runs(self._id, owner=self._owner, **wanted)}

    def stage(self, stage: Stage, inherited: Mapping[str, Any]) -> RunInfo | None:
        """The stage's run with these fixed values; None if it has none."""
        found = self.find(kind=tags.STAGE, stage=stage.name, fingerprint=self.fingerprint(stage, inherited))
        return next(iter(found.values()), None)

    def fingerprint(self, stage: Stage, inherited: Mapping[str, Any]) -> str:
        """What a stage has one run for: its fixed values and the seed."""
        return json.dumps(stage.settings | dict(inherited) | {"seed": self._experiment.seed}, sort_keys=True)

    def current_ids(self, runs: Mapping[str, RunInfo] | None = None) -> dict[str, str]:
        """The trials' runs, by the ids that Optuna's record has of them: a run that was rebuilt has another now.

        runs  all of this folder's, where they are known
        """
        known = runs if runs is not None else self.find(kind=tags.TRIAL)
        trials = {run_id: run for run_id, run in known.items() if run.tags[tags.KIND] == tags.TRIAL}
        return {run.tags.get(tags.REBUILT_FROM, run_id): run_id for run_id, run in trials.items()}

    def superseded(self, runs: Mapping[str, RunInfo]) -> list[RunInfo]:
        """Those of these trials' runs in whose place there is a newer one."""
        current = set(self.current_ids(runs).values())
        return [run for run in runs.values() if run.run_id not in current]


def find_runs(tracker: Tracker, experiment: Experiment, data: Dataset, owner: str) -> ExperimentRuns:
    """The runs that there are; nothing is made. Raises InputError if the experiment was deleted."""
    found = tracker.lookup.experiment_id(experiment_name(experiment, data), owner)
    return ExperimentRuns(tracker, experiment, owner, found)


def begin_runs(tracker: Tracker, provenance: Provenance, anew: bool = False) -> ExperimentRuns:
    """The runs of an experiment that is made if there is none.

    anew  whether to begin another MLflow experiment if it was deleted

    Raises InputError if it was, unless anew.
    """
    experiment, data, owner = provenance.experiment, provenance.data, provenance.owner
    about = {tags.DATA_NAME: data.name, tags.DATA_SHA256: data.sha256}
    about[tags.EXPERIMENT_KIND] = "custom_model_development"  # the page opens on runs, not on language models
    about |= {name: provenance.origin[name] for name in ("host", "project")}
    found = tracker.experiment(experiment_name(experiment, data), about, owner, anew)
    return ExperimentRuns(tracker, experiment, owner, found)
