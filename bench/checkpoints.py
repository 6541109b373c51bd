"""What does it cost to be able to go on? The share of training that goes into the files of groups in training.

    python -m bench.checkpoints [--out bench/results/checkpoints.json]

Two experiments: the report's grid on digits, where an epoch takes a fraction of a second, and one trial of its network
on 10,000 images of CIFAR-10's shape.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

from core.machine.environment import environment
from core.training import checkpoint
from sweep.__main__ import main as sweep_main
from sweep.executors.in_process import InProcessExecutor

GRID = Path(__file__).parent.parent / "experiments/report.toml"
ONE = """
data = "images.npz"
[settings]
epochs = 6
filters = "32x32"
[stages.one]
sampler = "grid"
[stages.one.space]
lr = [0.05]
"""


class Timed:
    """A function, and the seconds that each of its calls took."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, list[float]()

    def __call__(self, *arguments: Any) -> Any:
        started = time.perf_counter()
        result = self.function(*arguments)
        self.seconds.append(time.perf_counter() - started)
        return result


def measure(name: str, *arguments: str) -> dict[str, object]:
    """Run one stage of an experiment in this process."""
    train, save = Timed(InProcessExecutor.train), Timed(checkpoint.save_group)
    with (
        mock.patch.object(InProcessExecutor, "train", lambda *given: train(*given)),
        mock.patch.object(checkpoint, "save_group", save),
    ):
        if status := sweep_main(["run", name, *arguments, "--quiet", "--figures", "none"]):
            raise RuntimeError(f"{name} ended with {status}")
    training, saving = sum(train.seconds), sum(save.seconds)
    each, share = 1000 * median(save.seconds), saving / training
    print(f"{name}: {training:.1f} s of training, {len(save.seconds)} files of {each:.1f} ms (median): {share:.2%}")
    return {"experiment": name, "training_seconds": training, "file_seconds": save.seconds, "share": share}


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=lambda path: Path(path).resolve())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "experiments").mkdir()
        (folder / "experiments/grid.toml").write_text(GRID.read_text())
        (folder / "experiments/one.toml").write_text(ONE)
        rng = np.random.default_rng(0)
        np.savez(folder / "images.npz", x=rng.integers(0, 256, (12500, 3, 32, 32), np.uint8), y=np.arange(12500) % 10)
        os.environ["SWEEP_ROOT"] = place
        os.chdir(place)
        rows = [measure("grid", "--stage", "grid", "--data", "digits"), measure("one")]
    result = {"rows": rows, **environment("cpu", "cpu", "float32")}
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
