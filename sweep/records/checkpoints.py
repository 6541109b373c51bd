"""Groups that were in training when a sweep ended, and go on from their last epoch that was kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.training.checkpoint import load_group, remove_group
from core.training.progress import Progress
from sweep.search.cell import Cell

_NAME = ".group"
_DIGITS = 16  # of the hash in a file's name


@dataclass(frozen=True)
class SavedGroup:
    """A group of a stage that was broken off.

    cells     of the plan; progress goes by their places
    run_ids   their runs in MLflow
    code      the version that trained it
    progress  whose active trials are those that are still open
    """

    path: Path
    cells: list[Cell]
    run_ids: list[str]
    code: str
    progress: Progress


def path_of(folder: Path, cells: Sequence[Cell]) -> Path:
    """Where the progress of these cells is kept while they train together."""
    keys = "".join(cell.key for cell in cells)
    return folder / f"{cells[0].stage}-{hashlib.sha256(keys.encode()).hexdigest()[:_DIGITS]}{_NAME}"


def about(cells: Sequence[Cell], run_ids: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """What is kept with the progress: all that find needs."""
    computed = {name: environment[name] for name in ("backend", "precision", "code")}
    return {"keys": [cell.key for cell in cells], "runs": list(run_ids)} | computed


def find(
    folder: Path,
    cells: Sequence[Cell],
    todo: Sequence[Cell],
    environment: Mapping[str, str],
    tell: Callable[[str], None],
) -> list[SavedGroup]:
    """The groups that have open cells and can go on, each cell in one of them.

    cells, todo  of the stage's plan, and those of them that are open
    tell         is told why one cannot, and what else there is to know
    """
    if not todo:
        return []
    known, wanted, found = {cell.key: cell for cell in cells}, {cell.key for cell in todo}, []
    for path in group_paths(folder, todo[0].stage):
        try:
            progress, kept = load_group(path)
        except InputError as error:
            tell(f"{error}; its trials start again")
            continue
        open_places = [n for n in progress.active if kept["keys"][n] in wanted]
        if not open_places:
            continue
        here = f"{len(open_places)} trials that were stopped after epoch {progress.epoch}"
        changed = [name for name in ("backend", "precision") if kept[name] != environment[name]]
        if changed:
            was, now = (", ".join(values[name] for name in changed) for values in (kept, environment))
            tell(f"{here} start again: they were trained with {was}, now it is {now}")
            continue
        tell(f"{here} go on from there")
        if kept["code"] != environment["code"]:
            tell(f"the code has changed since: it was {kept['code'][:12]}, now it is {environment['code'][:12]}")
        wanted -= {kept["keys"][n] for n in open_places}
        found.append(_within(progress, kept, known, open_places, path))
    return found


def _within(
    progress: Progress, kept: Mapping[str, Any], known: Mapping[str, Cell], open_places: Sequence[int], path: Path
) -> SavedGroup:
    """The group without the cells that the plan has no more, nor the arrays of those that are not open."""
    progress.leave(set(progress.active) - set(open_places))
    stay = [n for n, key in enumerate(kept["keys"]) if key in known]
    progress = replace(
        progress,
        active=[stay.index(n) for n in progress.active],
        results=[progress.results[n] for n in stay],
    )
    cells = [known[kept["keys"][n]] for n in stay]
    return SavedGroup(path, cells, [kept["runs"][n] for n in stay], kept["code"], progress)


def group_paths(folder: Path, stage: str = "*") -> list[Path]:
    """The files of a stage's groups, or of all: also those of which only the one before is left."""
    pattern = f"{stage}-{'[0-9a-f]' * _DIGITS}{_NAME}"  # of this stage, not of one whose name begins alike
    files = [*folder.glob(pattern), *folder.glob(f"{pattern}.before")]
    return sorted({file.with_name(file.name.removesuffix(".before")) for file in files})


def clear(folder: Path, stage: str) -> None:
    """Remove what is kept of a stage that is done."""
    for path in group_paths(folder, stage):
        remove_group(path)
