"""The flags of every command of python -m sweep."""

from __future__ import annotations

import argparse

from core.arguments import FLAGS, OF_RUN, add_flags

EXIT_CODES = """exit status: 0 done, 1 failed, 2 wrong use or input, 3 finished with failed trials,
130 or 143 interrupted (the same command goes on)"""
_AS_TRAINED = "default: the one it was trained with"


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    top = argparse.ArgumentParser(
        prog="python -m sweep",
        description="Staged hyperparameter search in which the trials of a grid train together.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="train what is not trained yet, and rank", epilog=EXIT_CODES))
    _add_plan(commands.add_parser("plan", help="print trials, groups, memory and estimated time; train nothing"))
    _add_report(commands.add_parser("report", help="write a page on all that an experiment has found; prints its path"))
    _add_doctor(
        commands.add_parser("doctor", help="compare all records of an experiment with each other; --fix mends them")
    )
    _add_verify(commands.add_parser("verify", help="train one trial again, alone, and compare it with its run"))
    _add_compare(commands.add_parser("compare", help="trials side by side, here and as a page; prints its path"))
    _add_ui(commands.add_parser("ui", help="browse the runs in MLflow's web page"))
    return top


def _add_run(command: argparse.ArgumentParser) -> None:
    _add_experiment(command, stages=True)
    _add_computing(command)
    add_flags(command, "tracking-uri")
    _add_winners(command)
    command.add_argument(
        "--new-data",
        action="store_true",
        help="begin anew, although the data has changed since the experiment was begun",
    )
    command.add_argument(
        "--new-experiment", action="store_true", help="begin anew, where the experiment was deleted in MLflow"
    )
    add_flags(command, "quiet")


def _add_plan(command: argparse.ArgumentParser) -> None:
    _add_experiment(command, stages=True)
    _add_computing(command)


def _add_report(command: argparse.ArgumentParser) -> None:
    _add_experiment(command)
    add_flags(command, "tracking-uri")
    _add_page(command)


def _add_doctor(command: argparse.ArgumentParser) -> None:
    _add_experiment(command)
    command.add_argument("--fix", action="store_true", help="mend what is found")
    add_flags(command, "tracking-uri")
    _add_winners(command)


def _add_verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help=FLAGS["run-id"]["help"])
    add_flags(command, "backend", "precision", help=_AS_TRAINED)
    add_flags(command, "data", help=OF_RUN)
    add_flags(command, "data-dir", "threads", "tracking-uri")


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "runs", nargs="+", metavar="RUN", help="runs in MLflow, or the first digits; of a stage its winner"
    )
    _add_page(command)
    add_flags(command, "tracking-uri")


def _add_ui(command: argparse.ArgumentParser) -> None:
    command.add_argument("--port", type=int, default=5000)
    add_flags(command, "tracking-uri")


def _add_experiment(command: argparse.ArgumentParser, stages: bool = False) -> None:
    """Which trials the command is about."""
    command.add_argument("experiment", help="a name in experiments/, or a path ending in .toml")
    if stages:
        command.add_argument("--stage", help="only this stage (default: all, in order)")
        command.add_argument("--points", action="append", default=[], metavar="NAME", help="add the points NAME")
    else:  # nor does it compute anything
        command.set_defaults(stage=None, points=[])
        command.set_defaults(backend="reference", precision="float32", threads=None, processes="1")
    add_flags(command, "data", "data-dir")
    command.add_argument("--seed", help="of data split, order, draws and trials")
    command.add_argument("--epochs", help="at most so many epochs a trial, in every stage")


def _add_computing(command: argparse.ArgumentParser) -> None:
    """What trains them."""
    add_flags(command, "backend", "precision", "threads")
    command.add_argument(
        "--processes", metavar="N", help="groups that train at the same time (default: one for each GPU, else 1)"
    )
    add_flags(command, "json")


def _add_winners(command: argparse.ArgumentParser) -> None:
    """What is made of them."""
    command.add_argument("--figures", metavar="all|none", help="pictures of trials, stages and winners (default: all)")
    command.add_argument(
        "--register", metavar="NAME|none", help="the model that winners are versions of (default: EXPERIMENT-DATA)"
    )


def _add_page(command: argparse.ArgumentParser) -> None:
    """Where the page goes."""
    add_flags(command, "out", default="reports")
    add_flags(command, "open")
