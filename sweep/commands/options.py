"""The sweep that a command line asks for."""

from __future__ import annotations

import argparse
import os
import re

from core.backends import registry as backends
from core.data import registry as datasets
from core.errors import InputError
from core.evaluate.metrics import class_warnings
from core.machine import threads
from core.ops import Ops
from sweep.experiment import file as experiments
from sweep.experiment.stage import Experiment
from sweep.stages.interrupt import Signals
from sweep.stages.sweep import Sweep
from sweep.terminal import choose, hints

NOT_REGISTERED = "none"  # given for a model's name


def open_sweep(options: argparse.Namespace, quiet: bool, signals: Signals | None = None) -> tuple[Sweep, list[str]]:
    """The sweep that the options ask for, and the names of its stages to handle.

    signals  that stop it
    """
    threads.use(options.threads)
    overrides = {
        name: _whole(name, value) for name in ("seed", "epochs") if (value := getattr(options, name)) is not None
    }
    experiment = experiments.load(options.experiment, overrides)
    stages = _stages(experiment, options)
    backend = backends.load(
        options.backend or experiment.backend or "auto", options.precision or experiment.precision or "float32"
    )
    # $CIFAR10_DIR, which beats the file, is looked up by datasets.load.
    data_dir = options.data_dir or (None if os.environ.get("CIFAR10_DIR") else experiment.data_dir)
    data = datasets.load(options.data or experiment.data, data_dir)
    display = choose.choose(quiet)
    display.note(datasets.describe(data))
    sweep = Sweep.of(
        *(experiment, data, backend, display),
        hints=hints.of(options, experiment),
        signals=signals,
        pictures=_pictures(getattr(options, "figures", None) or "all"),
        processes=_processes(options.processes, backend),
        new_data=getattr(options, "new_data", False),
        new_experiment=getattr(options, "new_experiment", False),
        model=_model(getattr(options, "register", None)),
    )
    return sweep, stages


def _stages(experiment: Experiment, options: argparse.Namespace) -> list[str]:
    """The names of the stages to handle. Raises InputError if the file lacks one, or points, that are asked for."""
    stages = list(experiment.stages)
    if options.stage is not None:
        if options.stage not in stages:
            raise InputError(f'{experiment.path} has no stage "{options.stage}"; there are: {", ".join(stages)}')
        stages = [options.stage]
    for name in options.points:
        if not any(name in experiment.stages[stage].points for stage in stages):
            raise InputError(f'{experiment.path}: no points called "{name}" in {", ".join(stages)}')
    return stages


def _pictures(figures: str) -> bool:
    if figures not in ("all", "none"):
        raise InputError(f'figures is "{figures}": it must be all or none')
    return figures == "all"


def warn_of_classes(sweep: Sweep) -> None:
    """Name the classes that training or validation has no image of."""
    for warning in class_warnings(sweep.data, sweep.experiment.seed):
        sweep.display.warn(warning)


def _model(name: str | None) -> str | None:
    """The name to register winners under: see sweep.records.records.open_records."""
    if name is not None and (not name.strip() or re.search("[/:\"']", name)):
        raise InputError(f"register is {name!r}: it must be a model's name, without / : and quotes, or none")
    return None if name == NOT_REGISTERED else name or ""


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
