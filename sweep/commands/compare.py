"""python -m sweep compare: trials side by side."""

from __future__ import annotations

import argparse
import sys

from core.tracking.tracker import Tracker
from sweep.report.files import print_path, write_file


def compare(options: argparse.Namespace) -> int:
    """Print trials side by side, and the path of a page."""
    from sweep.report import compare as trials
    from sweep.terminal import tables

    tracker = Tracker(options.tracking_uri)
    runs = trials.find(tracker, options.runs)
    found = trials.compare(tracker, runs)
    path = write_file(
        options.out, f"compare-{'-'.join(run.run_id[:8] for run in runs)}.html", trials.to_html(tracker, runs, found)
    )
    tables.print_rows("", [dict(zip(found.header, row, strict=True)) for row in found.rows])
    sys.stdout.flush()
    print_path(path, options.open)
    return 0
