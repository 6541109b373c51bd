"""The command line as its users meet it: help, bad input, screens, precedence of settings."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.machine import threads
from core.machine.hardware import available_cores
from sweep.__main__ import main


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that bad input gets."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if not line.startswith("data: ")]
    assert len(errors) == 1, captured.err
    assert errors[0].startswith("error: ")
    return errors[0]


@pytest.mark.parametrize("module", ["sweep", "core.evaluate"])
def test_help_is_instant(module: str) -> None:
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # its processor time: the machine may be busy
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "exit status" in shown.stdout
    assert min(took) < 0.2


def test_help_needs_none_of_the_heavy_modules() -> None:
    code = "import sys, sweep.__main__, core.evaluate; print({'numpy', 'mlflow', 'optuna', 'rich'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_bad_input_gets_one_clear_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 'did you mean "small"' in refused(capsys, "run", "smal")
    assert "there are: grid, dropout" in refused(capsys, "run", "small", "--stage", "grdi")
    assert "epochs is 0" in refused(capsys, "run", "small", "--epochs", "0")
    assert "epochs is 'x'" in refused(capsys, "run", "small", "--epochs", "x")
    assert "seed is -1" in refused(capsys, "run", "small", "--seed", "-1")
    assert 'backend is "tpu"' in refused(capsys, "run", "small", "--backend", "tpu")
    assert 'precision is "half"' in refused(capsys, "run", "small", "--precision", "half")
    assert 'the backend is "cpu": only "gpu" has it' in refused(
        capsys, "run", "small", "--backend", "cpu", "--precision", "tf32"
    )
    assert 'data is "mnist"' in refused(capsys, "run", "small", "--data", "mnist")
    assert "there is no file" in refused(capsys, "run", "small", "--data", "none.npz")
    assert 'no points called "nmaed"' in refused(capsys, "run", "small", "--points", "nmaed")
    assert 'no points called "named" in grid' in refused(capsys, "run", "small", "--stage", "grid", "--points", "named")
    assert "threads is 0: it must be a whole number from 1 to" in refused(capsys, "run", "small", "--threads", "0")
    assert "threads is x" in refused(capsys, "plan", "small", "--threads", "x")
    assert "no MLflow server answers" in refused(capsys, "run", "small", "--tracking-uri", "http://127.0.0.1:9")
    assert "0 of 4 trials" in refused(capsys, "plan", "small", "--stage", "dropout")
    assert not list(project.glob("mlruns/*/optuna.journal"))


def test_a_flag_beats_the_environment_beats_the_file(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(*arguments: str) -> dict:
        assert main(["plan", "small", "--stage", "grid", "--json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    def seconds(*arguments: str) -> float:
        """Estimated for one group: it grows with the epochs."""
        return plan(*arguments)["stages"][0]["groups"][0]["seconds"]

    monkeypatch.setenv("SWEEP_EPOCHS", "zero")
    assert "epochs is 'zero'" in refused(capsys, "plan", "small")
    monkeypatch.setenv("SWEEP_EPOCHS", "300")
    assert seconds() > 10 * seconds("--epochs", "2")
    monkeypatch.delenv("SWEEP_EPOCHS")
    assert seconds("--epochs", "300") > 10 * seconds()
    monkeypatch.setenv("SWEEP_THREADS", "0")
    assert "threads is 0" in refused(capsys, "plan", "small")
    plan("--threads", "1")
    assert threads.count() == 1
    monkeypatch.delenv("SWEEP_THREADS")
    plan()
    assert threads.count() == available_cores()
    monkeypatch.setenv("SWEEP_BACKEND", "tpu")
    assert 'backend is "tpu"' in refused(capsys, "plan", "small")
    plan("--backend", "reference")
    monkeypatch.delenv("SWEEP_BACKEND")
    assert plan()["experiment"].startswith("small-small-")
    monkeypatch.setenv("SWEEP_DATA", "digits")
    assert plan()["experiment"].startswith("small-digits-")
    assert plan("--data", "small.npz")["experiment"].startswith("small-small-")


def test_plan_trains_nothing_and_shows_what_is_done(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "small"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("grid-0") == 4
    groups = captured.out.splitlines()[5:]
    assert [line.split("\t")[:3] for line in groups] == [
        ["network", "trials", "steps an epoch"],
        ["3x4, batch 16", "2", "3"],
        ["2, batch 16", "2", "3"],
    ]
    assert "stage dropout builds on stage grid" in captured.err
    assert not (project / "mlruns").exists()
    assert main(["run", "small", "--stage", "grid", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["plan", "small", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [cell["done"] for cell in stages[0]["cells"]] == [True] * 4
    assert stages[0]["groups"] == []
    (group,) = stages[1]["groups"]
    assert group["trials"] == 3
    assert group["memory"] > 0
    assert group["seconds"] > 0


def test_the_plan_shows_groups_as_memory_allows_them(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.machine.hardware.available_memory", lambda: 0)
    assert main(["plan", "small", "--stage", "grid"]) == 0
    captured = capsys.readouterr()
    rows = [line.split("\t") for line in captured.out.splitlines()[5:]]
    assert [[row[0], row[1], row[-1]] for row in rows] == [
        ["network", "trials", "groups"], ["3x4, batch 16", "1", "2"], ["2, batch 16", "1", "2"],
    ]  # fmt: skip
    notes = [line for line in captured.err.splitlines() if "together would take" in line]
    assert [note.partition(":")[0] for note in notes] == ["3x4, batch 16", "2, batch 16"]


def test_progress_goes_to_stderr_and_the_table_to_stdout(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "small", "--stage", "grid"]) == 0
    captured = capsys.readouterr()
    header, *rows = captured.out.splitlines()
    assert header.split("\t")[:4] == ["rank", "trial", "lr", "filters"]
    assert [row.split("\t")[0] for row in rows] == ["1", "2", "3", "4"]
    assert captured.err.count("epoch ") == 6
    closing = [line.partition(":")[0] for line in captured.err.splitlines()]
    assert {"winner", "sure?", "test it", "go on"} <= set(closing)
    assert "fused" not in closing  # measuring what it saved would have taken longer than the training
    assert "winner:  grid-0" in captured.err
    assert "python -m core.evaluate --run-id" in captured.err
    assert " -m sweep run small --stage dropout" in captured.err.splitlines()[-1]
    assert main(["run", "small", "--stage", "grid"]) == 0
    again = capsys.readouterr().err
    assert "nothing to train, all 4 trials were done before" in again
    assert main(["run", "small", "--stage", "grid", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""


@pytest.mark.slow("starts sweeps in processes of their own")
def test_live_bars_on_a_terminal(project: Path) -> None:
    """Run under a pseudo-terminal, as a user sees it."""
    import pty

    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    command = [sys.executable, "-m", "sweep", "run", "small", "--stage", "grid"]
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "grid: trials" in text
    assert "4/4" in text
    assert "group 2/2" in text
    assert "accuracy" in text
    assert " left, " in text
    assert "images/s" in text
    assert re.search("grid-0[1-4] lr=0.01? .*[\u2581-\u2588]+", text)  # a curve
    assert "…" not in text.rpartition("best first")[2]  # nothing of the table is cut off


def test_a_folder_that_cannot_be_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "mlruns").write_text("a file where the folder should be")
    assert "mlruns" in refused(capsys, "run", "small", "--stage", "grid")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "mlruns").mkdir(mode=0o555)
    assert "cannot be written" in refused(capsys, "run", "small", "--stage", "grid")


def test_the_page_needs_runs_and_a_free_port(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} is taken" in refused(capsys, "ui", "--port", str(port))
    assert "port is 0" in refused(capsys, "ui", "--port", "0")
    monkeypatch.setenv("SWEEP_ROOT", str(project / "elsewhere"))
    assert "nor is there an experiment" in refused(capsys, "ui")
    (project / "elsewhere/experiments").mkdir(parents=True)
    (project / "elsewhere/experiments/other.toml").touch()
    assert "-m sweep run other` makes the first runs" in refused(capsys, "ui")


def test_data_without_a_class_to_learn(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(project / "one.npz", x=np.zeros((9, 4, 4), np.uint8), y=np.zeros(9, int))
    assert "classes" in refused(capsys, "run", "small", "--data", "one.npz")


@pytest.mark.slow("starts sweeps in processes of their own")
def test_without_anywhere_to_write_to_a_sweep_ends_as_ever(project: Path) -> None:
    command = [sys.executable, "-m", "sweep", "run", "small", "--stage", "grid"]
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True)
    assert closed.returncode == 0, closed.stderr
    assert "Traceback" not in closed.stderr
