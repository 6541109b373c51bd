"""What do many trials in one experiment cost? A stage that grows by 100 trials a command, to 1,000.

    python -m bench.load [--trials 1000] [--step 100] [--out bench/results/load.json]

Each trial is tiny (one epoch of 48 images), so nearly all of its time goes into records. Every command is a process of
its own; its peak memory is the system's figure. The last rows, of commands on all trials, are the median of three.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from core.machine.environment import environment

EXPERIMENT = """
data = "small.npz"
backend = "reference"
[settings]
epochs = 1
filters = "2"
[stages.search]
sampler = "random"
trials = {trials}
[stages.search.space]
lr = {{ low = 0.001, high = 1.0, log = true }}
"""


def project(folder: Path) -> None:
    """Small images of three classes, which a bright row tells."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 60)
    x = rng.integers(0, 100, (60, 1, 6, 6))
    x[np.arange(60), 0, 2 * y] += 100
    np.savez(folder / "small.npz", x=x.astype(np.uint8), y=y)
    (folder / "experiments").mkdir()


def measure(folder: Path, *arguments: str) -> dict[str, float]:
    """Seconds and peak memory of python -m sweep with these arguments."""
    variables = os.environ | {"SWEEP_ROOT": str(folder), "SWEEP_FIGURES": "none"}
    started = time.perf_counter()
    command = [sys.executable, "-m", "sweep", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {errors}")
    return {"seconds": round(time.perf_counter() - started, 2), "peak_mib": round(usage.ru_maxrss / 1024)}


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--step", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []

    def add(what: str, trials: int, figures: dict[str, float]) -> None:
        rows.append({"command": what, "trials": trials, **figures})
        print(f"{what:12} {trials:5} trials  {figures['seconds']:7.2f} s  {figures['peak_mib']:5.0f} MiB", flush=True)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        project(folder)
        for trials in range(options.step, options.trials + 1, options.step):
            (folder / "experiments/load.toml").write_text(EXPERIMENT.format(trials=trials))
            add("run", trials, measure(folder, "run", "load"))
        for arguments in (["run", "load"], ["plan", "load"], ["doctor", "load"], ["report", "load"], ["--help"]):
            measured = sorted((measure(folder, *arguments) for _ in range(3)), key=lambda figures: figures["seconds"])
            add(f"{arguments[0]} again" if arguments[0] == "run" else arguments[0], trials, measured[1])
    result = {"step": options.step, "rows": rows, **environment("reference", "cpu", "float32")}
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
