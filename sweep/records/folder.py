"""The folder of one experiment on one data set: whose it is, what data it is about, and who trains in it now."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core.data.dataset import Dataset
from core.errors import DamageError, InputError, reason
from core.project import root
from core.storage.atomic import replacing, unfinished
from core.storage.checksums import sign, verified

_ABOUT = "sweep.json"
_HOLDER = "sweep.holder"  # beside the lock, which some versions of filelock empty


class Folder:
    """mlruns/<experiment>: Optuna's journal, groups in training, and MLflow's artifacts."""

    def __init__(self, name: str) -> None:
        self.path = root() / "mlruns" / name
        self.journal, self.training = self.path / "optuna.journal", self.path / "training"

    @property
    def owner(self) -> str:
        """A name for this folder's records: another checkout may share the MLflow server, and trains on its own.

        "" while nothing has been trained here. Raises InputError if the file that tells it is damaged.
        """
        return str(_read(self.path).get("owner", ""))

    def claim(self, experiment: str, data: Dataset, new_data: bool) -> str:
        """The owner's name, made if there is none.

        new_data  whether the experiment may have been begun on other data from the same place

        Raises InputError if it was, and may not, or if the name is lost.
        """
        if self.owner:
            return self.owner
        if self.journal.exists() or next(self.path.glob("*/artifacts"), None):
            raise DamageError(f"{self.path / _ABOUT} is missing")
        for other in self.path.parent.glob(f"{experiment}-*/{_ABOUT}"):
            about = _read(other.parent)
            was = about["data"]
            if (about["experiment"], was["source"]) == (experiment, data.source) and not new_data:
                raise InputError(
                    f"{data.source} has changed since {experiment} was begun on it, or is read otherwise now: "
                    f"its sha256 was {was['sha256'][:12]}, now it is {data.sha256[:12]}. "
                    "Put it back, or begin anew with --new-data"
                )
        self.sign(experiment, data)
        return self.owner

    def sign(self, experiment: str, data: Dataset, owner: str = "") -> None:
        """Write whose folder this is (by default, a new name) and what it is about."""
        about = {
            "owner": owner or uuid.uuid4().hex,
            "experiment": experiment,
            "data": {"name": data.name, "source": data.source, "sha256": data.sha256},
        }
        with replacing(self.path / _ABOUT) as file:
            file.write(sign(about))

    def holder(self) -> str:
        """Who trains here now; "" if nobody does."""
        lock = FileLock(self.path / "sweep.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return self._holder()
        lock.release()
        return ""

    @contextmanager
    def held(self) -> Iterator[None]:
        """One process at a time trains in an experiment. The system frees the lock of a process that dies.

        Raises InputError, which says who has it, or that the folder cannot be written.
        """
        lock = FileLock(self.path / "sweep.lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0.5)  # who only asks for the holder has it for a moment
        except Timeout:
            raise InputError(f"{self.path.name} is held by {self._holder()}: wait for it, or stop it") from None
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {reason(error)}") from None
        try:
            self._hold()
            yield
        finally:
            (self.path / _HOLDER).unlink(missing_ok=True)
            lock.release()

    def _hold(self) -> None:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        try:
            with replacing(self.path / _HOLDER) as file:
                file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now}).encode())
            for path in unfinished(self.path):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {reason(error)}") from None

    def _holder(self) -> str:
        try:
            holder = json.loads((self.path / _HOLDER).read_text())
            return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"  # which is just beginning, or ending


def _read(folder: Path) -> dict[str, Any]:
    path = folder / _ABOUT
    if path.exists():
        return verified(path.read_bytes(), str(path), ours=True)
    return {}
