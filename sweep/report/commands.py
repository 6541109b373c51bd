"""What python -m sweep report, compare and verify do. Each command imports what it needs."""

from __future__ import annotations

import argparse
import sys
import tempfile
import webbrowser
from pathlib import Path

from core.errors import InputError, reason
from core.project import expand
from core.tracking import Tracker


def report(options: argparse.Namespace) -> int:
    """Write the page on an experiment, and print its path."""
    from sweep.commands import open_sweep
    from sweep.report import content, write

    sweep, _ = open_sweep(options, quiet=True)
    tracker = Tracker(options.tracking_uri)
    found = content.gather(sweep, tracker)
    drawn = {stage.name: write.pictures(tracker, stage) for stage in found.stages}
    texts = {"html": write.to_html(found, drawn), "md": write.to_markdown(found), "csv": write.to_csv(found)}
    paths = [_write(options.out, f"{sweep.name}.{kind}", text) for kind, text in texts.items()]
    with tempfile.TemporaryDirectory() as name:
        for kind, text in texts.items():
            (Path(name) / f"report.{kind}").write_text(text, encoding="utf-8")
        for run_id in (stage.run_id for stage in found.stages if stage.run_id):
            tracker.log_files(run_id, Path(name), "report")
    _tell(paths[0], options.open)
    return 0


def _tell(path: Path, browser: bool) -> None:
    """Print a page's path, once it is open in the browser if that was asked for."""
    if browser and not webbrowser.open(path.resolve().as_uri()):
        print("no browser could be started: open the page yourself, or set BROWSER", file=sys.stderr)
    print(path)


def _write(folder: str, name: str, text: str) -> Path:
    """Write a file. Raises InputError if that cannot be."""
    path = expand(folder) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {reason(error)}") from None
    return path


def compare(options: argparse.Namespace) -> int:
    """Print trials side by side, and the path of a page."""
    from sweep import display
    from sweep.report import compare as trials

    tracker = Tracker(options.tracking_uri)
    runs = trials.find(tracker, options.runs)
    found = trials.compare(tracker, runs)
    path = _write(
        options.out, f"compare-{'-'.join(run.run_id[:8] for run in runs)}.html", trials.to_html(tracker, runs, found)
    )
    display.print_table("", [dict(zip(found.header, row, strict=True)) for row in found.rows])
    sys.stdout.flush()
    _tell(path, options.open)
    return 0


def verify(options: argparse.Namespace) -> int:
    """Train a trial again, alone; 1 if it is not what its run has recorded."""
    from core import ops, threads
    from core.evaluate import data_of
    from sweep import verify as trial

    threads.use(options.threads)
    tracker = Tracker(options.tracking_uri)
    run = tracker.find(options.run)
    trial.settings_of(tracker, run)  # what cannot be trained again is told before data is read
    then = {name: run.tags[name] for name in ("backend", "precision", "code")}
    backend = ops.load(options.backend or then["backend"], options.precision or then["precision"])
    found = trial.verify(tracker, run, backend, data_of(run, options.data, options.data_dir))
    print(f"{run.name}: trained again alone, with backend {backend.name}")
    print("epoch  recorded     again")
    for epoch, (recorded, again) in enumerate(found.accuracies, start=1):
        print(f"{epoch:5}  {recorded:8.6f}  {again:8.6f}  {'' if recorded == again else 'differs'}".rstrip())
    if found.equal:
        print(f"equal, bit for bit: every metric of {found.epochs[1]} epochs, and {found.arrays} arrays of the model")
        return 0
    for name, difference in found.differences.items():
        print(f"{name} differs, by up to {difference:.3g}")
    print(f"not equal: it was trained with backend {then['backend']}, code {then['code'][:12]}")
    return 1
