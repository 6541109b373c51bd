"""Versions of a registered model: which is champion, and that each computes with its own code."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from mlflow.exceptions import RestException

from core.errors import InputError
from core.tracking.entities import RunInfo
from core.tracking.errors import RefusedError
from core.tracking.model_registry import RegisteredModel
from core.tracking.served_package import ServedModel, copy_package, save
from core.tracking.tags import BEST_VAL_ACCURACY, DATA_SHA256
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from sweep.records.winners import CORE, SERVED_WITH
from tests.conftest import Stages
from tests.core.export.test_mlflow_model import environment
from tests.project.test_layers import imported


def add(registry: RegisteredModel, accuracy: object, **tags: str) -> int:
    """A version, of which there is no more than what the registry knows."""
    client = registry.store.client
    if not client.search_registered_models(f"name = '{registry.name}'"):
        client.create_registered_model(registry.name)
    source = (Path.cwd() / "nowhere").as_uri()
    known = {BEST_VAL_ACCURACY: str(accuracy)} if accuracy is not None else {}
    return int(client.create_model_version(registry.name, source, tags=known | tags, await_creation_for=0).version)


def champion(registry: RegisteredModel) -> int | None:
    number = registry.store.client.get_registered_model(registry.name).aliases.get("champion")
    return None if number is None else int(number)


@pytest.fixture
def registry(project: Path) -> RegisteredModel:
    return Tracker().model("some")


def test_the_best_is_champion_and_keeps_that_on_a_tie(registry: RegisteredModel) -> None:
    registry.crown()  # of nothing
    for accuracy, holder in ((0.5, 1), (0.5, 1), (0.9, 3), (0.9, 3), (0.7, 3), (None, 3), ("nan", 3), ("?", 3), (1, 9)):
        number = add(registry, accuracy)
        registry.crown()
        assert champion(registry) == holder, number
    registry.store.client.set_registered_model_alias("some", "champion", "2")
    registry.crown()
    assert champion(registry) == 9
    registry.store.client.delete_model_version("some", "9")
    registry.crown()
    assert champion(registry) == 3


def test_versions_of_different_data_are_not_compared(registry: RegisteredModel) -> None:
    add(registry, 0.5, **{DATA_SHA256: "a"})
    registry.crown()
    add(registry, 0.9, **{DATA_SHA256: "b"})
    registry.crown()
    assert champion(registry) == 1


@pytest.mark.parametrize("better_comes", ["before the worse is set", "after the worse is set"])
def test_who_sets_the_champion_from_an_older_list_looks_again(
    registry: RegisteredModel, monkeypatch: pytest.MonkeyPatch, better_comes: str
) -> None:
    add(registry, 0.5)
    other, setting = Tracker().model("some"), RegisteredModel._set
    done: list[int] = []

    def slow(self: RegisteredModel, version: object) -> None:
        if self is registry and not done and "before" in better_comes:
            done.append(add(other, 0.9))
            other.crown()
        setting(self, version)  # type: ignore[arg-type]
        if self is registry and not done:
            done.append(add(other, 0.9))
            other.crown()

    monkeypatch.setattr(RegisteredModel, "_set", slow)
    registry.crown()
    assert (done, champion(registry)) == ([2], 2)


def test_who_is_refused_as_another_sets_the_champion_looks_again(
    registry: RegisteredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry, 0.5)
    setting, refused = RegisteredModel._set, [InputError("UNIQUE constraint failed")]

    def refusing(self: RegisteredModel, version: object) -> None:
        if refused:
            raise refused.pop()
        setting(self, version)  # type: ignore[arg-type]

    monkeypatch.setattr(RegisteredModel, "_set", refusing)
    registry.crown()
    assert champion(registry) == 1
    registry.store.client.delete_registered_model_alias("some", "champion")
    refused += [InputError(f"again {number}") for number in range(9)]
    with pytest.raises(InputError, match="again"):
        registry.crown()
    assert len(refused) == 4


@pytest.mark.parametrize(("code", "asked"), [("PERMISSION_DENIED", 1), ("BAD_REQUEST", 5)])
def test_a_server_that_refuses_to_set_the_champion_is_asked_again_if_others_may_be_why(
    registry: RegisteredModel, monkeypatch: pytest.MonkeyPatch, code: str, asked: int
) -> None:
    add(registry, 0.5)
    calls: list[object] = []

    def refusing(*arguments: object) -> None:
        calls.append(arguments)
        raise RestException({"error_code": code, "message": "no"})

    monkeypatch.setattr(registry.store.client, "set_registered_model_alias", refusing)
    with pytest.raises(RefusedError, match=r"no$"):
        registry.crown()
    assert len(calls) == asked


def test_many_at_once_agree_on_the_best(project: Path) -> None:
    accuracies, barrier = [0.1, 0.4, 0.9, 0.2, 0.3, 0.8], Barrier(6)
    source = (project / "nowhere").as_uri()

    def finish(accuracy: float) -> None:
        registry = Tracker(patience=60.0).model("some")
        run = RunInfo(f"{int(10 * accuracy):032x}", "run", "FINISHED", "some", {}, {}, {}, {}, source, "0")
        barrier.wait()
        registry._add(run, source, None, {BEST_VAL_ACCURACY: str(accuracy)})
        registry.crown()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(finish, accuracies))
    registry = Tracker().model("some")
    number = champion(registry)
    assert {v.number: v.accuracy for v in registry.versions()}[number] == 0.9  # type: ignore[index]
    assert registry.due() == (None, "")


@pytest.mark.slow("mends a sweep again and again")
def test_doctor_finds_and_mends_a_champion_that_is_not_the_best(
    project: Path, swept: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = Tracker().store.client.search_registered_models()
    registry = Tracker().model(model.name)
    best = champion(registry)
    assert main(["doctor", "small"]) == 0
    worse = add(registry, 0.25)
    registry.store.client.set_registered_model_alias(model.name, "champion", str(worse))
    assert main(["doctor", "small", "--register", "none"]) == 0
    capsys.readouterr()
    assert main(["doctor", "small"]) == 1
    said = capsys.readouterr().out
    assert f"version {worse}, with best_val_accuracy 0.25 is champion; version {best} has " in said
    assert champion(registry) == worse
    assert main(["doctor", "small", "--fix"]) == 0
    assert champion(registry) == best
    registry.store.client.delete_registered_model_alias(model.name, "champion")
    assert main(["doctor", "small"]) == 1
    assert "no version is champion" in capsys.readouterr().out


def test_registering_is_named_or_left_out(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("run", "small", "--quiet", "--stage")
    monkeypatch.setenv("SWEEP_REGISTER", "none")
    assert main([*run, "grid"]) == 0
    assert not Tracker().store.client.search_registered_models()
    assert main([*run, "dropout", "--register", "mine"]) == 0
    assert [model.name for model in Tracker().store.client.search_registered_models()] == ["mine"]
    assert champion(Tracker().model("mine")) == 1
    for name in ("", " ", "a/b", "a:b", "a'b"):
        assert main([*run, "grid", "--register", name]) == 2
        assert "register is " in capsys.readouterr().err


@pytest.mark.slow("mends a sweep again and again")
def test_a_winner_that_was_not_registered_is_by_the_next_run_or_by_doctor(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "small", "--quiet", "--register", "none"]) == 0
    assert main(["doctor", "small", "--register", "none"]) == 0
    capsys.readouterr()
    assert main(["doctor", "small", "--register", "mine"]) == 1
    said = capsys.readouterr().out
    for stage in ("grid", "dropout"):
        assert f", the winner of {stage}, is no version of model mine" in said
    assert not Tracker().store.client.search_registered_models()
    winners = {run.run_id for run in _winners()}
    assert main(["run", "small", "--quiet", "--register", "other"]) == 0
    assert main(["doctor", "small", "--register", "mine", "--fix"]) == 0
    for name in ("mine", "other"):
        registry = Tracker().model(name)
        assert {version.run_id for version in registry.versions()} == winners
        assert len(registry.versions()) == 2
        assert registry.due() == (None, "")
        assert main(["doctor", "small", "--register", name]) == 0


def _winners() -> list[RunInfo]:
    tracker = Tracker()
    return [
        run for found in tracker.lookup.experiments() for run in tracker.lookup.runs(found.experiment_id, winner="true")
    ]


# --- The package of a version


def changed(folder: Path) -> Path:
    """The project's package, whose networks answer with the reverse of what they should."""
    package = folder / "edited" / "core"
    shutil.copytree(CORE, package, ignore=shutil.ignore_patterns("__pycache__"))
    path = package / "network" / "inspection.py"
    text = path.read_text()
    assert text.count("\ndef probabilities(") == 1
    path.write_text(text.replace("\ndef probabilities(", "\ndef _probabilities(") + REVERSED)
    return package


REVERSED = """

def probabilities(*arguments: Any) -> np.ndarray:
    return _probabilities(*arguments)[:, ::-1]
"""


def save_as_before(path: Path, model: ServedModel) -> None:
    """As versions of the project did that stored the package under its own name."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    mlflow.pyfunc.save_model(
        path,
        python_model=str(model.script),
        artifacts={key: str(file) for key, file in model.files.items()},
        code_paths=[str(model.code)],
        pip_requirements=list(model.requirements),
        signature=ModelSignature(Schema([TensorSpec(np.dtype(np.float32), (-1, *model.input_shape))])),
    )


@pytest.mark.slow("starts a process with MLflow alone")
@pytest.mark.filterwarnings("ignore")  # MLflow's, of its own types
def test_versions_that_differ_compute_each_with_its_own_package_in_one_process(project: Path, swept: Stages) -> None:
    (model,) = (project / "mlruns").glob(f"*/{swept['grid']['winner']['run_id']}/artifacts/model.npz")
    about = {"classes": ["0", "1", "2"], "scale": 255.0, "offset": 0.0, "input_shape": [1, 6, 7]}
    (project / "about.json").write_text(json.dumps(about))
    parts = {"model": model, "about": project / "about.json"}
    for name, package in (("new", CORE), ("changed", changed(project))):
        save(project / name, ServedModel(CORE / "export/mlflow_model.py", parts, package, SERVED_WITH, (1, 6, 7)))
    save_as_before(
        project / "before", ServedModel(CORE / "export/mlflow_model.py", parts, CORE, SERVED_WITH, (1, 6, 7))
    )
    code = f"""
import sys
import mlflow, numpy as np
images = np.load("{project / "small.npz"}")["x_test"].astype(np.float32)
answers = {{}}
for name in sys.argv[1:]:
    answers[name] = mlflow.pyfunc.load_model("{project}/" + name).predict(images).to_numpy()
    assert name == "before" or "before" in answers or "core" not in sys.modules
np.testing.assert_array_equal(answers["new"], answers["changed"][:, ::-1])
assert np.abs(answers["new"] - answers["changed"]).max() > 0.01
np.testing.assert_array_equal(answers["new"], answers["before"])
"""
    for order in (("new", "changed", "before"), ("before", "changed", "new")):
        command = [sys.executable, "-P", "-c", code, *order]
        result = subprocess.run(
            command, cwd=project / "mlruns", env=environment(project), capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr


def test_a_packages_name_tells_its_content_and_none_of_its_imports_leads_elsewhere(tmp_path: Path) -> None:
    names = {copy_package(CORE, tmp_path / "a"), copy_package(CORE, tmp_path / "b")}
    assert len(names) == 1
    (name,) = names
    assert copy_package(changed(tmp_path), tmp_path / "a") != name
    sources = sorted((tmp_path / "a" / name).rglob("*.py"))
    assert len(sources) == len(list(CORE.rglob("*.py")))
    imports = {
        package for path in sources for node in ast.walk(ast.parse(path.read_text())) for package in imported(node)
    }
    assert name in imports
    assert "core" not in imports
    assert name not in sys.modules
