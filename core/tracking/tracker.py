"""Writing experiments and runs to MLflow; what reads them, their files and registered models are parts of it."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import sqlalchemy
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from core.project import root
from core.tracking import experiments
from core.tracking.artifacts import Artifacts
from core.tracking.entities import DatasetInfo, Steps
from core.tracking.errors import clear_errors
from core.tracking.lookup import Lookup, logged_at
from core.tracking.model_registry import RegisteredModel
from core.tracking.retry import patient
from core.tracking.store import Store, tracking_uri
from core.tracking.tags import PARENT, TOKEN

_BATCH = 1000  # metrics in a request
_NAME = 250  # characters of a run's name that databases keep


class Tracker:
    """Who writes to a store of experiments and runs.

    store      the connection
    lookup     reads what is there
    artifacts  the files of runs
    """

    def __init__(self, uri: str | None = None, patience: float = 0.0) -> None:
        """Open the store (see core.tracking.store.tracking_uri), which is made as the first experiment is.

        patience  seconds for which requests wait for a store that does not answer

        Raises InputError if it cannot be used.
        """
        self.store = Store(tracking_uri(uri), patience)
        self.lookup = Lookup(self.store)
        self.artifacts = Artifacts(self.store, self.lookup)
        self._asked = ""  # the token of the run that was asked for last

    def model(self, name: str) -> RegisteredModel:
        """The registered model of this name, of which there may be nothing yet."""
        return RegisteredModel(self.store, name)

    @patient
    def experiment(self, name: str, tags: Mapping[str, str] | None = None, owner: str = "", anew: bool = False) -> str:
        """The id of this project's experiment called name, or name with a number (see core.tracking.experiments),
        which is made if there is none.

        owner  tells the runs of this project from those of others
        anew   whether to begin another where it was deleted

        Raises InputError if it was deleted, unless anew.
        """
        self.store.create()
        with clear_errors(f"experiment {name}"):
            refused = set[str]()  # others have them: who was quicker, or who does not let us see theirs
            while True:
                known = self.lookup.experiments_called(name)
                if found := self.lookup.own_experiment(name, known, owner, anew):
                    return found.experiment_id
                new = experiments.free_name(name, refused | {one.name for one in known})
                if made := _make_experiment(self.store, new, root() / "mlruns" / name, dict(tags or {})):
                    return made
                refused.add(new)

    @patient
    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set or replace tags of an experiment."""
        with clear_errors(f"experiment {experiment_id}"):
            for key, value in tags.items():
                self.store.client.set_experiment_tag(experiment_id, key, value)

    def start(
        self,
        experiment_id: str,
        name: str,
        *,
        parent: str | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        dataset: DatasetInfo | None = None,
    ) -> str:
        """Create a run, of status RUNNING, and return its id. It is shown below its parent."""
        family = {PARENT: parent} if parent else {}
        run_id = self._create(experiment_id, name, dict(tags or {}) | family | {TOKEN: uuid.uuid4().hex})
        self._begin(run_id, [Param(key, str(value)) for key, value in (params or {}).items()], dataset)
        return run_id

    @patient
    def _create(self, experiment_id: str, name: str, tags: dict[str, str]) -> str:
        with clear_errors(f"run {name}"):
            if self._asked == tags[TOKEN]:  # it may have been made the first time, though the answer was lost
                for run in self.lookup.runs(experiment_id, **{TOKEN: tags[TOKEN]}):
                    return run.run_id
            self._asked = tags[TOKEN]
            return str(self.store.client.create_run(experiment_id, run_name=name[:_NAME], tags=tags).info.run_id)

    @patient
    def _begin(self, run_id: str, params: list[Param], dataset: DatasetInfo | None) -> None:
        with clear_errors(f"run {run_id}"):
            self.store.client.log_batch(run_id, params=params)
            if dataset:
                self.store.client.log_inputs(run_id, [_trained_on(dataset)])

    @patient
    def update(self, run_id: str, *, status: str | None = None, name: str | None = None) -> None:
        """Rename a run, or set an ended one to RUNNING again, which then has no end."""
        with clear_errors(f"run {run_id}"):
            self.store.client.update_run(run_id, status=status, name=name and name[:_NAME])
            if status == "RUNNING":
                _forget_the_end(self.store, run_id)

    @patient
    def finish(self, run_id: str, status: str) -> None:
        """End a run as "FINISHED", "FAILED" or "KILLED"."""
        with clear_errors(f"run {run_id}"):
            self.store.client.set_terminated(run_id, status)

    @patient
    def delete(self, run_id: str) -> None:
        """Take a run out of all lists; MLflow's page can bring it back. Its files stay."""
        with clear_errors(f"run {run_id}"):
            self.store.client.delete_run(run_id)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log numbers that a run has one each of. MLflow can store neither nan nor infinity faithfully: those are left
        out. The latest counts, also where the clock was set back since the one before.
        """
        logged = self._logged(run_id)
        self.log_steps(run_id, [(0, _moment(logged.get(name)), {name: value}) for name, value in metrics.items()])

    @patient
    def _logged(self, run_id: str) -> dict[str, int]:
        with clear_errors(f"run {run_id}"):
            return logged_at(self.store.client.get_run(run_id))

    @patient
    def log_steps(self, run_id: str, steps: Steps) -> None:
        """Log the numbers of several steps, each with the time it ended at (seconds since 1970), in few requests.

        The same again changes nothing.
        """
        finite = _finite(steps)
        with clear_errors(f"run {run_id}"):
            for start in range(0, len(finite), _BATCH):
                self.store.client.log_batch(run_id, metrics=finite[start : start + _BATCH])

    @patient
    def set_tags(
        self,
        run_id: str,
        tags: Mapping[str, str],
        metrics: Mapping[str, float] | None = None,
        logged: Mapping[str, int] | None = None,
    ) -> None:
        """Set or replace tags; in the same request log finite numbers, as log_metrics does.

        logged  as RunInfo has it
        """
        numbers = _numbers(metrics or {}, logged or {})
        with clear_errors(f"run {run_id}"):
            self.store.client.log_batch(run_id, numbers, tags=[RunTag(key, value) for key, value in tags.items()])

    @patient
    def remove_tags(self, run_id: str, names: Iterable[str]) -> None:
        """Remove these tags, as far as the run has them."""
        with clear_errors(f"run {run_id}"):
            for name in set(names) & self.store.client.get_run(run_id).data.tags.keys():
                self.store.client.delete_tag(run_id, name)


def _make_experiment(store: Store, name: str, artifacts: Path, tags: dict[str, str]) -> str | None:
    """A new experiment's id; None if the name is taken. artifacts: where its files are, unless a server has them."""
    location = None if store.is_server else artifacts.as_uri()
    try:
        return str(store.client.create_experiment(name, artifact_location=location, tags=tags))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return None


def _trained_on(dataset: DatasetInfo) -> DatasetInput:
    entry = Dataset(dataset.name, dataset.sha256[:36], "local", dataset.source)
    return DatasetInput(entry, [InputTag("mlflow.data.context", "training")])


def _numbers(metrics: Mapping[str, float], logged: Mapping[str, int]) -> list[Metric]:
    return [Metric(name, value, int(1000 * _moment(logged.get(name))), 0) for name, value in metrics.items()]


def _finite(steps: Steps) -> list[Metric]:
    return [
        Metric(key, value, int(moment * 1000), step)
        for step, moment, metrics in steps
        for key, value in metrics.items()
        if math.isfinite(value)
    ]


def _forget_the_end(store: Store, run_id: str) -> None:
    """MLflow keeps it, and its client cannot say that there is none: of a server's answers, 0 says so."""
    if store.is_server:
        store.client._tracking_client.store.update_run_info(run_id, None, 0, None)
        return
    engine = sqlalchemy.create_engine(store.uri)
    with engine.begin() as connection:
        forget = sqlalchemy.text("UPDATE runs SET end_time = NULL WHERE run_uuid = :run_id")
        connection.execute(forget, {"run_id": run_id})
    engine.dispose()


def _moment(last: int | None) -> float:
    """Now, or a moment after the last (in milliseconds): of one step, MLflow goes by the time. Seconds since 1970."""
    return time.time() if last is None else max(time.time(), (last + 1.5) / 1000)
