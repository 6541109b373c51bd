"""How many trials should train together: what pays on one machine costs on another, so it is measured.

A trial's results do not depend on its group, so the choice changes nothing but the time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from core.data.dataset import Dataset
from core.ops import Ops
from core.training.batches import steps_in_epoch
from sweep.search import grouping
from sweep.search.cell import Cell
from sweep.search.cost import actions

ROUNDS = 10  # measurements of each, in turn
_WARMING = 2  # calls before them: the second may record what the third repeats
_CALLS = ROUNDS + _WARMING
_BEFORE, _AFTER = 0.01, 0.1  # the most of the training's steps that choosing a size may take, and telling what it saved
_MARGIN = 1.02  # a smaller group must be faster by more than this, in three of four measurements


@dataclass(frozen=True)
class GroupSize:
    """How many settings of a group train together at most, and why."""

    settings: int
    reason: str


def in_turn(work: Sequence[Callable[[], None]]) -> np.ndarray:
    """Seconds that each takes, (ROUNDS, len(work)): one after another, so that a busy moment slows all of them."""
    for action in work:
        for _ in range(_WARMING):
            action()
    found = np.empty((ROUNDS, len(work)))
    for row in found:
        for place, action in enumerate(work):
            started = time.perf_counter()
            action()
            row[place] = time.perf_counter() - started
    return found


def best_size(ops: Ops, data: Dataset, group: Sequence[Cell], memory: int) -> GroupSize | None:
    """The size at which a training step takes the least time a trial: all settings together, or so many of them.

    None where it is not measured: on a GPU and with the reference, which gain from every trial, and where measuring
    would take more than 1 % of the training's steps, or more memory than so many bytes.
    """
    settings = grouping.by_setting(group)
    counts = _halvings(len(settings))
    tried = [list(chain(*settings[:count])) for count in counts]
    trials, trial = np.array([len(cells) for cells in tried]), group[0].settings
    if not ops.measure_group_size or len(counts) == 1 or _CALLS * trials.sum() > _BEFORE * _steps(data, group):
        return None
    if ops.step_memory(grouping.architecture(trial, data), int(trials.sum()), trial.batch_size) > memory:
        return None
    each = in_turn([actions(ops, data, cells)[0] for cells in tried]) / trials
    best, reason = fastest_size(trials, each)
    return GroupSize(counts[best], f"{grouping.group_name(trial)}: {reason}")


def fastest_size(trials: Sequence[int] | np.ndarray, each: np.ndarray) -> tuple[int, str]:
    """The place of the best of these sizes, and why.

    trials  of each size, the whole group first
    each    seconds a trial, (rounds, sizes)
    """
    low, times, high = np.quantile(each[:, :1] / each, [0.25, 0.5, 0.75], axis=0)
    best = int(np.argmax(np.where(low > _MARGIN, times, 0))) if np.any(low > _MARGIN) else 0
    if best == 0:
        others = ", ".join(map(str, trials[1:]))
        return 0, f"{trials[0]} trials train together: no smaller group is faster here (measured: {others})"
    spread = f"{low[best]:.2f} to {high[best]:.2f} in half of {len(each)} measurements"
    return best, (
        f"{trials[0]} trials train {trials[best]} at a time: together each would take {times[best]:.2f} times as long "
        f"here ({spread})"
    )


def fusion(ops: Ops, data: Dataset, groups: Sequence[Sequence[Cell]]) -> tuple[float, float, float] | None:
    """How many times as long these groups would take if their trials trained one at a time: the lower quartile, the
    median and the upper quartile of ROUNDS measurements of their steps.

    None where all trained alone, and where measuring would take more than a tenth of the training's steps.
    """
    alike = {(grouping.group_name(group[0].settings), len(group)): group for group in groups}
    steps = Counter[tuple[str, int]]()
    for group in groups:
        steps[grouping.group_name(group[0].settings), len(group)] += _steps(data, group)
    alone = {name: group[:1] for (name, _), group in alike.items()}
    if all(count == 1 for _, count in alike):
        return None
    if _CALLS * (sum(count for _, count in alike) + len(alone)) > _AFTER * sum(steps.values()):
        return None
    seconds = in_turn([actions(ops, data, cells)[0] for cells in (*alike.values(), *alone.values())])
    each = dict(zip((*alike, *alone), seconds.T, strict=True))
    together = sum(steps[name, count] * each[name, count] / count for name, count in alike)
    low, times, high = np.quantile(sum(steps[key] * each[key[0]] for key in alike) / together, [0.25, 0.5, 0.75])
    return float(low), float(times), float(high)


def _steps(data: Dataset, group: Sequence[Cell]) -> int:
    """Of all trials of a group, at most."""
    return sum(cell.settings.epochs * steps_in_epoch(data.training_images, cell.settings.batch_size) for cell in group)


def _halvings(count: int) -> list[int]:
    """The number, half of it, and so on to 1, rounded up."""
    found = [count]
    while found[-1] > 1:
        found.append(-(-found[-1] // 2))
    return found
