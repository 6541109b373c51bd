"""The command line: python -m sweep run | plan | report | compare | verify | doctor | ui."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence

from core.arguments import exit_status
from sweep.commands.parser import command, parser

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser(arguments).parse_args(arguments)
    for name, variable in ENVIRONMENT.items():
        if options.command == "verify" and name in ("data", "backend", "precision"):
            continue  # those that the run tells
        if getattr(options, name, "") is None:
            setattr(options, name, os.environ.get(variable) or None)

    def doctor() -> str:
        from sweep.terminal import hints

        told = hints.of(options)
        return told.quoted(told.doctor())

    return exit_status(lambda: command(options.command).execute(options), doctor)


if __name__ == "__main__":
    gc.set_threshold(50_000)  # by default, looking for garbage in the records of a thousand runs takes half of the time
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done and said: nothing is left to be interrupted
    gc.freeze()  # nor is it looked for at the end
    sys.exit(status)
