"""Fixtures: a project folder of a test's own, with a small data set and a small experiment."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from tests.helpers import stores

pytest_plugins = ["tests.helpers.slow"]

EXPERIMENT = """
seed = 1
data = "small.npz"

[settings]
epochs = 3
batch_size = 16

[stages.grid]
sampler = "grid"
settings = { dropout = 0.25 }

[stages.grid.space]
lr = [0.01, 0.1]
filters = ["3x4", "2"]

[stages.dropout]
sampler = "random"
after = "grid"
inherit = ["lr", "filters"]
trials = 3

[stages.dropout.space]
dropout = { low = 0.0, high = 1.0 }

[stages.dropout.points]
named = [{ dropout = 0.0 }, { dropout = 0.5 }]
"""


def small_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of 1x6x7 pixels in which one of three bright rows tells the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    x = rng.integers(0, 100, (count, 1, 6, 7))
    x[np.arange(count), 0, 2 * y] += 100
    return x.astype(np.uint8), y


Once = Callable[[str, Callable[[Path], object]], Path]
Stages = dict[str, dict[str, Any]]  # by name, as a sweep tells of them


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """once(name, fill): the folder of this name, filled by the first process of the tests that wants it."""
    above = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        above = above.parent  # which the workers share

    def filled(name: str, fill: Callable[[Path], object]) -> Path:
        folder, complete = above / name, above / f"{name}.complete"
        with FileLock(above / f"{name}.lock"):
            if not complete.exists():
                folder.mkdir()
                fill(folder)
                complete.touch()
        return folder

    return filled


@pytest.fixture(scope="session")
def empty_store(once: Once) -> Path:
    """An mlflow.db without runs: making one takes seconds, copying it does not."""
    from core.tracking.store import Store

    stores.get_ready()
    return once("store", lambda folder: Store(f"sqlite:///{folder / 'mlflow.db'}").create()) / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    """A project folder of the test's own; it is also the current folder."""
    sweep = (
        f"SWEEP_{name}"
        for name in ("DATA", "BACKEND", "PRECISION", "SEED", "EPOCHS", "THREADS", "PROCESSES", "REGISTER")
    )
    for name in ("MLFLOW_TRACKING_URI", "CIFAR10_DIR", *sweep):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SWEEP_FIGURES", "none")  # they take seconds; tests of pictures ask for them
    monkeypatch.setenv("SWEEP_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, empty_store)
    return tmp_path


@pytest.fixture(scope="session")
def trained(once: Once, empty_store: Path) -> Path:
    """A project to copy, whose two stages are done, without pictures."""
    return once("trained", lambda folder: make_swept(folder, empty_store, "--figures", "none"))


@pytest.fixture
def swept(project: Path, trained: Path) -> Stages:
    """The stages of the test's own project, which are done."""
    return {stage["stage"]: stage for stage in copy_swept(trained, project)}


def make_swept(folder: Path, empty_store: Path, *options: str) -> None:
    """A project whose two stages are done, and results.json, what the sweep said."""
    from sweep.__main__ import main

    make_project(folder, empty_store)
    with pytest.MonkeyPatch.context() as patch, (folder / "results.json").open("w") as said, redirect_stdout(said):
        patch.setenv("SWEEP_ROOT", str(folder))
        patch.chdir(folder)
        assert main(["run", "small", "--json", "--quiet", *options]) == 0


def copy_swept(swept: Path, project: Path) -> list[dict[str, Any]]:
    """Put it in the place of the project; its stages, as the sweep told of them."""
    shutil.rmtree(project / "experiments")
    shutil.copytree(swept, project, dirs_exist_ok=True)
    stages: list[dict[str, Any]] = json.loads((project / "results.json").read_text())["stages"]
    return stages


def make_project(folder: Path, empty_store: Path) -> None:
    """A store, the experiment "small" and its data."""
    shutil.copy(empty_store, folder / "mlflow.db")
    (folder / "experiments").mkdir()
    (folder / "experiments" / "small.toml").write_text(EXPERIMENT)
    x, y = small_images(60, 0)
    x_test, y_test = small_images(20, 1)
    np.savez(folder / "small.npz", x=x, y=y, x_test=x_test, y_test=y_test)
