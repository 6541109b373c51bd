"""What is said of a winner that gives the same answer for every image, and of data that lacks images to tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from core.evaluate.__main__ import main as evaluate
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.__main__ import main

ONE = "seed = 1\n[settings]\nepochs = 1\nfilters = '2'\n[stages.s]\nsampler = 'grid'\n[stages.s.space]\nreg = [0.0]\n"
Y = np.array([0] * 27 + [1] * 3)  # by this seed 5 of the 6 validation images are of class 0


@pytest.fixture
def same(project: Path) -> Path:
    """A project with images that are all alike, so that any network gives one answer; none is for the
    test but in tested.npz.
    """
    (project / "experiments" / "one.toml").write_text(ONE)
    np.savez("same.npz", x=np.zeros((30, 4, 4), np.uint8), y=Y, classes=np.array(["no", "yes", "never"]))
    np.savez("tested.npz", x=np.zeros((30, 4, 4), np.uint8), y=Y, x_test=np.zeros((4, 4, 4), np.uint8), y_test=Y[24:28])
    return project


def run_of(kind: str) -> RunInfo:
    tracker = Tracker()
    (found,) = (run for run in tracker.lookup.runs(tracker.experiment(*experiments(tracker)), kind=kind))
    return found


def experiments(tracker: Tracker) -> list[str]:
    return [found.name for found in tracker.store.client.search_experiments() if found.name.startswith("one-")]


def test_a_constant_answer_that_wins_is_told(same: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["one", "--data", "same.npz"]
    assert main(["run", *arguments]) == 0
    said = capsys.readouterr().err
    worth = "Validation accuracy 0.8333 is no better than always answering no, the class of 5 of 6 validation images"
    lacks = [f"No {kind} image is of class never: " for kind in ("training", "validation")]
    assert all(sentence in said for sentence in lacks)
    assert f"s: {worth} (0.8333).\nwinner:  s-01 reg=0, validation accuracy 0.8333 (largest class 0.8333)\n" in said
    assert "core.evaluate" not in said

    assert main(["run", *arguments, "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    (stage,) = json.loads(captured.out)["stages"]
    assert stage["largest_class"] == {"class": "no", "images": 5, "of": 6, "share": 5 / 6}
    assert [warning.startswith(start) for warning, start in zip(stage["warnings"], [worth, *lacks], strict=True)] == [
        True
    ] * 3
    assert all(sentence in captured.err for sentence in lacks)

    run, trial = run_of("stage"), run_of("trial")
    assert run.metrics["val_largest_class"] == run.metrics["best_val_accuracy"] == 5 / 6
    described = run.tags["mlflow.note.content"]
    assert "by 6 images; largest class 0.8333)" in described
    assert all(f"\n- {sentence}" in described for sentence in (worth, *lacks))
    assert trial.tags["data.largest_class"] == "no: 5 of 6 validation images, 0.8333"

    assert main(["report", *arguments]) == 0
    page = Path(capsys.readouterr().out.strip())
    html, markdown = page.read_text(), page.with_suffix(".md").read_text()
    for text in (html, markdown):
        assert all(sentence in text for sentence in (worth, *lacks, "The data has no test images."))
        assert "core.evaluate" not in text

    assert evaluate(["--run-id", trial.run_id]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    model = Tracker().artifacts.path(trial, "model.npz")
    assert f"same.npz has no test images, so run {trial.run_id} cannot be tested; " in line
    assert line.endswith(f"--model {model} --data FILE.npz")
    assert evaluate(["--model", str(model), "--data", "same.npz"]) == 2
    assert "same.npz has no test images: without x_test and y_test" in capsys.readouterr().err


def test_a_test_that_a_constant_answer_passes_is_told(same: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "one", "--data", "tested.npz"]) == 0
    trial = run_of("trial")
    assert f" -m core.evaluate --run-id {trial.run_id}\n" in capsys.readouterr().err
    assert evaluate(["--run-id", trial.run_id, "--json"]) == 0
    captured = capsys.readouterr()
    found: dict[str, Any] = json.loads(captured.out)
    worth = "Test accuracy 0.7500 is no better than always answering 0, the class of 3 of 4 test images (0.7500)."
    assert found["warnings"] == [worth]
    assert captured.err.startswith(f"{worth}\n")
    assert found["largest_class"] == {"class": "0", "images": 3, "of": 4, "share": 0.75}
    assert found["test_largest_class"] == Tracker().lookup.find(trial.run_id).metrics["test_largest_class"] == 0.75
    assert found["test_f1_macro"] == f1_score(Y[24:28], np.zeros(4), average="macro")
    assert evaluate(["--run-id", trial.run_id]) == 0
    assert capsys.readouterr().out.startswith("test accuracy 0.7500 (largest class 0.7500), loss ")
    assert main(["report", "one", "--data", "tested.npz"]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert worth in page.read_text()
    assert f"- {worth}" in page.with_suffix(".md").read_text()
