"""Groups in processes of their own, and groups that find too little memory: real sweeps of the small data set."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.backends.reference import backend as reference
from core.backends.reference.backend import OPS
from core.config.architecture import Architecture
from core.config.settings import Settings
from core.data.dataset import Split
from core.errors import InputError
from core.tracking.tracker import Tracker
from core.training.progress import EpochReport, Verdict
from sweep.__main__ import main
from sweep.executors.base import GroupMonitor, GroupTask, Workload
from sweep.executors.channel import portable
from sweep.executors.processes import ProcessExecutor
from sweep.stages import run
from sweep.stages.run import StageResult
from tests.conftest import EXPERIMENT, small_images
from tests.helpers.slow import slow
from tests.sweep.stages.test_run import runs

REFERENCE = OPS
GRID = ["--stage", "grid", "--json", "--backend", "reference"]


def trained(capsys: pytest.CaptureFixture[str], experiment: str, *arguments: str) -> list[dict[str, Any]]:
    """The ranked trials of the experiment's grid."""
    assert main(["run", experiment, *GRID, *arguments]) == 0
    trials: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["stages"][0]["trials"]
    return trials


def weights(run_id: str) -> dict[str, np.ndarray]:
    tracker = Tracker()
    with np.load(tracker.artifacts.path(tracker.lookup.find(run_id), "model.npz")) as file:
        return dict(file)


def test_processes_train_what_one_would(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bit for bit, since the reference trains each trial by itself; each process has its share of the threads."""
    (project / "experiments" / "again.toml").write_text(EXPERIMENT)
    alone, together = trained(capsys, "small"), trained(capsys, "again", "--processes", "2")
    for one, other in zip(alone, together, strict=True):
        assert {k: v for k, v in one.items() if k != "run_id"} == {k: v for k, v in other.items() if k != "run_id"}
        for (name, values), found in zip(
            weights(one["run_id"]).items(), weights(other["run_id"]).values(), strict=True
        ):
            np.testing.assert_array_equal(found, values, err_msg=name)


@pytest.mark.slow("starts two processes for a sweep")
def test_a_large_group_is_cut_so_that_every_process_has_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "experiments" / "small.toml"
    path.write_text(EXPERIMENT.replace('["3x4", "2"]', '["3x4"]').replace("[0.01, 0.1]", "[0.01, 0.03, 0.1]"))
    assert main(["run", "small", *GRID, "--processes", "2"]) == 0
    assert {line.split()[1] for line in capsys.readouterr().err.splitlines() if line.startswith("group")} == {
        "1/2",
        "2/2",
    }


@pytest.mark.slow("starts two processes for a sweep")
def test_the_same_command_again_trains_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = trained(capsys, "small", "--processes", "2")
    assert len({trial["run_id"] for trial in trials}) == 4
    assert trained(capsys, "small", "--processes", "2") == trials


@pytest.mark.parametrize("number", ["0", "9999", "two"])
def test_a_number_of_processes_that_cannot_be_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    assert main(["run", "small", "--processes", number]) == 2
    assert "processes is " in capsys.readouterr().err


# -------------------------------------------------------------------------------------------- when something goes wrong


def start(project: Path) -> subprocess.Popen[str]:
    """A sweep in two processes that would take hours, once both train; in a process group of its own."""
    train_for_long(project)
    command = [sys.executable, "-m", "sweep", "run", "small", *GRID, "--processes", "2", "--epochs", "100000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    sweep = subprocess.Popen(command, text=True, cwd=project, start_new_session=True, **pipes)
    assert sweep.stderr is not None
    seen: set[str] = set()
    while len(seen) < 2:
        line = sweep.stderr.readline()
        assert line, "the sweep has ended"
        seen |= {line.split()[1]} if line.startswith("group") else set()
    return sweep


def train_for_long(project: Path) -> None:
    path = project / "experiments" / "small.toml"
    path.write_text(EXPERIMENT.replace("epochs = 3", "epochs = 3\npatience = 100000"))


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that train: those of multiprocessing's that were started to run a function."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_text()
            except OSError:
                continue  # it has ended
            if parent == process.pid and "spawn_main" in command:
                found.append(int(folder.name))
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


def gone(pids: list[int], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow("starts a sweep and its two processes")
@needs_proc
def test_a_process_that_is_killed_ends_the_sweep_with_one_line_and_the_same_command_goes_on(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = start(project)
    workers = children(sweep)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == 1
    assert "out of memory: a process that trained a group was killed" in errors
    assert "Traceback" not in errors
    assert gone(workers)
    assert {run.status for run in runs("trial")} == {"FAILED"}
    (project / "experiments" / "small.toml").write_text(EXPERIMENT)
    assert len(trained(capsys, "small")) == 4


class Killer:
    """A group whose judge kills the only process of a trainer, which waits for it."""

    task = GroupTask(Architecture((1, 6, 7), (2,), 3), (Settings(filters="2", batch_size=16),), Path("never.group"), {})
    stopping = False

    def __init__(self, processes: ProcessExecutor) -> None:
        (worker,) = processes._workers
        self.process = worker.process

    def judge(self, report: EpochReport) -> dict[int, Verdict]:
        self.process.kill()
        self.process.join()
        return {}

    def record(self, report: EpochReport) -> None: ...

    def halves(self, error: MemoryError) -> Iterator[GroupMonitor]:
        raise error


@pytest.mark.parametrize("before", ["it has its group", "it hears who ends"])
def test_a_process_that_is_killed_before_it_is_sent_something_is_told_as_such(before: str) -> None:
    """To write to it then is an error of the pipe: not the one that a reader of our output leaves us."""
    processes = ProcessExecutor(1, material())
    try:
        killer = Killer(processes)
        if before == "it has its group":
            killer.judge(EpochReport(0, {}, {}))
        with pytest.raises(MemoryError, match="a process that trained a group was killed"):
            processes.train([killer])
    finally:
        processes.close()


def material(count: int = 40, backend: str = "reference") -> Workload:
    x, y = small_images(count, 0)
    return Workload(Split(x, y, x, y), 1 / 255, 0, backend, "float32")


def test_a_process_that_dies_as_it_starts_does_not_hang_the_sweep() -> None:
    """It has data to take that no pipe holds."""
    before = set(multiprocessing.active_children())

    def kill() -> None:
        while not (found := set(multiprocessing.active_children()) - before):
            time.sleep(0.01)
        found.pop().kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(MemoryError, match="a process that trained a group was killed"):
        ProcessExecutor(1, material(200_000))
    killer.join()


def test_a_process_that_cannot_start_says_why_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    processes = ProcessExecutor(1, material(backend="tpu"))
    try:
        with pytest.raises(InputError, match='backend is "tpu"'):
            processes.train([Killer(processes)])
    finally:
        processes.close()
    assert capfd.readouterr().err == ""


def test_an_error_travels_with_the_lines_that_led_to_it() -> None:
    try:
        raise ValueError("odd")
    except ValueError as error:
        travelled = pickle.loads(pickle.dumps(portable(error)))
    assert isinstance(travelled, ValueError)
    assert Path(__file__).name in travelled.__notes__[0]
    assert not hasattr(portable(InputError("wrong")), "__notes__")

    class LocalError(Exception):
        """Which pickle cannot name."""

    lost = portable(LocalError("why"))
    assert isinstance(lost, ChildProcessError)
    assert str(lost).startswith("LocalError: why (")


@pytest.mark.slow("starts two processes for a sweep")
def test_no_process_is_left_when_a_sweep_is_done(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(multiprocessing.active_children())
    trained(capsys, "small", "--processes", "2")
    assert set(multiprocessing.active_children()) == before


SWEEP, ALL = "the sweep", "all, as a terminal does"
OTHER_ENDS = [(signal.SIGINT, SWEEP), *product((signal.SIGTERM, signal.SIGKILL), (SWEEP, ALL))]


@needs_proc
@pytest.mark.parametrize(
    ("number", "who"), [(signal.SIGINT, ALL), *slow("starts a sweep and its two processes", *OTHER_ENDS)]
)
def test_a_sweep_that_is_stopped_takes_its_processes_with_it(project: Path, number: int, who: str) -> None:
    sweep = start(project)
    workers = children(sweep)
    (os.killpg if who == ALL else os.kill)(sweep.pid, number)
    _, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in errors
    assert gone(workers)
    if number != signal.SIGKILL:
        assert {run.status for run in runs("trial")} == {"KILLED"}
        assert len(list(project.glob("mlruns/*/training/*.group"))) == 2  # from which they go on


@needs_proc
@pytest.mark.parametrize("after", [0.8, *slow("starts a sweep and its two processes", 0.3, 1.3, 1.8)])
def test_ctrl_c_while_processes_start_is_quiet(project: Path, after: float) -> None:
    """Whenever it comes: before there are any, while they import, or once they train."""
    train_for_long(project)
    command = [sys.executable, "-m", "sweep", "run", "small", *GRID, "--processes", "2", "--epochs", "100000"]
    sweep = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=project, start_new_session=True)
    assert sweep.stderr is not None
    sweep.stderr.readline()  # what data there is: from here on signals are heard
    time.sleep(after)
    os.killpg(sweep.pid, signal.SIGINT)
    _, errors = sweep.communicate(timeout=60)
    assert "Traceback" not in errors
    assert sweep.returncode == 130


def test_a_group_that_finds_too_little_memory_is_trained_in_halves(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is that of a machine with enough."""
    (project / "experiments" / "again.toml").write_text(EXPERIMENT)
    expected = trained(capsys, "again")

    def make_step(ops: Any, architecture: Any, trials: Any, **options: Any) -> Any:
        if len(trials.seed) > 1:
            raise MemoryError("no room")
        return REFERENCE.make_step(ops, architecture, trials, **options)

    results, run_stage = list[StageResult](), run.run_stage
    monkeypatch.setattr(run, "run_stage", lambda *given: results.append(run_stage(*given)) or results[-1])
    monkeypatch.setattr(reference, "OPS", replace(REFERENCE, make_step=make_step))
    assert main(["run", "small", *GRID]) == 0
    assert [len(group) for group in results[0].groups] == [1, 1, 1, 1]
    captured = capsys.readouterr()
    found = json.loads(captured.out)["stages"][0]["trials"]
    for one, other in zip(expected, found, strict=True):
        assert {k: v for k, v in one.items() if k != "run_id"} == {k: v for k, v in other.items() if k != "run_id"}
    assert captured.err.count("memory ran out with 2 trials: in halves") == 2
    killed = [run for run in runs("trial") if run.status == "KILLED"]
    assert {run.tags["reason"] for run in killed} == {"memory ran out: trained in a smaller group"}


def test_a_trial_that_does_not_fit_by_itself_ends_the_sweep(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_step(*arguments: Any, **options: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(reference, "OPS", replace(REFERENCE, make_step=make_step))
    assert main(["run", "small", *GRID]) == 1
    assert "error: out of memory: no room" in capsys.readouterr().err
