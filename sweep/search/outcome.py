"""What came of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How a cell's trial ended: "finished", "cut" when the budget was spent, "pruned", or "failed": it diverged.

    Figures are those of its best epoch; None if no epoch was finite. seconds is its share of the group's training,
    reason why it did not finish.
    """

    status: str
    run_id: str
    best_val_accuracy: float | None
    best_val_loss: float | None
    best_epoch: int
    epochs: int
    seconds: float = 0.0
    reason: str = ""


def diverged(outcomes: Mapping[str, Outcome]) -> set[str]:
    """The keys of the cells that failed."""
    return {key for key, outcome in outcomes.items() if outcome.status == "failed"}
