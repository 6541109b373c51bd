"""The files of an experiment's folder, but for those of its trials: the journal, groups in training, pictures."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

from core.errors import InputError
from core.storage import atomic, checksums
from core.training.checkpoint import load_group, remove_group
from sweep.doctor.finding import Finding
from sweep.records.checkpoints import group_paths
from sweep.records.folder import Folder
from sweep.records.journal import Journal
from sweep.records.journal_file import cut_torn_line, whole_lines
from sweep.records.trial_files import TOLD


def check_journal(journal: Journal) -> Iterator[Finding]:
    """Look at Optuna's journal, line by line."""
    path = journal.path
    if not path.exists():
        return
    lines, error = whole_lines(path)
    if error:
        copy = aside(path)
        mended = f"kept as {copy.name}; its first {len(lines)} lines count"
        yield Finding(error, mended, partial(_keep_lines, journal, lines, copy))
    elif sum(map(len, lines)) < path.stat().st_size:
        yield Finding(f"the last line of {path} is torn", "cut off", partial(cut_torn_line, path))


def _keep_lines(journal: Journal, lines: list[bytes], copy: Path) -> None:
    shutil.copy2(journal.path, copy)
    with atomic.replacing(journal.path) as file:
        file.write(b"".join(lines))
    journal.reread()


def check_groups(folder: Folder) -> Iterator[Finding]:
    """Files of groups in training that cannot be read, and files that were being written."""
    for path in atomic.unfinished(folder.path):
        what = f"{path} was being written by a process that was killed"
        yield Finding(what, "removed", partial(path.unlink, missing_ok=True))
    for path in group_paths(folder.training):
        try:
            load_group(path)
        except InputError as error:
            yield Finding(str(error), "removed; its trials start again", partial(remove_group, path))


def check_pictures(folder: Folder) -> Iterator[Finding]:
    """All other files that have checksums: pictures, evaluations, reports. Whatever made them makes them again."""
    for artifacts in sorted(path.parent for path in folder.path.glob(f"*/artifacts/**/{checksums.SUMS}")):
        try:
            sums = checksums.listed(artifacts)
        except InputError:
            sums = {path.name: "" for path in artifacts.iterdir() if path.is_file()}
        broken = [name for name, value in sums.items() if not _is(artifacts / name, value)]
        if broken and not set(broken) & {*TOLD, "model.npz", "summary.csv"}:
            what = f"{artifacts.relative_to(folder.path)}: damaged: {', '.join(broken)}"
            mended = "removed; the command that made them does it again"
            yield Finding(what, mended, partial(_remove, artifacts, broken, sums))


def _remove(artifacts: Path, broken: Collection[str], sums: Mapping[str, str]) -> None:
    for name in broken:
        (artifacts / name).unlink(missing_ok=True)
    left = {name: checksums.digest(artifacts / name) for name in sums.keys() - set(broken)}
    with atomic.replacing(artifacts / checksums.SUMS) as file:
        file.write(checksums.as_list(left).encode())


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and checksums.digest(path) == digest


def aside(path: Path) -> Path:
    """The name under which a damaged file is kept."""
    return path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
