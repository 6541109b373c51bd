"""Which trials of a group should stop early for doing worse than others: pure functions of all accuracies so far.

Trials of a group reach each epoch at the same time, and groups follow one another. Optuna's pruners judge one trial
at a time instead: its median pruner compares with completed trials alone, so that of a first group nothing would ever
be pruned, and its halving pruner lets whoever asks first go on. The rules here see the whole group at once, and all
that trained before it.

median     Golovin et al. 2017, "Google Vizier", section 3.2.2
halving    Jamieson & Talwalkar 2016; a later group meets the rungs of earlier ones as in ASHA (Li et al. 2020)
hyperband  Li et al. 2018
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from statistics import median

from sweep.experiment.pruner import Pruner
from sweep.search.means import mean

FEWEST_OTHERS = 4  # the median of fewer says little
_GOLDEN = (math.sqrt(5) - 1) / 2


def to_prune(pruner: Pruner, curves: Mapping[int, Sequence[float]], running: Collection[int]) -> set[int]:
    """Those of running that should stop now. To be called after each epoch.

    curves   validation accuracy after each epoch so far, by the setting's number: of those in training, and of all
             that trained before in the stage
    running  the numbers of those in training; each is judged at the length of its own curve

    An accuracy that is not finite is none: at that epoch a setting is neither judged nor compared with.
    """
    stopped: set[int] = set()
    for epoch in {len(curves.get(number, ())) for number in running}:
        if epoch < pruner.min_epochs:
            continue
        long_enough = {n: curve[:epoch] for n, curve in curves.items() if len(curve) >= epoch}
        reached = {n: curve for n, curve in long_enough.items() if math.isfinite(curve[-1])}
        here = {n for n in reached if len(curves[n]) == epoch}
        judged = here.intersection(running)
        if pruner.kind == "median":
            stopped |= _below_median(reached, judged)
        else:
            latest = {n: curve[-1] for n, curve in reached.items()}
            stopped |= judged - _going_on(pruner, epoch, latest, here - judged)
    return stopped


def _below_median(curves: Mapping[int, Sequence[float]], judged: Collection[int]) -> set[int]:
    """Those whose best accuracy is below the median of the other settings' mean accuracies, all up to this epoch.

    The paper compares with completed trials; here all count that reached the epoch. Means (its running averages) lag
    behind rising curves, which makes the rule a gentle one: against the others' latest accuracies, half of those left
    would be below the median again after every epoch.
    """
    finite = {n: [accuracy for accuracy in curve if math.isfinite(accuracy)] for n, curve in curves.items()}
    means = {n: mean(curve) for n, curve in finite.items()}  # exact: the mean of equal numbers is that number
    if len(means) <= FEWEST_OTHERS:
        return set()
    return {n for n in judged if max(finite[n]) < median(means[other] for other in means if other != n)}


def _going_on(pruner: Pruner, epoch: int, accuracies: Mapping[int, float], ended: Collection[int]) -> set[int]:
    """Those that need not stop: at a rung of their bracket the best 1/reduction, but at least one; elsewhere all.

    accuracies  of all that reached this epoch, at this epoch. Of equal ones the first goes on
    ended       here: at equal accuracy they leave their place to one that can use it
    """
    kept: set[int] = set()
    sizes = bracket_sizes(pruner) if pruner.kind == "hyperband" else (1,)
    for bracket in range(len(sizes)):
        members = [n for n in accuracies if bracket_of(n, sizes) == bracket]
        rung = pruner.min_epochs * pruner.reduction**bracket
        while rung < epoch:
            rung *= pruner.reduction
        if rung == epoch < pruner.epochs:
            members.sort(key=lambda n: (-accuracies[n], n in ended, n))
            members = members[: max(1, len(members) // pruner.reduction)]
        kept |= set(members)
    return kept


def bracket_sizes(pruner: Pruner) -> tuple[int, ...]:
    """In what proportions settings are spread over hyperband's brackets, so that each costs about the same.

    Bracket s has its first rung at min_epochs * reduction**s. (The paper counts from the other end: its smax - s.)
    """
    last, eta = 0, pruner.reduction
    while pruner.min_epochs * eta ** (last + 1) <= pruner.epochs:
        last += 1
    return tuple(-(-(last + 1) * eta**left // (left + 1)) for left in range(last, -1, -1))  # rounded up


def bracket_of(number: int, sizes: Sequence[int]) -> int:
    """The bracket of a setting: any stretch of numbers has all brackets nearly in their proportions.

    Multiples of the golden ratio modulo 1 are spread evenly and have no period, so that no value of a grid, which
    comes back at equal distances, meets one bracket alone.
    """
    place = number * _GOLDEN % 1 * sum(sizes)
    return next(bracket for bracket, end in enumerate(accumulate(sizes)) if place < end)
