"""The data set that a run was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import InputError
from core.tracking import tags

if TYPE_CHECKING:
    from core.data.dataset import Dataset
    from core.tracking.entities import RunInfo


def data_of(run: RunInfo, name: str | None = None, folder: str | None = None) -> Dataset:
    """The data that the run was trained on, where it was then, or as the arguments tell (see core.data.registry.load).

    Raises InputError if what is found now is not the same.
    """
    from core.data import registry as datasets
    from core.project import root
    from core.tracking import relocate

    known, source = run.tags.get(tags.DATA_NAME, ""), run.tags.get(tags.DATA_SOURCE, "")
    if source:
        source = str(relocate.found_below(root(), Path(source)))
    if datasets.is_file(source) and not name and not Path(source).is_file():
        raise InputError(
            f"there is no file {source} any more, which run {run.run_id} was trained on: --data says where it is now"
        )
    found = datasets.load(
        name or (source if datasets.is_file(source) else known) or None,
        folder or (source if Path(source).is_dir() else None),
    )
    expected = run.tags.get(tags.DATA_SHA256)
    if expected and found.sha256 != expected:
        raise InputError(
            f"run {run.run_id} was trained on {known} with sha256 {expected[:12]}; "
            f"{found.name} from {found.source} has {found.sha256[:12]}"
            + ": it has changed, or is read otherwise now"
            * (found.name == known)
        )
    return found
