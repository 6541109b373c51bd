"""The flags that several commands of python -m sweep have, and the table of what a command is."""

from __future__ import annotations

import argparse

from core.arguments import add_flags

EXIT_CODES = """exit status: 0 done, 1 failed, 2 wrong use or input, 3 finished with failed trials,
130 or 143 interrupted (the same command goes on)"""
TYPE_CHECKING = False  # see core.arguments
if TYPE_CHECKING:
    from typing import Protocol

    class Command(Protocol):
        """A file of sweep.commands. Loading it and adding its arguments load nothing heavy: execute does."""

        def add_arguments(self, parser: argparse.ArgumentParser) -> None:
            """Declare its flags."""

        def execute(self, options: argparse.Namespace) -> int:
            """Do it; the exit status."""


def add_experiment(parser: argparse.ArgumentParser, stages: bool = False) -> None:
    """Which trials the command is about; with stages, for a command that trains them."""
    parser.add_argument("experiment", help="a name in experiments/, or a path ending in .toml")
    if stages:
        parser.add_argument("--stage", help="only this stage (default: all, in order)")
        parser.add_argument("--points", action="append", default=[], metavar="NAME", help="add the points NAME")
    else:  # nor does it compute anything
        parser.set_defaults(stage=None, points=[])
        parser.set_defaults(backend="reference", precision="float32", threads=None, processes="1")
    add_flags(parser, "data", "data-dir")
    parser.add_argument("--seed", help="of data split, order, draws and trials")
    parser.add_argument("--epochs", help="at most so many epochs a trial, in every stage")


def add_computing(parser: argparse.ArgumentParser) -> None:
    """What trains them."""
    add_flags(parser, "backend", "precision", "threads")
    parser.add_argument(
        "--processes", metavar="N", help="groups that train at the same time (default: one for each GPU, else 1)"
    )
    add_flags(parser, "json")


def add_winners(parser: argparse.ArgumentParser) -> None:
    """What is made of them."""
    parser.add_argument("--figures", metavar="all|none", help="pictures of trials, stages and winners (default: all)")
    parser.add_argument(
        "--register", metavar="NAME|none", help="the model that winners are versions of (default: EXPERIMENT-DATA)"
    )


def add_page(parser: argparse.ArgumentParser) -> None:
    """Where the page goes."""
    add_flags(parser, "out", default="reports")
    add_flags(parser, "open")
