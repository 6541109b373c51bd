"""Sweeps that an earlier version has left (see stored_sweeps/make.py) are gone on with, read, verified and served."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.evaluate.__main__ import main as evaluate
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.project.stored_sweeps.make import MODELS, PREDICT, machine, recorded
from tests.sweep.stages.test_going_on import trained

PACKED = Path(__file__).with_name("stored_sweeps") / "sweeps.tar.xz"


@pytest.fixture
def expected(project: Path) -> dict[str, Any]:
    """The sweeps are in the project; returns what the version that made them says of them."""
    with tarfile.open(PACKED) as packed:
        packed.extractall(project, filter="data")
    (project / "mlflow.db").unlink()
    with closing(sqlite3.connect(project / "mlflow.db")) as database:
        database.executescript((project / "mlflow.sql").read_text())
    told: dict[str, Any] = json.loads((project / "expected.json").read_text())
    return told


def run(experiment: str, capsys: pytest.CaptureFixture[str], status: int = 0) -> tuple[dict[str, Any], list[str]]:
    """Its stages, by name, and the epochs that were trained: see test_going_on."""
    assert main(["run", experiment, "--json"]) == status
    said = capsys.readouterr()
    stages = {stage["stage"]: stage for stage in json.loads(said.out)["stages"]}
    return stages, trained(subprocess.CompletedProcess([], status, said.out, said.err))


def test_one_that_is_done_is_read_and_nothing_is_trained(project: Path, expected, capsys) -> None:
    assert main(["doctor", "done"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    stages, epochs = run("done", capsys, 3)
    assert epochs == []
    assert {name: stage["trained"] for name, stage in stages.items()} == {"grid": 0, "fine": 0, "pruned": 0}
    outcomes = sorted(trial["outcome"] for trial in expected["done"].values())
    assert outcomes == ["failed", *["finished"] * 7, "pruned", "pruned"]
    assert recorded(project, "done") == expected["done"]
    assert main(["report", "done"]) == 0
    page = Path(capsys.readouterr().out.strip().splitlines()[-1]).read_text()
    assert all(stage["winner"]["trial"] in page for stage in stages.values())


def test_its_trials_are_evaluated_and_trained_again_to_the_same(expected, capsys) -> None:
    assert len(expected["evaluated"]) == 9
    for run_id, line in expected["evaluated"].items():  # of the one that diverged there is no model
        assert evaluate(["--run-id", run_id]) == 0
        told = [re.search(r"accuracy ([\d.]+).* loss ([\d.]+)", said) for said in (line, capsys.readouterr().out)]
        assert told[0]
        assert told[1]
        assert told[0].groups() == told[1].groups()
    for run_id in expected["evaluated"]:
        status = main(["verify", run_id])
        said = capsys.readouterr().out
        if expected["machine"] == machine():
            assert (status, "equal, bit for bit" in said) == (0, True)
        else:  # which may round otherwise
            rows = re.findall(r"^ +\d+ +([\d.]+) +([\d.]+)$", said, re.MULTILINE)
            np.testing.assert_allclose(*np.array(rows, float).T, atol=0.05)


@pytest.mark.slow("starts a process with MLflow alone")
@pytest.mark.parametrize("imported", ["", "core.training.loop"])
def test_its_registered_models_answer(project: Path, expected, imported: str) -> None:
    """In a process that knows nothing of us, and beside this version of core."""
    Tracker()  # which lets the records follow the project to its new folder
    known = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SWEEP_ROOT")}
    known |= {"MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    code = f"import {imported}\n{PREDICT}" if imported else PREDICT
    command = [sys.executable, "-P", "-c", code, *MODELS]
    done = subprocess.run(command, cwd=project, env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers.keys() == expected["predicted"].keys() == set(MODELS)
    for model, answer in answers.items():
        np.testing.assert_allclose(answer, expected["predicted"][model], atol=1e-6)


def test_one_that_was_killed_goes_on_and_trains_nothing_twice(project: Path, expected, capsys) -> None:
    assert recorded(project, "killed") == expected["killed"]
    stages, epochs = run("killed", capsys)
    assert epochs == ["4/5: 2 trials", "5/5: 2 trials", *["1/2: 2 trials", "2/2: 2 trials"] * 2]
    assert {name: stage["trained"] for name, stage in stages.items()} == {"grid": 2, "fine": 4}
    check_ended(recorded(project, "killed"), expected)
    stages, epochs = run("killed", capsys)
    assert (epochs, [stage["trained"] for stage in stages.values()]) == ([], [0, 0])
    assert main(["doctor", "killed"]) == 0
    assert not list(project.glob("mlruns/killed-*/training/*"))


def check_ended(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """All trials ended as with the version that began them; on another machine, within what it rounds otherwise."""
    begun, ended = expected["killed"], expected["ended"]
    same_bits = expected["machine"] == machine()
    assert len(found) == len(ended) == 8
    for key, trial in begun.items():  # the same runs go on, and keep what they had
        assert found[key]["run_id"] == trial["run_id"]
        for name, steps in trial["metrics"].items():
            assert found[key]["metrics"][name][: len(steps)] == steps
    for key in ended if same_bits else begun:
        now, then = found[key], ended[key]
        assert (now["status"], now["outcome"]) == (then["status"], then["outcome"]) == ("FINISHED", "finished")
        if same_bits:
            assert (now["metrics"], now["weights"]) == (then["metrics"], then["weights"])
        for name, steps in then["metrics"].items():  # each epoch once
            assert [epoch for epoch, _ in now["metrics"][name]] == [epoch for epoch, _ in steps]
            np.testing.assert_allclose(now["metrics"][name], steps, rtol=1e-3, atol=0.05)
