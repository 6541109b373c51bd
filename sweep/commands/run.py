"""python -m sweep run: train what is not trained yet, and rank."""

from __future__ import annotations

import argparse
import sys

from core.arguments import add_flags
from sweep.commands.flags import add_computing, add_experiment, add_winners

TYPE_CHECKING = False  # see core.arguments
if TYPE_CHECKING:
    from sweep.stages.interrupt import Signals
    from sweep.stages.run import StageResult

PATIENCE = 120.0  # seconds that a sweep waits for a store that does not answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare its flags."""
    add_experiment(parser, stages=True)
    add_computing(parser)
    add_flags(parser, "tracking-uri")
    add_winners(parser)
    parser.add_argument(
        "--new-data",
        action="store_true",
        help="begin anew, although the data has changed since the experiment was begun",
    )
    parser.add_argument(
        "--new-experiment", action="store_true", help="begin anew, where the experiment was deleted in MLflow"
    )
    add_flags(parser, "quiet")


def execute(options: argparse.Namespace) -> int:
    """Train what is not trained yet, and rank; see EXIT_CODES."""
    from sweep.stages.interrupt import Interrupted, Signals

    signals = Signals()
    try:
        with signals.active():
            return _exit_status(_run(options, signals))
    except Interrupted as interrupted:
        if not options.quiet:
            print(f"stopped by {interrupted}; what was trained is kept: the same command goes on", file=sys.stderr)
        return interrupted.exit_status


def _run(options: argparse.Namespace, signals: Signals) -> list[StageResult]:
    """Train the stages, one after another, and say of each what came out; of those until one has no winner."""
    import json

    from core.tracking.tracker import Tracker
    from sweep.commands.options import open_sweep, warn_of_classes
    from sweep.commands.run_summary import as_json, show_results
    from sweep.results import ranking
    from sweep.stages.run import run_stage

    sweep, stages = open_sweep(options, options.quiet, signals)
    warn_of_classes(sweep)
    tracker = Tracker(options.tracking_uri, PATIENCE)
    results: list[StageResult] = []
    try:
        for name in stages:
            stage = sweep.experiment.stages[name]
            points = [point for point in options.points if point in stage.points]
            results.append(run_stage(sweep, stage, tracker, points))
            if not options.json:
                show_results(sweep, results[-1], stages, options.quiet)
            if not ranking.winner(results[-1].rows):
                break  # nothing to build on
    finally:
        sweep.close()
    if options.json:
        told = [as_json(sweep, result) for result in results]
        print(json.dumps({"experiment": sweep.name, "stages": told}, indent=2))
    return results


def _exit_status(results: list[StageResult]) -> int:
    from sweep.results import ranking

    if not all(ranking.winner(result.rows) for result in results):
        return 1
    return 3 if any(row.status == "failed" for result in results for row in result.rows) else 0
