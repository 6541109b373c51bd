"""python -m sweep compare: trials side by side."""

from __future__ import annotations

import argparse
import sys

from core.arguments import add_flags
from sweep.commands.flags import add_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare its flags."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="runs in MLflow, or the first digits; of a stage its winner"
    )
    add_page(parser)
    add_flags(parser, "tracking-uri")


def execute(options: argparse.Namespace) -> int:
    """Print trials side by side, and the path of a page."""
    from core.tracking.tracker import Tracker
    from sweep.report import compare
    from sweep.report.files import print_path, write_file
    from sweep.terminal.tables import print_rows

    tracker = Tracker(options.tracking_uri)
    runs = compare.find(tracker, options.runs)
    found = compare.compare(tracker, runs)
    name = f"compare-{'-'.join(run.run_id[:8] for run in runs)}.html"
    path = write_file(options.out, name, compare.to_html(tracker, runs, found))
    print_rows("", [dict(zip(found.header, row, strict=True)) for row in found.rows])
    sys.stdout.flush()
    print_path(path, options.open)
    return 0
