"""A registered model: its versions, each the winner of a stage, and the best of them, its champion."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from core.errors import InputError
from core.tracking.entities import RunInfo
from core.tracking.errors import RefusedError, UnreachableError, clear_errors
from core.tracking.retry import patient
from core.tracking.served_package import ServedModel, save
from core.tracking.store import Store
from core.tracking.tags import BEST_VAL_ACCURACY, DATA_SHA256

_CHAMPION = "champion"
_TRIES = 5  # to set the champion while others do


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model, and the run it is from."""

    number: int
    run_id: str
    tags: dict[str, str]

    @property
    def accuracy(self) -> float | None:
        """What it counts by; None if it does not count."""
        try:
            value = float(self.tags.get(BEST_VAL_ACCURACY, ""))
        except ValueError:
            return None
        return value if math.isfinite(value) else None


class RegisteredModel:
    """The registered model of one name, of which there may be nothing yet.

    A server may have no registry, or not let us use it: all methods raise RefusedError then.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name

    @patient
    def versions(self) -> list[ModelVersion]:
        """All versions, oldest first; none if the model is not registered."""
        if not self.store.exists:
            return []
        quote = '"' if "'" in self.name else "'"
        wanted = f"name = {quote}{self.name}{quote}"
        with clear_errors(f"model {self.name}"):
            pages = self.store.pages(self.store.client.search_model_versions, filter_string=wanted)
            found = [ModelVersion(int(v.version), v.run_id or "", dict(v.tags)) for v in pages]
        return sorted(found, key=lambda version: version.number)

    def has(self, run_id: str) -> bool:
        """Whether a version is from this run."""
        return any(version.run_id == run_id for version in self.versions())

    def register(self, run: RunInfo, model: ServedModel, tags: Mapping[str, str]) -> None:
        """Store a model that can be served, and make it the newest version."""
        with clear_errors(f"model {self.name}"), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            save(path, model)
            try:
                source, model_id = self._as_logged_model(run, path)
            except RefusedError:  # servers of MLflow 2 have runs' artifacts alone
                source, model_id = self._as_artifact(run, path), None
        self._add(run, source, model_id, tags)

    @patient
    def _as_logged_model(self, run: RunInfo, path: Path) -> tuple[str, str]:
        with clear_errors(f"model {self.name}"):
            stored = self.store.client.create_logged_model(run.experiment_id, name=self.name, source_run_id=run.run_id)
            self.store.client.log_model_artifacts(stored.model_id, str(path))
            self.store.client.finalize_logged_model(stored.model_id, "READY")
        # A server refuses plain paths; without one, MLflow would look for models:/ in the default store, not here.
        return stored.model_uri if self.store.is_server else stored.artifact_location, stored.model_id

    @patient
    def _as_artifact(self, run: RunInfo, path: Path) -> str:
        with clear_errors(f"model {self.name}"):
            self.store.client.log_artifacts(run.run_id, str(path), path.name)
        return f"{run.artifact_uri}/{path.name}"

    @patient
    def _add(self, run: RunInfo, source: str, model_id: str | None, tags: Mapping[str, str]) -> None:
        if self.has(run.run_id):
            return  # it was made the first time, though the answer was lost
        with clear_errors(f"model {self.name}"):
            try:
                self.store.client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            self.store.client.create_model_version(self.name, source, run.run_id, dict(tags), model_id=model_id)

    def due(self) -> tuple[ModelVersion | None, str]:
        """The version that should be champion and is not, and why; None if all is well.

        The best is, by validation accuracy. Who has it keeps it while none is better. Versions of different data cannot
        be compared, and without one that counts there is none to choose.
        """
        holder = self._holder()  # before the versions, so that none is better that it did not know of
        counting = {v.number: v for v in self.versions() if v.accuracy is not None}
        if not counting or len({v.tags[DATA_SHA256] for v in counting.values() if DATA_SHA256 in v.tags}) > 1:
            return None, ""
        best = max(counting.values(), key=lambda v: (v.accuracy, -v.number))
        if holder in counting and counting[holder].accuracy == best.accuracy:
            return None, ""
        was = f"version {holder}" if holder else "no version"
        if holder in counting:
            was += f", with {BEST_VAL_ACCURACY} {counting[holder].accuracy}"
        return best, f"of model {self.name}, {was} is {_CHAMPION}; version {best.number} has {best.accuracy}"

    def crown(self) -> None:
        """Let models:/NAME@champion be the best version.

        MLflow sets an alias whatever it was, so others may do the same at the same time from an older list. Therefore
        it is looked at again after it is set, until nothing is to be done: the last to set it has seen all versions.
        Of two that set it first at the very same time, one gets an error of the database: see _may_pass.
        """
        tries = 0
        while (best := self.due()[0]) is not None:
            try:
                self._set(best)
            except InputError as error:
                tries += 1
                if tries == _TRIES or not _may_pass(error):
                    raise

    @patient
    def _holder(self) -> int | None:
        if not self.store.exists:
            return None
        with clear_errors(f"model {self.name}"):
            try:
                model = self.store.client.get_registered_model(self.name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
        number = model.aliases.get(_CHAMPION)
        return None if number is None else int(number)

    @patient
    def _set(self, version: ModelVersion) -> None:
        with clear_errors(f"model {self.name}"):
            self.store.client.set_registered_model_alias(self.name, _CHAMPION, str(version.number))


def _may_pass(error: InputError) -> bool:
    """Whether others may have caused it, who set the champion: a server then says BAD_REQUEST."""
    if isinstance(error, RefusedError):
        return getattr(error.__cause__, "error_code", "") == "BAD_REQUEST"
    return not isinstance(error, UnreachableError)  # which was tried again
