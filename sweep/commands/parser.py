"""The commands of python -m sweep."""

from __future__ import annotations

import argparse

from sweep.commands import compare, doctor, plan, report, run, ui, verify
from sweep.commands.flags import EXIT_CODES

TYPE_CHECKING = False  # see core.arguments
if TYPE_CHECKING:
    from sweep.commands.flags import Command

COMMANDS: dict[str, Command] = {  # in the order of the help
    "run": run,
    "plan": plan,
    "report": report,
    "doctor": doctor,
    "verify": verify,
    "compare": compare,
    "ui": ui,
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
    for name, command in COMMANDS.items():
        epilog = EXIT_CODES if command is run else None
        command.add_arguments(commands.add_parser(name, help=command.HELP, epilog=epilog))
    return top
