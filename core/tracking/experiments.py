"""Which of a store's experiments is this project's: projects may share a store, and want the same names.

A project's artifacts lie in its own mlruns/, and MLflow has one place for all of an experiment. So each project has an
experiment of its own: the first has the plain name, others have one with a number, like name-2.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection, Sequence
from itertools import count
from pathlib import Path

from core.errors import InputError
from core.shell_commands import absolute, is_secret, quoted
from core.tracking.entities import ExperimentInfo
from core.tracking.relocate import local


class DeletedError(InputError):
    """All experiments of a name that this project could go on with were deleted."""


def name_pattern(name: str) -> str:
    """For SQL's LIKE: matches at least what with_name takes."""
    return re.sub(r"['\"\\]", "_", name) + "%"


def with_name(name: str, found: Sequence[ExperimentInfo]) -> list[ExperimentInfo]:
    """Those called name, or name with a number."""
    return [one for one in found if re.fullmatch(re.escape(name) + r"(-\d+)?", one.name)]


def free_name(name: str, taken: Collection[str]) -> str:
    """The first of name, name-2, name-3, ... that is not taken."""
    return next(new for n in count(1) if (new := f"{name}-{n}" if n > 1 else name) not in taken)


def artifact_location(one: ExperimentInfo, here: Path) -> str:
    """Where its artifacts lie: "here", in this project's folder of it, "elsewhere", in another project's, or "common",
    in a server's own place for those of all projects.
    """
    path = local(one.location)
    if path == here:
        return "here"
    return "common" if path is None or path.parts[-2:] != here.parts[-2:] else "elsewhere"


def continues_in(one: ExperimentInfo, here: Path, run_id: str) -> bool:
    """Whether this project, a run of which is in an experiment that keeps artifacts elsewhere, goes on in that.

    It does if the run's files were moved from there, and if they lie there alone: earlier versions kept those of all
    projects with the first one's. A copy of the project has them in both places, and does not.
    """
    there = local(one.location) or here
    in_both = (there / run_id).exists() and (here / run_id).exists()
    return not in_both or there.samefile(here)


def select(
    ours: Sequence[ExperimentInfo], common: Sequence[ExperimentInfo], anew: bool, store: str
) -> ExperimentInfo | None:
    """The one to go on with, the newest of ours, or else of those for all, which come oldest first; None if there is
    none.

    ours    those that have runs of this project, or keep their files in its folder, which come last
    common  those for all projects
    store   the tracking URI

    Raises DeletedError, unless anew, if all of ours were deleted, or if there are none and all for all were.
    """
    for group in (ours, common):
        if active := [one for one in group if not one.deleted]:
            return active[-1]
        if group and not anew:
            one = group[-1]
            raise DeletedError(
                f"experiment {one.name} was deleted in MLflow, with its runs; its files are kept. "
                f"Bring it back: {quoted(_restore(one, store), store)}"
            )
    return None


def _restore(one: ExperimentInfo, store: str) -> str:
    """The command that brings a deleted one back."""
    told = shlex.join([sys.executable, "-m", "mlflow", "experiments", "restore", "-x", one.experiment_id])
    return told if is_secret(store) else f"MLFLOW_TRACKING_URI={shlex.quote(absolute(store))} {told}"
