"""A stage, as the page tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.evaluate.metrics import LargestClass
from sweep.results import advice
from sweep.terminal.tables import duration


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers, with its 95 % interval by the number of images, and those images' largest class."""

    value: float
    largest: LargestClass

    @property
    def images(self) -> int:
        """How many it was counted on."""
        return self.largest.images

    @property
    def warning(self) -> str:
        """That it is no better than the largest class's share; "" where it is."""
        return self.largest.warning(self.value)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share."""
        return advice.interval(self.value, self.images)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.4f} (95 %: {low:.4f} to {high:.4f}, by {self.images} images; {self.largest})"


@dataclass(frozen=True)
class StagePart:
    """One stage: how it searched and what came out.

    searched     each setting with its choices, as text
    inherited    what the winner of the stage before gave
    columns      of the ranked table: only those settings that differ
    trials       the ranked rows by column
    troubles     name, status and reason of those that were pruned, cut or failed
    conclusions  sentences on certainty, what mattered and the edges
    points       the names of the fixed points that were trained
    missing      why there is no ranking, and what to run; "" if there is one
    """

    name: str
    sampler: str
    searched: Mapping[str, str]
    inherited: Mapping[str, Any]
    run_id: str = ""
    columns: Sequence[str] = ()
    trials: Sequence[Mapping[str, Any]] = ()
    winner: str = ""
    winner_run: str = ""
    accuracy: Accuracy | None = None
    test: Accuracy | None = None
    troubles: Sequence[tuple[str, str, str]] = ()
    conclusions: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    points: Sequence[str] = ()
    missing: str = ""

    @property
    def time(self) -> str:
        """Like "12 min"."""
        return duration(self.seconds)

    @property
    def fixed(self) -> str:
        """Like "lr 0.1, reg 0.01": what the winner has from the stage before."""
        return ", ".join(f"{key} {value}" for key, value in self.inherited.items())
