"""When trials of a stage are to end early."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import InputError

PRUNERS = ("median", "halving", "hyperband")


@dataclass(frozen=True)
class Pruner:
    """A rule and its options. InputError if it could not work.

    epochs      the most that a trial of the stage trains
    min_epochs  nothing is pruned before this epoch; the first rung of halving
    reduction   of halving and hyperband: one of so many goes on at a rung
    """

    kind: str
    epochs: int
    min_epochs: int = 1
    reduction: int = 3

    def __post_init__(self) -> None:
        if self.kind not in PRUNERS:
            raise InputError(f"kind is {self.kind!r}: it must be one of {', '.join(PRUNERS)}")
        if self.min_epochs < 1:
            raise InputError(f"min_epochs is {self.min_epochs}: it must be at least 1")
        if self.reduction < 2:
            raise InputError(f"reduction is {self.reduction}: it must be at least 2")
        if self.min_epochs >= self.epochs:
            most = f"the most epochs that a trial trains ({self.epochs})"
            raise InputError(f"min_epochs is {self.min_epochs}: it must be below {most}, or nothing is ever pruned")
