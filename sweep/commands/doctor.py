"""python -m sweep doctor: look at all records, and mend them."""

from __future__ import annotations

import argparse

from core.errors import InputError, printable
from sweep.commands.options import open_sweep


def doctor(options: argparse.Namespace) -> int:
    """Compare all that is recorded of an experiment, and mend it if asked to."""
    from contextlib import nullcontext

    from sweep.doctor.examine import examine
    from sweep.doctor.mend import mend

    sweep, _ = open_sweep(options, quiet=True)
    fix, found = options.fix, 0
    with sweep.folder.held() if fix and sweep.folder.path.exists() else nullcontext():
        try:
            for found, finding in enumerate((mend if fix else examine)(sweep, options.tracking_uri), start=1):
                print(f"{found:3}  {printable(finding.what)}")
                print(f"     {'' if fix else '--fix: '}{printable(finding.mended)}", flush=True)
        except InputError as error:
            if not found or fix:
                raise
            print(f"     what else there may be is seen once that is mended: {printable(error)}")
    if not found:
        print(f"{sweep.name}: nothing is wrong")
        return 0
    command = sweep.hints.run() if fix else sweep.hints.doctor("--fix")
    print(f"{sweep.name}: {found} found{', and mended' if fix else ''}; next: {command}")
    if without := sweep.hints.without_store:
        print(without)
    return 0 if fix else 1
