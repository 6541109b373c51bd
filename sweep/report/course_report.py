"""The course report's own tables 3 and 4 (2025; CIFAR-10, best validation accuracy), and ours beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.text import as_text

if TYPE_CHECKING:
    from sweep.report.stage_part import StagePart

# Table 3, at dropout 0.5: by filters and lr, for each reg of _REGS.
_REGS = (0.001, 0.005, 0.01)
_GRID: dict[tuple[str, float], tuple[float | None, ...]] = {
    ("32x64", 0.01): (0.6854, 0.7002, 0.6918),
    ("32x64", 0.05): (0.6569, 0.7025, 0.6754),
    ("32x64", 0.1): (0.6856, 0.6930, 0.5993),
    ("32x32", 0.01): (0.7048, 0.6959, 0.7058),
    ("32x32", 0.05): (0.6204, 0.6509, 0.6943),
    ("32x32", 0.1): (0.6053, 0.5323, 0.5156),
    ("16x32", 0.01): (0.3296, 0.3047, 0.5534),
    ("16x32", 0.05): (0.4578, None, 0.5292),
    ("16x32", 0.1): (0.5241, 0.1051, 0.2324),
}
# Table 4, at lr 0.01, reg 0.005, 32x32.
_DROPOUT = {0.0: 0.6429, 0.3: 0.6966, 0.5: 0.6762, 0.7: 0.6840}


@dataclass(frozen=True)
class PublishedTable:
    """A table of the report beside ours; rows of the header's columns, the last three published, ours, difference."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def comparisons(stages: Sequence[StagePart]) -> list[PublishedTable]:
    """The report's tables of which the stages have at least one cell."""
    found = []
    for stage in stages:
        if {"lr", "reg", "filters"} <= stage.searched.keys():
            theirs: dict[tuple[Any, ...], float | None] = {
                (filters, lr, reg): value
                for (filters, lr), values in _GRID.items()
                for reg, value in zip(_REGS, values, strict=True)
            }
            found.append(_beside("Table 3: the grid, at dropout 0.5", ("filters", "lr", "reg"), theirs, stage))
        elif stage.searched.keys() == {"dropout"}:
            points = {(dropout,): value for dropout, value in _DROPOUT.items()}
            found.append(_beside("Table 4: dropout (theirs at lr 0.01, reg 0.005, 32x32)", ("dropout",), points, stage))
    return [comparison for comparison in found if any(row[-2] != "-" for row in comparison.rows)]


def _beside(
    title: str, keys: Sequence[str], theirs: Mapping[tuple[Any, ...], float | None], stage: StagePart
) -> PublishedTable:
    ours = {tuple(trial[key] for key in keys): trial["best_val_accuracy"] for trial in stage.trials}
    rows = []
    for cell, published in theirs.items():
        found = ours.get(cell)
        difference = "-" if published is None or found is None else f"{found - published:+.4f}"
        rows.append([*map(str, cell), as_text(published, ".4f"), as_text(found, ".4f"), difference])
    return PublishedTable(title, [*keys, "published", "ours", "difference"], rows)
