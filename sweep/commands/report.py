"""What python -m sweep report, compare and verify do. Each command imports what it needs."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from core.tracking.tracker import Tracker
from sweep.report.files import print_path, write_file


def report(options: argparse.Namespace) -> int:
    """Write the page on an experiment, and print its path."""
    from sweep.commands.options import open_sweep
    from sweep.report import content, write

    sweep, _ = open_sweep(options, quiet=True)
    tracker = Tracker(options.tracking_uri)
    found = content.gather(sweep, tracker)
    drawn = {stage.name: write.pictures(tracker, stage) for stage in found.stages}
    texts = {"html": write.to_html(found, drawn), "md": write.to_markdown(found), "csv": write.to_csv(found)}
    paths = [write_file(options.out, f"{sweep.name}.{kind}", text) for kind, text in texts.items()]
    with tempfile.TemporaryDirectory() as name:
        for kind, text in texts.items():
            (Path(name) / f"report.{kind}").write_text(text, encoding="utf-8")
        for run_id in (stage.run_id for stage in found.stages if stage.run_id):
            tracker.artifacts.log_files(run_id, Path(name), "report")
    print_path(paths[0], options.open)
    return 0
