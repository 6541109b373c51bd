"""What an accuracy is worth, against scikit-learn and against what can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import classification_report, f1_score, precision_score, recall_score

from core.data import registry as datasets
from core.evaluate import metrics
from core.evaluate.metrics import LargestClass

NAMES = tuple("abcde")
PAIRS = {  # true and predicted classes, of five
    "all occur": ([0, 1, 2, 3, 4, 0, 1], [0, 1, 2, 3, 4, 1, 1]),
    "one neither occurs nor is predicted": ([0, 1, 2, 4, 0], [0, 1, 2, 4, 1]),
    "one never predicted": ([0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 3, 0]),
    "one predicted that does not occur": ([0, 1, 2, 0], [0, 1, 3, 0]),
    "two classes": ([0, 1, 1, 0, 0], [0, 1, 0, 0, 1]),
    "a constant answer": ([0, 0, 0, 1], [0, 0, 0, 0]),
    "all wrong": ([0, 1, 2], [1, 2, 0]),
    "one image": ([3], [3]),
}


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_means_and_classes_are_scikit_learns(case: str) -> None:
    truth, guess = map(np.array, PAIRS[case])
    means = metrics.macro(truth, guess)
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert means[name] == score(truth, guess, average="macro")  # with its defaults: those that occur
    told = classification_report(truth, guess, output_dict=True)
    rows = metrics.by_class(truth, guess, NAMES)
    assert [row["class"] for row in rows] == list(NAMES)
    for number, row in enumerate(rows):
        if str(number) in told:
            theirs = told[str(number)]
            assert [row["precision"], row["recall"], row["f1"], row["images"]] == [
                theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"],
            ]  # fmt: skip
        else:
            assert (row["precision"], row["recall"], row["f1"], row["images"]) == (None, None, None, 0)
    for name, mean in means.items():
        counted = [row[name] for row in rows if row[name] is not None]
        assert mean == pytest.approx(sum(counted) / len(counted))


def test_means_by_hand() -> None:
    """Class 0: two of three predicted are right, two of two found. Class 1: its only image is taken for class 0."""
    means = metrics.macro(np.array([0, 0, 1]), np.array([0, 0, 0]))
    assert means == pytest.approx({"precision": (2 / 3 + 0) / 2, "recall": (1 + 0) / 2, "f1": (4 / 5 + 0) / 2})


@pytest.mark.parametrize(
    ("labels", "name", "count"),
    [([2, 0, 2, 1], "c", 2), ([1, 0, 0, 1], "a", 2), ([4], "e", 1), ([3, 1], "b", 1)],
)
def test_the_largest_class_is_what_a_constant_answer_gets(labels: list[int], name: str, count: int) -> None:
    found = LargestClass.of(np.array(labels), NAMES, "test")
    assert (found.name, found.count, found.images) == (name, count, len(labels))
    constant = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(labels), 1)), labels)
    assert found.share == constant.score(np.zeros((len(labels), 1)), labels)


def test_an_accuracy_is_warned_of_up_to_that_share() -> None:
    found = LargestClass.of(np.array([0] * 258 + [1] * 3), NAMES, "validation")
    assert str(found) == "largest class 0.9885"
    assert found.describe() == "a: 258 of 261 validation images, 0.9885"
    assert found.warning(258 / 261) == (
        "Validation accuracy 0.9885 is no better than always answering a, the class of 258 of 261 validation images "
        "(0.9885)."
    )
    assert found.warning(0.1)
    assert found.warning(259 / 261) == ""


def test_classes_without_images_are_named() -> None:
    labels = np.array([0, 1, 1, 3])
    assert metrics.missing_class_warnings("test", labels, NAMES, "so") == ["No test image is of classes c, e: so."]
    assert metrics.missing_class_warnings("test", labels, NAMES[:4], "so") == ["No test image is of class c: so."]
    assert metrics.missing_class_warnings("test", np.arange(5), NAMES, "so") == []
    names = ("x" * 60, *map(str, range(11)))
    (line,) = metrics.missing_class_warnings("test", np.array([11]), names, "so")
    assert line == f"No test image is of classes {'x' * 37}..., 0, 1, 2, 3, ... (11 of 12): so."


def test_a_split_is_looked_at_by_its_seed(tmp_path: Path) -> None:
    """The only image of class 2 is for training with one seed and for validation with another."""
    y = np.arange(40) % 2
    y[7] = 2
    np.savez(tmp_path / "own.npz", x=np.zeros((40, 4, 4), np.uint8), y=y)
    found = datasets.load(str(tmp_path / "own.npz"))
    seen = set()
    for seed in range(20):
        split = found.split(seed)
        kind = "validation" if 2 in split.y_train else "training"
        (line,) = metrics.class_warnings(found, seed)
        assert line.startswith(f"No {kind} image is of class 2: ")
        seen.add(kind)
        largest = metrics.largest_in_validation(found, seed)
        assert (largest.images, largest.count) == (8, np.bincount(split.y_validation).max())
    assert seen == {"training", "validation"}
