"""python -m core.evaluate on real runs and on files."""

from __future__ import annotations

import csv
import errno
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.backends import registry as backends
from core.data import registry as datasets
from core.evaluate.__main__ import main
from core.evaluate.evaluation import evaluate_model
from core.export import model_npz
from core.machine import threads
from core.machine.hardware import available_cores
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.__main__ import main as sweep_main


@pytest.fixture
def winner(project: Path, capsys: pytest.CaptureFixture[str]) -> RunInfo:
    """The winner of a sweep that has run."""
    assert sweep_main(["run", "small", "--stage", "grid", "--quiet"]) == 0
    tracker = Tracker()
    found = datasets.load("small.npz")
    (run,) = tracker.lookup.runs(tracker.experiment(f"small-small-{found.sha256[:8]}"), kind="trial", winner="true")
    capsys.readouterr()
    return run


def test_a_run_is_tested_and_the_figures_are_written_once(winner: RunInfo, capsys) -> None:
    assert main(["--run-id", winner.run_id[:10], "--json"]) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert "recorded in run" in captured.err
    tracker = Tracker()
    run = tracker.lookup.find(winner.run_id)
    names = [name for name in run.metrics if name.startswith("test_")]
    means = ["test_precision_macro", "test_recall_macro", "test_f1_macro"]
    assert sorted(names) == sorted(["test_accuracy", "test_largest_class", "test_loss", *means])
    assert all(run.metrics[name] == printed[name] for name in names)
    assert json.loads(tracker.artifacts.path(run, "evaluation/metrics.json").read_text()) == printed
    confusion = list(
        csv.reader(tracker.artifacts.path(run, "evaluation/confusion_matrix.csv").read_text().splitlines())
    )
    assert [[int(n) for n in row[1:]] for row in confusion[1:]] == printed["confusion_matrix"]
    assert len(tracker.artifacts.path(run, "evaluation/classes.csv").read_text().splitlines()) == 4

    assert main(["--run-id", winner.run_id]) == 0
    captured = capsys.readouterr()
    assert "has these figures already" in captured.err
    assert f"test accuracy {printed['test_accuracy']:.4f}" in captured.out
    assert all(len(tracker.store.client.get_metric_history(run.run_id, name)) == 1 for name in names)
    assert main(["--run-id", winner.run_id, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_the_figures_are_right(winner: RunInfo, project: Path, capsys) -> None:
    """Against a forward pass written out here, image by image."""
    model = {k: v.astype(float) for k, v in np.load(Tracker().artifacts.path(winner, "model.npz")).items()}
    test = np.load(project / "small.npz")
    blocks = len(winner.params["filters"].split("x"))

    def logits(image: np.ndarray) -> np.ndarray:
        z = image[None].astype(float) / 255
        for i in range(1, blocks + 1):
            w, padded = model[f"w{i}"], np.pad(z, ((0, 0), (2, 2), (2, 2)))
            oh, ow = padded.shape[1] - 2, padded.shape[2] - 2
            z = np.zeros((len(w), oh, ow))
            for r in range(oh):
                for c in range(ow):
                    z[:, r, c] = (w * padded[:, r : r + 3, c : c + 3]).sum(axis=(1, 2, 3)) + model[f"b{i}"]
            scale = model[f"gamma{i}"] / np.sqrt(model[f"running_var{i}"] + 1e-5)
            z = (z - model[f"running_mean{i}"][:, None, None]) * scale[:, None, None] + model[f"beta{i}"][:, None, None]
            z = (
                np.maximum(z[:, : oh // 2 * 2, : ow // 2 * 2], 0)
                .reshape(len(w), oh // 2, 2, ow // 2, 2)
                .max(axis=(2, 4))
            )
        return z.reshape(-1) @ model[f"w{blocks + 1}"] + model[f"b{blocks + 1}"]

    rows = np.array([logits(image[0]) for image in test["x_test"]])
    truth, guess = test["y_test"], rows.argmax(axis=1)
    assert main(["--run-id", winner.run_id, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["test_accuracy"] == (guess == truth).mean()
    shifted = rows - rows.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(truth)), truth]
    assert printed["test_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    for label in range(3):
        for other in range(3):
            assert printed["confusion_matrix"][label][other] == ((truth == label) & (guess == other)).sum()
        hits = ((truth == label) & (guess == label)).sum()
        row = printed["classes"][label]
        assert row["precision"] == pytest.approx(hits / max((guess == label).sum(), 1))
        assert row["recall"] == pytest.approx(hits / (truth == label).sum())
        assert row["images"] == (truth == label).sum()


def published_model() -> dict[str, np.ndarray]:
    """Arrays as the published code writes them for 32x32 images: float64, two blocks."""
    rng = np.random.default_rng(0)
    model: dict[str, np.ndarray] = {}
    for i, (c, f) in enumerate(((3, 4), (4, 5)), start=1):
        model |= {f"w{i}": rng.normal(size=(f, c, 3, 3)), f"b{i}": rng.normal(size=f), f"gamma{i}": np.ones(f)}
        model |= {f"beta{i}": np.zeros(f), f"running_mean{i}": np.zeros(f), f"running_var{i}": np.ones(f)}
    return model | {"w3": rng.normal(size=(5 * 81, 10)), "b3": np.zeros(10)}


def test_a_file_of_the_published_layout(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    np.savez("images.npz", x=images, y=np.arange(40) % 10, x_test=images, y_test=np.arange(40) % 10)
    np.savez("published.npz", **published_model())
    assert main(["--model", "published.npz", "--data", "images.npz", "--json"]) == 0
    captured = capsys.readouterr()
    assert np.sum(json.loads(captured.out)["confusion_matrix"]) == 40
    assert "published.npz does not tell how its images were scaled: those of images are given to it" in captured.err
    assert main(["--model", "published.npz", "--data", "images.npz", "--json", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert sorted(p.name for p in project.glob("mlruns/*")) == []


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_bad_input_gets_one_clear_line(winner: RunInfo, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run id begins" in refused(capsys, "--run-id", "0" * 32)
    assert "threads is 0: it must be" in refused(capsys, "--run-id", winner.run_id, "--threads", "0")
    assert "threads is x: it must be" in refused(capsys, "--model", "small.npz", "--threads", "x")
    assert "hexadecimal" in refused(capsys, "--run-id", "winner")
    stage = winner.tags["mlflow.parentRunId"]
    assert f"-m core.evaluate --run-id {winner.run_id}` tests its winner" in refused(capsys, "--run-id", stage)
    assert "was trained on small" in refused(capsys, "--run-id", winner.run_id, "--data", "digits")
    arrays = dict(np.load("small.npz"))
    np.savez("small.npz", **arrays | {"x": arrays["x"][::-1]})
    assert refused(capsys, "--run-id", winner.run_id).endswith(": it has changed, or is read otherwise now")
    assert "read otherwise" not in refused(capsys, "--run-id", winner.run_id, "--data", "digits")
    np.savez("small.npz", **arrays)
    assert "there is no file none.npz" in refused(capsys, "--model", "none.npz")
    (project / "text.npz").write_text("no zip")
    assert "not a readable .npz" in refused(capsys, "--model", "text.npz")
    np.savez("published.npz", **published_model())
    assert "w1 has shape" in refused(capsys, "--model", "published.npz", "--data", "small.npz")
    two = {k: v[..., :2] if k in ("w3", "b3") else v for k, v in published_model().items()}
    np.savez("two.npz", **two)
    x = np.zeros((9, 3, 32, 32), np.uint8)
    np.savez("three.npz", x=x, y=np.arange(9) % 3, x_test=x, y_test=np.arange(9) % 3)
    said = refused(capsys, "--model", "two.npz", "--data", "three.npz")
    assert said == "error: the model tells 2 classes apart, the images are of 3"
    large = {
        k: v * (1e30 if k[0] == "w" else 1) for k, v in np.load(Tracker().artifacts.path(winner, "model.npz")).items()
    }
    np.savez("large.npz", **large)
    assert "weights are too large" in refused(capsys, "--model", "large.npz", "--data", "small.npz")
    np.savez("notest.npz", x=np.zeros((9, 6, 7), np.uint8), y=np.arange(9) % 3)
    model = str(Tracker().artifacts.path(winner, "model.npz"))
    assert "has no test images" in refused(capsys, "--model", model, "--data", "notest.npz")
    (project / "small.npz").rename(project / "gone.npz")
    assert "--data says where it is now" in refused(capsys, "--run-id", winner.run_id)
    Path(model).unlink()
    assert "has no model.npz" in refused(capsys, "--run-id", winner.run_id)
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2


def test_it_computes_on_as_many_threads_as_asked_for(ten_classes: list[str], capsys, monkeypatch) -> None:
    monkeypatch.setenv("SWEEP_THREADS", "0")
    assert "threads is 0" in refused(capsys, *ten_classes)
    assert main([*ten_classes, "--threads", "1"]) == 0
    assert threads.count() == 1
    monkeypatch.delenv("SWEEP_THREADS")
    assert main(ten_classes) == 0
    assert threads.count() == available_cores()


def test_a_class_that_is_never_predicted(project: Path) -> None:
    """Its precision is 0 by convention, without a warning."""
    model = published_model() | {"b3": np.eye(10)[0] * 1e6}
    images = np.zeros((10, 3, 32, 32), np.uint8)
    np.savez("images.npz", x=images, y=np.arange(10), x_test=images, y_test=np.arange(10))
    np.savez("model.npz", **model)
    result = evaluate_model(backends.load(), model_npz.load_model(Path("model.npz")), datasets.load("images.npz"))
    assert result.metrics["test_accuracy"] == 0.1
    assert [row["precision"] for row in result.classes] == [0.1] + [0.0] * 9


def test_a_class_that_a_test_lacks_is_named_and_left_out_of_the_means(project: Path, capsys) -> None:
    """Ten classes, of which the test has nine; the answer is always the first. So F1 is (2/10 + 8 * 0) / 9."""
    images, labels = np.zeros((9, 3, 32, 32), np.uint8), np.arange(9)
    np.savez("images.npz", x=images, y=labels, x_test=images, y_test=labels, classes=np.array(list("abcdefghij")))
    np.savez("model.npz", **published_model() | {"b3": np.eye(10)[0] * 1e6})
    arguments = ["--model", "model.npz", "--data", "images.npz"]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["test_precision_macro"] == pytest.approx(1 / 9 / 9)
    assert found["test_recall_macro"] == pytest.approx(1 / 9)
    assert found["test_f1_macro"] == pytest.approx(0.2 / 9)
    assert found["classes"][8] == {"class": "i", "precision": 0.0, "recall": 0.0, "f1": 0.0, "images": 1}
    assert found["classes"][9] == {"class": "j", "precision": None, "recall": None, "f1": None, "images": 0}
    assert np.shape(found["confusion_matrix"]) == (10, 10)
    assert found["warnings"] == [line for line in captured.err.splitlines() if not line.startswith("data: ")]
    assert "always answering a, the class of 1 of 9 test images" in found["warnings"][0]
    assert "No test image is of class j: " in found["warnings"][1]
    assert main([*arguments, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert "\nj\t-\t-\t-\t0\nmean\t0.012\t0.111\t0.022\t9\n" in captured.out
    assert captured.err == ""


def test_a_run_that_cannot_be_written_still_shows_its_figures(winner: RunInfo, capsys) -> None:
    obstacle = Tracker().artifacts.path(winner, "model.npz").parent / "evaluation"
    obstacle.write_text("a file where the folder should be")
    assert main(["--run-id", winner.run_id]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("test accuracy ")
    assert captured.err.startswith(f"error: artifacts of run {winner.run_id} cannot be used: ")
    assert "test_loss" not in Tracker().lookup.find(winner.run_id).metrics
    obstacle.unlink()
    assert main(["--run-id", winner.run_id]) == 0
    assert "test_loss" in Tracker().lookup.find(winner.run_id).metrics


@pytest.fixture
def ten_classes(project: Path) -> list[str]:
    """Arguments for a model and images of ten classes, whose names look like markup."""
    names = ["[/b]", "[red]automobile", ":smile: bird", *(f"{n} of a kind" for n in ("cat", "dog", "frog", "horse"))]
    names += ["ship", "truck", "a"]
    images = np.random.default_rng(1).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    np.savez("images.npz", x=images, y=np.arange(20) % 10, x_test=images, y_test=np.arange(20) % 10, classes=names)
    np.savez("published.npz", **published_model())
    return ["--model", "published.npz", "--data", "images.npz"]


def everything_written(terminal: int) -> str:
    """What was written to a pseudo-terminal whose other end is closed: one read may bring only part of it."""
    written = b""
    with open(terminal, "rb", buffering=0) as screen:
        while True:
            try:
                part = screen.read(10_000)
            except OSError as error:
                if error.errno != errno.EIO:  # Linux says so at the end; elsewhere the part is empty
                    raise
                break
            if not part:
                break
            written += part
    return written.decode()


@pytest.mark.parametrize(("columns", "matrix"), [("80", True), ("60", False)])
def test_tables_fit_a_terminal(ten_classes: list[str], monkeypatch, columns: str, matrix: bool) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert main(ten_classes) == 0
    lines = re.sub("\x1b\\[[0-9;]*m", "", everything_written(ours)).splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert "[red]automobile" in "\n".join(lines)
    assert any(line.startswith("[/b] ") for line in lines)
    assert any("a table wider than this terminal" in line for line in lines) != matrix
    assert any("horse" in line and "truck" in line for line in lines) == matrix


def test_elsewhere_tables_are_separated_by_tabs(ten_classes: list[str], capsys) -> None:
    assert main(ten_classes) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == ["class", "precision", "recall", "f1", "images"]
    assert rows[12][0] == "mean"
    assert [len(row) for row in rows[15:]] == [11] * 11
    assert sum(int(n) for row in rows[16:] for n in row[1:]) == 20


def test_a_reader_that_leaves_is_no_error(ten_classes: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3]), "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-m", "core.evaluate", *ten_classes, "--quiet"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
