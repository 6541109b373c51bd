"""What is left behind when a sweep is killed, copied, moved or changed, and that the next one sets it right."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.data import registry as datasets
from core.errors import InputError
from core.network import parameters
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.helpers import forked
from tests.helpers.slow import slow


def sweep(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """The JSON of the grid stage."""
    assert main(["run", "small", "--stage", "grid", "--json", "--quiet", *arguments]) == 0
    return json.loads(capsys.readouterr().out)["stages"][0]


def runs(tracker: Tracker | None = None, **tags: str) -> list[RunInfo]:
    tracker = tracker or Tracker()
    return tracker.lookup.runs(tracker.experiment(f"small-small-{datasets.load('small.npz').sha256[:8]}"), **tags)


def edit(project: Path, old: str, new: str) -> None:
    path = project / "experiments" / "small.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


MOMENTS = {
    "before a run is made": ("sweep.records.trial_runs.TrialRuns.start", "before"),
    "after a run is made": ("sweep.records.trial_runs.TrialRuns.start", "after"),
    "after the results": ("sweep.records.trial_runs.TrialRuns.log_results", "after"),
    "between Optuna's record and its state": ("sweep.records.study.tell_trial", "before"),
    "after Optuna was told": ("sweep.records.study.Study.tell", "after"),
    "after the run was closed": ("sweep.records.trial_runs.TrialRuns.close", "after"),
    "before the stage ends": ("sweep.records.stage_runs.StageRuns.end", "before"),
    "while the stage ends": ("sweep.records.stage_runs.StageRuns._update_trials", "after"),
}
KILLED = """
import importlib, os, sys
name, when = sys.argv[1:]
owner_name, _, attribute = name.rpartition(".")
try:
    owner = importlib.import_module(owner_name)
except ModuleNotFoundError:
    module, _, class_name = owner_name.rpartition(".")
    owner = getattr(importlib.import_module(module), class_name)
function = getattr(owner, attribute)
calls = []
def killing(*arguments, **options):
    calls.append(1)
    last = len(calls) == 2 or ".StageRuns." in name
    if last and when == "before":
        os._exit(9)
    result = function(*arguments, **options)
    if last:
        os._exit(9)
    return result
setattr(owner, attribute, killing)
from sweep.__main__ import main
main(["run", "small", "--stage", "grid", "--quiet"])
"""


QUICK = ["after the results", "between Optuna's record and its state", "while the stage ends"]


@pytest.mark.parametrize("moment", [*QUICK, *slow("kills a sweep and goes on", *sorted(MOMENTS.keys() - QUICK))])
def test_killed_at_any_moment_each_cell_counts_once(project: Path, capsys, moment: str) -> None:
    killed = forked.python(KILLED, *MOMENTS[moment])
    assert killed.returncode == 9, killed.stderr
    grid = sweep(capsys)
    trials, (stage,) = runs(kind="trial"), runs(kind="stage")
    finished = Counter(run.tags["key"] for run in trials if run.status == "FINISHED")
    assert set(finished.values()) == {1}
    assert len(finished) == 4
    assert {run.status for run in trials} <= {"FINISHED", "KILLED"}
    assert {row["run_id"] for row in grid["trials"]} == {run.run_id for run in trials if run.status == "FINISHED"}
    assert (stage.status, stage.tags["winner.run_id"]) == ("FINISHED", grid["winner"]["run_id"])
    assert [run.run_id for run in trials if run.tags.get("winner") == "true"] == [grid["winner"]["run_id"]]
    assert sweep(capsys)["trained"] == 0


@pytest.mark.slow("starts a sweep in a process of its own, and makes MLflow's database twice")
def test_killed_while_the_store_is_made(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "mlflow.db").unlink()
    process = subprocess.Popen([sys.executable, "-m", "sweep", "run", "small", "--stage", "grid"])
    deadline = time.monotonic() + 60
    while not list(project.glob(".mlflow.db.*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)
    process.kill()
    process.wait()
    assert not (project / "mlflow.db").exists()
    assert sweep(capsys)["trained"] == 4


def test_another_folders_sweep_in_the_same_store_is_left_alone(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker()
    sweep(capsys)
    (trial, *_) = runs(kind="trial")
    tracker.update(trial.run_id, status="RUNNING")  # as if it were training now
    other = project / "other"
    other.mkdir()
    shutil.copytree(project / "experiments", other / "experiments")
    monkeypatch.setenv("SWEEP_ROOT", str(other))
    grid = sweep(capsys, "--tracking-uri", tracker.store.uri)
    assert grid["trained"] == 4
    assert tracker.lookup.find(trial.run_id).status == "RUNNING"
    (own,), (others,) = runs(tracker, kind="stage"), tracker.lookup.runs(trial.experiment_id, kind="stage")
    assert own.experiment_id != others.experiment_id


def test_a_copy_of_the_project_leaves_the_original_alone(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(capsys)
    copy = project.with_name(project.name + "-copy")
    shutil.copytree(project, copy)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    monkeypatch.setenv("SWEEP_ROOT", str(copy))
    monkeypatch.chdir(copy)
    edit(copy, "[0.01, 0.1]", "[0.01, 0.1, 0.2]")
    grid = sweep(capsys)
    assert grid["trained"] == 2
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    tracker = Tracker()
    for row in grid["trials"]:
        assert tracker.artifacts.path(tracker.lookup.find(row["run_id"]), "model.npz").is_relative_to(copy)


def test_a_plan_that_changed_is_what_the_stage_tells(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = sweep(capsys)
    edit(project, "lr = [0.01, 0.1]", f"lr = [{first['trials'][3]['lr']}]")
    second = sweep(capsys)
    assert (second["trained"], len(second["trials"])) == (0, 2)
    (stage,) = runs(kind="stage")
    assert stage.tags["winner.run_id"] == second["winner"]["run_id"]
    assert [run.run_id for run in runs(kind="trial", winner="true")] == [second["winner"]["run_id"]]
    assert len(Tracker().artifacts.path(stage, "summary.csv").read_text().splitlines()) == 3
    assert {run.run_id: run.name for run in runs(kind="trial")}[second["winner"]["run_id"]].startswith(
        second["winner"]["trial"]
    )


def test_values_in_another_order_are_the_same_cells(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert forked.python(KILLED, "sweep.records.trial_runs.TrialRuns.close", "after").returncode == 9
    edit(project, "lr = [0.01, 0.1]", "lr = [0.1, 0.01]")
    assert sweep(capsys)["trained"] == 2
    assert len(runs(kind="trial", winner="true")) == 1


def test_each_store_has_its_own_trials(project: Path, capsys: pytest.CaptureFixture[str], empty_store: Path) -> None:
    shutil.copy(empty_store, project / "b.db")
    other = ("--tracking-uri", f"sqlite:///{project}/b.db")
    assert sweep(capsys)["trained"] == 4
    assert sweep(capsys, *other)["trained"] == 4
    assert sweep(capsys)["trained"] == sweep(capsys, *other)["trained"] == 0


def test_a_damaged_journal_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(capsys)
    (journal,) = project.glob("mlruns/*/optuna.journal")
    journal.write_bytes(b"this is no journal\n" + journal.read_bytes())
    assert main(["run", "small", "--stage", "grid"]) == 2
    assert "optuna.journal is damaged" in capsys.readouterr().err
    journal.unlink()
    Path(f"{journal}.lock").touch()
    started = time.monotonic()
    assert main(["run", "small", "--stage", "grid"]) == 2
    assert "optuna.journal has lost the records of 4 trials that are done" in capsys.readouterr().err
    assert main(["doctor", "small", "--fix"]) == 0
    capsys.readouterr()
    assert sweep(capsys)["trained"] == 0
    assert time.monotonic() - started < 25  # Optuna would wait 30 s for the lock of a dead process


def test_names_for_other_classes_are_other_data(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    before = datasets.load("small.npz").sha256
    with np.load("small.npz") as arrays:
        np.savez("small.npz", **arrays, classes=np.array(["a", "b", "c", "d"]))
    assert datasets.load("small.npz").sha256 != before


def test_when_all_trials_of_a_stage_fail_the_sweep_ends_there(project: Path, capsys) -> None:
    edit(project, "[0.01, 0.1]", "[1e30]")
    edit(project, "epochs = 3", "epochs = 3\nclip = 0")
    assert main(["run", "small", "--json", "--quiet"]) == 1
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["winner"] is None
    (run,) = runs(kind="stage")
    assert run.status == "FAILED"


def test_an_error_after_a_trials_outcome_was_kept_does_not_fail_it(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweep.records.trial_runs import TrialRuns

    close, calls = TrialRuns.close, []

    def failing_once(self: TrialRuns, *arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise InputError("the store was away")
        close(self, *arguments)

    monkeypatch.setattr(TrialRuns, "close", failing_once)
    assert main(["run", "small", "--stage", "grid", "--quiet"]) == 2
    assert [run.status for run in runs(kind="trial")] == ["FINISHED", "FAILED"]
    assert sweep(capsys)["trained"] == 3
    capsys.readouterr()


def test_a_stage_whose_ending_broke_off_at_its_last_step_is_ended_by_the_next(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Tracker.finish

    def failing_at_the_stage(tracker: Tracker, run_id: str, status: str) -> None:
        if status == "FINISHED" and tracker.lookup.find(run_id).tags["kind"] == "stage":
            raise InputError("the disk has an error")
        finish(tracker, run_id, status)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "finish", failing_at_the_stage)
        assert main(["run", "small", "--stage", "grid", "--quiet"]) == 2
    (stage,) = runs(kind="stage")
    assert (stage.status, stage.tags["reason"]) == ("FAILED", "InputError: the disk has an error")
    assert sweep(capsys)["trained"] == 0
    (stage,) = runs(kind="stage")
    assert stage.status == "FINISHED"
    assert "reason" not in stage.tags


@pytest.mark.parametrize("seeds", [1, *slow("trains three sweeps, each setting with two seeds", 2)])
def test_a_trial_that_diverged_is_retried_where_the_stage_says_so(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seeds: int
) -> None:
    initial_model = parameters.initial_model

    def poisoned(architecture: Any, trials: Any, *arguments: Any) -> parameters.Model:
        model = initial_model(architecture, trials, *arguments)
        for place, trial in enumerate(trials):
            if (trial.lr, trial.filters, trial.seed) == (0.1, "2", 1):
                model["w1"][place] = np.nan
        return model

    monkeypatch.setattr(parameters, "initial_model", poisoned)
    edit(project, 'sampler = "grid"', f'sampler = "grid"\nseeds = {seeds}')
    assert main(["run", "small", "--stage", "grid", "--json"]) == 3
    without = json.loads(capsys.readouterr().out)["stages"][0]
    assert [row["status"] for row in without["trials"]] == ["finished"] * 3 + ["failed"]
    edit(project, 'sampler = "grid"', 'sampler = "grid"\non_divergence = "retry"')
    assert main(["run", "small", "--stage", "grid", "--json"]) == 0
    output, said = capsys.readouterr()
    retried = json.loads(output)["stages"][0]
    assert retried["trained"] == 1  # the others, and what diverged, are known
    assert {row["status"] for row in retried["trials"]} == {"finished"}
    (again,) = runs(kind="trial", attempt="1")
    assert (again.name, again.params["seed"]) == (f"grid-04{'.1' if seeds == 2 else ''}r1 lr=0.1 2", "10001")
    assert [run.status for run in runs(kind="trial", outcome="failed")] == ["FAILED"]
    assert sweep(capsys)["trained"] == 0
    shutil.copy(project / "experiments/small.toml", project / "experiments/anew.toml")
    assert main(["run", "anew", "--stage", "grid", "--json"]) == 0
    output, said = capsys.readouterr()
    anew = json.loads(output)["stages"][0]
    assert anew["trained"] == 4 * seeds + 1
    assert "1 trials that diverged start again from another seed" in said
    for one, other in zip(anew["trials"], retried["trials"], strict=True):
        assert {k: v for k, v in one.items() if k != "run_id"} == {k: v for k, v in other.items() if k != "run_id"}


def test_a_retry_that_diverges_too_is_the_last(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(project, "[0.01, 0.1]", "[0.01, 1e30]")
    edit(project, "epochs = 3", "epochs = 3\nclip = 0")
    edit(project, 'sampler = "grid"', 'sampler = "grid"\non_divergence = "retry"')
    for trained in (6, 0):
        assert main(["run", "small", "--stage", "grid", "--json", "--quiet"]) == 3
        stage = json.loads(capsys.readouterr().out)["stages"][0]
        assert (stage["trained"], [row["status"] for row in stage["trials"]]) == (
            trained,
            ["finished", "finished", "failed", "failed"],
        )
    assert len(runs(kind="trial", outcome="failed")) == 4
    edit(project, '"retry"', '"again"')
    assert main(["run", "small"]) == 2
    assert "stages.grid.on_divergence is 'again': it must be one of fail, retry" in capsys.readouterr().err
