"""Which trials train together on this machine: what fits into memory, in groups of the size that is the fastest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from core.data.dataset import Dataset
from core.ops import Ops
from sweep.experiment.stage import Budget, Stage
from sweep.search import grouping
from sweep.search.cell import Cell
from sweep.search.cost import fitting
from sweep.search.group_size import best_size


class GroupPlanner:
    """Cuts cells into groups. A size that was measured once counts from then on."""

    def __init__(
        self,
        ops: Ops,
        data: Dataset,
        stages: Mapping[str, Stage],
        processes: int,
        memory: int,
        note: Callable[[str], None],
    ) -> None:
        """
        processes  that train at the same time, a group each
        memory     bytes that a group may take
        note       is told why groups are cut; "" where they are not
        """
        self._ops, self._data, self._stages = ops, data, stages
        self._processes, self._memory, self._note = processes, memory, note
        # Settings that train together, and of how many that was measured, by the kind of group.
        self._sizes: dict[tuple[str, float], tuple[int, int]] = {}

    def groups(self, cells: Sequence[Cell]) -> list[list[Cell]]:
        """The cells that train together. A group that memory is too small for comes in parts, as does one that is
        slower as a whole, and a note says so; the largest are cut as well while there are fewer than processes.
        """
        found: list[list[Cell]] = []
        for group in grouping.groups(cells):
            parts, note = fitting(self._ops, self._data, group, self._memory)
            self._note(note)
            for part in parts:
                found += self._fastest(part)
        while 0 < len(found) < self._processes and len(grouping.by_setting(largest := max(found, key=len))) > 1:
            index = found.index(largest)
            found[index : index + 1] = grouping.parts(largest, 2)
        return found

    def _fastest(self, group: Sequence[Cell]) -> list[list[Cell]]:
        """The group in parts of the size that is the fastest here. Whole where its trials are judged against each
        other, or share a budget: there it matters who trains at the same time.
        """
        stage, settings = self._stages[group[0].stage], len(grouping.by_setting(group))
        if stage.pruner or stage.budget != Budget() or self._processes > 1:
            return [list(group)]
        kind = grouping.group_name(group[0].settings), len(group) / settings
        size, measured = self._sizes.get(kind, (0, 0))
        if settings > measured and (found := best_size(self._ops, self._data, group, self._memory)):
            size, _ = self._sizes[kind] = found.settings, settings
            self._note(found.reason)
        elif settings > measured == size:
            size = settings  # all of fewer trained together: no smaller size is known to be faster
        return grouping.parts(group, -(-settings // size))
