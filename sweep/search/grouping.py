"""Which trials train together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise

from core.config.architecture import Architecture, parse_filters, parse_pool
from core.config.settings import BY_GROUP, Settings
from core.data.dataset import Dataset
from sweep.experiment.checks import Value
from sweep.search.cell import Cell


def by_setting(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells that differ in their seed alone, together."""
    found: dict[int, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.index, []).append(cell)
    return list(found.values())


def architecture(settings: Settings, data: Dataset) -> Architecture:
    """The network these settings ask for on these images."""
    _, channels, height, width = data.x.shape
    return Architecture(
        (channels, height, width),
        parse_filters(settings.filters),
        len(data.classes),
        parse_pool(settings.pool),
        settings.residual,
        settings.global_pool,
    )


def group_name(settings: Settings) -> str:
    """What a group is called: "32x64", with whatever else sets it apart from the report's."""
    parts = [settings.filters]
    parts += [name.replace("_", " ") for name in ("residual", "global_pool") if getattr(settings, name)]
    parts += [f"pool {settings.pool}"] if settings.pool != Settings.pool else []
    parts += [settings.optimiser] if settings.optimiser != Settings.optimiser else []
    parts += [f"batch {settings.batch_size}"] if settings.batch_size != Settings.batch_size else []
    return ", ".join(parts)


def groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that can train as one group: same architecture, batch size and optimiser. In the plan's order."""
    found: dict[tuple[Value, ...], list[Cell]] = {}
    for cell in cells:
        found.setdefault(tuple(getattr(cell.settings, name) for name in BY_GROUP), []).append(cell)
    return list(found.values())


def parts(group: Sequence[Cell], count: int) -> list[list[Cell]]:
    """The group cut into so many parts of equally many settings, give or take one."""
    settings = by_setting(group)
    cuts = [len(settings) * number // count for number in range(count + 1)]
    return [list(chain(*settings[start:stop])) for start, stop in pairwise(cuts)]
