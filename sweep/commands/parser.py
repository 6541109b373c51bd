"""The commands of python -m sweep."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from sweep.commands.flags import EXIT_CODES

TYPE_CHECKING = False  # see core.arguments
if TYPE_CHECKING:
    from sweep.commands.flags import Command

COMMANDS = {  # in the order of the help; each is the file of this folder that is called so
    "run": "train what is not trained yet, and rank",
    "plan": "print trials, groups, memory and estimated time; train nothing",
    "report": "write a page on all that an experiment has found; prints its path",
    "doctor": "compare all records of an experiment with each other; --fix mends them",
    "verify": "train one trial again, alone, and compare it with its run",
    "compare": "trials side by side, here and as a page; prints its path",
    "ui": "browse the runs in MLflow's web page",
}


def command(name: str) -> Command:
    """The command called name: the others are not loaded, which would take a tenth of the time of --help."""
    found: Command = import_module(f"{__package__}.{name}")
    return found


def parser(arguments: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The arguments of all commands; where a command line is given, of those that it names."""
    top = argparse.ArgumentParser(
        prog="python -m sweep",
        description="Staged hyperparameter search in which the trials of a grid train together.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, told in COMMANDS.items():
        own = commands.add_parser(name, help=told, epilog=EXIT_CODES if name == "run" else None)
        if arguments is None or name in arguments:
            command(name).add_arguments(own)
    return top
