"""Two or more trials side by side: what differs in their settings, their results and what computed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from core import figures
from core.errors import InputError
from core.text import as_text
from core.tracking import tags
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.records.trial_files import CONFIG, read_config
from sweep.report.page import render
from sweep.report.pictures import drawn

MOST = 8  # runs in one comparison
_RESULTS = (
    tags.BEST_VAL_ACCURACY,
    tags.BEST_VAL_LOSS,
    tags.BEST_EPOCH,
    tags.EPOCHS,
    "test_accuracy",
    "test_largest_class",
    "test_loss",
)
_TAGS = (
    tags.OUTCOME,
    tags.STAGE_NAME,
    tags.DATA_NAME,
    tags.DATA_SHA256,
    tags.DATA_SEED,
    tags.LARGEST_CLASS,
    "backend",
    "precision",
    "device",
    "code",
    "packages",
)


@dataclass(frozen=True)
class TrialTable:
    """A table with a column for each run, and what all have in common, as text."""

    runs: Sequence[str]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    same: str


def find(tracker: Tracker, prefixes: Sequence[str]) -> list[RunInfo]:
    """The trials of these run ids; of a stage, its winner. Raises InputError if there are too few or too many."""
    if not 2 <= len(prefixes) <= MOST:
        raise InputError(f"{len(prefixes)} runs are to be compared: it must be from 2 to {MOST}")
    found = []
    for prefix in prefixes:
        run = tracker.lookup.find(prefix)
        if run.tags.get(tags.KIND) == tags.STAGE:
            if tags.WINNER_RUN not in run.tags:
                raise InputError(f"run {run.run_id} is a stage without a winner yet")
            run = tracker.lookup.find(run.tags[tags.WINNER_RUN])
        found.append(run)
    if len({run.run_id for run in found}) < len(found):
        raise InputError(f"{', '.join(prefixes)} name one run twice")
    return found


def compare(tracker: Tracker, runs: Sequence[RunInfo]) -> TrialTable:
    """Results first, then the settings that differ, then what else does."""
    settings = [read_config(tracker.artifacts.path(run, CONFIG))["settings"] for run in runs]
    keys = list(dict.fromkeys(key for values in settings for key in values))
    known = [name for name in _RESULTS if any(name in run.metrics for run in runs)]
    rows = [[name, *(as_text(run.metrics.get(name)) for run in runs)] for name in known]
    lines = [[key, *(as_text(values.get(key)) for values in settings)] for key in keys]
    lines += [[key, *(run.tags.get(key, "-") for run in runs)] for key in _TAGS]
    rows += [line for line in lines if len(set(line[1:])) > 1]
    same = ", ".join(f"{line[0]} {line[1]}" for line in lines if len(set(line[1:])) == 1 and line[1] != "-")
    names = [_name(run) for run in runs]
    return TrialTable(names, ["run", *names], rows, same)


def to_html(tracker: Tracker, runs: Sequence[RunInfo], comparison: TrialTable) -> str:
    """The comparison as a page, with the curves of all runs."""
    histories = {_name(run): tracker.artifacts.history(run) for run in runs}
    title = "Validation loss and accuracy by epoch"
    found = drawn(
        {"curves": partial(figures.side_by_side, histories, title)}, {"curves": f"{title}, a colour for each run."}
    )
    return render("compare.html", comparison=comparison, pictures=found)


def _name(run: RunInfo) -> str:
    return f"{run.name.partition(' ')[0]} ({run.run_id[:8]})"
