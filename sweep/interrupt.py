"""Ctrl-C and SIGTERM: training stops after its epoch, all else at once, but never in the middle of writing a record."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(BaseException):
    """The user or the system asked the sweep to stop. exit_status is 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


class Signals:
    """While active, a SIGINT or SIGTERM raises Interrupted: at once, or at the end of a `held` section.

    Within `patient` the first one only sets `stopping`, and raises at the end of that section.
    """

    def __init__(self) -> None:
        self._holding = 0
        self._received: int | None = None
        self._waiting: int | None = None  # for the end of a patient section
        self._tell: Callable[[str], None] | None = None  # of that section

    @property
    def stopping(self) -> bool:
        """Whether a signal waits for the end of a patient section, or was not heard."""
        return self._waiting is not None or self._received is not None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Handle both signals until the block ends."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        report = sys.unraisablehook

        def unheard(ignored: Any) -> None:
            if not isinstance(ignored.exc_value, Interrupted):  # which is raised again
                report(ignored)

        sys.unraisablehook = unheard
        try:
            yield
        finally:
            sys.unraisablehook = report
            for number, handler in before.items():
                signal.signal(number, handler)
            self.settled()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the block finish before a signal takes effect."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
        self._raise_if_received()

    @contextmanager
    def patient(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Let the first signal wait for the end of the block, which should soon follow; tell is given its name."""
        self._tell = tell
        try:
            yield
        except BaseException:
            self._waiting = None
            raise
        finally:
            self._tell = None
        self._received, self._waiting = self._received or self._waiting, None
        self._raise_if_received()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._tell and self._waiting is None:
            self._waiting = number
            self._tell(signal.Signals(number).name)
            return
        self._received = number
        if not self._holding:
            self._raise_if_received()

    def _raise_if_received(self) -> None:
        if self._received is not None and not self._holding:
            raise Interrupted(self._received)

    def settled(self) -> None:
        """Interrupted has arrived. Until this is called it is raised again: a library may have swallowed it."""
        self._received = None
