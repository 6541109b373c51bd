"""What the commands of python -m sweep do, but for those on reports. Each imports what it needs."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING

from core.errors import InputError

if TYPE_CHECKING:
    from core.ops import Ops
    from sweep.experiment.stage import Experiment
    from sweep.stages.interrupt import Signals
    from sweep.stages.sweep import Sweep


def open_sweep(options: argparse.Namespace, quiet: bool, signals: Signals | None = None) -> tuple[Sweep, list[str]]:
    """The sweep that the options ask for, and the names of its stages to handle.

    signals  that stop it
    """
    from core.backends import registry as backends
    from core.data import registry as datasets
    from core.machine import threads
    from sweep.experiment import file as experiments
    from sweep.stages.sweep import Sweep
    from sweep.terminal import choose, hints

    threads.use(options.threads)
    overrides = {
        name: _whole(name, value) for name in ("seed", "epochs") if (value := getattr(options, name)) is not None
    }
    chosen: Experiment = experiments.load(options.experiment, overrides)
    stages = list(chosen.stages)
    if options.stage is not None:
        if options.stage not in stages:
            raise InputError(f'{chosen.path} has no stage "{options.stage}"; there are: {", ".join(stages)}')
        stages = [options.stage]
    for point in options.points:
        if not any(point in chosen.stages[name].points for name in stages):
            raise InputError(f'{chosen.path}: no points called "{point}" in {", ".join(stages)}')
    backend = backends.load(
        options.backend or chosen.backend or "auto", options.precision or chosen.precision or "float32"
    )
    # $CIFAR10_DIR, which beats the file, is looked up by data.load.
    data_dir = options.data_dir or (None if os.environ.get("CIFAR10_DIR") else chosen.data_dir)
    found = datasets.load(options.data or chosen.data, data_dir)
    screen = choose.choose(quiet)
    screen.note(datasets.describe(found))
    draws = getattr(options, "figures", None) or "all"
    if draws not in ("all", "none"):
        raise InputError(f'figures is "{draws}": it must be all or none')
    processes = _processes(options.processes, backend)
    sweep = Sweep.of(
        *(chosen, found, backend, screen),
        hints=hints.of(options, chosen),
        signals=signals,
        processes=processes,
        pictures=draws == "all",
        new_data=getattr(options, "new_data", False),
        new_experiment=getattr(options, "new_experiment", False),
        model=_model(getattr(options, "register", None)),
    )
    return sweep, stages


def _model(name: str | None) -> str:
    """The name to register winners under: see Records."""
    if name is not None and (not name.strip() or re.search("[/:\"']", name)):
        raise InputError(f"register is {name!r}: it must be a model's name, without / : and quotes, or none")
    return name or ""


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} is {text!r}: it must be a whole number") from None


def _processes(asked_for: str | None, backend: Ops) -> int | None:
    if asked_for is None:
        return None
    number, most, kind = _whole("processes", asked_for), backend.max_processes(), backend.process_resource
    if not 1 <= number <= most:
        raise InputError(f"processes is {number}: it must be a whole number from 1 to {most}, the {kind} there are")
    return number
