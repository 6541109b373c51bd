"""The files of runs: to the store and back, each whole and with its checksum."""

from __future__ import annotations

import atexit
import csv
import shutil
import tempfile
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from mlflow.exceptions import MlflowException

from core.errors import InputError
from core.project import root
from core.storage import atomic, checksums
from core.tracking import relocate
from core.tracking.entities import RunInfo
from core.tracking.errors import clear_errors, kind, reason
from core.tracking.lookup import Lookup
from core.tracking.retry import patient
from core.tracking.store import Store


class Artifacts:
    """The artifacts of a store's runs."""

    def __init__(self, store: Store, lookup: Lookup) -> None:
        self.store, self._lookup = store, lookup

    @patient
    def log_files(self, run_id: str, folder: Path, below: str = "") -> None:
        """Store every file right in folder as an artifact, below a folder of the artifacts if one is named.

        Each appears whole or not at all, and all are listed in the SHA256SUMS beside them.
        """
        with clear_errors(f"artifacts of run {run_id}"):
            run = self._lookup.plain(self.store.client.get_run(run_id))
            there = self._local(run)
            paths = [path for path in folder.iterdir() if path.is_file() and path.name != checksums.SUMS]
            sums = {path.name: checksums.digest(path) for path in paths}
            if there is None:
                known = self._sums_at_server(run, below)
                (folder / checksums.SUMS).write_text(checksums.as_list(known | sums), encoding="utf-8")
                self.store.client.log_artifacts(run_id, str(folder), below or None)
            else:
                _copy(paths, there / below, sums)

    def _sums_at_server(self, run: RunInfo, below: str) -> dict[str, str]:
        """The checksums that a server has of a run's artifacts."""
        names = [Path(entry.path).name for entry in self.store.client.list_artifacts(run.run_id, below or None)]
        if checksums.SUMS not in names:
            return {}
        return _listed(self.path(run, f"{below}/{checksums.SUMS}" if below else checksums.SUMS).parent)

    def log_text(self, run_id: str, text: str, name: str) -> None:
        """Store text as an artifact."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_text(text, encoding="utf-8")
            self.log_files(run_id, Path(folder))

    @patient
    def path(self, run: RunInfo, name: str) -> Path:
        """Where an artifact's file is on this machine. Raises InputError if the run has none of that name.

        A server's artifact is downloaded to a folder that goes with this process.
        """
        missing = f"run {run.run_id} ({run.name}, {run.status}) has no {name}"
        folder = self._local(run)
        if folder is not None:
            if not (folder / name).is_file():
                raise InputError(missing)
            path = folder / name
        else:
            downloads = self._downloads / run.run_id
            downloads.mkdir(exist_ok=True)
            try:
                path = Path(self.store.client.download_artifacts(run.run_id, name, str(downloads)))
            except (MlflowException, OSError) as error:
                raise kind(error)(f"{missing}: {reason(error)}") from None
            with suppress(MlflowException, OSError):  # a run of an earlier version has none
                beside = Path(name).with_name(checksums.SUMS).as_posix()
                self.store.client.download_artifacts(run.run_id, beside, str(downloads))
        checksums.check(path)
        return path

    @patient
    def folder(self, run: RunInfo) -> Path:
        """The folder of the run's artifacts; a server's are downloaded, all of them, like one by path."""
        folder = self._local(run)
        if folder is None:
            folder = self._downloads / run.run_id
            folder.mkdir(exist_ok=True)
            with clear_errors(f"artifacts of run {run.run_id}"):
                self.store.client.download_artifacts(run.run_id, "", str(folder))
        return folder

    def names(self, run: RunInfo, below: str) -> list[str]:
        """The artifacts in a folder of the run's, in the order of their names, without their list of checksums; none
        if there is no such folder.
        """
        with clear_errors(f"artifacts of run {run.run_id}"):
            folder = self._local(run)
            if folder is None:
                entries = self.store.client.list_artifacts(run.run_id, below)
                found = [entry.path for entry in entries if not entry.is_dir]
            else:
                found = [f"{below}/{path.name}" for path in (folder / below).glob("*") if path.is_file()]
        return sorted(name for name in found if not name.endswith(checksums.SUMS))

    def table(self, run: RunInfo, name: str) -> list[dict[str, str]]:
        """The rows of an artifact that is CSV with a header. Raises InputError if the run has none of that name."""
        return list(csv.DictReader(self.path(run, name).read_text(encoding="utf-8").splitlines()))

    def history(self, run: RunInfo) -> list[dict[str, float]]:
        """Each epoch's metrics of a trial, from epoch 1. Raises InputError if the run has none."""
        return [{key: float(value) for key, value in row.items()} for row in self.table(run, "history.csv")]

    def _local(self, run: RunInfo) -> Path | None:
        """Where the run's artifacts are on this machine; None if a server has them."""
        stored = relocate.local(run.artifact_uri)
        return stored and relocate.artifacts(stored, run.run_id, root(), relocate.is_own(self.store.uri, root()))

    @cached_property
    def _downloads(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="sweep-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder


def _copy(paths: list[Path], folder: Path, sums: dict[str, str]) -> None:
    """Copy files into the folder, and then list them there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        with atomic.replacing(folder / path.name, lasting=False) as file, open(path, "rb") as source:
            shutil.copyfileobj(source, file)
    known = {name: value for name, value in _listed(folder).items() if (folder / name).exists()}
    with atomic.replacing(folder / checksums.SUMS) as file:
        file.write(checksums.as_list(known | sums).encode())


def _listed(folder: Path) -> dict[str, str]:
    """What the folder's list says. A damaged one says nothing: files that the next does not name are refused."""
    try:
        return checksums.listed(folder)
    except InputError:
        return {}
