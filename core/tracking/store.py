"""The connection to a store of runs: from its address to MLflow's client, or an error that says what is right."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import mlflow
import sqlalchemy
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response

from core.addresses import redacted, require_server
from core.errors import InputError
from core.project import root
from core.tracking import relocate
from core.tracking.errors import clear_errors, kind, reason

PAGE = 200  # entities in a request: of more, memory holds what MLflow makes of them
_ANSWER = (5, 10)  # seconds that a server has to be reached, and to answer, when a command begins
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

_T_co = TypeVar("_T_co", covariant=True)


class Page(Protocol[_T_co]):
    """Some of the entities that MLflow found, and what to ask with for those that follow."""

    def __iter__(self) -> Iterator[_T_co]:
        """These."""

    @property
    def token(self) -> str | None:
        """Empty if no page follows."""


def tracking_uri(uri: str | None = None) -> str:
    """Where runs are kept: at uri, or $MLFLOW_TRACKING_URI, or in mlflow.db in the project's root."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root() / 'mlflow.db'}"


class Store:
    """A database file, or a server, with experiments, runs and registered models.

    To open and to read one makes nothing: where there is none yet it is empty. Who writes asks for create first.
    """

    def __init__(self, uri: str, patience: float = 0.0) -> None:
        """
        patience  seconds for which requests wait for a store that does not answer

        Raises InputError if it cannot be used.
        """
        self.uri, self._patience = uri, patience
        self.name = f"the tracking store {redacted(uri)}"
        with clear_errors(self.name):
            if self.is_server:
                _require_answer(uri)
            else:
                _require_address(uri)
            self._client = self._connected() if self.is_server or _has_tables(uri) else None

    def _connected(self) -> mlflow.MlflowClient:
        """MLflow's client, of a database that is there and that it can read."""
        if not self.is_server:
            relocate.follow(self.uri, root())
        client = mlflow.MlflowClient(self.uri)
        if not self.is_server:
            client.search_experiments(max_results=1)
        return client

    @property
    def is_server(self) -> bool:
        """Whether a server keeps the runs and their artifacts."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def exists(self) -> bool:
        """Whether there is anything in it, or was."""
        return self._client is not None

    @property
    def client(self) -> mlflow.MlflowClient:
        """MLflow's client. Raises InputError while the store does not exist."""
        if self._client is None:
            raise InputError(f"{self.name} has no runs yet")
        return self._client

    def create(self) -> None:
        """Make the database, unless it exists. Raises InputError if it cannot be made."""
        if self._client is None:
            with clear_errors(self.name):
                if self.uri.startswith("sqlite:///"):
                    _make_whole(_file(self.uri))
                self._client = self._connected()

    def pages(self, search: Callable[..., Page[Any]], **options: Any) -> Iterator[Any]:
        """All that a search of the client's finds, page after page."""
        token: str | None = None
        while token != "":
            page = search(**options, max_results=PAGE, page_token=token)
            yield from page
            token = page.token or ""

    @property
    def patience(self) -> float:
        """Seconds for which requests wait for a store that does not answer."""
        return self._patience

    @contextmanager
    def waiting(self, patience: float) -> Iterator[None]:
        """Within, requests wait for so many seconds."""
        before, self._patience = self._patience, patience
        try:
            yield
        finally:
            self._patience = before


def _require_answer(uri: str) -> None:
    """Ask as MLflow's client does, with its credentials and certificates, but once, and not for long."""
    require_server(uri)
    endpoint, wanted = "/api/2.0/mlflow/experiments/search", {"max_results": 1}
    once: dict[str, Any] = {"max_retries": 0, "raise_on_status": False, "timeout": _ANSWER}
    try:
        answer = http_request(get_default_host_creds(uri), endpoint, "POST", json=wanted, **once)
    except MlflowException as error:
        raise kind(error)(f"no MLflow server answers at {redacted(uri)}: {reason(error)}") from None
    verify_rest_response(answer, endpoint)


def _require_address(uri: str) -> None:
    """Raise InputError unless it is a database's."""
    if uri.partition(":")[0].partition("+")[0] not in _DATABASES:
        others = ", ".join(_DATABASES[1:])
        right = f"sqlite:///FILE.db, http://HOST:PORT, or of {others}"
        raise InputError(f'tracking URI is "{redacted(uri)}": it must be {right}')
    if uri.startswith("sqlite"):
        name = uri.partition(":///")[2]
        if name in ("", ":memory:") or not Path(name).absolute().parent.is_dir():
            raise InputError(
                f'tracking URI is "{redacted(uri)}": it must be sqlite:///FILE.db, in a folder that there is'
            )
    if not uri.startswith("sqlite:///") and "@" in _host(uri):  # of a password, and errors would show it
        raise InputError(f'tracking URI is "{redacted(uri)}": in a user and a password, @ is written %40')


def _host(uri: str) -> str:
    """The machine that a database's address names. Raises InputError if it cannot be read."""
    try:
        return sqlalchemy.make_url(uri).host or ""
    except (ValueError, sqlalchemy.exc.ArgumentError):  # which show what may be a part of a password
        right = "it must be like postgresql://USER:PASSWORD@HOST:PORT/NAME, where / is written %2F, : %3A and @ %40"
        raise InputError(f'tracking URI is "{redacted(uri)}": {right} in user and password') from None


def _file(uri: str) -> Path:
    return Path(uri.partition(":///")[2].partition("?")[0])


def _has_tables(uri: str) -> bool:
    """Whether MLflow's tables are there. See that the database opens: MLflow would try for minutes."""
    if uri.startswith("sqlite") and not _file(uri).exists():
        return False  # to connect would make the file
    engine = sqlalchemy.create_engine(uri)
    try:
        return sqlalchemy.inspect(engine).has_table("experiments")
    finally:
        engine.dispose()


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
