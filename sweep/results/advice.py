"""What a stage's results say: how sure its winner is, what mattered, and what to try next."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.config.settings import Settings
from core.data.dataset import Dataset
from core.errors import InputError
from core.text import as_toml
from sweep.experiment.checks import Value
from sweep.experiment.space import Range, Values
from sweep.experiment.stage import Stage
from sweep.results import ranking, tables
from sweep.results.ranking import Row
from sweep.search import plan
from sweep.search.duplicates import effective_training
from sweep.search.means import mean

_NORMAL = 1.96  # standard errors to either side of 95 %
_BINS = 3  # of a range: as many parts with equally many trials
_NEAR = 0.05  # of a range: how near its end is at the edge
_IDLE = 0.02  # of the differences in accuracy: a setting that explains less makes none
_HALVINGS = 4  # of how far beyond an edge to look, until a value is allowed
_FEW = 4  # settings, from which what mattered can be told


@dataclass(frozen=True)
class Effect:
    """How much of the differences in accuracy a setting explains: eta squared, and the means of its levels."""

    key: str
    share: float
    means: dict[str, float]


def interval(accuracy: float, images: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy counted on so many images (Wilson 1927)."""
    z = _NORMAL**2 / images
    middle = (accuracy + z / 2) / (1 + z)
    half = _NORMAL / (1 + z) * math.sqrt(accuracy * (1 - accuracy) / images + z / (4 * images))
    return max(0.0, middle - half), min(1.0, middle + half)


def rivals(rows: Sequence[Row], images: int) -> list[Row]:
    """Settings that are behind the winner by no more than the noise of so many validation images.

    The noise is that of two independent counts; on the same images it is smaller, so some of these may well be worse.
    """
    best = ranking.winner(rows)
    if best is None or best.accuracy is None:
        return []

    def within(row: Row) -> bool:
        ours, theirs = best.accuracy or 0.0, row.accuracy or 0.0
        noise = _NORMAL * math.sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / images)
        return ours - theirs <= noise

    return [row for row in rows[1:] if row.status in ("finished", "cut") and within(row)]


def certainty(stage: Stage, rows: Sequence[Row], images: int) -> str:
    """In a sentence: is the winner the best, or only lucky?"""
    best = ranking.winner(rows)
    if best is None:
        return "No trial finished, so nothing can be said."
    if len(rows) == 1:
        return "There is only one setting, so nothing to compare it with."
    if lead := ranking.lead(rows):
        return f"The winner is {lead}."
    behind, others = len(rivals(rows, images)), len(rows) - 1
    advice = f"`seeds = {max(3, stage.seeds + 1)}` for the stage would tell"
    if behind:
        verb = "is" if behind == 1 else "are"
        return (
            f"Not sure: {behind} of {others} other settings {verb} within the noise of {images} validation images, and "
            f"each was trained with one seed; {advice}."
        )
    return f"Ahead of all others by more than the noise of {images} validation images; of the seed's noise, {advice}."


def effects(rows: Sequence[Row]) -> list[Effect]:
    """What explains the differences in accuracy, most first; empty where there are too few settings to say.

    Of the settings that may win: the accuracy of one that was pruned or failed is that of a shorter training.
    """
    known = [row for row in rows if row.accuracy is not None and row.status in ("finished", "cut")]
    accuracies = [row.accuracy or 0.0 for row in known]
    if len(known) < _FEW or min(accuracies) == max(accuracies):
        return []
    found = []
    for key in tables.searched([row.cell for row in known]):
        having = [row for row in known if key in row.cell.searched]
        levels = _levels([row.cell.searched[key] for row in having])
        names = list(dict.fromkeys(levels))
        if len(names) < 2 or len(names) == len(having):
            continue
        parts = {
            name: [row.accuracy or 0.0 for row, level in zip(having, levels, strict=True) if level == name]
            for name in names
        }
        every = [value for part in parts.values() for value in part]
        total = statistics.pvariance(every) * len(every)
        means = {name: mean(part) for name, part in parts.items()}
        between = sum(len(part) * (means[name] - mean(every)) ** 2 for name, part in parts.items())
        if total:
            found.append(Effect(key, between / total, means))
    return sorted(found, key=lambda effect: -effect.share)


def _levels(values: Sequence[Value]) -> list[str]:
    """Each value's level: itself, or of many numbers the part of their range."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values) or len(set(values)) <= 2 * _BINS:
        return [as_toml(value) for value in values]
    ordered = sorted(numbers)
    cuts = [ordered[len(ordered) * part // _BINS] for part in range(1, _BINS)]
    ends = [ordered[0], *cuts, ordered[-1]]
    places = [sum(number >= cut for cut in cuts) for number in numbers]
    return [f"{ends[place]:.3g} to {ends[place + 1]:.3g}" for place in places]


def mattered(rows: Sequence[Row]) -> str:
    """In a sentence: which setting made the difference; "" where that cannot be told."""
    found = effects(rows)
    if not found:
        return ""
    first, *others = found
    (best, high), (worst, low) = max(first.means.items(), key=_value), min(first.means.items(), key=_value)
    sentence = f"{first.key} mattered most: it" if others else first.key
    sentence += f" explains {first.share:.0%} of the differences in accuracy"
    sentence += f" (mean {high:.4f} at {best}, {low:.4f} at {worst})"
    rest = ", ".join(f"{effect.key} {effect.share:.0%}" for effect in others)
    return f"{sentence}; {rest}." if rest else f"{sentence}."


def _value(item: tuple[str, float]) -> float:
    return item[1]


def edges(stage: Stage, rows: Sequence[Row], data: Dataset) -> list[str]:
    """Where the winner lies at the edge of what was searched, and so which values to add: such as these data and the
    winner's other settings allow.

    Not of settings that made no difference.
    """
    best = ranking.winner(rows)
    if best is None:
        return []
    idle = {effect.key for effect in effects(rows) if effect.share < _IDLE}
    found = []
    for key, values in stage.space.dimensions.items():
        value = best.cell.searched.get(key)
        if key in idle or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        beyond = _beyond_range(values, value) if isinstance(values, Range) else _beyond_choices(values, value)
        if beyond is None:
            continue
        tried = (further for further in _further(values, beyond) if _new(best.cell.settings, key, further, data))
        if (further := next(tried, None)) is not None:
            found.append(
                f"{key} {as_toml(value)} is the {beyond.side} that was searched: try {as_toml(further)} as well."
            )
    return found


@dataclass(frozen=True)
class _Beyond:
    """At which end of what was searched a value is, where that end lies, and how far beyond it to look."""

    side: str
    edge: float
    reach: float


def _beyond_choices(choices: Sequence[Value], value: float) -> _Beyond | None:
    """None: at no end. Else the next value is the one that the choices before suggest."""
    values = sorted(number for number in choices if isinstance(number, int | float))
    if len(values) < 2 or value not in (values[0], values[-1]):
        return None
    side, inner = ("smallest", values[1]) if value == values[0] else ("largest", values[-2])
    return _Beyond(side, value, (value * value / inner if value * inner > 0 else 2 * value - inner) - value)


def _beyond_range(values: Range, value: float) -> _Beyond | None:
    """The same of a range, whose edge is a twentieth of it."""
    low, high = values.ends
    share = math.log(value / low) / math.log(high / low) if values.log else (value - low) / (high - low)
    reach = max((high - low) / 4, values.step)
    if share < _NEAR:
        return _Beyond("lower end of the range", low, low / 3 - low if values.log else -reach)
    if share > 1 - _NEAR:
        return _Beyond("upper end of the range", values.high, 2 * high if values.log else reach)
    return None


def _further(values: Values, beyond: _Beyond) -> Iterator[float]:
    """Values beyond the edge, each half as far as the one before; in steps, where the range has some."""
    for part in range(_HALVINGS):
        wanted = beyond.edge + beyond.reach / 2**part
        if isinstance(values, Range) and values.step:
            value = values.nearest(wanted)
        else:
            value = round(wanted) if isinstance(beyond.edge, int) else float(f"{wanted:.2g}")
        if (value - beyond.edge) * beyond.reach > 0:
            yield value


def _new(winner: Settings, key: str, value: float, data: Dataset) -> bool:
    """Whether the winner with this value can be trained, and is another training."""
    values: dict[str, Any] = {key: value}
    try:
        changed = replace(winner, **values)
        plan.check(changed, data)
    except InputError:
        return False
    return effective_training(changed, data) != effective_training(winner, data)
