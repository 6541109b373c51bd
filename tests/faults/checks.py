"""Whether a project is as if it had never been harmed. Reads the files with nothing of the project's own code."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults import project
from tests.faults.project import RUN, Command

EPOCH = re.compile(r"epoch \d+/\d+: (\d+) trial")


class BrokenError(AssertionError):
    """What is not as it should be."""


@dataclass(frozen=True)
class Undisturbed:
    """A project whose sweep nobody disturbed.

    stages   ranked trials, without the ids of their runs
    weights  of each cell's best epoch, by the cell's key
    epochs   trained
    seconds  that the sweep took
    """

    stages: list[Any]
    weights: dict[str, dict[str, np.ndarray]]
    epochs: int
    seconds: float


def epochs(command: Command) -> int:
    """How many epochs of trials a sweep said that it had trained."""
    return sum(map(int, EPOCH.findall(command.errors)))


def stages(command: Command) -> list[Any]:
    """The ranked trials that a sweep printed."""
    found = json.loads(command.output)["stages"]
    return [[{key: v for key, v in row.items() if key != "run_id"} for row in stage["trials"]] for stage in found]


def require(condition: object, *what: object) -> None:
    if not condition:
        raise BrokenError(" ".join(map(str, what)))


def quiet(command: Command) -> None:
    """No traceback, and where it failed one line that says why."""
    for text in (command.errors, command.output):
        require("Traceback" not in text, "a traceback:", text[-3000:])
    if command.status == 2 or (command.status == 1 and not command.output):
        require(re.search("^error: .", command.errors, re.M), "exit", command.status, "without a word:", command.errors)


def finished(folder: Path, undisturbed: Undisturbed) -> int:
    """Run the sweep to its end, and hold everything to what it would have been. Returns how many epochs it trained."""
    last = project.run(folder, *RUN)
    quiet(last)
    require(last.status == 0, "exit status", last.status, last.errors[-3000:])
    require(stages(last) == undisturbed.stages, "other results:", stages(last), undisturbed.stages)
    again = project.run(folder, *RUN)
    require(epochs(again) == 0, "the same command trains again:", again.errors)
    records(folder, undisturbed)
    return epochs(last)


def records(folder: Path, undisturbed: Undisturbed) -> None:
    """Each cell has one finished run, with every epoch once and the right weights; all else is closed with a reason."""
    runs, tags, metrics = _database(folder / "mlflow.db")
    trials = {run: tags[run] for run in runs if tags[run].get("kind") == "trial"}
    done = {run: told["key"] for run, told in trials.items() if told.get("outcome")}
    require(Counter(done.values()) == dict.fromkeys(undisturbed.weights, 1), "cells:", done, undisturbed.weights.keys())
    for run, status in runs.items():
        require(status in ("FINISHED", "FAILED", "KILLED"), run, "is", status)
        require(status == "FINISHED" or tags[run].get("reason"), run, "is", status, "without a reason")
        require(run in trials or status == "FINISHED", "the stage", run, "is", status)
    for run, key in done.items():
        place = next(folder.glob(f"mlruns/*/{run}/artifacts"))
        history = list(csv.DictReader(io.StringIO((place / "history.csv").read_text())))
        _curves(run, history, metrics.get(run, {}))
        with np.load(place / "model.npz") as file:
            expected = undisturbed.weights[key]
            require(list(file) == list(expected), run, "has other arrays")
            for name, values in expected.items():
                require(np.array_equal(file[name], values), run, name, "differs")
    left = [path for pattern in (".*.unfinished", "*.group*") for path in folder.glob(f"mlruns/**/{pattern}")]
    require(not left, "left behind:", left)


def _curves(run: str, history: list[dict[str, str]], metrics: dict[str, Any]) -> None:
    for name in set(history[0]) - {"epoch"}:
        values = {int(row["epoch"]): float(row[name]) for row in history}
        told = metrics.get(name, [])
        steps = sorted(step for step, _ in told)
        require(steps == sorted(e for e, v in values.items() if math.isfinite(v)), run, name, "has the epochs", steps)
        if name != "epoch_seconds":
            require(all(values[step] == value for step, value in told), run, name, "differs from its history.csv")


def _database(path: Path) -> tuple[dict[str, str], dict[str, dict[str, str]], dict[str, dict[str, Any]]]:
    """Status of each run, its tags, and its metrics' steps and values."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT run_uuid, status FROM runs WHERE lifecycle_stage = 'active'")
        runs = dict(rows.fetchall())
        tags: dict[str, dict[str, str]] = {run: {} for run in runs}
        for run, key, value in database.execute("SELECT run_uuid, key, value FROM tags"):
            if run in tags:
                tags[run][key] = value
        metrics: dict[str, dict[str, Any]] = {}
        for run, key, step, value in database.execute("SELECT run_uuid, key, step, value FROM metrics"):
            metrics.setdefault(run, {}).setdefault(key, []).append((step, value))
    return runs, tags, metrics


def weights(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The model of every finished trial, by its cell's key."""
    found = {}
    for path in folder.glob("mlruns/*/*/artifacts/config.json"):
        with np.load(path.with_name("model.npz")) as file:
            found[json.loads(path.read_text())["key"]] = dict(file)
    return found
