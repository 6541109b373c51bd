"""What a stage's results say: how sure its winner is, what mattered, and what to try next."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from core.config import Settings
from core.errors import InputError
from sweep import ranking
from sweep.experiment import Stage
from sweep.means import mean
from sweep.parsing import Value
from sweep.ranking import Row
from sweep.space import Range

_NORMAL = 1.96  # standard errors to either side of 95 %
_BINS = 3  # of a range: as many parts with equally many trials
_NEAR = 0.05  # of a range: how near its end is at the edge
_IDLE = 0.02  # of the differences in accuracy: a setting that explains less makes none
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
    """What explains the differences in accuracy, most first; empty where there are too few settings to say."""
    known = [row for row in rows if row.accuracy is not None]
    accuracies = [row.accuracy or 0.0 for row in known]
    if len(known) < _FEW or min(accuracies) == max(accuracies):
        return []
    found = []
    for key in ranking.searched([row.cell for row in known]):
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
        return [_text(value) for value in values]
    ordered = sorted(numbers)
    cuts = [ordered[len(ordered) * part // _BINS] for part in range(1, _BINS)]
    ends = [ordered[0], *cuts, ordered[-1]]
    places = [sum(number >= cut for cut in cuts) for number in numbers]
    return [f"{ends[place]:.3g} to {ends[place + 1]:.3g}" for place in places]


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


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


def edges(stage: Stage, rows: Sequence[Row]) -> list[str]:
    """Where the winner lies at the edge of what was searched, and so which values to add.

    Not of settings that made no difference.
    """
    best = ranking.winner(rows)
    idle = {effect.key for effect in effects(rows) if effect.share < _IDLE}
    found = []
    for key, values in stage.space.dimensions.items() if best else ():
        if key in idle:
            continue
        value = best.cell.searched.get(key) if best else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if isinstance(values, Range):
            side, beyond = _beyond_range(values, value)
        else:
            side, beyond = _beyond_choices(sorted(float(v) for v in values if isinstance(v, int | float)), value)
        beyond = round(beyond) if isinstance(value, int) else float(f"{beyond:.2g}")
        if side and beyond != value and _allowed(key, beyond):
            found.append(f"{key} {_text(value)} is the {side} that was searched: try {_text(beyond)} as well.")
    return found


def _beyond_choices(values: Sequence[float], value: float) -> tuple[str, float]:
    """At which end of the choices value is ("": at none), and the next one that the choices before it suggest."""
    if len(values) < 2 or value not in (values[0], values[-1]):
        return "", value
    side, inner = ("smallest", values[1]) if value == values[0] else ("largest", values[-2])
    return side, value * value / inner if value * inner > 0 else 2 * value - inner


def _beyond_range(values: Range, value: float) -> tuple[str, float]:
    """The same of a range, whose edge is a twentieth of it."""
    low, high = values.ends
    share = math.log(value / low) / math.log(high / low) if values.log else (value - low) / (high - low)
    if share < _NEAR:
        return "lower end of the range", low / 3 if values.log else low - (high - low) / 4
    if share > 1 - _NEAR:
        return "upper end of the range", high * 3 if values.log else high + (high - low) / 4
    return "", value


def _allowed(key: str, value: Value) -> bool:
    try:
        Settings(**{key: value})  # type: ignore[arg-type]
    except InputError:
        return False
    return True
