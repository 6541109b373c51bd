"""python -m sweep report: a page on all that an experiment has found."""

from __future__ import annotations

import argparse

from core.arguments import add_flags
from sweep.commands.flags import add_experiment, add_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare its flags."""
    add_experiment(parser)
    add_flags(parser, "tracking-uri")
    add_page(parser)


def execute(options: argparse.Namespace) -> int:
    """Write the page on an experiment, as HTML, Markdown and CSV, here and to its stages' runs; print its path."""
    import tempfile
    from pathlib import Path

    from core.tracking.tracker import Tracker
    from sweep.commands.options import open_sweep
    from sweep.report import content
    from sweep.report.files import print_path, write_file
    from sweep.report.markdown import to_markdown
    from sweep.report.page import to_html
    from sweep.report.pictures import stage_pictures
    from sweep.report.trials_csv import to_csv

    sweep, _ = open_sweep(options, quiet=True)
    tracker = Tracker(options.tracking_uri)
    found = content.gather(sweep, tracker)
    drawn = {stage.name: stage_pictures(tracker, stage) for stage in found.stages}
    texts = {"html": to_html(found, drawn), "md": to_markdown(found), "csv": to_csv(found)}
    paths = [write_file(options.out, f"{sweep.name}.{kind}", text) for kind, text in texts.items()]
    with tempfile.TemporaryDirectory() as name:
        for kind, text in texts.items():
            (Path(name) / f"report.{kind}").write_text(text, encoding="utf-8")
        for run_id in (stage.run_id for stage in found.stages if stage.run_id):
            tracker.artifacts.log_files(run_id, Path(name), "report")
    print_path(paths[0], options.open)
    return 0
