"""What MLflow has of an experiment as a whole: whose its runs are, which are open, and which model is champion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from core.errors import InputError
from core.tracking import tags
from core.tracking.errors import RefusedError
from core.tracking.model_registry import RegisteredModel
from core.tracking.tracker import Tracker
from sweep.doctor.finding import Finding
from sweep.records.records import Records
from sweep.results import ranking
from sweep.stages.end import ended_stages
from sweep.stages.sweep import Sweep


def has_experiment(sweep: Sweep, tracker: Tracker) -> bool:
    """Whether MLflow has the sweep's experiment. Raises InputError if it was deleted there."""
    owner = ""
    with suppress(InputError):  # the file that tells it is damaged
        owner = sweep.folder.owner
    with sweep.hints.on_deletion():
        found = tracker.lookup.experiment_id(sweep.name, owner)
    return found is not None


def check_owner(sweep: Sweep, tracker: Tracker) -> Iterator[Finding]:
    """Look at the name of the experiment's folder, by which its runs are known; a lost one is looked for in them."""
    try:
        if sweep.folder.owner:
            return
    except InputError as error:
        what = str(error)
    else:
        what = f"{sweep.folder.path} does not tell whose it is"
    owner = _owner_of_runs(sweep, tracker) if has_experiment(sweep, tracker) else ""
    mended = f"written anew, {'as its runs in MLflow tell' if owner else 'with a new name'}"
    yield Finding(what, mended, partial(sweep.folder.sign, sweep.experiment.name, sweep.data, owner))


def _owner_of_runs(sweep: Sweep, tracker: Tracker) -> str:
    """The owner that most runs of this folder name; "" if there is none."""
    known = {o.run_id for name in sweep.experiment.stages for o in sweep.journal.outcomes(name).values()}
    known |= {path.name for path in sweep.folder.path.iterdir()}  # of the runs that have files here
    runs = tracker.lookup.runs(tracker.experiment(sweep.name))
    here = str(sweep.folder.path), sweep.folder.path.as_uri()  # where a run that has no files yet would have them
    mine = [run for run in runs if run.run_id in known] or [run for run in runs if run.artifact_uri.startswith(here)]
    owners = Counter(run.tags.get(tags.OWNER, "") for run in mine)
    return owners.most_common(1)[0][0] if owners else ""


def check_open(records: Records) -> Iterator[Finding]:
    """Runs in training, though nothing trains: see sweep.stages.reconcile.close_open."""
    for run in records.runs.find().values():
        if run.status == "RUNNING":
            yield Finding(f"{run.name} was left open by a process that ended", "closed as KILLED, or as it ended")


def check_model(sweep: Sweep, records: Records) -> Iterator[Finding]:
    """The registered model: winners that are no versions of it, as it was refused or left out; and its champion, who
    may have been set from an older list, or by a process that was killed.
    """
    if (registry := records.winners.model) is None:
        return
    with suppress(RefusedError):  # this store has no registry
        for stage, rows in ended_stages(sweep, records):
            winner = ranking.winner(rows)
            if winner and winner.accuracy is not None and not registry.has(winner.outcome.run_id):
                what = f"{winner.cell.name}, the winner of {stage.name}, is no version of model {registry.name}"
                mended = "registered; with --register none it is not missed"
                yield Finding(what, mended, partial(records.winners.register, stage, rows))
        best, why = registry.due()
        if best is not None:
            yield Finding(why, f"version {best.number} is made champion", partial(_crown, registry))


def _crown(registry: RegisteredModel) -> None:
    with suppress(RefusedError):
        registry.crown()
