"""python -m sweep run: train what is not trained yet, and rank."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweep.stages.interrupt import Signals
    from sweep.stages.run import StageResult
from sweep.commands.options import open_sweep
from sweep.commands.run_summary import as_json, show_results, warn_of_classes

PATIENCE = 120.0  # seconds that a sweep waits for a store that does not answer


def run(options: argparse.Namespace) -> int:
    """Train what is not trained yet, and rank."""
    from sweep.stages.interrupt import Interrupted, Signals

    signals = Signals()
    try:
        with signals.active():
            return _run(options, signals)
    except Interrupted as interrupted:
        if not options.quiet:
            print(f"stopped by {interrupted}; what was trained is kept: the same command goes on", file=sys.stderr)
        return interrupted.exit_status


def _run(options: argparse.Namespace, signals: Signals) -> int:
    from core.tracking.tracker import Tracker
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
        print(
            json.dumps({"experiment": sweep.name, "stages": [as_json(sweep, result) for result in results]}, indent=2)
        )
    rows = [result.rows for result in results]
    if not all(ranking.winner(ranked) for ranked in rows):
        return 1
    return 3 if any(row.status == "failed" for ranked in rows for row in ranked) else 0
