"""python -m core.evaluate --run-id ID: a trained model on the test images. Heavy modules are imported on use."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.arguments import OF_RUN, add_flags, exit_status, threads_given
from core.errors import InputError, printable
from core.evaluate.evaluation import Evaluation, evaluate_model
from core.text import as_text, print_table

if TYPE_CHECKING:
    from core.tracking.entities import RunInfo
    from core.tracking.tracker import Tracker

ARTIFACTS = "evaluation"
_TOO_WIDE = "a table wider than this terminal: --json has its numbers"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    top = argparse.ArgumentParser(
        prog="python -m core.evaluate",
        description="Test a trained model: loss, accuracy, and precision, recall and F1 by class. "
        "A run's figures are also written to the run, as test_* metrics and artifacts.",
        epilog="exit status: 0 done, 1 the output's reader left, 2 wrong use or input, 130 interrupted",
    )
    what = top.add_mutually_exclusive_group(required=True)
    add_flags(what, "run-id", "model")
    add_flags(top, "data", help=OF_RUN)
    add_flags(top, "data-dir")
    add_flags(top, "backend", default="auto")
    add_flags(top, "threads", default=threads_given())
    add_flags(top, "tracking-uri", "json")
    add_flags(top, "quiet", help="no notes")
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
        print(f"{datasets.describe(found)}; {dataset.scaling_note(options.model, found)}", file=sys.stderr)
    return result


def _test_run(options: argparse.Namespace) -> None:
    from core.backends import registry as backends
    from core.export import model_npz
    from core.tracking import tags
    from core.tracking.datasets import data_of
    from core.tracking.tracker import Tracker

    backend = backends.load(options.backend)
    tracker = Tracker(options.tracking_uri)
    run = tracker.lookup.find(options.run_id)
    if run.tags.get(tags.KIND) == tags.STAGE:
        best = run.tags.get(tags.WINNER_RUN)
        raise InputError(
            f"run {run.run_id} is a stage, not a trial"
            + (f": {_command(best, tracker.store.uri)} tests its winner" if best else " and has no winner yet")
        )
    model = model_npz.load_model(tracker.artifacts.path(run, "model.npz"))
    data = data_of(run, options.data, options.data_dir)
    if data.x_test is None:
        raise InputError(
            f"{data.source} has no test images, so run {run.run_id} cannot be tested; on another file's x_test and "
            f"y_test: --model {tracker.artifacts.path(run, 'model.npz')} --data FILE.npz"
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
    from core.shell_commands import command, quoted

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
        tracker.artifacts.log_files(run.run_id, folder, ARTIFACTS)
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
    if not options.quiet:
        print(*(f"{printable(warning)}\n" for warning in result.warnings), sep="", end="", file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps(_as_json(result), indent=2))
    else:
        print(
            f"test accuracy {result.metrics['test_accuracy']:.4f} ({result.largest}), "
            f"loss {result.metrics['test_loss']:.4f}"
        )
        _print_scores(result)
        _print_confusion(result)
    sys.stdout.flush()  # a reader that has left is noticed here, not when Python ends


def _print_scores(result: Evaluation) -> None:
    from core.evaluate.metrics import SCORES

    rows = [[row["class"], *(as_text(row[s], ".3f") for s in SCORES), str(row["images"])] for row in result.classes]
    means = [as_text(result.metrics[f"test_{s}_macro"], ".3f") for s in SCORES]
    mean = ["mean", *means, str(result.confusion.sum())]
    print_table(["class", *SCORES, "images"], [*rows, mean], gap=1, too_wide=_TOO_WIDE)


def _print_confusion(result: Evaluation) -> None:
    print("\nimages by true class (row) and predicted class (column)")
    names = [row["class"] for row in result.classes]
    rows = [[name, *map(str, row)] for name, row in zip(names, result.confusion.tolist(), strict=True)]
    header = ["", *(name[:5] if sys.stdout.isatty() else name for name in names)]
    print_table(header, rows, gap=1, too_wide=_TOO_WIDE)


if __name__ == "__main__":
    sys.exit(main())
