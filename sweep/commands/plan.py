"""python -m sweep plan: trials, groups, memory and time."""

from __future__ import annotations

import argparse

from core.errors import InputError
from sweep.commands.flags import add_computing, add_experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare its flags."""
    add_experiment(parser, stages=True)
    add_computing(parser)


def execute(options: argparse.Namespace) -> int:
    """Print trials, groups, memory and estimated time."""
    import json

    from sweep.commands.options import open_sweep, warn_of_classes
    from sweep.commands.plan_summary import StagePlan, show_plan
    from sweep.stages.state import StageState

    sweep, stages = open_sweep(options, options.json)
    warn_of_classes(sweep)
    found = []
    for name in stages:
        stage = sweep.experiment.stages[name]
        try:
            state = StageState.of(sweep, stage, [point for point in options.points if point in stage.points])
        except InputError as error:
            if name == stages[0]:
                raise
            sweep.display.note(str(error))
            continue
        found.append(StagePlan.of(sweep, state))
        if not options.json:
            show_plan(sweep, found[-1])
    if options.json:
        print(json.dumps({"experiment": sweep.name, "stages": [plan.as_json() for plan in found]}, indent=2))
    return 0
