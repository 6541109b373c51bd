"""What is damaged, lost or left behind is found, and mended from what is true; nothing is changed unasked."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from core.data import registry as datasets
from core.errors import InputError
from core.network import parameters
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.conftest import Stages
from tests.helpers import forked
from tests.helpers.slow import slow
from tests.sweep.stages.test_recovery import KILLED, sweep
from tests.sweep.stages.test_run import runs, start_sweep, wait_for_training

Stage = dict[str, Any]


@pytest.fixture
def done(project: Path, swept: Stages) -> Path:
    """A project whose two stages are done."""
    path = project / "small.npz"
    assert known(project)["data"]["sha256"] == datasets.load(str(path)).sha256
    return project


def known(project: Path) -> dict[str, Any]:
    """What the experiment's folder tells of itself."""
    told: dict[str, Any] = json.loads(next(project.glob("mlruns/*/sweep.json")).read_text())
    return told


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["doctor", "small", *arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return status, captured.out


def without_ids(stages: list[Stage]) -> list[list[Stage]]:
    return [[{key: v for key, v in row.items() if key != "run_id"} for row in stage["trials"]] for stage in stages]


def mended(project: Path, capsys: pytest.CaptureFixture[str], again: int) -> None:
    """All is as it was before, after so many trials were trained again."""
    before = json.loads((project / "results.json").read_text())["stages"]
    assert main(["run", "small", "--json", "--quiet"]) == 0
    after = json.loads(capsys.readouterr().out)["stages"]
    assert without_ids(after) == without_ids(before)
    assert sum(stage["trained"] for stage in after) == again
    assert doctor(capsys) == (0, f"{next(project.glob('mlruns/*/sweep.json')).parent.name}: nothing is wrong\n")
    ids = {row["run_id"] for stage in after for row in stage["trials"]}
    assert ids == {run.run_id for run in runs("trial") if run.status == "FINISHED"}
    tracker = Tracker()
    for run_id in ids:
        run = tracker.lookup.find(run_id)
        steps = [step for name, step in tracker.lookup.metrics(run_id, ["val_loss"])]
        assert steps == list(range(1, len(tracker.artifacts.history(run)) + 1))
        assert tracker.artifacts.path(run, "model.npz").is_file()


def experiment(project: Path) -> str:
    return next(project.glob("mlruns/*/sweep.json")).parent.name


def everything(project: Path) -> dict[str, bytes]:
    """The bytes of all files; of a database that SQLite can read, what it has: opening one makes files beside it."""
    files = (path for path in project.rglob("*") if path.is_file() and ".db-" not in path.name)
    return {str(path): dump(path) or path.read_bytes() for path in files if path.name != "sweep.lock"}


def dump(path: Path) -> bytes:
    """A database as SQL; nothing of what is none, or is damaged."""
    if path.suffix != ".db":
        return b""
    try:
        with closing(sqlite3.connect(path)) as database:
            return "\n".join(database.iterdump()).encode()
    except sqlite3.DatabaseError:
        return b""


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def artifacts(project: Path, kind: str = "trial") -> Path:
    """Those of the first trial of the grid, or of its stage."""
    run = next(run for run in runs(kind) if run.tags["stage"] == "grid")
    return project / "mlruns" / experiment(project) / run.run_id / "artifacts"


def lose_the_database(project: Path) -> None:
    (project / "mlflow.db").unlink()


def tear_the_database(project: Path) -> None:
    content = (project / "mlflow.db").read_bytes()
    (project / "mlflow.db").write_bytes(content[: len(content) // 2])


def change_a_metric(project: Path) -> None:
    run_id = artifacts(project).parent.name
    with sqlite3.connect(project / "mlflow.db") as database:
        changed = database.execute(
            "UPDATE metrics SET value = value * 1.001 WHERE run_uuid = ? AND key = 'val_loss' AND step = 2", [run_id]
        )
        assert changed.rowcount == 1


def repeat_an_epoch(project: Path) -> None:
    tracker, run_id = Tracker(), artifacts(project).parent.name
    tracker.log_steps(run_id, [(2, time.time() + 5, {"val_accuracy": 0.125})])


def change_a_tag(project: Path) -> None:
    Tracker().set_tags(artifacts(project).parent.name, {"outcome": "cut"})


def damage_a_model(project: Path) -> None:
    flip(artifacts(project) / "model.npz", 300)


def cut_a_history(project: Path) -> None:
    path = artifacts(project) / "history.csv"
    path.write_bytes(path.read_bytes()[:-20])


def lose_a_config(project: Path) -> None:
    (artifacts(project) / "config.json").unlink()


def damage_the_sums(project: Path) -> None:
    flip(artifacts(project) / "SHA256SUMS", 5)


def damage_the_journal(project: Path) -> None:
    (path,) = project.glob("mlruns/*/optuna.journal")
    lines = path.read_bytes().splitlines(keepends=True)
    flip(path, sum(map(len, lines[:20])) + 30)


def lose_the_journal(project: Path) -> None:
    next(project.glob("mlruns/*/optuna.journal")).unlink()


def cut_the_journal(project: Path) -> None:
    """At the end of a line, so that what is left looks whole."""
    (path,) = project.glob("mlruns/*/optuna.journal")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 3]))


def tear_the_journal(project: Path) -> None:
    with next(project.glob("mlruns/*/optuna.journal")).open("ab") as file:
        file.write(b'{"op_code": 4, "wor')


def damage_the_owner(project: Path) -> None:
    flip(next(project.glob("mlruns/*/sweep.json")), 20)


def damage_the_summary(project: Path) -> None:
    flip(artifacts(project, "stage") / "summary.csv", 100)


def leave_a_run_open(project: Path) -> None:
    Tracker().update(artifacts(project).parent.name, status="RUNNING")


def leave_a_torn_group(project: Path) -> None:
    folder = next(project.glob("mlruns/*/sweep.json")).parent / "training"
    folder.mkdir(exist_ok=True)
    (folder / "grid-0123456789abcdef.group").write_bytes(b"fused-sweep training 1 abc\nsome")


def leave_half_a_file(project: Path) -> None:
    (artifacts(project) / ".model.npz.999999999.unfinished").write_bytes(b"PK")


def swap_the_files_of_two_stages(project: Path) -> None:
    one, other = (
        artifacts(project),
        project / "mlruns" / experiment(project) / runs("trial", stage="dropout")[0].run_id / "artifacts",
    )
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def copy_the_files_of_another(project: Path) -> None:
    shutil.rmtree(artifacts(project))
    other = next(path for path in project.glob("mlruns/*/*/artifacts") if (path / "model.npz").exists())
    shutil.copytree(other, artifacts(project))


def lose_the_sums_and_flip_a_bit(project: Path) -> None:
    (artifacts(project) / "SHA256SUMS").unlink()
    flip(artifacts(project) / "model.npz", 300)


def lose_the_database_and_the_journal(project: Path) -> None:
    lose_the_database(project)
    lose_the_journal(project)


def lose_all_records(project: Path) -> None:
    lose_the_database_and_the_journal(project)
    lose_the_owner(project)


def lose_the_journal_and_swap_files(project: Path) -> None:
    swap_the_files_of_two_stages(project)
    lose_the_journal(project)


def lose_the_owner(project: Path) -> None:
    next(project.glob("mlruns/*/sweep.json")).unlink()


def write_an_owner_by_hand(project: Path) -> None:
    next(project.glob("mlruns/*/sweep.json")).write_text('{"owner": "me"}')


def damage_a_picture(project: Path) -> None:
    run, folder = Tracker().lookup.find(artifacts(project).parent.name), project / "figures"
    folder.mkdir()
    (folder / "some.png").write_bytes(b"as it was drawn")
    Tracker().artifacts.log_files(run.run_id, folder, "figures")
    shutil.rmtree(folder)
    flip(artifacts(project) / "figures/some.png", 3)


def forget_the_database() -> None:
    """Close what MLflow keeps open of it in this process."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Runs

    for store in (Registry, Runs):
        for engine in store._engine_map.values():
            engine.dispose()


@pytest.mark.parametrize(
    ("harm", "told", "again"),
    [
        (lose_the_database, "there is no ", 0),
        (change_a_metric, "differs in MLflow: val_loss of epoch 2", 0),
        (damage_a_model, "model.npz is damaged: its SHA-256 differs", 1),
        (lose_the_journal, "Optuna's journal has no record of grid-01 lr=0.01 3x4", 0),
        (damage_the_owner, "sweep.json is damaged: ", 0),
        (leave_a_run_open, "was left open by a process that ended", 0),
        (swap_the_files_of_two_stages, "artifacts holds the files of another trial, ", 2),
        (lose_the_sums_and_flip_a_bit, "SHA256SUMS is missing", 1),
        *slow(
            "looks, mends and looks again",
            (tear_the_database, "mlflow.db is damaged: ", 0),
            (repeat_an_epoch, "differs in MLflow: val_accuracy of epoch 2", 0),
            (change_a_tag, "differs in MLflow: outcome", 0),
            (cut_a_history, "history.csv is damaged: its SHA-256 differs", 1),
            (lose_a_config, "config.json is missing", 1),
            (damage_the_sums, "is damaged: ", 1),
            (damage_the_journal, "optuna.journal is damaged: its SHA-256 differs", 0),
            (cut_the_journal, "Optuna's journal has no record of grid-04 lr=0.1 2", 0),
            (tear_the_journal, "the last line of ", 0),
            (damage_the_summary, "summary.csv is damaged: its SHA-256 differs", 0),
            (leave_a_torn_group, "grid-0123456789abcdef.group is damaged", 0),
            (copy_the_files_of_another, "artifacts holds the files of another trial, ", 1),
            (lose_the_database_and_the_journal, "there is no ", 0),
            (lose_all_records, "there is no ", 0),
            (lose_the_journal_and_swap_files, "artifacts holds the files of another trial, ", 1),
            (lose_the_owner, "does not tell whose it is", 0),
            (write_an_owner_by_hand, "sweep.json is damaged: its SHA-256 is missing", 0),
            (damage_a_picture, "artifacts/figures: damaged: some.png", 0),
            (leave_half_a_file, ".model.npz.999999999.unfinished was being written by a process that was killed", 0),
        ),
    ],
)
def test_harm_is_found_and_mended(done: Path, capsys, harm: Callable[[Path], None], told: str, again: int) -> None:
    assert doctor(capsys)[0] == 0
    harm(done)
    before = everything(done)
    status, said = doctor(capsys)
    assert status == 1
    assert told in said
    assert re.search("next: .* -m sweep doctor small --fix", said)
    assert everything(done) == before
    forget_the_database()
    assert doctor(capsys, "--fix")[0] == 0
    forget_the_database()
    mended(done, capsys, again)


def test_a_run_that_is_made_anew_tells_who_trained_it_with_what(done: Path, capsys, monkeypatch) -> None:
    names = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", "host", "project", "code", "packages")
    before = {run.tags["key"]: {name: run.tags[name] for name in names} for run in runs("trial")}
    lose_the_database(done)
    forget_the_database()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody else")
    monkeypatch.setattr("sweep.records.provenance.environment", lambda *_: {"code": "later", "packages": "newer"})
    assert doctor(capsys, "--fix")[0] == 0
    assert {run.tags["key"]: {name: run.tags[name] for name in names} for run in runs("trial")} == before
    assert {run.tags["mlflow.user"] for run in runs("stage")} == {"somebody else"}


@pytest.mark.slow("draws all pictures of a stage")
def test_pictures_are_drawn_anew_where_they_are_wanted(done: Path, capsys) -> None:
    for options, drawn in (((), False), (("--figures", "all"), True)):
        damage_the_summary(done)
        assert doctor(capsys, "--fix", *options)[0] == 0
        stage = Tracker().lookup.find(artifacts(done, "stage").parent.name)
        assert bool(Tracker().artifacts.names(stage, "figures")) == drawn


def test_a_sweep_whose_folder_lost_its_owner_trains_nothing_again(done: Path, capsys) -> None:
    lose_the_owner(done)
    Tracker().lookup.experiments()  # opening the store lets its addresses follow the copied folder
    before = everything(done)
    assert main(["run", "small", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert re.search("sweep.json is missing; `.* -m sweep doctor small .*` tells what can be mended", said)
    assert everything(done) == before


def test_a_killed_sweep_is_told_of_and_mended(project: Path, capsys) -> None:
    assert forked.python(KILLED, "sweep.records.trial_runs.TrialRuns.log_results", "after").returncode == 9
    status, said = doctor(capsys)
    assert status == 1
    assert "grid stage was left open by a process that ended" in said
    assert doctor(capsys, "--fix")[0] == 0
    assert "RUNNING" not in {run.status for run in runs("trial") + runs("stage")}
    assert doctor(capsys)[0] == 0
    grid = sweep(capsys)
    assert len(grid["trials"]) == 4


def test_a_killed_sweep_that_lost_its_name_before_a_trial_ended_is_known_by_its_files(project: Path, capsys) -> None:
    assert forked.python(KILLED, "sweep.records.trial_runs.TrialRuns.start", "after").returncode == 9
    open_runs = runs("stage") + runs("trial")
    assert {run.status for run in open_runs} == {"RUNNING"}
    damage_the_owner(project)
    assert doctor(capsys, "--fix")[0] == 0
    assert {run.tags["owner"] for run in open_runs} == {known(project)["owner"]}
    sweep(capsys)
    assert "RUNNING" not in {run.status for run in runs("trial") + runs("stage")}
    assert len(runs("stage")) == 1


def test_so_is_one_that_had_begun_its_stage_and_nothing_else(project: Path, capsys) -> None:
    code = """
import os
from core.tracking.artifacts import Artifacts
def dying(*given):
    os._exit(9)
Artifacts.log_text = dying
from sweep.__main__ import main
main(["run", "small", "--stage", "grid", "--quiet"])
"""
    assert forked.python(code).returncode == 9
    assert [run.status for run in runs("stage")] == ["RUNNING"]
    damage_the_owner(project)
    assert doctor(capsys, "--fix")[0] == 0
    sweep(capsys)
    assert [run.status for run in runs("stage")] == ["FINISHED"]


@pytest.mark.slow("starts a sweep in a process of its own")
def test_while_a_sweep_is_at_work_it_is_left_alone(project: Path, capsys) -> None:
    path = project / "experiments/small.toml"
    path.write_text(path.read_text().replace("[settings]", "[settings]\npatience = 100000"))
    process = start_sweep(project)
    wait_for_training(process)
    try:
        for _ in range(5):
            assert doctor(capsys) == (0, f"{next(project.glob('mlruns/*/sweep.json')).parent.name}: nothing is wrong\n")
        assert main(["doctor", "small", "--fix"]) == 2
        assert f"is held by process {process.pid} on " in capsys.readouterr().err
    finally:
        process.kill()
        process.communicate()


def test_what_was_deleted_on_purpose_stays_deleted(done: Path, capsys) -> None:
    tracker = Tracker()
    tracker.delete(artifacts(done).parent.name)
    assert doctor(capsys)[0] == 0
    mended(done, capsys, 1)


def test_trials_that_a_store_does_not_know_are_told_of(done: Path, capsys) -> None:
    lose_the_database(done)
    assert main(["run", "small", "--stage", "grid", "--epochs", "3"]) == 0
    said = capsys.readouterr().err
    assert "grid: 4 trials that were done are not in the tracking store" in said
    assert re.search("`.* -m sweep doctor small --fix .*` would bring them back instead", said)


def test_nothing_was_trained_yet(project: Path, capsys) -> None:
    assert main(["doctor", "small"]) == 2
    assert "nothing of small was trained on small" in capsys.readouterr().err
    assert not (project / "mlruns").exists()


def test_a_damaged_database_is_mended_before_anything_is_trained(done: Path, capsys) -> None:
    shutil.rmtree(done / "mlruns")
    path = done / "mlflow.db"
    content = bytearray(path.read_bytes())
    content[100:4096] = bytes(3996)  # the list of its tables
    path.write_bytes(content)
    assert main(["run", "small"]) == 2
    assert re.search("; `.* -m sweep doctor small .*` tells what can be mended\n", capsys.readouterr().err)
    shutil.rmtree(done / "mlruns", ignore_errors=True)
    forget_the_database()
    status, output = doctor(capsys)
    assert (status, path.read_bytes()) == (1, bytes(content))
    assert "mlflow.db is damaged: " in output
    status, output = doctor(capsys, "--fix")
    assert status == 0
    assert re.search("1 found, and mended; next: .* -m sweep run small", output)
    assert not (done / "mlruns").exists()
    assert main(["run", "small", "--stage", "grid"]) == 0


def test_a_locked_database_is_left_where_it_is(done: Path, capsys) -> None:
    with closing(sqlite3.connect(done / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for arguments in ([], ["--fix"]):
            assert main(["doctor", "small", *arguments]) == 2
            assert "mlflow.db cannot be looked at: database is locked" in capsys.readouterr().err
    assert doctor(capsys)[0] == 0


def test_a_database_in_which_a_process_was_killed_is_sound(done: Path, capsys) -> None:
    code = """
import os, sqlite3
database = sqlite3.connect("mlflow.db", isolation_level=None)
database.execute("PRAGMA cache_size = 2")
database.execute("BEGIN IMMEDIATE")
for table in ("metrics", "params", "tags"):
    database.execute(f"UPDATE {table} SET value = value || ''")
os._exit(9)
"""
    forget_the_database()
    assert forked.python(code).returncode == 9
    assert (done / "mlflow.db-journal").stat().st_size
    assert doctor(capsys)[0] == 0
    mended(done, capsys, 0)


@pytest.mark.slow("mends a sweep again and again")
def test_a_doctor_that_is_killed_leaves_all_to_the_next(done: Path, capsys) -> None:
    lose_the_database(done)
    forget_the_database()
    for moment in ("after a run was made", "before it is closed"):
        code = f"""
import os
from sweep.records.trial_runs import TrialRuns
def dying(*given):
    os._exit(9)
if {moment!r} == "before it is closed":
    TrialRuns.close = dying
else:
    TrialRuns._write_epochs = dying
from sweep.__main__ import main
main(["doctor", "small", "--fix"])
"""
        assert forked.python(code).returncode == 9
    assert doctor(capsys, "--fix")[0] == 0
    mended(done, capsys, 0)


@pytest.mark.slow("mends a sweep again and again")
def test_each_of_two_stores_is_compared_with_its_own_runs(done: Path, capsys, empty_store: Path) -> None:
    shutil.copy(empty_store, done / "other.db")
    other = f"sqlite:///{done / 'other.db'}"
    assert main(["run", "small", "--quiet", "--json", "--tracking-uri", other]) == 0
    capsys.readouterr()
    assert main(["run", "small"]) == 0
    assert "trained again" not in capsys.readouterr().err
    assert doctor(capsys)[0] == 0
    assert doctor(capsys, "--tracking-uri", other)[0] == 0


def test_a_stage_that_an_error_ended_is_no_damage(project: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise InputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("sweep.records.trial_runs.TrialRuns.log_results", full)
        assert main(["run", "small", "--quiet"]) == 2
    capsys.readouterr()
    assert {run.status for run in runs("stage")} == {"FAILED"}
    assert doctor(capsys)[0] == 0


SEARCH = """
data = "small.npz"
backend = "reference"
[settings]
epochs = 8
patience = 8
batch_size = 16
[stages.search]
sampler = "tpe"
trials = {trials}
seeds = {seeds}
at_once = 4
pruner = {{ kind = "median", min_epochs = 2 }}
[stages.search.space]
lr = {{ low = 0.001, high = 0.3, log = true }}
filters = ["2", "3"]
"""


@pytest.mark.slow("searches three times")
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_search_whose_journal_was_lost_goes_on_as_it_would_have(project: Path, capsys, seeds: int) -> None:
    def search(name: str, trials: int) -> list[Stage]:
        (project / f"experiments/{name}.toml").write_text(SEARCH.format(trials=trials, seeds=seeds))
        assert main(["run", name, "--json", "--quiet"]) == 0
        stages: list[Stage] = json.loads(capsys.readouterr().out)["stages"]
        return stages

    search("small", 12)
    for journal in project.glob("mlruns/small-*/optuna.journal"):
        journal.unlink()
    assert doctor(capsys, "--fix")[0] == 0
    undisturbed, found = search("other", 20), search("small", 20)
    assert without_ids(found) == without_ids(undisturbed)
    assert {row["status"] for row in found[0]["trials"]} == {"finished", "pruned"}
    assert found[0]["trained"] == 8 * seeds


@pytest.mark.slow("mends a sweep again and again")
def test_retries_are_read_back_from_their_files(project: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    initial_model = parameters.initial_model

    def poisoned(architecture: Any, trials: Any, *given: Any, **options: Any) -> parameters.Model:
        model = initial_model(architecture, trials, *given, **options)
        for place, trial in enumerate(trials):
            if (trial.lr, trial.seed) == (0.1, 1):
                model["w1"][place] = float("nan")
        return model

    monkeypatch.setattr(parameters, "initial_model", poisoned)
    path = project / "experiments/small.toml"
    retried = 'sampler = "grid"\nseeds = 2\non_divergence = "retry"'
    path.write_text(path.read_text().replace('sampler = "grid"', retried))
    before = sweep(capsys)
    for harm in (lose_the_journal, lose_the_database_and_the_journal):
        harm(project)
        forget_the_database()
        assert doctor(capsys, "--fix")[0] == 0
        after = sweep(capsys)
        assert after["trained"] == 0
        assert without_ids([after]) == without_ids([before])
        assert doctor(capsys)[0] == 0


@pytest.mark.slow("mends a sweep again and again")
def test_runs_that_were_made_anew_are_known_when_the_journal_is_lost_later(done: Path, capsys) -> None:
    lose_the_database(done)
    forget_the_database()
    assert doctor(capsys, "--fix")[0] == 0
    known = {run.run_id for run in runs("trial")}
    lose_the_journal(done)
    assert doctor(capsys, "--fix")[0] == 0
    assert {run.run_id for run in runs("trial")} == known
    mended(done, capsys, 0)
