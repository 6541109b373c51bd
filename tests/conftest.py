"""Fixtures: a project folder of a test's own, with a small data set and a small experiment."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

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


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An mlflow.db without runs: making one takes seconds, copying it does not."""
    from core.tracking import Tracker

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    Tracker(f"sqlite:///{path}")
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    """A project folder of the test's own; it is also the current folder."""
    sweep = (f"SWEEP_{name}" for name in ("DATA", "BACKEND", "PRECISION", "SEED", "EPOCHS", "THREADS", "PROCESSES"))
    for name in ("MLFLOW_TRACKING_URI", "CIFAR10_DIR", *sweep):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SWEEP_FIGURES", "none")  # they take seconds; tests of pictures ask for them
    monkeypatch.setenv("SWEEP_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, empty_store)
    return tmp_path


def make_project(folder: Path, empty_store: Path) -> None:
    """A store, the experiment "small" and its data."""
    shutil.copy(empty_store, folder / "mlflow.db")
    (folder / "experiments").mkdir()
    (folder / "experiments" / "small.toml").write_text(EXPERIMENT)
    x, y = small_images(60, 0)
    x_test, y_test = small_images(20, 1)
    np.savez(folder / "small.npz", x=x, y=y, x_test=x_test, y_test=y_test)
