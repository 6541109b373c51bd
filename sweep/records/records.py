"""All that a sweep writes to MLflow, over one connection."""

from __future__ import annotations

from dataclasses import dataclass

from core.ops import Ops
from core.tracking.tracker import Tracker
from sweep.records.provenance import Provenance
from sweep.records.run_pictures import RunPictures
from sweep.records.runs import ExperimentRuns, begin_runs
from sweep.records.stage_runs import StageRuns
from sweep.records.trial_runs import TrialRuns
from sweep.records.winners import Winners


@dataclass(frozen=True)
class Records:
    """The MLflow side of one experiment on one data set.

    runs      reads what there is
    trials    writes the runs of trials
    stages    writes the runs of stages
    winners   registers models
    pictures  draws
    """

    tracker: Tracker
    provenance: Provenance
    runs: ExperimentRuns
    trials: TrialRuns
    stages: StageRuns
    winners: Winners
    pictures: RunPictures


def open_records(
    tracker: Tracker, provenance: Provenance, ops: Ops, draws: bool = True, anew: bool = False, model: str | None = ""
) -> Records:
    """The records of an experiment, which is made in MLflow if it is not there.

    draws  whether runs get pictures
    anew   whether to begin another MLflow experiment if it was deleted
    model  the name that winners are registered under; "": the experiment's; None: they are not registered

    Raises InputError if the experiment was deleted, unless anew.
    """
    runs = begin_runs(tracker, provenance, anew)
    winners = Winners(tracker, provenance.data, runs.name if model == "" else model)
    pictures = RunPictures(tracker, ops, provenance.data)
    trials = TrialRuns(tracker, runs, provenance, draws)
    stages = StageRuns(tracker, runs, provenance, winners, pictures if draws else None)
    return Records(tracker, provenance, runs, trials, stages, winners, pictures)
