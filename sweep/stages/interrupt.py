"""Ctrl-C and SIGTERM: training stops after its epoch, all else at once, but never in the middle of writing a record."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


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
        self._told: SimpleQueue[str] | None = None  # the names of signals, in that section

    @property
    def stopping(self) -> bool:
        """Whether a signal waits for the end of a patient section, or was not heard."""
        return self._waiting is not None or self._received is not None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Handle both signals until the block ends."""
        before = {number: signal.signal(number, self._handle) for number in _NUMBERS}
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
        """Let the first signal wait for the end of the block, which should soon follow.

        tell is given its name, in a thread: a handler may have broken into the middle of a print, and must not print.
        """
        told: SimpleQueue[str] = SimpleQueue()
        teller = Thread(target=_tell, args=(tell, told), daemon=True)
        teller.start()
        self._told = told
        try:
            yield
        finally:
            self._told = None
            told.put("")
            teller.join()
        self._received, self._waiting = self._received or self._waiting, None
        self._raise_if_received()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._told is not None and self._waiting is None:
            self._waiting = number
            self._told.put(signal.Signals(number).name)
            return
        self._received = number
        self._raise_if_received()

    def _raise_if_received(self) -> None:
        if self._received is not None and not self._holding:
            raise Interrupted(self._received)

    def settled(self) -> None:
        """Interrupted has arrived. Until this is called it is raised again: a library may have swallowed it."""
        self._received = self._waiting = None


def _tell(tell: Callable[[str], None], told: SimpleQueue[str]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)  # where the main thread keeps them waiting, none is to get past
    for name in iter(told.get, ""):
        tell(name)
