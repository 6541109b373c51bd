"""A whole sweep on a small data set, with the real Optuna and the real MLflow."""

from __future__ import annotations

import csv
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from core.data import registry as datasets
from core.export.model_npz import load_model
from core.machine.origin import origin
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from sweep.records.trial_runs import TrialRuns
from sweep.search.cell import Cell
from tests.helpers.slow import slow


def result(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict:
    """The JSON that a run of the command line prints."""
    assert main(["run", "small", "--json", "--quiet", *arguments]) == status
    return json.loads(capsys.readouterr().out)


def table(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows."""
    return list(csv.DictReader(path.read_text().splitlines()))


def runs(kind: str, **tags: str) -> list[RunInfo]:
    tracker = Tracker()
    found = datasets.load("small.npz")
    return tracker.lookup.runs(tracker.experiment(f"small-small-{found.sha256[:8]}"), kind=kind, **tags)


def test_both_stages_and_nothing_twice(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = result(capsys, "--stage", "grid")["stages"][0]
    assert grid["trained"] == 4
    assert [row["rank"] for row in grid["trials"]] == [1, 2, 3, 4]
    accuracies = [row["best_val_accuracy"] for row in grid["trials"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert grid["winner"] == grid["trials"][0]

    again = result(capsys, "--stage", "grid")["stages"][0]
    assert again["trained"] == 0
    assert again["trials"] == grid["trials"]
    assert len(runs("trial")) == 4
    assert len(runs("stage")) == 1

    dropout = result(capsys, "--stage", "dropout")["stages"][0]
    assert dropout["trained"] == 3
    best = next(run for run in runs("trial", stage="grid") if run.run_id == grid["winner"]["run_id"])
    for run in runs("trial", stage="dropout"):
        assert {key: run.params[key] for key in ("lr", "filters", "seed")} == {
            key: best.params[key] for key in ("lr", "filters", "seed")
        }

    more = result(capsys, "--stage", "dropout", "--points", "named")["stages"][0]
    assert more["trained"] == 2
    assert {0.0, 0.5} <= {row["dropout"] for row in more["trials"]}
    assert result(capsys, "--stage", "dropout")["stages"][0]["trials"] == more["trials"]  # trained points stay


def test_a_stage_inherits_from_the_winner_that_is_shown_named_points_included(project: Path, capsys) -> None:
    path = project / "experiments" / "small.toml"
    third = '[stages.third]\nsampler = "grid"\nafter = "dropout"\ninherit = ["dropout"]\nspace = { lr = [0.02] }\n'
    text = path.read_text().replace("trials = 3", "trials = 1")
    path.write_text(text.replace("seed = 1", "seed = 4") + third)
    stages = result(capsys, "--points", "named")["stages"]
    (heir,) = runs("trial", stage="third")
    assert stages[1]["winner"]["trial"] != "dropout-01"
    assert float(heir.params["dropout"]) == stages[1]["winner"]["dropout"]


def test_a_trials_run_tells_everything(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = result(capsys, "--stage", "grid")["stages"][0]
    tracker = Tracker()
    (stage,) = runs("stage")
    assert stage.run_id == grid["run_id"]
    assert stage.status == "FINISHED"
    assert stage.tags["winner.run_id"] == grid["winner"]["run_id"]
    summary = table(tracker.artifacts.path(stage, "summary.csv"))
    assert [row["run_id"] for row in summary] == [row["run_id"] for row in grid["trials"]]
    assert tracker.artifacts.path(stage, "summary.md").read_text().count("\n") == 6
    assert tracker.artifacts.path(stage, "small.toml").read_text() == (project / "experiments/small.toml").read_text()

    sha256 = datasets.load("small.npz").sha256
    for run in runs("trial"):
        row = next(row for row in grid["trials"] if row["run_id"] == run.run_id)
        assert run.status == "FINISHED"
        assert run.name.startswith(row["trial"])
        assert run.tags["mlflow.parentRunId"] == stage.run_id
        assert {name: run.tags[name] for name in origin()} == origin()
        assert run.tags["data.sha256"] == sha256
        assert run.tags["winner"] == str(row["rank"] == 1).lower()
        assert {"code", "backend", "device", "precision", "packages", "python"} <= run.tags.keys()
        assert run.params["filters"] == row["filters"]
        assert float(run.params["lr"]) == row["lr"]
        assert run.metrics["best_val_accuracy"] == row["best_val_accuracy"]
        history = table(tracker.artifacts.path(run, "history.csv"))
        assert [int(line["epoch"]) for line in history] == [1, 2, 3]
        assert float(history[row["best_epoch"] - 1]["val_accuracy"]) == row["best_val_accuracy"]
        for name in ("train_loss", "train_accuracy", "val_loss", "learning_rate", "gradient_norm", "epoch_seconds"):
            points = tracker.store.client.get_metric_history(run.run_id, name)
            assert [(p.step, p.value) for p in points] == [(int(h["epoch"]), float(h[name])) for h in history]
        config = json.loads(tracker.artifacts.path(run, "config.json").read_text())
        assert config["settings"]["lr"] == row["lr"]
        assert config["data"]["sha256"] == sha256
        assert load_model(tracker.artifacts.path(run, "model.npz"))["w1"].shape[0] == int(row["filters"].split("x")[0])
        dataset = tracker.store.client.get_run(run.run_id).inputs.dataset_inputs[0].dataset
        assert (dataset.name, dataset.digest) == ("small", sha256[:36])


def test_two_fresh_sweeps_give_the_same_table(project: Path, capsys: pytest.CaptureFixture[str], empty_store) -> None:
    def ranking() -> list[dict]:
        stages = result(capsys)["stages"]
        return [{k: v for k, v in row.items() if k != "run_id"} for stage in stages for row in stage["trials"]]

    first = ranking()
    for path in (project / "mlruns").iterdir():
        path.rename(project / f"old-{path.name}")
    (project / "mlflow.db").write_bytes(empty_store.read_bytes())
    assert ranking() == first
    assert len(first) == 7


def test_stage_two_needs_a_finished_stage_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "small", "--stage", "dropout"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "0 of 4 trials" in error
    assert " -m sweep run small --stage grid" in error


def test_a_grid_that_grew_trains_only_what_is_new_and_ranks_anew(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = result(capsys, "--stage", "grid")["stages"][0]
    path = project / "experiments" / "small.toml"
    path.write_text(path.read_text().replace("[0.01, 0.1]", "[0.01, 0.1, 0.2]"))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 86_400)  # the clock was set back since
    after = result(capsys, "--stage", "grid")["stages"][0]
    ranks = {row["run_id"]: row["rank"] for row in after["trials"]}
    assert any(ranks[row["run_id"]] != row["rank"] for row in before["trials"])
    assert {run.run_id: run.metrics["rank"] for run in runs("trial")} == ranks
    assert (after["trained"], len(after["trials"])) == (2, 6)
    assert after["run_id"] == before["run_id"]
    assert {r["run_id"] for r in before["trials"]} < {r["run_id"] for r in after["trials"]}
    assert sum(run.tags["winner"] == "true" for run in runs("trial")) == 1


@pytest.mark.parametrize("seeds", [1, *slow("trains each setting with two seeds", 2)])
def test_a_stages_name_tells_its_winner_once_it_has_ended(
    project: Path, capsys, monkeypatch: pytest.MonkeyPatch, seeds: int
) -> None:
    path, start_trial, names = project / "experiments" / "small.toml", TrialRuns.start, []

    def spy(self: TrialRuns, cell: Cell, parent: str) -> str:
        names.append(Tracker().lookup.find(parent).name)
        return start_trial(self, cell, parent)

    monkeypatch.setattr(TrialRuns, "start", spy)
    text = path.read_text().replace('sampler = "grid"', f'sampler = "grid"\nseeds = {seeds}')
    for rates in ("[0.01]", "[0.01, 0.1]"):
        path.write_text(text.replace("[0.01, 0.1]", rates))
        winner = result(capsys, "--stage", "grid")["stages"][0]["winner"]
        setting, accuracy = f"lr={winner['lr']} {winner['filters']}", winner["best_val_accuracy"]
        (stage,) = runs("stage")
        assert stage.name == f"grid stage: {winner['trial']} {setting}, {accuracy:.4f}"
        (best,) = runs("trial", winner="true")
        assert best.run_id == winner["run_id"]
        assert re.fullmatch(rf"{winner['trial']}(\.[12])? {setting}", best.name)
    assert names == ["grid stage"] * 4 * seeds
    path.write_text(text.replace("lr = [0.01, 0.1]", "lr = [1e30]"))
    result(capsys, "--stage", "grid", status=1)
    (stage,) = runs("stage")
    assert stage.name == "grid stage"


def test_other_epochs_are_other_trials(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result(capsys, "--stage", "grid")
    shorter = result(capsys, "--stage", "grid", "--epochs", "1")["stages"][0]
    assert shorter["trained"] == 4
    assert {row["epochs"] for row in shorter["trials"]} == {1}
    assert len(runs("stage")) == 2


def test_a_diverging_trial_fails_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = result(capsys, "--stage", "grid")["stages"][0]
    path = project / "experiments" / "small.toml"
    text = (
        path.read_text()
        .replace("[0.01, 0.1]", "[0.01, 0.1, 1e30]")
        .replace("batch_size = 16", "batch_size = 16\nclip = 0")
    )
    path.write_text(text)
    mixed = result(capsys, "--stage", "grid", status=3)["stages"][0]
    assert [row["status"] for row in mixed["trials"]] == ["finished"] * 4 + ["failed"] * 2
    failed = [run for run in runs("trial") if run.status == "FAILED"]
    assert {float(run.params["lr"]) for run in failed} == {1e30}
    assert all("became" in run.tags["reason"] and "in epoch 1" in run.tags["reason"] for run in failed)
    assert result(capsys, "--stage", "grid", status=3)["stages"][0]["trained"] == 0

    path.write_text(text.replace("[0.01, 0.1, 1e30]", "[1e30]"))
    assert result(capsys, "--stage", "grid", status=1)["stages"][0]["winner"] is None
    assert alone["winner"] is not None


def test_parts_of_a_group_train_one_after_another_and_come_out_as_the_whole(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def grid(experiment: str) -> tuple[list[dict], list[str]]:
        command = ["run", experiment, "--stage", "grid", "--json", "--backend", "reference"]
        assert main(command) == 0
        captured = capsys.readouterr()
        rows = json.loads(captured.out)["stages"][0]["trials"]
        return [{k: v for k, v in row.items() if k != "run_id"} for row in rows], captured.err.splitlines()

    path = project / "experiments" / "small.toml"
    path.write_text(path.read_text().replace('"grid"', '"grid"\nseeds = 2', 1))
    path.with_name("again.toml").write_text(path.read_text())
    whole, lines = grid("small")
    assert sum("4 trials" in line for line in lines) == 6
    monkeypatch.setattr("core.machine.hardware.available_memory", lambda: 0)
    in_parts, lines = grid("again")
    assert in_parts == whole
    assert sum("together would take" in line and "in 2 parts" in line for line in lines) == 2
    assert sum("2 trials" in line for line in lines) == 12
    assert sum("group 4/4" in line for line in lines) == 3


def test_a_missing_run_is_trained_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = result(capsys, "--stage", "grid")["stages"][0]
    Tracker().store.client.delete_run(grid["trials"][2]["run_id"])
    again = result(capsys, "--stage", "grid")["stages"][0]
    assert again["trained"] == 1
    assert {row["run_id"] for row in again["trials"]} == {run.run_id for run in runs("trial")}


def start_sweep(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """A sweep in a process of its own, long enough to be stopped in the middle."""
    command = [sys.executable, "-m", "sweep", "run", "small", "--stage", "grid", "--epochs", "100000", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=project)


def wait_for_training(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 2/" in line:
            return
    raise AssertionError("the sweep ended before its second epoch")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), *slow("starts a sweep in a process of its own", (signal.SIGTERM, 143))]
)
def test_a_signal_closes_every_record(project: Path, number: int, status: int) -> None:
    process = start_sweep(project)
    wait_for_training(process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    ended = runs("trial") + runs("stage")
    assert [run.status for run in ended] == ["KILLED"] * 3
    assert {run.tags["reason"] for run in ended} == {f"stopped by {signal.Signals(number).name}"}


def test_after_kill_9_the_same_command_goes_on(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patience = project / "experiments" / "small.toml"
    process = start_sweep(project)
    wait_for_training(process)
    process.kill()
    process.communicate()
    assert {run.status for run in runs("trial")} == {"RUNNING"}
    patience.write_text(patience.read_text().replace("epochs = 3", "epochs = 3\npatience = 1"))
    grid = result(capsys, "--stage", "grid", "--epochs", "4")["stages"][0]
    assert grid["trained"] == 4
    statuses = [run.status for run in runs("trial")]
    assert (statuses.count("KILLED"), statuses.count("FINISHED")) == (2, 4)


@pytest.mark.slow("starts a sweep in a process of its own")
def test_a_second_sweep_at_the_same_time_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start_sweep(project)
    wait_for_training(process)
    try:
        assert main(["run", "small", "--stage", "grid"]) == 2
        error = capsys.readouterr().err
        assert f"is held by process {process.pid} on {socket.gethostname()} since 20" in error
        assert main(["plan", "small", "--stage", "grid"]) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_trial_of_a_group_equals_the_same_trial_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    together = result(capsys, "--stage", "grid")["stages"][0]
    path = project / "experiments" / "small.toml"
    path.write_text(path.read_text().replace("[0.01, 0.1]", "[0.1]").replace('["3x4", "2"]', '["2"]'))
    (project / "experiments" / "alone.toml").write_text(path.read_text())
    assert main(["run", "alone", "--stage", "grid", "--json", "--quiet"]) == 0
    (alone,) = json.loads(capsys.readouterr().out)["stages"][0]["trials"]
    tracker = Tracker()
    same = next(row for row in together["trials"] if (row["lr"], row["filters"]) == (0.1, "2"))
    ours, theirs = (
        load_model(tracker.artifacts.path(tracker.lookup.find(row["run_id"]), "model.npz")) for row in (alone, same)
    )
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
