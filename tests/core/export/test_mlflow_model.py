"""The winner as a registered model: loaded and served by MLflow itself, outside the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.backends import registry as backends
from core.config.architecture import Architecture
from core.config.settings import Settings
from core.data import registry as datasets
from core.data.images import Images
from core.export.model_npz import load_model, save_model
from core.network.inspection import probabilities
from core.network.parameters import architecture_arrays, architecture_of, initial_model
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.conftest import EXPERIMENT
from tests.helpers.servers import free_port, wait_for


def sweep(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The stages of a sweep that runs, by name."""
    assert main(["run", "small", "--json", "--quiet", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    return {stage["stage"]: stage for stage in result["stages"]} | {"name": result["experiment"]}


def expected(run_id: str, tracker: Tracker | None = None) -> np.ndarray:
    """The probabilities that the run's model gives the test images."""
    tracker, found = tracker or Tracker(), datasets.load("small.npz")
    arrays = load_model(tracker.artifacts.path(tracker.lookup.find(run_id), "model.npz"))
    assert found.x_test is not None
    assert found.y_test is not None
    images = Images(found.x_test, found.y_test, found.scale)
    model = {name: values[None] for name, values in arrays.items()}
    return probabilities(backends.load("reference"), architecture_of(arrays, found.x.shape[1:]), model, images)  # type: ignore[arg-type]


def environment(project: Path) -> dict[str, str]:
    """Of a process that knows MLflow's database and nothing of the project."""
    known = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SWEEP_ROOT")}
    known["MLFLOW_TRACKING_URI"] = f"sqlite:///{project / 'mlflow.db'}"
    known["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{known['PATH']}"  # mlflow calls uvicorn by its name
    return known | {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes, which also outlive the server
    }


def test_the_champion_is_loaded_without_the_project_and_without_pickle(project: Path, capsys) -> None:
    stages = sweep(capsys, "--stage", "grid")
    check_champion(project, stages, environment(project))
    assert not [path for path in (project / "mlruns").rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]


def check_champion(
    project: Path, stages: dict[str, Any], known: dict[str, str], tracker: Tracker | None = None
) -> None:
    code = f"""
import sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/{stages["name"]}@champion")
found = model.predict(np.load("{project / "small.npz"}")["x_test"].astype(np.float32))
assert not any(name.startswith("sweep") for name in sys.modules)
print(found.to_json(orient="split"))
"""
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-P", "-c", code]
    result = subprocess.run(command, cwd=elsewhere, env=known, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["columns"] == ["0", "1", "2"]
    np.testing.assert_allclose(found["data"], expected(stages["grid"]["winner"]["run_id"], tracker), atol=1e-6)


@pytest.mark.slow("starts processes with MLflow alone")
def test_everything_goes_on_where_the_projects_folder_has_moved(
    project: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.evaluate.__main__ import main as evaluate

    sweep(capsys, "--stage", "grid")
    there = project.with_name(f"{project.name} mo%ved")
    project.rename(there)
    monkeypatch.setenv("SWEEP_ROOT", str(there))
    monkeypatch.chdir(there)
    stages = sweep(capsys)
    assert (stages["grid"]["trained"], stages["dropout"]["trained"]) == (0, 3)
    for stage in ("grid", "dropout"):
        winner = stages[stage]["winner"]["run_id"]
        assert evaluate(["--run-id", winner]) == 0
        assert main(["verify", winner]) == 0
    assert main(["report", "small"]) == 0
    tracker = Tracker()
    for number, stage in ((1, "grid"), (2, "dropout")):
        tracker.store.client.set_registered_model_alias(stages["name"], "champion", str(number))
        check_champion(there, stages | {"grid": stages[stage]}, environment(there))
        (there / "elsewhere").rmdir()
    assert not project.exists()


@contextmanager
def running(project: Path, port: int, health: str, *arguments: str) -> Iterator[str]:
    """The address of an mlflow command that serves, from when it answers at /health to the end of the block."""
    command = [sys.executable, "-m", "mlflow", *arguments, "--host", "127.0.0.1", "--port", str(port)]
    log = project / "served.log"  # a pipe that nobody reads would fill up
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=project.parent, env=environment(project), stdout=out, stderr=subprocess.STDOUT
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/{health}", process, log)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.mark.slow("starts MLflow's server")
def test_it_predicts_over_http(project: Path, capsys) -> None:
    stages = sweep(capsys, "--stage", "grid")
    model = ("models", "serve", "-m", f"models:/{stages['name']}@champion", "--env-manager", "local")
    body = json.dumps({"inputs": np.load(project / "small.npz")["x_test"].tolist()}).encode()
    with running(project, free_port(), "ping", *model) as address:
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            predictions = json.loads(response.read())["predictions"]
    found = [[row[name] for name in ("0", "1", "2")] for row in predictions]
    np.testing.assert_allclose(found, expected(stages["grid"]["winner"]["run_id"]), atol=1e-6)


@pytest.mark.slow("starts MLflow's server")
def test_a_server_keeps_and_hands_out_the_champion(project: Path, empty_store: Path, capsys) -> None:
    shutil.copy(empty_store, project / "server.db")
    store = ("--backend-store-uri", f"sqlite:///{project / 'server.db'}", "--workers", "1")
    with running(
        project, free_port(), "health", "server", *store, "--artifacts-destination", f"{project / 'kept'}"
    ) as address:
        stages = sweep(capsys, "--stage", "grid", "--tracking-uri", address)
        known = environment(project) | {"MLFLOW_TRACKING_URI": address}
        tracker = Tracker(address)
        check_champion(project, stages, known, tracker)
        run = tracker.lookup.find(stages["grid"]["run_id"])
        assert tracker.artifacts.names(run, "figures") == []
        tracker.artifacts.log_files(run.run_id, project / "experiments", "figures")
        assert tracker.artifacts.names(run, "figures") == ["figures/small.toml"]
        assert main(["ui", "--tracking-uri", address]) == 0  # a server has a page of its own
        assert f"  grid: trials, best first: {address}/#/experiments/1/runs?" in capsys.readouterr().err
        doctor = ("doctor", "small", "--tracking-uri", address)
        assert main([*doctor]) == 0
        path = next((project / "kept").glob(f"*/{stages['grid']['winner']['run_id']}/artifacts/model.npz"))
        path.write_bytes(path.read_bytes()[:-1])
        assert main([*doctor]) == 1
        assert "model.npz is damaged: its SHA-256 differs" in capsys.readouterr().out
        assert main([*doctor, "--fix"]) == 0
        assert "its trial is opened again" in capsys.readouterr().out
        again = sweep(capsys, "--stage", "grid", "--tracking-uri", address)["grid"]
        assert (again["trained"], again["winner"]["trial"]) == (1, stages["grid"]["winner"]["trial"])
        assert tracker.store.client.get_run(run.run_id).info.end_time > 0
        tracker.update(run.run_id, status="RUNNING")
        assert tracker.store.client.get_run(run.run_id).info.end_time is None


def test_each_stages_winner_is_a_version_and_the_best_is_champion(project: Path, capsys) -> None:
    stages = sweep(capsys)
    tracker = Tracker()
    winners = [stages[name]["winner"] for name in ("grid", "dropout")]
    versions = tracker.model(stages["name"]).versions()
    assert [version.run_id for version in versions] == [winner["run_id"] for winner in winners]
    assert [version.tags["stage"] for version in versions] == ["grid", "dropout"]
    best = max(winners, key=lambda winner: winner["best_val_accuracy"])  # of equals the first
    champion = tracker.store.client.get_model_version_by_alias(stages["name"], "champion")
    assert champion.run_id == best["run_id"]


def test_a_winner_is_registered_once_and_a_new_one_takes_its_place(project: Path, capsys) -> None:
    path = project / "experiments/small.toml"
    path.write_text(EXPERIMENT.replace("[0.01, 0.1]", "[1e-6]"))
    first = sweep(capsys, "--stage", "grid")
    sweep(capsys, "--stage", "grid")
    assert len(Tracker().model(first["name"]).versions()) == 1
    path.write_text(EXPERIMENT.replace("[0.01, 0.1]", "[1e-6, 0.1]"))
    second = sweep(capsys, "--stage", "grid")
    assert second["grid"]["winner"]["run_id"] != first["grid"]["winner"]["run_id"]
    champion = Tracker().store.client.get_model_version_by_alias(first["name"], "champion")
    assert (int(champion.version), champion.run_id) == (2, second["grid"]["winner"]["run_id"])


@pytest.mark.filterwarnings("ignore:.*Any type hint")
def test_images_far_from_zero_are_served_as_the_data_set_has_them(tmp_path: Path) -> None:
    from core.export.mlflow_model import Classifier

    network, rng = Architecture((1, 6, 7), (2,), 3), np.random.default_rng(0)
    arrays = {name: values[0] for name, values in initial_model(network, [Settings()]).items()}
    save_model(tmp_path / "model.npz", arrays | architecture_arrays(network))
    about = {"classes": ["a", "b", "c"], "scale": 0.5, "offset": 1000.25, "input_shape": [1, 6, 7]}
    (tmp_path / "about.json").write_text(json.dumps(about))
    served, images = Classifier(), rng.integers(0, 2, (5, 1, 6, 7)).astype(np.float32)
    files = {"about": str(tmp_path / "about.json"), "model": str(tmp_path / "model.npz")}
    served.load_context(SimpleNamespace(artifacts=files))
    given = Images(images - np.float32(0.25), np.zeros(5, int), 0.5)
    model = {name: values[None] for name, values in arrays.items()}
    expected = probabilities(backends.load("reference"), network, model, given)
    np.testing.assert_array_equal(served.predict(None, images + 1000), expected)
