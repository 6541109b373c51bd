"""python -m core.evaluate --run-id ID: a trained model on the test images. Heavy modules are imported on use."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.arguments import exit_status
from core.errors import InputError, printable

if TYPE_CHECKING:
    from core.tracking.entities import RunInfo
    from core.tracking.tracker import Tracker
from core.evaluate.evaluation import Evaluation, evaluate_model
from core.tracking.datasets import data_of

ARTIFACTS = "evaluation"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    top = argparse.ArgumentParser(
        prog="python -m core.evaluate",
        description="Test a trained model: loss, accuracy, and precision, recall and F1 by class. "
        "A run's figures are also written to the run, as test_* metrics and artifacts.",
        epilog="exit status: 0 done, 1 the output's reader left, 2 wrong use or input, 130 interrupted",
    )
    what = top.add_mutually_exclusive_group(required=True)
    what.add_argument("--run-id", metavar="ID", help="a trial's run in MLflow, or the beginning of its id")
    what.add_argument("--model", type=Path, metavar="FILE.npz", help="a model's file, also one of the published code")
    top.add_argument("--data", help="cifar10, digits or a file.npz (default: what the run was trained on)")
    top.add_argument("--data-dir", metavar="DIR", help="where cifar-10-batches-py is (else $CIFAR10_DIR, data/)")
    top.add_argument("--backend", default="auto", help="auto, reference, cpu or gpu")
    threads = os.environ.get("SWEEP_THREADS") or None
    top.add_argument("--threads", default=threads, metavar="N", help="to compute on (default: every core there is)")
    top.add_argument("--tracking-uri", metavar="URI", help="MLflow server or database (default: mlflow.db here)")
    top.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    top.add_argument("--quiet", action="store_true", help="no notes")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)

    def command() -> int:
        from core.machine import threads

        threads.use(options.threads)
        if options.model:
            _show(_test_file(options), options)
        else:
            _test_run(options)
        return 0

    return exit_status(command)


def _test_file(options: argparse.Namespace) -> Evaluation:
    from core.backends import registry as backends
    from core.data import dataset
    from core.data import registry as datasets
    from core.export import model_npz

    model, found = model_npz.load_model(options.model), datasets.load(options.data, options.data_dir)
    result = evaluate_model(backends.load(options.backend), model, found)
    if not options.quiet:
        print(f"{datasets.describe(found)}; {dataset.assumed(options.model, found)}", file=sys.stderr)
    return result


def _test_run(options: argparse.Namespace) -> None:
    from core.backends import registry as backends
    from core.export import model_npz
    from core.tracking.tracker import Tracker

    backend = backends.load(options.backend)
    tracker = Tracker(options.tracking_uri)
    run = tracker.find(options.run_id)
    if run.tags.get("kind") == "stage":
        best = run.tags.get("winner.run_id")
        raise InputError(
            f"run {run.run_id} is a stage, not a trial"
            + (f": {_command(best, tracker.uri)} tests its winner" if best else " and has no winner yet")
        )
    model = model_npz.load_model(tracker.artifact(run, "model.npz"))
    data = data_of(run, options.data, options.data_dir)
    if data.x_test is None:
        raise InputError(
            f"{data.source} has no test images, so run {run.run_id} cannot be tested; on another file's x_test and "
            f"y_test: --model {tracker.artifact(run, 'model.npz')} --data FILE.npz"
        )
    result = evaluate_model(backend, model, data)
    try:
        note = _record(tracker, run, result)
    finally:
        _show(result, options)  # the figures, even where the run cannot be written
    if not options.quiet:
        print(note, file=sys.stderr)


def _command(run_id: str, store: str) -> str:
    """What tests a trial, for a sentence."""
    from core.hints import command, quoted

    return quoted(command("core.evaluate", options={"run_id": run_id}, store=store), store)


def _record(tracker: Tracker, run: RunInfo, result: Evaluation) -> str:
    """Write the figures to the run, unless they are there."""
    recorded = {name: run.metrics.get(name, float("nan")) for name in result.metrics}
    if all(abs(recorded[name] - value) < 1e-6 for name, value in result.metrics.items()):
        return f"run {run.run_id} ({run.name}) has these figures already"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "metrics.json").write_text(json.dumps(_as_json(result), indent=2) + "\n")
        names = [row["class"] for row in result.classes]
        _write_csv(folder / "classes.csv", list(result.classes[0]), [list(row.values()) for row in result.classes])
        rows = [[name, *counts] for name, counts in zip(names, result.confusion.tolist(), strict=True)]
        _write_csv(folder / "confusion_matrix.csv", ["true \\ predicted", *names], rows)
        tracker.log_files(run.run_id, folder, ARTIFACTS)
    tracker.log_metrics(run.run_id, result.metrics)  # last: once they are there, nothing is missing
    return f"recorded in run {run.run_id} ({run.name})"


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _as_json(result: Evaluation) -> dict[str, Any]:
    return {
        **result.metrics,
        "largest_class": result.largest.as_json(),
        "warnings": result.warnings,
        "classes": result.classes,
        "confusion_matrix": result.confusion.tolist(),
    }


def _show(result: Evaluation, options: argparse.Namespace) -> None:
    """To stdout: JSON, or the figures and two tables. To stderr: what the accuracy does not tell."""
    from core.evaluate.metrics import SCORES

    if not options.quiet:
        print(*(f"{printable(warning)}\n" for warning in result.warnings), sep="", end="", file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps(_as_json(result), indent=2))
    else:
        print(
            f"test accuracy {result.metrics['test_accuracy']:.4f} ({result.largest}), "
            f"loss {result.metrics['test_loss']:.4f}"
        )
        rows = [[row["class"], *(_score(row[s]) for s in SCORES), str(row["images"])] for row in result.classes]
        mean = ["mean", *(_score(result.metrics[f"test_{s}_macro"]) for s in SCORES), str(result.confusion.sum())]
        _print_table("", ["class", *SCORES, "images"], [*rows, mean])
        names = [row["class"] for row in result.classes]
        counts = [[name, *map(str, row)] for name, row in zip(names, result.confusion.tolist(), strict=True)]
        _print_table("images by true class (row) and predicted class (column)", ["", *names], counts)
    sys.stdout.flush()  # a reader that has left is noticed here, not when Python ends


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Drawn on a terminal, if it is wide enough; tab-separated elsewhere."""
    if title:
        print(f"\n{title}")
    if not sys.stdout.isatty():
        print(*("\t".join(row) for row in (header, *rows)), sep="\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold underline")
    for number, column in enumerate(header):
        table.add_column(Text(column[:5] if number and title else column), justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(Text, row))  # as text: a class's name is the user's, and may look like markup
    console = Console()
    if console.measure(table, options=console.options.update(width=10_000)).maximum > console.width:
        print("a table wider than this terminal: --json has its numbers")
    else:
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
