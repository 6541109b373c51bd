"""What goes wrong with a store of runs: told by codes whether it may pass, and in one line without passwords."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from alembic.util.exc import CommandError
from mlflow.exceptions import MlflowException
from requests import exceptions as http
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from core import errors
from core.addresses import without_passwords
from core.errors import DamageError, InputError

_PASSING = frozenset({408, 429, 500, 502, 503, 504})  # HTTP: what MLflow's own client tries again
_COME_TO_NOTHING = (http.ConnectionError, http.Timeout, http.RetryError, http.ChunkedEncodingError)
_SECONDARY = "The following failures occurred"  # MLflow of downloads: what happened follows, as text alone
_STATUS = re.compile(r"too many (\d{3}) error responses|\b(\d{3}) (?:Client|Server) Error|error code (\d{3}) !=")
_AWAY = re.compile("Max retries exceeded|failed with timeout exception")
_USER, _TOKEN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), "MLFLOW_TRACKING_TOKEN"
_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"  # OpenSSL's code


class UnreachableError(InputError):
    """The store does not answer now, and may soon."""


class RefusedError(InputError):
    """The store answers, and will not do this, whenever it is asked."""


_SQLITE = {
    sqlite3.SQLITE_BUSY: UnreachableError,
    sqlite3.SQLITE_LOCKED: UnreachableError,
    sqlite3.SQLITE_CORRUPT: DamageError,
    sqlite3.SQLITE_NOTADB: DamageError,
}
_DENIED = (1044, 1045, 1142, 1143)  # MySQL's numbers; SQLSTATE's class for it is 28


@contextmanager
def clear_errors(what: str) -> Iterator[None]:
    """Raise InputError, of the kind that fits, in place of what libraries raise who use the store."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, ImportError, OSError) as error:
        raise kind(error)(f"{what} cannot be used: {reason(error)}") from error


def kind(error: Exception) -> type[InputError]:
    """What kind of trouble it is."""
    source = _source(error)
    if isinstance(source, DBAPIError):
        return _of_database(source)
    if (code := status(error)) is not None:
        return UnreachableError if code in _PASSING else RefusedError
    if isinstance(source, http.RequestException):
        passing = isinstance(source, _COME_TO_NOTHING) and _CERTIFICATE not in str(source)
        return UnreachableError if passing else InputError
    if isinstance(source, MlflowException):
        return UnreachableError if _AWAY.search(_told(error)) else RefusedError
    return UnreachableError if isinstance(source, ConnectionError | TimeoutError) else InputError


def _of_database(error: DBAPIError) -> type[InputError]:
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE.get(code & 0xFF, InputError)
    sqlstate = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""
    number = next(iter(getattr(error.orig, "args", ())), None)
    if number in _DENIED or str(sqlstate).startswith("28"):
        return RefusedError
    away = error.connection_invalidated or isinstance(error, OperationalError)  # by PEP 249: not the program's fault
    return UnreachableError if away else InputError


def status(error: Exception) -> int | None:
    """The HTTP status that a server answered with; None if it did not, or does not tell."""
    source = _source(error)
    if isinstance(source, http.RequestException) and source.response is not None:
        return int(source.response.status_code)
    if isinstance(source, DBAPIError):
        return None
    if found := _STATUS.search(_told(error)):
        return int(next(filter(None, found.groups())))
    if isinstance(source, MlflowException):  # MLflow says 500 of all that it has no name for; a real one is tried again
        code = int(source.get_http_status_code())
        return None if code == HTTPStatus.INTERNAL_SERVER_ERROR else code
    return None


def reason(error: Exception) -> str:
    """One line: a database's own words where there are some; and what would help, where that is known."""
    text = without_passwords(_told(error)).strip()
    return f"{text.splitlines()[0]}{_help(error)}" if text else type(error).__name__


def _source(error: Exception) -> BaseException:
    """What MLflow's error came from, in the database or on the way to a server; else the error itself."""
    below = error.__cause__ or error.__context__
    wraps = isinstance(error, MlflowException) and isinstance(below, DBAPIError | http.RequestException)
    return below if wraps and below else error


def _told(error: Exception) -> str:
    """What the error says, without what says nothing to a user."""
    source = _source(error)
    if isinstance(source, DBAPIError):
        return errors.reason(source.orig or source)
    if isinstance(source, http.RequestException):
        inner = source.args[0] if source.args else source
        return str(getattr(inner, "reason", None) or inner)
    if not isinstance(error, MlflowException):
        return errors.reason(error)
    text = str(error)
    if text.startswith(_SECONDARY):
        text = next((line for line in text.splitlines()[1:] if line and not line.startswith("#")), text)
    text, _, body = text.partition(". Response body: ")
    page = not body.strip("'") or body.lstrip("' \n").startswith("<")
    return text if page else f"{text}: {body.strip(chr(39))}"


def _help(error: Exception) -> str:
    if status(error) == HTTPStatus.UNAUTHORIZED:
        given = any(os.environ.get(name) for name in (*_USER, _TOKEN))
        return f"; {'other credentials are' if given else 'credentials are'} wanted: {' and '.join(_USER)}, or {_TOKEN}"
    if _CERTIFICATE in str(_source(error)):
        return "; if you trust its certificate, name that file in MLFLOW_TRACKING_SERVER_CERT_PATH"
    return ""
