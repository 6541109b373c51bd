"""python -m sweep verify and compare, on real runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.conftest import EXPERIMENT


def sweep(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The stages of a sweep that runs, by name."""
    assert main(["run", "small", "--json", "--quiet", *arguments]) in (0, 3)
    result = json.loads(capsys.readouterr().out)
    return {stage["stage"]: stage for stage in result["stages"]}


def artifact(run_id: str, name: str) -> Path:
    tracker = Tracker()
    return tracker.artifacts.path(tracker.lookup.find(run_id), name)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_every_trial_equals_itself_alone(project: Path, capsys, backend: str) -> None:
    """Those of a group, a pruned one, one that diverged, and several seeds."""
    text = EXPERIMENT.replace('sampler = "grid"', 'sampler = "grid"\nseeds = 2\npruner = { kind = "median" }')
    (project / "experiments/small.toml").write_text(text.replace("[0.01, 0.1]", "[0.01, 0.1, 1e30]"))
    trials = sweep(capsys, "--stage", "grid", "--backend", backend)["grid"]["trials"]
    assert {"failed", "finished"} <= {trial["status"] for trial in trials}
    for trial in trials:
        assert main(["verify", trial["run_id"][:12]]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert f"alone, with backend {backend}" in lines[0]
        assert len(lines) == trial["epochs"] + 3
        assert lines[-1].startswith(f"equal, bit for bit: every metric of {trial['epochs']} epochs, and ")


def test_an_augmented_and_deeper_trial_equals_itself_alone(project: Path, capsys) -> None:
    settings = "flip = 0.5\ncrop = 1\nresidual = true\noptimiser = 'adamw'\nschedule = 'one-cycle'\n"
    (project / "experiments/small.toml").write_text(EXPERIMENT.replace("[settings]\n", f"[settings]\n{settings}"))
    best = sweep(capsys, "--stage", "grid")["grid"]["winner"]
    assert main(["verify", best["run_id"]]) == 0


def test_a_record_that_was_changed_is_found(project: Path, capsys) -> None:
    best = sweep(capsys, "--stage", "grid")["grid"]["winner"]
    path = artifact(best["run_id"], "history.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    rows[1]["val_loss"] = str(float(rows[1]["val_loss"]) + 0.25)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    model = artifact(best["run_id"], "model.npz")
    arrays = dict(np.load(model))
    arrays["w1"] = arrays["w1"] + np.float32(1)
    np.savez(model, **arrays)
    assert main(["verify", best["run_id"]]) == 2
    assert "history.csv is damaged: its SHA-256 differs from the one in SHA256SUMS" in capsys.readouterr().err
    path.with_name("SHA256SUMS").unlink()
    assert main(["verify", best["run_id"]]) == 1
    *_, loss, weights, verdict = capsys.readouterr().out.splitlines()
    assert loss == "val_loss differs, by up to 0.25"
    assert weights == "w1 differs, by up to 1"
    assert verdict.startswith("not equal: it was trained with backend cpu, code ")


def test_another_backend_differs_by_rounding(project: Path, capsys) -> None:
    best = sweep(capsys, "--stage", "grid", "--backend", "reference")["grid"]["winner"]
    assert main(["verify", best["run_id"], "--backend", "cpu"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "differs, by up to" in line]
    assert lines
    assert max(float(line.rpartition(" ")[2]) for line in lines) < 1e-3


def test_what_cannot_be_verified_is_one_clear_line(project: Path, capsys) -> None:
    grid = sweep(capsys, "--stage", "grid")["grid"]
    best = grid["winner"]["run_id"]
    for arguments, complaint in (
        (["xyz"], 'run id is "xyz"'),
        ([grid["run_id"]], "not a trial: only trials are trained again"),
        ([best, "--backend", "tpu"], 'backend is "tpu"'),
        ([best, "--data", "digits"], "was trained on small with sha256"),
        ([best, "--threads", "0"], "threads is 0"),
    ):
        assert main(["verify", *arguments]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert complaint in error
    artifact(best, "SHA256SUMS").unlink()
    artifact(best, "config.json").write_text('{"settings": {"lr": "fast"}}')
    assert main(["verify", best]) == 2
    assert "lr" in capsys.readouterr().err
    artifact(best, "config.json").write_text("{")
    assert main(["verify", best]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_trials_are_compared_side_by_side(project: Path, capsys) -> None:
    stages = sweep(capsys)
    first, second = stages["grid"]["trials"][:2]
    third = stages["dropout"]["winner"]
    assert main(["compare", first["run_id"][:10], second["run_id"], stages["dropout"]["run_id"]]) == 0
    *lines, path = capsys.readouterr().out.splitlines()
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in lines}
    assert rows["run"] == [f"{trial['trial']} ({trial['run_id'][:8]})" for trial in (first, second, third)]
    assert rows["best_val_accuracy"] == [f"{trial['best_val_accuracy']:.6g}" for trial in (first, second, third)]
    assert rows["stage"] == ["grid", "grid", "dropout"]
    assert rows["dropout"][:2] == ["0.25", "0.25"]
    assert float(rows["dropout"][2]) == pytest.approx(third["dropout"], rel=1e-5)
    assert not {"batch_size", "backend", "data.sha256"} & rows.keys()
    page = Path(path).read_text()
    assert "batch_size 16" in page
    assert "backend cpu" in page
    assert page.count("data:image/svg+xml") == 1


def test_what_cannot_be_compared_is_one_clear_line(project: Path, capsys) -> None:
    grid = sweep(capsys, "--stage", "grid")["grid"]
    one, two = (trial["run_id"] for trial in grid["trials"][:2])
    for arguments, complaint in (
        ([one], "1 runs are to be compared: it must be from 2 to 8"),
        ([one, one[:9]], "name one run twice"),
        ([one, grid["run_id"]], "name one run twice"),
        ([one, "0" * 32], "no run id begins with"),
        ([one, two, "--out", "small.npz"], "cannot be written"),
    ):
        assert main(["compare", *arguments]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert complaint in error
