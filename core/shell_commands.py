"""Commands for people to type. As they are printed they find this Python, this root and this store of runs, whatever
folder they are typed in.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from core.addresses import redacted
from core.project import root

_SOURCES = Path(__file__).resolve().parent.parent
_SQLITE = "sqlite:///"


def command(*words: str, options: Mapping[str, object] | None = None, store: str | None = None) -> str:
    """`python -m` with these words, quoted for a shell.

    options  of which those that are not None are given
    store    the tracking URI; None: the root's own. One with a password is left out: see without_store
    """
    given = dict(options or {})
    if store and store != f"{_SQLITE}{root() / 'mlflow.db'}" and not is_secret(store):
        given["tracking_uri"] = absolute(store)
    flags = [(f"--{name.replace('_', '-')}", str(value)) for name, value in given.items() if value is not None]
    told = [_python(), "-m", *words, *(word for flag in flags for word in flag)]
    return _root() + shlex.join(told)


def make(target: str) -> str:
    """A target of the Makefile."""
    return shlex.join(["make", "-C", str(_SOURCES), target])


def server(store: str | None) -> str:
    """The page of a store that is a server; "" of others."""
    return redacted(store) if store and store.startswith(("http://", "https://")) else ""


def browse(store: str | None) -> str:
    """Where the runs of a store are seen: on its own page, or by a command, in backquotes."""
    return server(store) or quoted(command("sweep", "ui", store=store), store)


def quoted(text: str, store: str | None = None) -> str:
    """A command within a sentence, in backquotes, with what must be said beside it."""
    beside = without_store(store)
    return f"`{text}`{beside and f' ({beside})'}"


def is_secret(store: str | None) -> bool:
    """Whether a tracking URI has a part that must not be printed."""
    return store is not None and redacted(store) != store


def without_store(store: str | None) -> str:
    """What must be said beside a command that had to leave out its store; "" if it did not."""
    return "set MLFLOW_TRACKING_URI first: a password is not printed" if is_secret(store) else ""


def _python() -> str:
    """What a shell calls this interpreter by: "python" where that is found as this one."""
    found, this = shutil.which("python"), Path(sys.executable)
    beside = found is not None and Path(found).absolute().parent == this.parent  # a link may lead to it from elsewhere
    same = found is not None and beside and Path(found).resolve() == this.resolve()
    return "python" if same else str(this)


def _root() -> str:
    """The variable that names the root, where the sources do not tell it."""
    return "" if root() == _SOURCES and "SWEEP_ROOT" not in os.environ else f"SWEEP_ROOT={shlex.quote(str(root()))} "


def absolute(store: str) -> str:
    """The same store, as any folder finds it."""
    path = store.removeprefix(_SQLITE)
    return store if path in (store, "", ":memory:") else _SQLITE + str(Path(path).absolute())
