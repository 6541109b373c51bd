"""python -m sweep doctor: look at all records, and mend them."""

from __future__ import annotations

import argparse

from core.arguments import add_flags
from core.errors import InputError, printable
from sweep.commands.flags import add_experiment, add_winners

TYPE_CHECKING = False  # see core.arguments
if TYPE_CHECKING:
    from sweep.stages.sweep import Sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare its flags."""
    add_experiment(parser)
    parser.add_argument("--fix", action="store_true", help="mend what is found")
    add_flags(parser, "tracking-uri")
    add_winners(parser)


def execute(options: argparse.Namespace) -> int:
    """Compare all that is recorded of an experiment, and mend it if asked to."""
    from contextlib import nullcontext

    from sweep.commands.options import open_sweep

    sweep, _ = open_sweep(options, quiet=True)
    with sweep.folder.held() if options.fix and sweep.folder.path.exists() else nullcontext():
        found = _print_findings(sweep, options)
    if not found:
        print(f"{sweep.name}: nothing is wrong")
        return 0
    command = sweep.hints.run() if options.fix else sweep.hints.doctor("--fix")
    print(f"{sweep.name}: {found} found{', and mended' if options.fix else ''}; next: {command}")
    if without := sweep.hints.without_store:
        print(without)
    return 0 if options.fix else 1


def _print_findings(sweep: Sweep, options: argparse.Namespace) -> int:
    """How many there are."""
    from sweep.doctor.examine import examine
    from sweep.doctor.mend import mend

    (look, before), found = ((mend, "") if options.fix else (examine, "--fix: ")), 0
    try:
        for found, finding in enumerate(look(sweep, options.tracking_uri), start=1):
            print(f"{found:3}  {printable(finding.what)}")
            print(f"     {before}{printable(finding.mended)}", flush=True)
    except InputError as error:
        if not found or options.fix:
            raise
        print(f"     what else there may be is seen once that is mended: {printable(error)}")
    return found
