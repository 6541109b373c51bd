"""Runs in the real MLflow: what is written is what is read."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from core.errors import InputError
from core.tracking import DatasetInfo, Tracker


@pytest.fixture
def tracker(project: Path) -> Tracker:
    return Tracker()


def test_a_run_is_read_as_it_was_written(tracker: Tracker, project: Path) -> None:
    experiment = tracker.experiment("first", {"data.name": "digits"})
    parent = tracker.start(experiment, "stage", tags={"kind": "stage"})
    data = DatasetInfo("digits", "scikit-learn", "ab" * 32)
    run_id = tracker.start(
        experiment, "trial 1", parent=parent, params={"lr": 0.1, "filters": "3x4"}, tags={"kind": "trial"}, dataset=data
    )
    (run,) = tracker.runs(experiment, kind="trial")
    assert (run.run_id, run.name, run.status, run.experiment) == (run_id, "trial 1", "RUNNING", "first")
    assert run.params == {"lr": "0.1", "filters": "3x4"}
    assert run.tags["mlflow.parentRunId"] == parent
    for epoch in (1, 2):
        tracker.log_metrics(run_id, {"loss": 1 / epoch, "bad": math.nan, "worse": math.inf}, step=epoch)
    for status in ("KILLED", "FAILED", "FINISHED"):
        tracker.finish(run_id, status)
        (run,) = tracker.runs(experiment, kind="trial")
        assert run.status == status
    assert run.metrics == {"loss": 0.5}
    tracker.update(run_id, status="RUNNING", name="renamed")
    assert (tracker.find(run_id).status, tracker.find(run_id).name) == ("RUNNING", "renamed")
    tracker.remove_tags(run_id, ["kind"])
    assert "kind" not in tracker.find(run_id).tags
    stored = tracker._client.get_run(run_id).inputs.dataset_inputs[0]
    assert (stored.dataset.digest, stored.dataset.source) == (("ab" * 32)[:36], "scikit-learn")


def test_an_experiment_is_made_once_and_comes_back_when_deleted(tracker: Tracker) -> None:
    experiment = tracker.experiment("first")
    assert tracker.experiment("first") == experiment
    tracker._client.delete_experiment(experiment)
    assert tracker.experiment("first") == experiment
    tracker.start(experiment, "works")


def test_more_runs_than_a_page(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.tracking._PAGE", 2)
    experiment = tracker.experiment("first")
    started = [tracker.start(experiment, f"run {k}", tags={"kind": "trial"}) for k in range(5)]
    assert [run.run_id for run in tracker.runs(experiment, kind="trial")] == started


def test_a_run_is_found_by_the_beginning_of_its_id(tracker: Tracker) -> None:
    first, second = tracker.experiment("first"), tracker.experiment("second")
    ids = [tracker.start(e, f"run {k}") for k in range(10) for e in (first, second)]
    for run_id in ids:
        assert tracker.find(run_id).run_id == run_id
        assert tracker.find(run_id[:12]).run_id == run_id
    shared = next(c for c in "0123456789abcdef" if sum(run_id.startswith(c) for run_id in ids) > 1)
    with pytest.raises(InputError, match=f'run ids begin with "{shared}"'):
        tracker.find(shared)
    with pytest.raises(InputError, match="no run id begins"):
        tracker.find("0" * 32)
    for bad in ("", "xyz", "a" * 33, "' OR 1=1", "../../etc"):
        with pytest.raises(InputError, match="hexadecimal"):
            tracker.find(bad)


def test_artifacts_are_found_in_place_and_after_the_folder_moved(tracker: Tracker, project: Path, monkeypatch) -> None:
    experiment = tracker.experiment("an experiment")
    run_id = tracker.start(experiment, "run")
    tracker.log_text(run_id, "hello", "note.txt")
    (project / "files").mkdir()
    (project / "files" / "a.csv").write_text("1,2")
    tracker.log_files(run_id, project / "files", "below")
    run = tracker.find(run_id)
    assert tracker.artifact(run, "note.txt").read_text() == "hello"
    assert tracker.artifact(run, "below/a.csv").read_text() == "1,2"
    assert tracker.artifact(run, "note.txt").is_relative_to(project / "mlruns" / "an experiment")
    with pytest.raises(InputError, match=r"has no model\.npz"):
        tracker.artifact(run, "model.npz")

    moved = project.with_name(project.name + "-moved")
    project.rename(moved)
    monkeypatch.setenv("SWEEP_ROOT", str(moved))
    monkeypatch.chdir(moved)
    there = Tracker()
    assert there.artifact(there.find(run_id), "note.txt").read_text() == "hello"


def test_stores_that_cannot_be_used(project: Path) -> None:
    (project / "broken.db").write_bytes(b"this is no database" * 100)
    for uri in ("http://127.0.0.1:9", "sqlite:////proc/none/x.db", "nonsense://x", f"sqlite:///{project}/broken.db"):
        with pytest.raises(InputError) as caught:
            Tracker(uri)
        assert uri in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_address_comes_from_the_flag_or_the_environment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Tracker().uri == f"sqlite:///{project / 'mlflow.db'}"
    os.rename(project / "mlflow.db", project / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/other.db")
    assert Tracker().uri.endswith("other.db")
    assert not (project / "mlflow.db").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert Tracker(f"sqlite:///{project}/other.db").uri.endswith("other.db")


def test_artifacts_that_cannot_be_written(tracker: Tracker, project: Path) -> None:
    run_id = tracker.start(tracker.experiment("first"), "run")
    (project / "mlruns").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="artifacts of run"):
        tracker.log_text(run_id, "hello", "note.txt")
