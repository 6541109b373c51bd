"""What a stage would train, and what that would cost, as it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sweep.experiment.stage import Stage
from sweep.results import tables
from sweep.search import cost
from sweep.stages.state import StageState, expected_groups, repeated_trainings
from sweep.stages.sweep import Sweep
from sweep.terminal.tables import duration, print_rows, readable


@dataclass(frozen=True)
class StagePlan:
    """A stage before it runs.

    trials     rows by column
    todo       how many of them are still to be trained
    proposals  how many settings an adaptive sampler is still to propose
    groups     that train one after another
    seconds    at most
    notes      on settings that are the same training
    """

    stage: Stage
    trials: Sequence[dict[str, Any]]
    todo: int
    proposals: int
    groups: Sequence[cost.GroupCost]
    seconds: float
    notes: Sequence[str]

    @classmethod
    def of(cls, sweep: Sweep, state: StageState) -> StagePlan:
        """With its costs measured."""
        waves = cost.costs(sweep.ops, sweep.data, expected_groups(sweep, state))
        keys = tables.searched(state.cells)
        rows = [
            {"trial": cell.label, **{key: cell.searched.get(key) for key in keys}, "done": cell.key in state.outcomes}
            for cell in state.cells
        ]
        groups, seconds = (
            [group for wave in waves for group in wave],
            cost.stage_seconds(waves, sweep.ops, sweep.processes),
        )
        notes = repeated_trainings(sweep, state)
        return cls(state.stage, rows, len(state.todo), state.remaining, groups, seconds, notes)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "stage": self.stage.name,
            "cells": self.trials,
            "proposals": self.proposals,
            "groups": [asdict(group) for group in self.groups],
            "seconds": self.seconds,
            "said": self.notes,
        }


def show_plan(sweep: Sweep, plan: StagePlan) -> None:
    """For people: the trials, the groups and the time."""
    stage, note = plan.stage, sweep.display.note
    for line in plan.notes:
        note(line)
    if plan.trials:
        print_rows(f"{stage.name}: {len(plan.trials)} trials, {plan.todo} to train", plan.trials)
    if plan.proposals:
        note(f"{stage.name}: {stage.sampler} will propose {plan.proposals} settings, {stage.at_once} at once")
    if plan.groups:
        print_rows(f"{stage.name}: groups that train together", readable(plan.groups))
        where = f" in {sweep.processes} processes" if sweep.processes > 1 else ""
        note(f"{stage.name}: about {duration(plan.seconds)} at most{where}; trials that stop early save time")
