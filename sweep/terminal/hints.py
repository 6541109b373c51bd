"""The commands that a sweep suggests: with what it was given, as far as they need that to find the same."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from core import shell_commands
from core.errors import InputError, reason
from core.project import expand
from core.tracking.experiments import DeletedError

if TYPE_CHECKING:
    from sweep.experiment.stage import Experiment

_FOUND_BY = ("data", "data_dir", "seed", "epochs")  # which trials a command is about
_TRAINED_BY = ("backend", "precision", "threads", "processes")
_DRAWN_BY = ("figures", "register")  # what is made of the trials


@dataclass(frozen=True)
class Hints:
    """Commands on one experiment, as text for a shell.

    experiment  what a command line calls it, in any folder
    given       options by name, from flags or variables, that are needed again
    store       the tracking URI that was given; None: the root's own
    """

    experiment: str
    given: Mapping[str, str] = field(default_factory=dict)
    store: str | None = None

    def run(self, stage: str | None = None) -> str:
        """Train a stage, or all."""
        return self._sweep("run", _FOUND_BY + _TRAINED_BY + _DRAWN_BY, {"stage": stage})

    def doctor(self, *flags: str) -> str:
        """See what is wrong; "--fix" mends it."""
        return self._sweep("doctor", _FOUND_BY + _DRAWN_BY, {}, *flags)

    def report(self) -> str:
        """Write the page."""
        return self._sweep("report", _FOUND_BY, {})

    def ui(self) -> str:
        """Browse the runs."""
        return shell_commands.command("sweep", "ui", store=self.store)

    def evaluate(self, run_id: str) -> str:
        """Test a trial."""
        return shell_commands.command("core.evaluate", options={"run_id": run_id}, store=self.store)

    def figures(self, run_id: str) -> str:
        """Draw a trial or a stage."""
        return shell_commands.command("core.figures", options={"run_id": run_id}, store=self.store)

    @property
    def page(self) -> str:
        """Where MLflow's page of these runs is, or will be."""
        return self.server or "http://127.0.0.1:5000"

    @property
    def server(self) -> str:
        """The page of the server that has these runs; "" if none does."""
        return shell_commands.server(self.store)

    @property
    def without_store(self) -> str:
        """What must be said beside these commands; "" if nothing."""
        return shell_commands.without_store(self.store)

    def quoted(self, command: str) -> str:
        """One of these commands within a sentence."""
        return shell_commands.quoted(command, self.store)

    @contextmanager
    def on_deletion(self) -> Iterator[None]:
        """Where an experiment turns out to be deleted in MLflow, also say how to begin anew."""
        try:
            yield
        except DeletedError as error:
            again = self._sweep("run", _FOUND_BY + _TRAINED_BY + _DRAWN_BY, {}, "--new-experiment")
            raise InputError(f"{reason(error)}, or begin anew: {self.quoted(again)}") from None

    def _sweep(self, name: str, kept: Sequence[str], further: Mapping[str, str | None], *flags: str) -> str:
        options = {**further, **{key: value for key, value in self.given.items() if key in kept}}
        return shell_commands.command("sweep", name, self.experiment, *flags, options=options, store=self.store)


def of(options: argparse.Namespace, experiment: Experiment | None = None) -> Hints:
    """Those of a command line.

    experiment  the one that it is about, once its file is read: what the file says may hold in the current folder only
    """
    trains = options.command in ("run", "plan")  # others have a backend of their own
    names = _FOUND_BY + _DRAWN_BY + (_TRAINED_BY if trains else ())
    asked = {name: getattr(options, name, None) for name in names}
    given = {name: value for name, value in asked.items() if value is not None}
    if "data_dir" not in given and (place := os.environ.get("CIFAR10_DIR")):
        given["data_dir"] = place
    if experiment:
        said = {"data": experiment.data, "data_dir": experiment.data_dir}
        given = {name: path for name, path in said.items() if path and not _from_anywhere(name, path)} | given
    given |= {name: str(expand(path).absolute()) for name, path in given.items() if _is_path(name, path)}
    name = getattr(options, "experiment", "EXPERIMENT")
    path = str(Path(name).absolute()) if name.endswith(".toml") else name
    return Hints(experiment.called if experiment else path, given, getattr(options, "tracking_uri", None))


def _is_path(name: str, value: str) -> bool:
    from core.data.registry import is_file

    return name == "data_dir" or (name == "data" and is_file(value))


def _from_anywhere(name: str, value: str) -> bool:
    """Whether what a file says means the same in all folders."""
    return not _is_path(name, value) or expand(value).is_absolute()
