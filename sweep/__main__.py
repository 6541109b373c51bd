"""The command line: python -m sweep run | plan | report | compare | verify | doctor | ui."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from core.arguments import exit_status

EXIT_CODES = """exit status: 0 done, 1 failed, 2 wrong use or input, 3 finished with failed trials,
130 or 143 interrupted (the same command goes on)"""
COMMANDS = {  # file and function: a command loads no more than it needs
    "run": ("sweep.commands.run", "run"),
    "plan": ("sweep.commands.plan", "plan"),
    "report": ("sweep.commands.report", "report"),
    "compare": ("sweep.commands.compare", "compare"),
    "verify": ("sweep.commands.verify", "verify"),
    "doctor": ("sweep.commands.doctor", "doctor"),
    "ui": ("sweep.commands.ui", "ui"),
}
# A flag beats its environment variable, which beats the experiment file, which beats the default.
ENVIRONMENT = {
    "data": "SWEEP_DATA",
    "backend": "SWEEP_BACKEND",
    "precision": "SWEEP_PRECISION",
    "seed": "SWEEP_SEED",
    "epochs": "SWEEP_EPOCHS",
    "threads": "SWEEP_THREADS",
    "processes": "SWEEP_PROCESSES",
    "figures": "SWEEP_FIGURES",
    "register": "SWEEP_REGISTER",
    "tracking_uri": "MLFLOW_TRACKING_URI",
}


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    top = argparse.ArgumentParser(
        prog="python -m sweep",
        description="Staged hyperparameter search in which the trials of a grid train together.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="train what is not trained yet, and rank", epilog=EXIT_CODES)
    show = commands.add_parser("plan", help="print trials, groups, memory and estimated time; train nothing")
    told = commands.add_parser("report", help="write a page on all that an experiment has found; prints its path")
    mends = commands.add_parser("doctor", help="compare all records of an experiment with each other; --fix mends them")
    for command in (run, show, told, mends):
        command.add_argument("experiment", help="a name in experiments/, or a path ending in .toml")
        if command in (run, show):
            command.add_argument("--stage", help="only this stage (default: all, in order)")
            command.add_argument("--points", action="append", default=[], metavar="NAME", help="add the points NAME")
        command.add_argument("--data", help="cifar10, digits, a file.npz, or auto (CIFAR-10 if found, else digits)")
        command.add_argument(
            "--data-dir", metavar="DIR", help="where cifar-10-batches-py is (else $CIFAR10_DIR, data/)"
        )
        command.add_argument("--seed", help="of data split, order, draws and trials")
        command.add_argument("--epochs", help="at most so many epochs a trial, in every stage")
    for command in (told, mends):  # which compute nothing
        command.set_defaults(backend="reference", precision="float32", threads=None, processes="1")
        command.set_defaults(stage=None, points=[])
    mends.add_argument("--fix", action="store_true", help="mend what is found")
    for command in (run, show):
        command.add_argument("--backend", help="auto, reference, cpu or gpu")
        command.add_argument("--precision", help="float32 or, on a GPU, tf32: faster, and rounded to 10 bits")
        command.add_argument("--threads", metavar="N", help="to compute on (default: every core there is)")
        command.add_argument(
            "--processes", metavar="N", help="groups that train at the same time (default: one for each GPU, else 1)"
        )
        command.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    for command in (run, told, mends):
        command.add_argument(
            "--tracking-uri", metavar="URI", help="MLflow server or database (default: mlflow.db here)"
        )
    told.add_argument("--out", metavar="DIR", default="reports", help="where to write (default: %(default)s)")
    told.add_argument("--open", action="store_true", help="open the page in the browser")
    for command in (run, mends):
        command.add_argument(
            "--figures", metavar="all|none", help="pictures of trials, stages and winners (default: all)"
        )
        command.add_argument(
            "--register", metavar="NAME|none", help="the model that winners are versions of (default: EXPERIMENT-DATA)"
        )
    run.add_argument(
        "--new-data",
        action="store_true",
        help="begin anew, although the data has changed since the experiment was begun",
    )
    run.add_argument(
        "--new-experiment", action="store_true", help="begin anew, where the experiment was deleted in MLflow"
    )
    run.add_argument("--quiet", action="store_true", help="no progress, no notes")
    again = commands.add_parser("verify", help="train one trial again, alone, and compare it with its run")
    again.add_argument("run", metavar="RUN", help="a trial's run in MLflow, or the beginning of its id")
    again.add_argument("--backend", help="default: the one it was trained with")
    again.add_argument("--precision", help="default: the one it was trained with")
    again.add_argument("--data", help="cifar10, digits or a file.npz (default: what the run was trained on)")
    again.add_argument("--data-dir", metavar="DIR", help="where cifar-10-batches-py is (else $CIFAR10_DIR, data/)")
    again.add_argument("--threads", metavar="N", help="to compute on (default: every core there is)")
    again.add_argument("--tracking-uri", metavar="URI", help="MLflow server or database (default: mlflow.db here)")
    beside = commands.add_parser("compare", help="trials side by side, here and as a page; prints its path")
    beside.add_argument(
        "runs", nargs="+", metavar="RUN", help="runs in MLflow, or the first digits; of a stage its winner"
    )
    beside.add_argument("--out", metavar="DIR", default="reports", help="where to write (default: %(default)s)")
    beside.add_argument("--open", action="store_true", help="open the page in the browser")
    beside.add_argument("--tracking-uri", metavar="URI", help="MLflow server or database (default: mlflow.db here)")
    ui = commands.add_parser("ui", help="browse the runs in MLflow's web page")
    ui.add_argument("--port", type=int, default=5000)
    ui.add_argument("--tracking-uri", metavar="URI", help="MLflow server or database (default: mlflow.db here)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = parser().parse_args(arguments)
    for name, variable in ENVIRONMENT.items():
        if options.command == "verify" and name in ("data", "backend", "precision"):
            continue  # those that the run tells
        if getattr(options, name, "") is None:
            setattr(options, name, os.environ.get(variable) or None)
    file, name = COMMANDS[options.command]

    def doctor() -> str:
        from sweep.terminal import hints

        told = hints.of(options)
        return told.quoted(told.doctor())

    return exit_status(lambda: int(getattr(import_module(file), name)(options)), doctor)


if __name__ == "__main__":
    gc.set_threshold(50_000)  # by default, looking for garbage in the records of a thousand runs takes half of the time
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done and said: nothing is left to be interrupted
    gc.freeze()  # nor is it looked for at the end
    sys.exit(status)
