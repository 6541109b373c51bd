"""Small projects to harm, and commands in processes of their own that need no start-up: forks of this one."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy.orm import configure_mappers

from core.tracking.tracker import Tracker
from sweep.__main__ import main as sweep_main
from sweep.executors import checkpointer
from tests.helpers import stores

STAGES = {
    "grid": """
[stages.grid]
sampler = "grid"
[stages.grid.space]
lr = [0.01, 0.1]
filters = ["3x4", "2"]

[stages.dropout]
sampler = "random"
after = "grid"
inherit = ["lr", "filters"]
trials = 1
seeds = 2
[stages.dropout.space]
dropout = { low = 0.0, high = 1.0 }
""",
    "apart": """
[stages.grid]
sampler = "grid"
[stages.grid.space]
lr = [0.01, 0.1]
epochs = [4, 8, 20]
""",
    "short": """
[stages.grid]
sampler = "grid"
[stages.grid.space]
lr = [0.01, 0.1]
filters = ["2"]
""",
    "pruned": """
[stages.search]
sampler = "tpe"
trials = 15
at_once = 5
pruner = { kind = "median", min_epochs = 4 }
[stages.search.space]
lr = { low = 0.001, high = 0.3, log = true }
filters = ["3x4", "2"]
""",
}
HEAD = """
backend = "reference"
seed = 1
data = "small.npz"
[settings]
batch_size = 16
patience = 30
"""
DIGITS = """
data = "digits"
[settings]
epochs = 6
[stages.grid]
sampler = "grid"
[stages.grid.space]
lr = [0.05, 0.1]
filters = ["8x8", "4x8"]
"""


def make(folder: Path, kind: str) -> None:
    """A project with the experiment "some", its data and, copied from the folder above, an empty store."""
    (folder / "experiments").mkdir(parents=True)
    epochs = {"apart": "", "short": "epochs = 2", "pruned": "epochs = 12"}.get(kind, "epochs = 30")
    text = DIGITS if kind == "digits" else HEAD + epochs + STAGES[kind]
    (folder / "experiments" / "some.toml").write_text(text)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 80)
    x = rng.integers(0, 100, (80, 1, 6, 7))
    x[np.arange(80), 0, 2 * y] += 60
    pixels = x.astype(np.uint8)
    np.savez(folder / "small.npz", x=pixels[:60], y=y[:60], x_test=pixels[60:], y_test=y[60:])
    shutil.copy(folder.parent / "mlflow.db", folder)
    if kind == "apart":
        (folder / KEPT).touch()


def make_store(folder: Path) -> None:
    """An mlflow.db without runs, for all projects to copy."""

    def create(_arguments: Sequence[str] | None) -> int:
        Tracker().store.create()
        return 0

    folder.mkdir()
    Command(folder, [], create).wait()
    assert (folder / "mlflow.db").exists()


def load() -> None:
    """Import all that a command needs, and let it get ready, before the first is forked.

    But for the CPU backend, whose threads do not live on in forks: each loads it.
    """
    for name in (
        "numba",
        "sweep.commands",
        "sweep.stages.run",
        "sweep.doctor",
        "sweep.commands.report",
        "sweep.terminal.display",
        "mlflow.pyfunc",
        "mlflow.store.tracking.sqlalchemy_store",
        "mlflow.store.model_registry.sqlalchemy_store",
        "sqlalchemy.dialects.sqlite",
        "alembic.autogenerate",
    ):
        __import__(name)
    configure_mappers()
    stores.get_ready()
    gc.collect()
    gc.freeze()  # a fork's first collection would go through, and copy, all that was imported


@dataclass
class Command:
    """python -m sweep with these arguments, in a project, as a fork; prepare is called in its process first."""

    folder: Path
    arguments: Sequence[str]
    function: Callable[[Sequence[str]], int] = sweep_main
    prepare: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self._said = [self.folder / f".{name}-{time.monotonic_ns()}" for name in ("output", "errors")]
        self.status: int | None = None
        self.output = self.errors = ""
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self._become()

    def _become(self) -> None:
        status = 70
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number, path in enumerate(self._said, start=1):
                os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), number)
            os.chdir(self.folder)
            os.environ |= {"SWEEP_ROOT": str(self.folder), "SWEEP_FIGURES": "none"}
            self.prepare()
            if (self.folder / KEPT).exists():
                checkpointer._PAUSE = 0
            status = self.function(self.arguments)
        except SystemExit as stop:
            status = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(status)

    def kill(self, number: int) -> None:
        """Send a signal; SIGKILL to the processes that it started as well, as a machine that goes down does."""
        with suppress(ProcessLookupError):  # it has ended
            (os.killpg if number == signal.SIGKILL else os.kill)(self.pid, number)

    def ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._end(status)
        return self.status is not None

    def wait(self) -> int:
        """Its exit status; negative: of the signal that ended it."""
        if self.status is None:
            self._end(os.waitpid(self.pid, 0)[1])
        assert self.status is not None
        return self.status

    def _end(self, status: int) -> None:
        self.status = os.waitstatus_to_exitcode(status)
        self.output, self.errors = (path.read_text(errors="replace") if path.exists() else "" for path in self._said)
        for path in self._said:
            path.unlink(missing_ok=True)


def run(folder: Path, *arguments: str, prepare: Callable[[], object] = lambda: None) -> Command:
    """A command that has ended."""
    command = Command(folder, arguments, prepare=prepare)
    command.wait()
    return command


RUN = ("run", "some", "--json")
KEPT = "kept"  # the file by which a project asks that every epoch is kept, as where they are long


def copy(template: Path, folder: Path) -> Path:
    """A project of its own to harm."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    return folder
