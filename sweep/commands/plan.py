"""python -m sweep plan: trials, groups, memory and time."""

from __future__ import annotations

import argparse
import json

from core.errors import InputError
from sweep.commands.options import open_sweep
from sweep.commands.run_summary import warn_of_classes


def plan(options: argparse.Namespace) -> int:
    """Print trials, groups, memory and estimated time."""
    from dataclasses import asdict

    from sweep.results import tables
    from sweep.search import cost as estimate
    from sweep.stages.state import StageState, expected_groups, repeated_trainings
    from sweep.terminal.tables import duration, print_rows, readable

    sweep, stages = open_sweep(options, options.json)
    warn_of_classes(sweep)
    result = []
    for name in stages:
        stage = sweep.experiment.stages[name]
        try:
            state = StageState.of(sweep, stage, [point for point in options.points if point in stage.points])
        except InputError as error:
            if name == stages[0]:
                raise
            sweep.display.note(str(error))
            continue
        cells, remaining = state.cells, state.remaining
        waves = estimate.costs(sweep.ops, sweep.data, expected_groups(sweep, state))
        costs = [cost for wave in waves for cost in wave]
        seconds = estimate.stage_seconds(waves, sweep.ops, sweep.processes)
        keys = tables.searched(cells)
        rows = [
            {"trial": cell.label, **{key: cell.searched.get(key) for key in keys}, "done": cell.key in state.outcomes}
            for cell in cells
        ]
        groups = [asdict(cost) for cost in costs]
        said = repeated_trainings(sweep, state)
        result.append(
            {"stage": name, "cells": rows, "proposals": remaining, "groups": groups, "seconds": seconds, "said": said}
        )
        if not options.json:
            for line in said:
                sweep.display.note(line)
            if rows:
                print_rows(f"{name}: {len(cells)} trials, {len(state.todo)} to train", rows)
            if remaining:
                sweep.display.note(
                    f"{name}: {stage.sampler} will propose {remaining} settings, {stage.at_once} at once"
                )
            if costs:
                print_rows(f"{name}: groups that train together", readable(costs))
                where = f" in {sweep.processes} processes" if sweep.processes > 1 else ""
                sweep.display.note(
                    f"{name}: about {duration(seconds)} at most{where}; trials that stop early save time"
                )
    if options.json:
        print(json.dumps({"experiment": sweep.name, "stages": result}, indent=2))
    return 0
