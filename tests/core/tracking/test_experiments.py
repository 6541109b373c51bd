"""Projects that share one store: what each trained is its own; and a store of any kind, where a project moves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import mlflow
import pytest

from core.errors import InputError
from core.evaluate.__main__ import main as evaluate
from core.figures.__main__ import main as figures
from core.project import root
from core.tracking.entities import ExperimentInfo
from core.tracking.experiments import select
from core.tracking.lookup import Lookup
from core.tracking.relocate import local
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.conftest import Stages, make_project
from tests.helpers import postgres
from tests.helpers.slow import slow
from tests.sweep.doctor.test_doctor import everything

GRID = ["run", "small", "--stage", "grid"]


@pytest.fixture
def store(request: pytest.FixtureRequest, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database that is no project's own, of PostgreSQL if a test says so; commands use it without being told."""
    shutil.move(project / "mlflow.db", project / "shared.db")
    with postgres.server() if getattr(request, "param", "") else nullcontext(f"sqlite:///{project}/shared.db") as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@contextmanager
def within(folder: Path) -> Iterator[Path]:
    """A project of this folder, and in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_ROOT", str(folder))
        patch.chdir(folder)
        yield folder


def grid(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*GRID, "--json", "--quiet", *options]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    return dict(stage)


@pytest.fixture
def pair(project: Path, store: str, empty_store: Path) -> tuple[Path, Path]:
    """Two projects, in which nothing is trained."""
    for name in ("first", "second"):
        (project / name).mkdir()
        make_project(project / name, empty_store)
    return project / "first", project / "second"


def everything_works(capsys: pytest.CaptureFixture[str], stage: dict[str, Any]) -> None:
    """Of the project that trained this stage; nothing is trained again."""
    again = grid(capsys)
    assert again["trained"] == 0
    assert again["trials"] == stage["trials"]
    winner = stage["winner"]["run_id"]
    assert main(["doctor", "small"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert main(["report", "small"]) == 0
    assert main(["verify", winner]) == 0
    assert evaluate(["--run-id", winner]) == 0


def served_from(store: str, name: str) -> Path:
    """Where the champion's files are, which MLflow loads."""
    version = mlflow.MlflowClient(store).get_model_version_by_alias(name, "champion")
    place = local(version.source)
    assert place is not None
    assert (place / "MLmodel").is_file()
    return place


@pytest.mark.slow("two projects, each swept, evaluated and drawn")
def test_each_of_two_projects_has_what_it_trained(pair: tuple[Path, Path], store: str, capsys) -> None:
    stages = []
    for folder in pair:
        with within(folder):
            stages.append(grid(capsys))
            tracker = Tracker()
            for run_id in (stages[-1]["run_id"], *(trial["run_id"] for trial in stages[-1]["trials"])):
                run = tracker.lookup.find(run_id)
                place = next(folder.glob(f"mlruns/*/{run_id}/artifacts"))
                assert run.artifact_uri == place.as_uri()  # where MLflow's page finds them
                assert tracker.artifacts.path(run, "SHA256SUMS").parent == place
    name = next((pair[0] / "mlruns").glob("small-*")).name
    for folder, model in zip(pair, (name, f"{name}-2"), strict=True):
        assert served_from(store, model).is_relative_to(folder)
    with within(pair[1]):
        assert main(GRID) == 0  # and it is said
        assert f"MLflow's {name} is another project's, or was deleted: this project's is {name}-2" in (
            capsys.readouterr().err
        )
        assert evaluate(["--run-id", stages[0]["winner"]["run_id"]]) == 0  # the other's, while it is there
    shutil.rmtree(pair[0])
    with within(pair[1]):
        assert main(["doctor", "small", "--fix"]) == 0
        everything_works(capsys, stages[1])
        assert figures(["--run-id", stages[1]["run_id"]]) == 0
    assert not pair[0].exists()


@pytest.mark.parametrize("store", ["", *slow("starts PostgreSQL", "postgresql")], indirect=True)
def test_a_project_moves_and_trains_nothing_again(pair: tuple[Path, Path], store: str, capsys) -> None:
    with within(pair[1]):
        grid(capsys)
    with within(pair[0]):
        stage = grid(capsys)
    moved = pair[0].rename(pair[0].with_name("mo%ved there"))
    with within(moved):
        assert main(["doctor", "small", "--fix"]) == 0
        everything_works(capsys, stage)
        assert main(["run", "small", "--quiet"]) == 0  # what it trains now lies here, too
        tracker = Tracker()
        runs = tracker.lookup.siblings(tracker.lookup.find(stage["run_id"]))
        assert len(runs) == 2 + 4 + 3
        for run in runs:
            assert run.artifact_uri == next(moved.glob(f"mlruns/*/{run.run_id}/artifacts")).as_uri()
        name = next((moved / "mlruns").glob("small-*")).name
        assert served_from(store, f"{name}-2").is_relative_to(moved)
    assert not pair[0].exists()
    with within(pair[1]):
        assert main(["doctor", "small"]) == 0


def test_a_copy_is_a_project_of_its_own(pair: tuple[Path, Path], store: str, capsys) -> None:
    with within(pair[0]):
        before = grid(capsys)
    copy = pair[0].with_name("copy")
    shutil.copytree(pair[0], copy)
    with within(copy):
        assert main(["doctor", "small"]) == 1
        assert "MLflow has no experiment" in capsys.readouterr().out
        assert main(["doctor", "small", "--fix"]) == 0
        after = grid(capsys)
        assert after["trained"] == 0
        assert Tracker().artifacts.folder(Tracker().lookup.find(after["run_id"])).is_relative_to(copy)
    with within(pair[0]):
        again = grid(capsys)
        assert (again["run_id"], again["trained"]) == (before["run_id"], 0)


@pytest.fixture
def plain_copy(pair: tuple[Path, Path]) -> tuple[str, list[str], Path]:
    """An experiment, its two runs, and a copy of the first project, which has them."""
    copy, runs = pair[0].with_name("copy"), []
    with within(pair[0]):
        experiment = Tracker().experiment("some", owner="first")
        for _ in range(2):
            runs.append(Tracker().start(experiment, "run", tags={"owner": "first"}))
            Tracker().artifacts.log_text(runs[-1], "hello", "note.txt")
    shutil.copytree(pair[0], copy)
    return experiment, runs, copy


@pytest.fixture
def copied(plain_copy: tuple[str, list[str], Path]) -> tuple[str, list[str], Path]:
    """The same, where the copy has an experiment of its own."""
    experiment, _, copy = plain_copy
    with within(copy):
        own = Tracker().experiment("some", owner="first")
        assert own != experiment
        Tracker().artifacts.log_text(Tracker().start(own, "run", tags={"owner": "first"}), "hello", "note.txt")
    return plain_copy


def its_own(project: Path, experiment: str, runs: list[str]) -> None:
    with within(project):
        tracker = Tracker()
        assert tracker.experiment("some", owner="first") == experiment
        for run_id in runs:
            assert tracker.lookup.find(run_id).artifact_uri == (project / "mlruns/some" / run_id / "artifacts").as_uri()


def test_a_copy_takes_nothing_over_where_a_run_lost_its_files(copied: tuple[str, list[str], Path], pair) -> None:
    experiment, runs, copy = copied
    shutil.rmtree(pair[0] / "mlruns/some" / runs[1])
    with within(copy):
        assert Tracker().experiment("some", owner="first") != experiment
    its_own(pair[0], experiment, runs)


def test_a_copy_without_an_experiment_takes_nothing_over(plain_copy: tuple[str, list[str], Path], pair) -> None:
    experiment, runs, copy = plain_copy
    shutil.rmtree(pair[0] / "mlruns/some" / runs[1])
    with within(copy):
        Tracker()
    its_own(pair[0], experiment, runs)


def test_a_copy_takes_nothing_over_where_the_project_moved(copied: tuple[str, list[str], Path], pair) -> None:
    experiment, runs, copy = copied
    moved = pair[0].rename(pair[0].with_name("moved"))
    with within(copy):
        assert Tracker().experiment("some", owner="first") != experiment
    its_own(moved, experiment, runs)


def test_a_project_whose_runs_lie_with_another_goes_on_there(pair: tuple[Path, Path]) -> None:
    """As earlier versions had it."""
    with within(pair[0]):
        theirs = Tracker().experiment("some", owner="first")
    with within(pair[1]):
        run_id = Tracker().start(theirs, "run", tags={"owner": "second"})
        Tracker().artifacts.log_text(run_id, "hello", "note.txt")
        assert list(pair[0].glob("mlruns/some/*/artifacts/note.txt"))
        assert Tracker().experiment("some", owner="second") == theirs
        assert Tracker().experiment("some", owner="third") != theirs
    shutil.rmtree(pair[0])
    with within(pair[1]):
        assert Tracker().lookup.experiment_id("some", "second")


def test_the_owner_of_a_database_takes_no_experiment_of_who_shares_it(pair: tuple[Path, Path], monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{pair[0]}/mlflow.db")
    runs = []
    for folder in pair:
        with within(folder):
            tracker = Tracker()
            runs.append(
                tracker.start(tracker.experiment("some", owner=folder.name), "run", tags={"owner": folder.name})
            )
            tracker.artifacts.log_text(runs[-1], folder.name, "note.txt")
    for folder in pair:
        with within(folder):
            for run_id, other in zip(runs, pair, strict=True):
                place = Tracker().artifacts.path(Tracker().lookup.find(run_id), "note.txt")
                assert place.read_text() == other.name
                assert place.is_relative_to(other)
    shutil.rmtree(pair[1])
    with within(pair[0]):
        tracker = Tracker()
        assert tracker.experiment("some", owner="first") == tracker.lookup.find(runs[0]).experiment_id
        assert tracker.lookup.find(runs[1]).artifact_uri.startswith(pair[1].as_uri())


def test_an_experiment_of_ones_own_comes_before_one_for_all(pair: tuple[Path, Path]) -> None:
    with within(pair[0]):
        ours = Tracker().experiment("some", owner="first")
        for_all = Tracker().store.client.create_experiment("some-2", artifact_location="mlflow-artifacts:/2")
        assert Tracker().experiment("some", owner="first") == ours
    with within(pair[1]):
        assert Tracker().experiment("some", owner="second") == for_all
        Tracker().store.client.delete_experiment(for_all)
        with pytest.raises(InputError, match="experiment some-2 was deleted"):
            Tracker().experiment("some", owner="second")


def test_what_others_begin_anew_in_a_place_for_all_is_not_taken_unasked(pair: tuple[Path, Path]) -> None:
    def for_all(name: str) -> str:
        return str(tracker.store.client.create_experiment(name, artifact_location=f"mlflow-artifacts:/{name}"))

    with within(pair[1]):
        tracker = Tracker()
        old = for_all("some")
        tracker.start(old, "run", tags={"owner": "second"})
        tracker.store.client.delete_experiment(old)
        new = for_all("some-2")
        assert tracker.experiment("some", owner="third") == new
        for ask in (tracker.experiment, tracker.lookup.experiment_id):
            with pytest.raises(InputError, match="experiment some was deleted"):
                ask("some", owner="second")
        assert tracker.experiment("some", owner="second", anew=True) == new
        tracker.store.client.restore_experiment(old)
        assert tracker.experiment("some", owner="second") == old  # where its runs are
        tracker.store.client.delete_experiment(old)
        tracker.start(new, "run", tags={"owner": "second"})
        assert tracker.experiment("some", owner="second") == new


class Blind(Lookup):
    """To which a server does not show an experiment that there is."""

    def experiments_called(self, name: str) -> list[ExperimentInfo]:
        return [found for found in super().experiments_called(name) if found.name != name]


class Late(Lookup):
    """Which another project precedes, between the look and what follows."""

    def experiments_called(self, name: str) -> list[ExperimentInfo]:
        found = super().experiments_called(name)
        if not found:
            with within(root().with_name("first")):
                Tracker().experiment(name, owner="first")
        return found


def looking(how: type[Lookup]) -> Tracker:
    tracker = Tracker()
    tracker.lookup = how(tracker.store)
    return tracker


def test_a_name_of_an_experiment_that_one_may_not_see_is_left(project: Path) -> None:
    theirs = Tracker().experiment("some")
    ours = looking(Blind).experiment("some")
    assert Tracker().lookup.experiment_name(ours) == "some-2"
    assert ours != theirs
    assert looking(Blind).experiment("some") == ours


def test_projects_that_begin_together_have_an_experiment_each(pair: tuple[Path, Path]) -> None:
    with within(pair[1]):
        assert Tracker().lookup.experiment_name(looking(Late).experiment("some", owner="second")) == "some-2"
    with within(pair[0]):
        assert Tracker().lookup.experiment_name(Tracker().experiment("some", owner="first")) == "some"


@pytest.fixture
def deleted(project: Path, swept: Stages) -> tuple[Path, str]:
    """A project whose two stages are done, and the id of its experiment, which was deleted in MLflow."""
    tracker, name = Tracker(), next(project.glob("mlruns/*/sweep.json")).parent.name
    experiment = tracker.experiment(name)
    tracker.store.client.delete_experiment(experiment)
    return project, experiment


def test_a_deleted_experiment_is_told_of_and_stays_deleted(deleted: tuple[Path, str], capsys) -> None:
    project, experiment = deleted
    before = everything(project)
    for command in (["run"], ["doctor"], ["doctor", "--fix"], ["report"]):
        assert main([command[0], "small", *command[1:]]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: experiment small-small-")
        assert "was deleted in MLflow" in error
        assert f"-m mlflow experiments restore -x {experiment}`" in error
        assert f" -m sweep run small --new-experiment --data {project}/small.npz" in error
    assert main(["run", "small", "--epochs", "3"]) == 2
    assert re.search(r"sweep run small --new-experiment .*--epochs 3 --figures none`", capsys.readouterr().err)
    assert everything(project) == before
    client = Tracker().store.client
    assert client.get_experiment(experiment).lifecycle_stage == "deleted"
    client.restore_experiment(experiment)  # as the line says
    assert grid(capsys)["trained"] == 0


@pytest.mark.slow("starts MLflow's command, and makes its database")
def test_the_command_that_is_printed_brings_a_deleted_experiment_back(project: Path) -> None:
    tracker = Tracker(f"sqlite:///{project}/my $store.db")
    experiment = tracker.experiment("some")
    tracker.store.client.delete_experiment(experiment)
    with pytest.raises(InputError) as told:
        tracker.experiment("some")
    (command,) = re.findall("`(.*?)`", str(told.value))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(project)}
    subprocess.run(["sh", "-c", command], env=environment, cwd="/", check=True, capture_output=True)
    assert tracker.experiment("some") == experiment


def test_the_command_that_brings_back_shows_no_password() -> None:
    deleted = ExperimentInfo("7", "some", {}, "mlflow-artifacts:/7", deleted=True)
    with pytest.raises(InputError) as told:
        select([], [deleted], False, "http://user:hidden@host:5000")
    assert "restore -x 7` (set MLFLOW_TRACKING_URI first: a password is not printed)" in str(told.value)
    assert "hidden" not in str(told.value)
    assert "MLFLOW_TRACKING_URI=" not in str(told.value)


def test_beside_a_deleted_experiment_another_can_be_begun(deleted: tuple[Path, str], capsys) -> None:
    _, experiment = deleted
    stage = grid(capsys, "--new-experiment")
    assert stage["trained"] == 4
    assert grid(capsys)["trained"] == 0  # it goes on there without being told
    assert main(["run", "small", "--stage", "dropout", "--quiet"]) == 0
    assert main(["doctor", "small"]) == 0
    assert evaluate(["--run-id", stage["winner"]["run_id"]]) == 0
    assert Tracker().store.client.get_experiment(experiment).lifecycle_stage == "deleted"


def test_what_another_project_deleted_stays_its_own_affair(pair: tuple[Path, Path]) -> None:
    with within(pair[0]):
        theirs = Tracker().experiment("some", owner="first")
        Tracker().store.client.delete_experiment(theirs)
    with within(pair[1]):
        ours = Tracker().experiment("some", owner="second")
        assert Tracker().lookup.experiment_name(ours) == "some-2"
    with within(pair[0]), pytest.raises(InputError, match="experiment some was deleted"):
        Tracker().experiment("some", owner="first")
