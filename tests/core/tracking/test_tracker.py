"""Runs in the real MLflow: what is written is what is read."""

from __future__ import annotations

import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from core.errors import InputError
from core.tracking.entities import DatasetInfo
from core.tracking.errors import reason
from core.tracking.tracker import Tracker
from sweep.commands.mlflow_page import serve


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
    (run,) = tracker.lookup.runs(experiment, kind="trial")
    assert (run.run_id, run.name, run.status, run.experiment) == (run_id, "trial 1", "RUNNING", "first")
    assert run.params == {"lr": "0.1", "filters": "3x4"}
    assert run.tags["mlflow.parentRunId"] == parent
    for epoch in (1, 2):
        tracker.log_steps(run_id, [(epoch, 5.0, {"loss": 1 / epoch, "bad": math.nan, "worse": math.inf})])
    for status in ("KILLED", "FAILED", "FINISHED"):
        tracker.finish(run_id, status)
        (run,) = tracker.lookup.runs(experiment, kind="trial")
        assert run.status == status
    assert run.metrics == {"loss": 0.5}
    tracker.update(run_id, status="RUNNING", name="renamed")
    assert (tracker.lookup.find(run_id).status, tracker.lookup.find(run_id).name) == ("RUNNING", "renamed")
    tracker.remove_tags(run_id, ["kind"])
    assert "kind" not in tracker.lookup.find(run_id).tags
    stored = tracker.store.client.get_run(run_id).inputs.dataset_inputs[0]
    assert (stored.dataset.digest, stored.dataset.source) == (("ab" * 32)[:36], "scikit-learn")


def test_a_run_that_goes_on_has_no_end(tracker: Tracker) -> None:
    run_id = tracker.start(tracker.experiment("first"), "run")
    tracker.finish(run_id, "KILLED")
    assert tracker.store.client.get_run(run_id).info.end_time > 0
    tracker.update(run_id, name="renamed")
    assert tracker.store.client.get_run(run_id).info.end_time > 0
    tracker.update(run_id, status="RUNNING")
    info = tracker.store.client.get_run(run_id).info
    assert (info.status, info.end_time) == ("RUNNING", None)


def test_the_latest_number_counts_although_the_clock_was_set_back(tracker: Tracker) -> None:
    run_id = tracker.start(tracker.experiment("first"), "run")
    tracker.log_steps(run_id, [(0, time.time() + 86_400, {"a": 0.75, "b": 0.25})])
    for value in (0.5, 0.25, 0.125):
        tracker.log_metrics(run_id, {"a": value, "c": value})
        assert tracker.lookup.find(run_id).metrics == {"a": value, "b": 0.25, "c": value}
    (told,) = (
        point.timestamp / 1000 for point in tracker.store.client.get_metric_history(run_id, "c") if point.value == 0.5
    )
    assert told == pytest.approx(time.time(), abs=60)  # the time it is, where nothing says otherwise


def test_a_name_is_cut_to_what_databases_keep(tracker: Tracker) -> None:
    run_id = tracker.start(tracker.experiment("first"), "a" * 251)
    assert tracker.lookup.find(run_id).name == "a" * 250
    tracker.update(run_id, name="b" * 300)
    assert tracker.lookup.find(run_id).name == "b" * 250


def test_many_steps_are_logged_together(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.tracking.store.PAGE", 2)
    run_id = tracker.start(tracker.experiment("first"), "trial 1")
    tracker.log_steps(run_id, [(epoch, epoch + 0.5, {"loss": 1 / epoch, "accuracy": 0.5}) for epoch in (1, 2, 3)])
    points = tracker.store.client.get_metric_history(run_id, "loss")
    assert [(point.step, point.timestamp, point.value) for point in points] == [
        (1, 1500, 1.0),
        (2, 2500, 0.5),
        (3, 3500, 1 / 3),
    ]
    assert len(tracker.store.client.get_metric_history(run_id, "accuracy")) == 3


def test_an_experiment_is_made_once_and_stays_deleted(tracker: Tracker) -> None:
    experiment = tracker.experiment('it\'s "100%"_first')
    for other in ('it\'s "100%"_first-2a', 'it\'s "1000"_first', "first"):
        tracker.experiment(other)
    assert tracker.experiment('it\'s "100%"_first') == experiment
    tracker.store.client.delete_experiment(experiment)
    for asked in (tracker.experiment, tracker.lookup.experiment_id):
        with pytest.raises(InputError, match=f"deleted in MLflow, .* mlflow experiments restore -x {experiment}`"):
            asked('it\'s "100%"_first')
    anew = tracker.experiment('it\'s "100%"_first', anew=True)
    assert tracker.lookup.experiment_name(anew) == 'it\'s "100%"_first-2'
    assert tracker.experiment('it\'s "100%"_first') == anew
    assert tracker.store.client.get_experiment(experiment).lifecycle_stage == "deleted"


def test_more_runs_than_a_page(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.tracking.store.PAGE", 2)
    experiment = tracker.experiment("first")
    started = [tracker.start(experiment, f"run {k}", tags={"kind": "trial"}) for k in range(5)]
    assert [run.run_id for run in tracker.lookup.runs(experiment, kind="trial")] == started


def test_tags_with_quotes_in_them(tracker: Tracker) -> None:
    experiment = tracker.experiment("first")
    for value in ("it's", 'a "quoted" one', "plain"):
        run_id = tracker.start(experiment, "run", tags={"note": value})
        assert [run.run_id for run in tracker.lookup.runs(experiment, note=value)] == [run_id]


def test_a_run_is_found_among_more_experiments_than_a_page(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.tracking.store.PAGE", 2)
    for run_id in [tracker.start(tracker.experiment(f"e{k}"), "run") for k in range(5)]:
        assert tracker.lookup.find(run_id).run_id == run_id


def test_a_run_is_found_by_the_beginning_of_its_id(tracker: Tracker) -> None:
    first, second = tracker.experiment("first"), tracker.experiment("second")
    ids = [tracker.start(e, f"run {k}") for k in range(10) for e in (first, second)]
    for run_id in ids:
        assert tracker.lookup.find(run_id).run_id == run_id
        assert tracker.lookup.find(run_id[:12]).run_id == run_id
    shared = next(c for c in "0123456789abcdef" if sum(run_id.startswith(c) for run_id in ids) > 1)
    with pytest.raises(InputError, match=f'run ids begin with "{shared}"'):
        tracker.lookup.find(shared)
    with pytest.raises(InputError, match="no run id begins"):
        tracker.lookup.find("0" * 32)
    for bad in ("", "xyz", "a" * 33, "' OR 1=1", "../../etc"):
        with pytest.raises(InputError, match="hexadecimal"):
            tracker.lookup.find(bad)


def test_beside_a_damaged_list_of_checksums_new_files_can_be_written_and_old_ones_are_refused(
    tracker: Tracker, project: Path
) -> None:
    run_id = tracker.start(tracker.experiment("first"), "run")
    for name in ("old.txt", "replaced.txt"):
        tracker.artifacts.log_text(run_id, "hello", name)
    (sums,) = project.glob("mlruns/*/*/artifacts/SHA256SUMS")
    sums.write_bytes(sums.read_bytes()[:14])
    for name in ("replaced.txt", "new.txt"):
        tracker.artifacts.log_text(run_id, "again", name)
        assert tracker.artifacts.path(tracker.lookup.find(run_id), name).read_text() == "again"
    with pytest.raises(InputError, match=r"old\.txt is damaged: it is missing in SHA256SUMS"):
        tracker.artifacts.path(tracker.lookup.find(run_id), "old.txt")


def test_artifacts_are_found_in_place_and_after_the_folder_moved(tracker: Tracker, project: Path, monkeypatch) -> None:
    experiment = tracker.experiment("an experiment")
    run_id = tracker.start(experiment, "run")
    tracker.artifacts.log_text(run_id, "hello", "note.txt")
    (project / "files").mkdir()
    (project / "files" / "a.csv").write_text("1,2")
    tracker.artifacts.log_files(run_id, project / "files", "below")
    run = tracker.lookup.find(run_id)
    assert tracker.artifacts.path(run, "note.txt").read_text() == "hello"
    assert tracker.artifacts.path(run, "below/a.csv").read_text() == "1,2"
    assert tracker.artifacts.names(run, "below") == ["below/a.csv"]
    assert tracker.artifacts.names(run, "nowhere") == []
    assert tracker.artifacts.path(run, "note.txt").is_relative_to(project / "mlruns" / "an experiment")
    with pytest.raises(InputError, match=r"\(run, RUNNING\) has no model\.npz"):
        tracker.artifacts.path(run, "model.npz")

    there = move(project, monkeypatch)
    tracker = Tracker()
    assert tracker.artifacts.path(tracker.lookup.find(run_id), "note.txt").read_text() == "hello"
    assert tracker.lookup.find(run_id).artifact_uri == (there / f"mlruns/an experiment/{run_id}/artifacts").as_uri()
    later = tracker.start(tracker.experiment("an experiment"), "later")
    assert tracker.lookup.find(later).artifact_uri == (there / f"mlruns/an experiment/{later}/artifacts").as_uri()


def move(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rename the project's folder; a blank and a percent sign are written differently in addresses."""
    there = project.with_name(f"{project.name} mo%ved")
    project.rename(there)
    monkeypatch.setenv("SWEEP_ROOT", str(there))
    monkeypatch.chdir(there)
    return there


def test_after_a_move_mlflows_page_finds_artifacts(
    tracker: Tracker, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = tracker.start(tracker.experiment("first"), "run")
    tracker.artifacts.log_text(run_id, "hello", "note.txt")
    there = move(project, monkeypatch)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(os, "execv", lambda *command: None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve(port)
    with closing(sqlite3.connect(there / "mlflow.db")) as database:
        ((address,),) = database.execute("SELECT artifact_uri FROM runs")
    assert address == (there / f"mlruns/first/{run_id}/artifacts").as_uri()


def test_after_a_move_a_database_that_cannot_be_written_is_still_read(
    tracker: Tracker, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = tracker.start(tracker.experiment("first"), "run")
    tracker.artifacts.log_text(run_id, "hello", "note.txt")
    with closing(sqlite3.connect(project / "mlflow.db")) as database, database:
        database.execute("CREATE TRIGGER refusing BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'no'); END")
    was = tracker.lookup.find(run_id).artifact_uri
    move(project, monkeypatch)
    tracker = Tracker()
    assert tracker.lookup.find(run_id).artifact_uri == was
    assert tracker.artifacts.path(tracker.lookup.find(run_id), "note.txt").read_text() == "hello"


def test_a_copy_is_its_own_and_leaves_the_original_alone(
    tracker: Tracker, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = tracker.start(tracker.experiment("first"), "run")
    tracker.artifacts.log_text(run_id, "hello", "note.txt")
    copy = project.with_name(f"{project.name}-copy")
    shutil.copytree(project, copy)
    monkeypatch.setenv("SWEEP_ROOT", str(copy))
    there = Tracker()
    assert there.lookup.find(run_id).artifact_uri.startswith(copy.as_uri())
    assert Tracker(f"sqlite:///{project}/mlflow.db").lookup.find(run_id).artifact_uri.startswith(f"{project.as_uri()}/")
    monkeypatch.setenv("SWEEP_ROOT", str(project))
    assert Tracker().lookup.find(run_id).artifact_uri.startswith(f"{project.as_uri()}/")


def test_a_shared_database_follows_only_what_is_no_longer_where_it_was(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = project.with_name(f"{project.name}-shared.db")
    shutil.move(project / "mlflow.db", shared)
    uri = f"sqlite:///{shared}"
    runs = []
    for name, folder in (("moved", project / "a"), ("stays", project / "b")):
        folder.mkdir()
        monkeypatch.setenv("SWEEP_ROOT", str(folder))
        tracker = Tracker(uri)
        runs.append(tracker.start(tracker.experiment(name), "run"))
        tracker.artifacts.log_text(runs[-1], name, "note.txt")
    shutil.copytree(project / "b/mlruns/stays", project / "a/mlruns/stays")
    (project / "a").rename(project / "c")
    monkeypatch.setenv("SWEEP_ROOT", str(project / "c"))
    tracker = Tracker(uri)
    found = [tracker.artifacts.path(tracker.lookup.find(run_id), "note.txt") for run_id in runs]
    assert [path.read_text() for path in found] == ["moved", "stays"]
    assert [path.relative_to(project).parts[0] for path in found] == ["c", "b"]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:9", "Connection refused"),
        ("http://[::1", "Invalid IPv6"),
        ("nonsense://x", "must be sqlite:///FILE"),
        ("./mlruns", "must be sqlite:///FILE"),
        ("mysql+nodriver://127.0.0.1/x", "nodriver"),
        ("mssql+pymssql://127.0.0.1:9/x", "cannot be used"),  # its driver is not installed
        ("sqlite:////proc/none/x.db", "in a folder that there is"),
        ("sqlite:///", "must be sqlite:///FILE"),
        ("sqlite:///:memory:", "must be sqlite:///FILE"),
        ("sqlite:///.", "unable to open"),
        ("sqlite:///broken.db", "not a database"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused_at_once(project: Path, capfd, uri: str, reason: str) -> None:
    (project / "broken.db").write_bytes(b"this is no database" * 100)
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        Tracker(uri)
    assert time.monotonic() - start < 15
    assert uri in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_password_in_an_address_is_not_shown(project: Path) -> None:
    for scheme in ("http", "mysql+nodriver", "nonsense"):
        with pytest.raises(InputError, match="127") as caught:
            Tracker(f"{scheme}://me:se@cret@127.0.0.1:9/x")
        assert "cret" not in str(caught.value)
    error = MlflowException("API request to http://me:se@cret@127.0.0.1:9/api failed: no answer, mail me@x")
    assert reason(error) == "API request to http://127.0.0.1:9/api failed: no answer, mail me@x"


def test_an_error_of_the_database_is_one_line(tracker: Tracker, project: Path, capfd) -> None:
    run_id = tracker.start(tracker.experiment("first"), "run")
    with closing(sqlite3.connect(project / "mlflow.db")) as database:
        database.execute("DROP TABLE metrics")
    with pytest.raises(InputError, match=f"^run {run_id} cannot be used: no such table: metrics$"):
        tracker.log_metrics(run_id, {"loss": 1.0})
    assert capfd.readouterr() == ("", "")


def test_two_that_make_the_store_together_after_one_was_killed(project: Path) -> None:
    (project / "mlflow.db").unlink()
    with closing(sqlite3.connect(project / ".mlflow.db.new")) as half_made:
        half_made.execute("CREATE TABLE secrets (id)")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    code = "import sys; from core.tracking.tracker import Tracker; Tracker().experiment(sys.argv[1])"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, name], env=environment, stderr=subprocess.PIPE)
        for name in ("first", "second")
    ]
    for process in processes:
        assert process.communicate(timeout=60) == (None, b"")
        assert process.returncode == 0
    with closing(sqlite3.connect(project / "mlflow.db")) as database:
        names = {name for (name,) in database.execute("SELECT name FROM experiments")}
    assert names == {"Default", "first", "second"}
    assert not list(project.glob(".mlflow.db*"))


def test_the_address_comes_from_the_flag_or_the_environment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Tracker().store.uri == f"sqlite:///{project / 'mlflow.db'}"
    os.rename(project / "mlflow.db", project / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/other.db")
    assert Tracker().store.uri.endswith("other.db")
    assert not (project / "mlflow.db").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert Tracker(f"sqlite:///{project}/other.db").store.uri.endswith("other.db")


def test_artifacts_that_cannot_be_written(tracker: Tracker, project: Path) -> None:
    run_id = tracker.start(tracker.experiment("first"), "run")
    (project / "mlruns").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="artifacts of run"):
        tracker.artifacts.log_text(run_id, "hello", "note.txt")
