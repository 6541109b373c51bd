"""Experiments and runs in MLflow: the only importer of mlflow. No mlflow object leaves this file."""

from __future__ import annotations

import atexit
import csv
import math
import os
import re
import shutil
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import mlflow
import sqlalchemy
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response

from core.addresses import require_server, shown
from core.errors import InputError, printable
from core.hints import browse
from core.project import root
from core.storage import atomic, checksums
from core.tracking import experiments, relocate
from core.tracking.entities import DatasetInfo, ExperimentInfo, RunInfo, Steps
from core.tracking.errors import clear_errors, kind, reason
from core.tracking.errors import patient as _patient
from core.tracking.experiments import Experiment

_ANSWER = (5, 10)  # seconds that a server has to be reached, and to answer, when a command begins
_PAGE = 200  # runs in a request: of more, memory holds what MLflow makes of them
_BATCH = 1000  # metrics in a request
_TOKEN = "token"  # the tag that tells a run from any other before its id is known
_ID = re.compile("[0-9a-f]{32}")
_NAME = 250  # characters of a run's name that databases keep
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def store(uri: str | None = None) -> str:
    """Where runs are kept: at uri, or $MLFLOW_TRACKING_URI, or in mlflow.db in the project's root."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root() / 'mlflow.db'}"


class Tracker:
    """A store of experiments and runs: a database file, or a server."""

    def __init__(self, uri: str | None = None, patience: float = 0.0) -> None:
        """Open the store (see store); a database file is made if it is missing.

        patience  seconds for which writing waits for a store that does not answer

        Raises InputError if it cannot be used.
        """
        self.uri, self.patience = store(uri), patience
        self._asked = ""  # the token of the run that was asked for last
        self.store_name = f"the tracking store {shown(self.uri)}"
        with clear_errors(self.store_name):
            if self.is_server:
                _require_answer(self.uri)
            else:
                _require_database(self.uri)
            self._client = mlflow.MlflowClient(self.uri)
            if not self.is_server:
                self._client.search_experiments(max_results=1)

    @property
    def is_server(self) -> bool:
        """Whether a server keeps the runs and their artifacts."""
        return self.uri.startswith(("http://", "https://"))

    @_patient
    def experiment(self, name: str, tags: Mapping[str, str] | None = None, owner: str = "", anew: bool = False) -> str:
        """The id of this project's experiment called name, or name with a number (see core.tracking.experiments),
        which is made if there is none.

        owner  tells the runs of this project from those of others
        anew   whether to begin another where it was deleted

        Raises InputError if it was deleted, unless anew.
        """
        with clear_errors(f"experiment {name}"):
            place = None if self.is_server else (root() / "mlruns" / name).as_uri()
            refused = set[str]()  # others have them: who was quicker, or who does not let us see theirs
            while True:
                known = self._named(name)
                if found := self._chosen(known, name, owner, anew):
                    return found.id
                new = experiments.free(name, refused | {one.name for one in known})
                try:
                    return str(self._client.create_experiment(new, artifact_location=place, tags=dict(tags or {})))
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                    refused.add(new)

    @_patient
    def has_experiment(self, name: str, owner: str = "") -> bool:
        """Whether this project has an experiment called name. Raises InputError if it was deleted."""
        with clear_errors(f"experiment {name}"):
            return self._chosen(self._named(name), name, owner) is not None

    def _chosen(self, known: Iterable[Experiment], name: str, owner: str, anew: bool = False) -> Experiment | None:
        here, by_place = root() / "mlruns" / name, defaultdict[str, list[Experiment]](list)
        for found in known:
            by_place[experiments.place(found, here)].append(found)
        ours = by_place["here"] or [found for found in by_place["elsewhere"] if self._goes_on(found, here, owner)]
        common = by_place["common"]
        used = [found for found in common if self._oldest(found, owner)]
        return experiments.chosen([*used, *ours], common, anew, self.uri)

    def _named(self, name: str) -> list[Experiment]:
        """The experiments of this name, also deleted ones, oldest first."""
        wanted = f"name LIKE '{experiments.pattern(name)}'"
        ask = partial(self._client.search_experiments, ViewType.ALL, filter_string=wanted, order_by=["creation_time"])
        every = self._pages(ask)
        found = [
            Experiment(e.experiment_id, e.name, e.artifact_location, e.lifecycle_stage == "deleted") for e in every
        ]
        return experiments.named(name, found)

    def _goes_on(self, found: Experiment, here: Path, owner: str) -> bool:
        """Whether the owner's runs in an experiment that keeps artifacts elsewhere are this project's."""
        return any(experiments.goes_on(found, here, run.info.run_id) for run in self._oldest(found, owner))

    def _oldest(self, found: Experiment, owner: str) -> list[Run]:
        """The owner's first run in an experiment, also a deleted one; none if there is none."""
        ask: dict[str, Any] = {"run_view_type": ViewType.ALL, "max_results": 1, "order_by": ["attributes.start_time"]}
        return list(self._client.search_runs([found.id], f"tags.owner = {_quoted(owner)}", **ask))

    @_patient
    def experiment_tags(self, experiment_id: str) -> dict[str, str]:
        """The experiment's tags."""
        with clear_errors(f"experiment {experiment_id}"):
            return dict(self._client.get_experiment(experiment_id).tags)

    @_patient
    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set or replace tags of an experiment."""
        with clear_errors(f"experiment {experiment_id}"):
            for key, value in tags.items():
                self._client.set_experiment_tag(experiment_id, key, value)

    def experiments(self) -> list[ExperimentInfo]:
        """All experiments that were not deleted, the one last changed first."""
        ask = partial(self._client.search_experiments, order_by=["last_update_time DESC"])
        return [ExperimentInfo(found.experiment_id, found.name, dict(found.tags)) for found in self._pages(ask)]

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
        family = {"mlflow.parentRunId": parent} if parent else {}
        run_id = str(self._create(experiment_id, name, dict(tags or {}) | family | {_TOKEN: uuid.uuid4().hex}))
        self._begin(run_id, [Param(key, str(value)) for key, value in (params or {}).items()], dataset)
        return run_id

    @_patient
    def _create(self, experiment_id: str, name: str, tags: dict[str, str]) -> str:
        with clear_errors(f"run {name}"):
            if self._asked == tags[_TOKEN]:  # it may have been made the first time, though the answer was lost
                for run in self.runs(experiment_id, **{_TOKEN: tags[_TOKEN]}):
                    return run.run_id
            self._asked = tags[_TOKEN]
            return str(self._client.create_run(experiment_id, run_name=name[:_NAME], tags=tags).info.run_id)

    @_patient
    def _begin(self, run_id: str, params: list[Param], dataset: DatasetInfo | None) -> None:
        with clear_errors(f"run {run_id}"):
            self._client.log_batch(run_id, params=params)
            if dataset:
                entry = Dataset(dataset.name, dataset.sha256[:36], "local", dataset.source)
                self._client.log_inputs(run_id, [DatasetInput(entry, [InputTag("mlflow.data.context", "training")])])

    @_patient
    def update(self, run_id: str, *, status: str | None = None, name: str | None = None) -> None:
        """Rename a run, or set an ended one to RUNNING again, which then has no end."""
        with clear_errors(f"run {run_id}"):
            self._client.update_run(run_id, status=status, name=name and name[:_NAME])
            if status == "RUNNING":
                self._forget_the_end(run_id)

    def _forget_the_end(self, run_id: str) -> None:
        """MLflow keeps it, and its client cannot say that there is none: of a server's answers, 0 says so."""
        if self.is_server:
            self._client._tracking_client.store.update_run_info(run_id, None, 0, None)
            return
        engine = sqlalchemy.create_engine(self.uri)
        with engine.begin() as connection:
            forget = sqlalchemy.text("UPDATE runs SET end_time = NULL WHERE run_uuid = :run_id")
            connection.execute(forget, {"run_id": run_id})
        engine.dispose()

    @_patient
    def finish(self, run_id: str, status: str) -> None:
        """End a run as "FINISHED", "FAILED" or "KILLED"."""
        with clear_errors(f"run {run_id}"):
            self._client.set_terminated(run_id, status)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log numbers that a run has one each of. MLflow can store neither nan nor infinity faithfully: those are left
        out. The latest counts, also where the clock was set back since the one before.
        """
        logged = self._logged(run_id)
        self.log_steps(run_id, [(0, _moment(logged.get(name)), {name: value}) for name, value in metrics.items()])

    @_patient
    def _logged(self, run_id: str) -> dict[str, int]:
        with clear_errors(f"run {run_id}"):
            return _logged(self._client.get_run(run_id))

    @_patient
    def log_steps(self, run_id: str, steps: Steps) -> None:
        """Log the numbers of several steps, each with the time it ended at (seconds since 1970), in few requests."""
        self.try_log_steps(run_id, steps)

    def try_log_steps(self, run_id: str, steps: Steps) -> None:
        """Like log_steps, but without patience. The same again changes nothing."""
        finite = [
            Metric(key, value, int(moment * 1000), step)
            for step, moment, metrics in steps
            for key, value in metrics.items()
            if math.isfinite(value)
        ]
        with clear_errors(f"run {run_id}"):
            for start in range(0, len(finite), _BATCH):
                self._client.log_batch(run_id, metrics=finite[start : start + _BATCH])

    @_patient
    def metrics(self, run_id: str, names: Iterable[str]) -> dict[tuple[str, int], list[float]]:
        """What the run has of these metrics, by name and step; more than one value where a step was told twice."""
        found: dict[tuple[str, int], list[float]] = {}
        with clear_errors(f"run {run_id}"):
            for name in names:
                for metric in self._client.get_metric_history(run_id, name):
                    found.setdefault((metric.key, metric.step), []).append(metric.value)
        return found

    @_patient
    def deleted(self, run_id: str) -> bool:
        """Whether there was a run of this id, which was deleted."""
        with clear_errors(f"run {run_id}"):
            try:
                return str(self._client.get_run(run_id).info.lifecycle_stage) == "deleted"
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return False

    @_patient
    def delete(self, run_id: str) -> None:
        """Take a run out of all lists; MLflow's page can bring it back. Its files stay."""
        with clear_errors(f"run {run_id}"):
            self._client.delete_run(run_id)

    @_patient
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
        known = logged or {}
        numbers = [
            Metric(name, value, int(1000 * _moment(known.get(name))), 0) for name, value in (metrics or {}).items()
        ]
        with clear_errors(f"run {run_id}"):
            self._client.log_batch(run_id, numbers, tags=[RunTag(key, value) for key, value in tags.items()])

    @_patient
    def remove_tags(self, run_id: str, names: Iterable[str]) -> None:
        """Remove these tags, as far as the run has them."""
        with clear_errors(f"run {run_id}"):
            for name in set(names) & self._client.get_run(run_id).data.tags.keys():
                self._client.delete_tag(run_id, name)

    @_patient
    def log_files(self, run_id: str, folder: Path, below: str = "") -> None:
        """Store every file right in folder as an artifact, below a folder of the artifacts if one is named.

        Each appears whole or not at all, and all are listed in the SHA256SUMS beside them.
        """
        with clear_errors(f"artifacts of run {run_id}"):
            run = self._plain(self._client.get_run(run_id))
            place = self._folder(run)
            paths = [path for path in folder.iterdir() if path.is_file() and path.name != checksums.SUMS]
            new = {path.name: checksums.digest(path) for path in paths}
            if place is None:
                (folder / checksums.SUMS).write_text(
                    checksums.as_list(self._listed_there(run, below) | new), encoding="utf-8"
                )
                self._client.log_artifacts(run_id, str(folder), below or None)
                return
            place /= below
            place.mkdir(parents=True, exist_ok=True)
            for path in paths:
                with atomic.replacing(place / path.name, lasting=False) as file, open(path, "rb") as source:
                    shutil.copyfileobj(source, file)
            known = {name: value for name, value in _listed(place).items() if (place / name).exists()}
            with atomic.replacing(place / checksums.SUMS) as file:
                file.write(checksums.as_list(known | new).encode())

    def _listed_there(self, run: RunInfo, below: str) -> dict[str, str]:
        """The checksums that a server has of a run's artifacts."""
        names = [Path(entry.path).name for entry in self._client.list_artifacts(run.run_id, below or None)]
        if checksums.SUMS not in names:
            return {}
        return _listed(self.artifact(run, f"{below}/{checksums.SUMS}" if below else checksums.SUMS).parent)

    def log_text(self, run_id: str, text: str, name: str) -> None:
        """Store text as an artifact."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_text(text, encoding="utf-8")
            self.log_files(run_id, Path(folder))

    @_patient
    def runs(self, experiment_id: str, **tags: str) -> list[RunInfo]:
        """All runs of the experiment with these tags, oldest first."""
        wanted = " and ".join(f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items())
        return list(self._search([experiment_id], wanted))

    def siblings(self, run: RunInfo, **tags: str) -> list[RunInfo]:
        """All runs of the run's experiment with these tags, oldest first."""
        return self.runs(run.experiment_id, **tags)

    @_patient
    def find(self, prefix: str) -> RunInfo:
        """The one run, in any experiment, whose id begins with prefix. Raises InputError unless there is just one."""
        if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
            raise InputError(f'run id is "{prefix}": it must be up to 32 hexadecimal digits, as MLflow shows them')
        every = partial(self._client.search_experiments, view_type=ViewType.ALL)
        experiments = [experiment.experiment_id for experiment in self._pages(every)]
        found = list(self._search(experiments, f"attributes.run_id LIKE '{prefix}%'"))
        if not found:
            raise InputError(
                f'no run id begins with "{prefix}" in {self.store_name}: {browse(self.uri)} lists the runs'
            )
        if len(found) > 1:
            some = ", ".join(f"{run.run_id[: len(prefix) + 4]} ({run.name})" for run in found[:4])
            raise InputError(f'{len(found)} run ids begin with "{prefix}": {some}{", ..." if len(found) > 4 else ""}')
        return found[0]

    def _search(self, experiments: list[str], wanted: str) -> Iterator[RunInfo]:
        ask = partial(self._client.search_runs, experiments, wanted, order_by=["attributes.start_time ASC"])
        return (self._plain(run) for run in self._pages(ask))

    def _pages(self, ask: Callable[..., Any]) -> Iterator[Any]:
        token = None
        while True:
            with clear_errors(self.store_name):
                page = ask(max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _plain(self, run: Run) -> RunInfo:
        info, data = run.info, run.data
        if not _ID.fullmatch(info.run_id):  # it names folders
            raise InputError(
                f"{self.store_name} has a run whose id is {info.run_id!r}: it must be 32 hexadecimal digits"
            )
        experiment = self.experiment_name(info.experiment_id)
        return RunInfo(
            *(info.run_id, printable(info.run_name), info.status, experiment),
            *(dict(data.tags), dict(data.params), dict(data.metrics), _logged(run)),
            *(info.artifact_uri, info.experiment_id),
        )

    @cache  # noqa: B019 - a command makes one tracker
    @_patient
    def experiment_name(self, experiment_id: str) -> str:
        """What MLflow calls the experiment."""
        with clear_errors(f"experiment {experiment_id}"):
            return str(self._client.get_experiment(experiment_id).name)

    @_patient
    def artifact(self, run: RunInfo, name: str) -> Path:
        """Where an artifact's file is on this machine. Raises InputError if the run has none of that name.

        A server's artifact is downloaded to a folder that goes with this process.
        """
        missing = f"run {run.run_id} ({run.name}, {run.status}) has no {name}"
        folder = self._folder(run)
        if folder is not None:
            if not (folder / name).is_file():
                raise InputError(missing)
            path = folder / name
        else:
            place = self._downloads / run.run_id
            place.mkdir(exist_ok=True)
            try:
                path = Path(self._client.download_artifacts(run.run_id, name, str(place)))
            except (MlflowException, OSError) as error:
                raise kind(error)(f"{missing}: {reason(error)}") from None
            with suppress(MlflowException, OSError):  # a run of an earlier version has none
                beside = Path(name).with_name(checksums.SUMS).as_posix()
                self._client.download_artifacts(run.run_id, beside, str(place))
        checksums.check(path)
        return path

    @_patient
    def local(self, run: RunInfo) -> Path:
        """The folder of the run's artifacts; a server's are downloaded, all of them, like one by artifact."""
        folder = self._folder(run)
        if folder is None:
            folder = self._downloads / run.run_id
            folder.mkdir(exist_ok=True)
            with clear_errors(f"artifacts of run {run.run_id}"):
                self._client.download_artifacts(run.run_id, "", str(folder))
        return folder

    def artifacts(self, run: RunInfo, below: str) -> list[str]:
        """The artifacts in a folder of the run's, in the order of their names, without their list of checksums; none
        if there is no such folder.
        """
        with clear_errors(f"artifacts of run {run.run_id}"):
            folder = self._folder(run)
            if folder is None:
                found = [entry.path for entry in self._client.list_artifacts(run.run_id, below) if not entry.is_dir]
            else:
                found = [f"{below}/{path.name}" for path in (folder / below).glob("*") if path.is_file()]
        return sorted(name for name in found if not name.endswith(checksums.SUMS))

    def table(self, run: RunInfo, name: str) -> list[dict[str, str]]:
        """The rows of an artifact that is CSV with a header. Raises InputError if the run has none of that name."""
        return list(csv.DictReader(self.artifact(run, name).read_text(encoding="utf-8").splitlines()))

    def history(self, run: RunInfo) -> list[dict[str, float]]:
        """Each epoch's metrics of a trial, from epoch 1. Raises InputError if the run has none."""
        return [{key: float(value) for key, value in row.items()} for row in self.table(run, "history.csv")]

    def _folder(self, run: RunInfo) -> Path | None:
        """Where the run's artifacts are on this machine; None if a server has them."""
        stored = relocate.local(run.artifact_uri)
        return stored and relocate.artifacts(stored, run.run_id, root(), relocate.is_own(self.uri, root()))

    @cached_property
    def _downloads(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="sweep-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder


def _logged(run: Run) -> dict[str, int]:
    return {metric.key: metric.timestamp for metric in run.data.to_proto().metrics}


def _moment(last: int | None) -> float:
    """Now, or a moment after the last (in milliseconds): of one step, MLflow goes by the time. Seconds since 1970."""
    return time.time() if last is None else max(time.time(), (last + 1.5) / 1000)


def _listed(folder: Path) -> dict[str, str]:
    """What the folder's list says. A damaged one says nothing: files that the next does not name are refused."""
    try:
        return checksums.listed(folder)
    except InputError:
        return {}


def _require_answer(uri: str) -> None:
    """Ask as MLflow's client does, with its credentials and certificates, but once, and not for long."""
    require_server(uri)
    place, wanted = "/api/2.0/mlflow/experiments/search", {"max_results": 1}
    once: dict[str, Any] = {"max_retries": 0, "raise_on_status": False, "timeout": _ANSWER}
    try:
        answer = http_request(get_default_host_creds(uri), place, "POST", json=wanted, **once)
    except MlflowException as error:
        raise kind(error)(f"no MLflow server answers at {shown(uri)}: {reason(error)}") from None
    verify_rest_response(answer, place)


def _require_database(uri: str) -> None:
    """See that the database opens: MLflow would try for minutes. SQLite's file is made if it is missing."""
    if uri.partition(":")[0].partition("+")[0] not in _DATABASES:
        others = ", ".join(_DATABASES[1:])
        right = f"sqlite:///FILE.db, http://HOST:PORT, or of {others}"
        raise InputError(f'tracking URI is "{shown(uri)}": it must be {right}')
    if uri.startswith("sqlite"):
        name = uri.partition(":///")[2]
        if name in ("", ":memory:") or not Path(name).absolute().parent.is_dir():
            raise InputError(f'tracking URI is "{shown(uri)}": it must be sqlite:///FILE.db, in a folder that there is')
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///"))
        _make_whole(database)
    elif "@" in _host(uri):  # of a password, and errors would show it
        raise InputError(f'tracking URI is "{shown(uri)}": in a user and a password, @ is written %40')
    engine = sqlalchemy.create_engine(uri)
    engine.connect().close()
    engine.dispose()
    relocate.follow(uri, root())


def _host(uri: str) -> str:
    """The machine that a database's address names. Raises InputError if it cannot be read."""
    try:
        return sqlalchemy.make_url(uri).host or ""
    except (ValueError, sqlalchemy.exc.ArgumentError):  # which show what may be a part of a password
        right = "it must be like postgresql://USER:PASSWORD@HOST:PORT/NAME, where / is written %2F, : %3A and @ %40"
        raise InputError(f'tracking URI is "{shown(uri)}": {right} in user and password') from None


def _make_whole(database: Path) -> None:
    """Make a new database under another name and rename it: MLflow cannot repair one that it was killed in making."""
    if database.exists():
        return
    with FileLock(f"{database}.lock"):
        if not database.exists():
            building = database.with_name(f".{database.name}.new")
            building.unlink(missing_ok=True)  # of a process that was killed
            mlflow.MlflowClient(f"sqlite:///{building}").search_experiments(max_results=1)
            building.replace(database)


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"
