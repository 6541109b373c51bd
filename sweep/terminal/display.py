"""What a sweep shows on the screen: progress and notes on stderr, results on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from core.errors import printable
from core.training.progress import EpochReport
from sweep.search.cell import Cell


@dataclass(frozen=True)
class Work:
    """What a stage has before it.

    todo      cells that will train
    further   trials that a sampler is still to propose
    longest   epochs that each of those has at most
    images    in an epoch of one trial
    seconds   of an epoch of one trial, by the group's name, as measured before; empty: all take the same
    before    epochs that were trained before of those that go on, by the cell's key
    known     the best of each trial that trained before and may win: its cell, accuracy and loss
    pictures  whether some are drawn when all have ended
    """

    todo: Sequence[Cell]
    further: int
    longest: int
    images: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    before: Mapping[str, int] = field(default_factory=dict)
    known: Sequence[tuple[Cell, float, float]] = ()
    pictures: bool = False


class Display:
    """Nothing but warnings: what --quiet shows, and the base of the others.

    tells_time  whether it wants to know beforehand how long epochs take
    """

    tells_time = False

    def warn(self, text: str) -> None:
        """Something the user should know even when asking for quiet."""
        print(in_lines(text), file=sys.stderr)

    def note(self, text: str) -> None:
        """A line about what goes on."""

    def tell(self, results: Sequence[tuple[str, str]], commands: Sequence[tuple[str, str]]) -> None:
        """What came out of a stage, and commands and links, which are never broken; each after its name."""

    def begin(self, stage: str, trials: int, done: int, work: Work) -> None:
        """A stage starts: so many trials, of which some are done."""

    def group(self, number: int, groups: int | None, cells: Sequence[Cell]) -> None:
        """A group starts training. groups: how many there are, if that is known."""

    def epoch(self, number: int, groups: int | None, cells: Sequence[Cell], report: EpochReport) -> None:
        """A group has finished an epoch; report goes by the cells' places."""

    def trained(self) -> None:
        """All trials of the stage have ended: what is left are its records and pictures."""

    def end(self) -> None:
        """The stage is over, or broken off."""


def in_lines(text: str) -> str:
    """The text with all control characters as escapes but for the ends of its lines."""
    return "\n".join(map(printable, text.split("\n")))


def once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """tell, but nothing twice, nor an empty text."""
    told = {""}

    def tell_once(text: str) -> None:
        if text not in told:
            told.add(text)
            tell(text)

    return tell_once
