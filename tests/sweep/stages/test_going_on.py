"""A sweep that was killed goes on from the last epoch it kept, with the same runs, and ends as if it had not been."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.helpers import forked
from tests.sweep.stages.test_run import runs

KEPT = """
import os, sys
from core.machine import environment
from core.network import parameters
from core.training import loop
from sweep.executors import checkpointer
from sweep.records import trial_runs
from sweep.stages import epochs as recording
from sweep.__main__ import main

trial_runs._DELAY = 0  # MLflow is told every epoch at once
checkpointer._PAUSE = float(os.environ.get("PAUSE", 0))  # 0: every epoch is kept, as where they are long
environment.code_version = lambda: os.environ.get("CODE", "some code")
when, epochs, train_epoch, record = sys.argv[1], [], loop._Work.train, recording.Epochs.record


def dying_in_an_epoch(*arguments):
    epochs.append(1)
    if len(epochs) == int(when.removeprefix("in epoch ")):
        os._exit(9)
    return train_epoch(*arguments)


def dying_before_the_record(self, group, report):
    if 0 < len(report.ended) < len(group.active):
        os._exit(9)
    record(self, group, report)


def poisoned(architecture, trials, *given):
    model = initial_model(architecture, trials, *given)
    for place, trial in enumerate(trials):
        if trial.seed == 1:
            model["w1"][place] = float("nan")
    return model


initial_model = parameters.initial_model
if os.environ.get("POISON"):
    parameters.initial_model = poisoned
if when.startswith("in epoch"):
    loop._Work.train = dying_in_an_epoch
elif when == "before some ends are recorded":
    recording.Epochs.record = dying_before_the_record
sys.exit(main(["run", "small", "--stage", "grid", "--json", *sys.argv[2:]]))
"""


def start(when: str, status: int = 9, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A sweep that keeps every epoch, and what it said; when: it dies."""
    done = forked.python(KEPT, when, *options, **variables)
    assert done.returncode == status, done.stderr
    return done


def rows(output: str) -> list[dict[str, Any]]:
    (stage,) = json.loads(output)["stages"]
    return [{name: value for name, value in row.items() if name != "run_id"} for row in stage["trials"]]


def trained(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The epochs that it trained, like "5/6: 2 trials"."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("group")]
    return [line.partition(" epoch ")[2].partition(",")[0] for line in lines]


@pytest.fixture
def undisturbed(project: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The ranked trials of an experiment of four, which end after three and after six epochs."""
    path = project / "experiments/small.toml"
    text = path.read_text().replace('filters = ["3x4", "2"]', "epochs = [3, 6]").replace("epochs = 3", "patience = 9")
    for place in (path, path.with_name("other.toml")):
        place.write_text(text)
    assert main(["run", "other", "--stage", "grid", "--json"]) == 0
    return rows(capsys.readouterr().out)


def check(done: subprocess.CompletedProcess[str], undisturbed: list[dict[str, Any]], capsys, count: int = 4) -> None:
    assert rows(done.stdout) == undisturbed
    assert len(runs("trial")) == count
    assert main(["doctor", "small"]) == 0, capsys.readouterr().out
    assert not list(Path("mlruns").glob("small-*/training/*"))


def test_after_a_kill_it_goes_on_from_the_last_epoch(undisturbed, capsys) -> None:
    start("in epoch 3")
    assert {run.status for run in runs("trial")} == {"RUNNING"}
    start("in epoch 1")  # of those that go on
    known = [Tracker().store.client.get_run(run.run_id) for run in (*runs("trial"), *runs("stage"))]
    assert {(run.info.status, run.info.end_time, run.data.tags.get("reason")) for run in known} == {
        ("RUNNING", None, None)
    }
    done = start("never", 0)
    assert "4 trials that were stopped after epoch 2 go on from there" in done.stderr
    assert trained(done) == ["3/6: 4 trials", "4/6: 2 trials", "5/6: 2 trials", "6/6: 2 trials"]
    ended = (*runs("trial"), *runs("stage"))
    assert {(run.status, run.tags.get("reason")) for run in ended} == {("FINISHED", None)}
    check(done, undisturbed, capsys)


def test_what_ended_unrecorded_is_told_once_and_the_rest_stays_kept(undisturbed, capsys) -> None:
    start("before some ends are recorded")
    done = start("in epoch 1")  # of those that go on
    assert "4 trials that were stopped after epoch 3 go on from there" in done.stderr
    done = start("never", 0)
    assert "2 trials that were stopped after epoch 3 go on from there" in done.stderr
    assert trained(done) == ["4/6: 2 trials", "5/6: 2 trials", "6/6: 2 trials"]
    check(done, undisturbed, capsys)


def test_epochs_that_other_code_has_trained_are_not_mixed_with_ours(undisturbed, capsys) -> None:
    start("in epoch 3", PAUSE="1e9")  # only the first is kept; MLflow knows two, as the next start tells it
    first = {run.run_id for run in runs("trial")}
    tracker = Tracker()
    for run_id in first:
        tracker.log_steps(run_id, [(2, 0.0, {"val_loss": 0.5})])  # as the other code had it
    done = start("never", 0, CODE="other code")
    assert "the code has changed since: it was some code, now it is other code" in done.stderr
    assert {run.run_id: run.status for run in runs("trial") if run.run_id in first} == dict.fromkeys(first, "KILLED")
    check(done, undisturbed, capsys, count=8)


def test_epochs_that_the_run_knows_are_not_told_again(undisturbed, capsys) -> None:
    start("in epoch 3", PAUSE="1e9")  # only the first epoch is kept, and two are told
    first = {run.run_id for run in runs("trial")}
    done = start("never", 0)
    assert "4 trials that were stopped after epoch 1 go on from there" in done.stderr
    assert {run.run_id for run in runs("trial")} == first
    check(done, undisturbed, capsys)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_seeds_that_a_kill_has_parted_are_one_setting(project: Path, processes: str, capsys) -> None:
    """One seed has diverged and is tried again while the other goes on."""
    path = project / "experiments/small.toml"
    text = path.read_text().replace('filters = ["3x4", "2"]', 'filters = ["2"]').replace("[0.01, 0.1]", "[0.1]")
    path.write_text(text.replace('sampler = "grid"', 'sampler = "grid"\nseeds = 2\non_divergence = "retry"'))
    start("in epoch 3", POISON="yes")
    done = start("never", 0, "--processes", processes, POISON="yes")
    assert "1 trials that were stopped after epoch 2 go on from there" in done.stderr
    (row,) = rows(done.stdout)
    assert row["status"] == "finished"
    assert sorted(run.params["seed"] for run in runs("trial", outcome="finished")) == ["10001", "2"]
    assert not trained(start("never", 0, POISON="yes"))
    assert main(["doctor", "small"]) == 0, capsys.readouterr().out
