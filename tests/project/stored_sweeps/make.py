"""Makes sweeps.tar.xz: two sweeps on digits as commit d3bc7ab left them, one done and one killed in mid-training.

    python tests/project/stored_sweeps/make.py

Needs a clone that has that commit. Packed are its experiments, mlruns/ and mlflow.db (as SQL), and expected.json: what
the same commit made of the killed one when it went on, and the processor, as others may round otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

COMMIT = "d3bc7ab"
ROOT = "/home/user/sweeps"  # what the records say in place of the folder that they were made in
FOLDER = Path(__file__).resolve().parent
DONE = """
data = "digits"

[settings]
epochs = 3
filters = "2"

[stages.grid]
sampler = "grid"

[stages.grid.space]
lr = [0.05, 0.2, 1e30] # the last one diverges

[stages.fine]
sampler = "tpe"
after = "grid"
inherit = ["lr"]
trials = 4
at_once = 2

[stages.fine.space]
dropout = { low = 0.0, high = 0.5 }

[stages.pruned]
sampler = "random"
after = "grid"
inherit = ["lr"]
trials = 3
pruner = { kind = "halving", min_epochs = 1, reduction = 2 }

[stages.pruned.space]
dropout = { low = 0.0, high = 0.9 }
"""
KILLED = """
data = "digits"

[settings]
filters = "2x3"

[stages.grid]
sampler = "grid"

[stages.grid.space]
lr = [0.05, 0.2]
epochs = [2, 5]

[stages.fine]
sampler = "tpe"
after = "grid"
inherit = ["lr"]
settings = { epochs = 2 }
trials = 4
at_once = 2

[stages.fine.space]
dropout = { low = 0.0, high = 0.5 }
"""
RUN = """
import os, signal, sys
from core import train
from sweep import trainer
from sweep.__main__ import main

trainer._PAUSE = 0  # every epoch is kept, as where they are long
last, epochs, train_epoch = int(sys.argv[1]), [], train._train_epoch


def killed_in_an_epoch(*arguments):
    epochs.append(1)
    if len(epochs) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return train_epoch(*arguments)


train._train_epoch = killed_in_an_epoch
sys.exit(main(["run", *sys.argv[2:]]))
"""
MODELS = [f"models:/done-digits-dc83b716{which}" for which in ("/1", "/2", "/3", "@champion")]
PREDICT = """
import json, sys
import mlflow
from sklearn.datasets import load_digits

images = load_digits().images[:9, None].astype("float32")
models = {name: mlflow.pyfunc.load_model(name) for name in sys.argv[1:]}
print(json.dumps({name: model.predict(images).values.tolist() for name, model in models.items()}))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        checkout, root = Path(name, "code"), Path(name, "sweeps")
        subprocess.run(["git", "-C", FOLDER, "worktree", "add", "-q", "--detach", checkout, COMMIT], check=True)
        try:
            _make(checkout, root)
            _pack(root, _expected(checkout, root))
        finally:
            subprocess.run(["git", "-C", FOLDER, "worktree", "remove", "--force", checkout], check=True)


def _make(checkout: Path, root: Path) -> None:
    (root / "experiments").mkdir(parents=True)
    (root / "experiments/done.toml").write_text(DONE.lstrip())
    (root / "experiments/killed.toml").write_text(KILLED.lstrip())
    assert _run(checkout, root, "done") == 3  # finished, with a trial that failed
    assert _run(checkout, root, "killed", killed_in=4) == -signal.SIGKILL
    for holder in root.glob("mlruns/*/holder.json"):
        holder.write_text(json.dumps(json.loads(holder.read_text()) | {"host": "computer"}))


def _expected(checkout: Path, root: Path) -> dict[str, Any]:
    """What is there, and what there is after the commit itself has gone on."""
    there = {name: recorded(root, name) for name in ("done", "killed")}
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    assert _run(checkout, copy, "killed") == 0
    told: dict[str, Any] = {"machine": machine(), "ended": recorded(copy, "killed"), "evaluated": {}}
    for trial in there["done"].values():
        if trial["weights"]:
            evaluated = _python(checkout, root, "-m", "core.evaluate", "--run-id", trial["run_id"])
            told["evaluated"][trial["run_id"]] = evaluated.stdout.splitlines()[0]
    told["predicted"] = json.loads(_python(checkout, root, "-c", PREDICT, *MODELS).stdout)
    return told | there


def _run(checkout: Path, root: Path, experiment: str, killed_in: int = 0) -> int:
    return _python(checkout, root, "-c", RUN, str(killed_in), experiment).returncode


def _python(checkout: Path, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    known = {key: value for key, value in os.environ.items() if not key.startswith(("SWEEP_", "MLFLOW_"))}
    known |= {"SWEEP_ROOT": str(root), "SWEEP_THREADS": "1", "SWEEP_FIGURES": "none"}
    known |= {"MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db"}
    return subprocess.run([sys.executable, *arguments], cwd=checkout, env=known, stdout=subprocess.PIPE, text=True)


def recorded(root: Path, experiment: str) -> dict[str, Any]:
    """Each trial that MLflow has of an experiment, by its key: status, metrics by epoch, and its weights' hashes."""
    trials = {}
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        runs = "SELECT run_uuid, status FROM runs JOIN experiments USING (experiment_id) WHERE experiments.name LIKE ?"
        for run_id, status in database.execute(runs, (f"{experiment}-digits-%",)).fetchall():
            tags = dict(database.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run_id,)))
            if tags["kind"] == "trial":
                trials[tags["key"]] = {"run_id": run_id, "status": status, "outcome": tags.get("outcome")}
                trials[tags["key"]] |= {"metrics": _metrics(database, run_id), "weights": _weights(root, run_id)}
    return trials


def _metrics(database: sqlite3.Connection, run_id: str) -> dict[str, list[list[float]]]:
    """[epoch, value] of each metric of an epoch."""
    rows = "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? AND step > 0 ORDER BY key, step, timestamp"
    found: dict[str, list[list[float]]] = {}
    for name, epoch, value, is_nan in database.execute(rows, (run_id,)):
        if name != "epoch_seconds":
            found.setdefault(name, []).append([epoch, "nan" if is_nan else value])
    return found


def _weights(root: Path, run_id: str) -> dict[str, str]:
    path = next(root.glob(f"mlruns/*/{run_id}/artifacts/model.npz"), None)
    arrays = {} if path is None else dict(np.load(path))
    return {name: hashlib.sha256(values.tobytes()).hexdigest() for name, values in arrays.items()}


def machine() -> str:
    """Machines of which this is the same train to the same bits."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = [line for line in lines if line.startswith(("model name", "flags"))]
    versions = [version(name) for name in ("numpy", "numba", "llvmlite")]
    return hashlib.sha256(repr((sorted(set(processor)), versions)).encode()).hexdigest()


def _pack(root: Path, expected: dict[str, Any]) -> None:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        text = "\n".join(database.iterdump()).replace(str(root), ROOT)
    (root / "mlflow.sql").write_text(text)
    (root / "expected.json").write_text(json.dumps(expected))
    for path in root.glob("mlruns/*/models/*/artifacts/MLmodel"):
        path.write_text(path.read_text().replace(str(root), ROOT))
    for path in root.rglob("*"):
        if path.is_file() and path.suffix != ".db":
            assert str(root).encode() not in path.read_bytes(), path
    with tarfile.open(FOLDER / "sweeps.tar.xz", "w:xz") as packed:
        for name in ("experiments", "mlruns", "mlflow.sql", "expected.json"):
            packed.add(root / name, name, filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if entry.name.endswith((".lock", ".pyc", "__pycache__")):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()
