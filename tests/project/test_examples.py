"""The examples run as they stand, and find what the system itself finds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from core.backends import registry as backends
from core.config.architecture import Architecture
from core.data import registry as datasets
from core.data.images import Images
from core.training.loop import train_group
from examples.one_group import DATA_SEED, TRIALS, train

ROOT = Path(__file__).resolve().parents[2]


def test_one_group_prints_a_table_of_nine_trials(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples/one_group.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["lr", "dropout", "accuracy"]
    assert [[float(value) for value in row.split()[:2]] for row in rows] == [[t.lr, t.dropout] for t in TRIALS]
    accuracies = [float(row.split()[2]) for row in rows]
    assert max(accuracies) > 0.9 > 0.8 > min(accuracies)


def test_one_group_gives_each_trial_what_it_gets_alone_and_in_the_real_loop() -> None:
    trials = TRIALS[3:6]
    together = train(trials)
    assert train(trials[1:2]) == together[1]
    ops, data = backends.load("reference"), datasets.load("digits")
    split = data.split(DATA_SEED)
    images = Images.on_device(ops, split.x_train, split.y_train, data.scale)
    validation = Images.on_device(ops, split.x_validation, split.y_validation, data.scale)
    *_, last = train_group(ops, Architecture((1, 8, 8), (8, 16), 10), trials, images, validation, data_seed=DATA_SEED)
    np.testing.assert_array_equal(together, [last.metrics[place]["val_accuracy"] for place in range(len(trials))])
