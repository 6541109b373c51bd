"""Requests that are tried again while the store does not answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

from core.errors import printable
from core.tracking.errors import UnreachableError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before it is asked again; each is twice the one before


class Patient(Protocol):
    """Who waits for a store that does not answer."""

    @property
    def patience(self) -> float:
        """For so many seconds."""


class UsesStore(Protocol):
    """Whose requests go to a store."""

    @property
    def store(self) -> Patient:
        """That store."""


_Method = TypeVar("_Method", bound=Callable[..., Any])


def patient(method: _Method) -> _Method:
    """A method that is tried again while its object's store is unreachable, for as long as that has patience.

    Nothing is done twice by that: each of these methods says how things are to be.
    """

    @wraps(method)
    def patiently(self: UsesStore, *args: Any, **kwargs: Any) -> Any:
        patience = self.store.patience
        deadline, pause = time.monotonic() + patience, _FIRST_PAUSE
        while True:
            try:
                return method(self, *args, **kwargs)
            except UnreachableError as error:
                if time.monotonic() + pause > deadline:
                    raise
                if pause == _FIRST_PAUSE:
                    print(f"{printable(error)}: trying again for {patience:.0f} s", file=sys.stderr)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    return cast(_Method, patiently)
