"""What an accuracy is worth: precision, recall and F1, the largest class, and the classes that no image is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from core.data.dataset import Dataset

SCORES = ("precision", "recall", "f1")
_NAMED = 5  # classes that are listed by name
_LONGEST = 40  # name that a sentence quotes whole


@dataclass(frozen=True)
class LargestClass:
    """The class that most images are of: its share is the accuracy of a network that gives the same answer to all.

    name    of the class; of several, the first
    count   of its images
    images  of all classes
    kind    of images: "validation" or "test"
    """

    name: str
    count: int
    images: int
    kind: str

    @classmethod
    def of(cls, labels: np.ndarray, classes: Sequence[str], kind: str) -> LargestClass:
        """That of labels (N,), N > 0."""
        counts = np.bincount(labels, minlength=len(classes))
        return cls(classes[int(counts.argmax())], int(counts.max()), len(labels), kind)

    @property
    def share(self) -> float:
        """Of all images."""
        return self.count / self.images

    def __str__(self) -> str:
        return f"largest class {self.share:.4f}"

    def describe(self) -> str:
        """Like "3: 35 of 288 validation images, 0.1215"."""
        return f"{_quoted(self.name)}: {self.count} of {self.images} {self.kind} images, {self.share:.4f}"

    def as_json(self) -> dict[str, Any]:
        """As it is printed and recorded."""
        return {"class": self.name, "images": self.count, "of": self.images, "share": self.share}

    def warning(self, accuracy: float) -> str:
        """In a sentence: that this accuracy is no better than the share; "" where it is."""
        if accuracy > self.share:
            return ""
        answer = f"always answering {_quoted(self.name)}"
        return (
            f"{self.kind.capitalize()} accuracy {accuracy:.4f} is no better than {answer}, "
            f"the class of {self.count} of {self.images} {self.kind} images ({self.share:.4f})."
        )


def macro(truth: np.ndarray, guess: np.ndarray) -> dict[str, float]:
    """Means of precision, recall and F1 over the classes that occur in truth (N,) or guess (N,), as scikit-learn's
    average="macro" has them. What would be divided by zero is 0.
    """
    from sklearn.metrics import precision_recall_fscore_support

    means = precision_recall_fscore_support(truth, guess, average="macro", zero_division=0.0)
    return {name: float(mean) for name, mean in zip(SCORES, means[:3], strict=True)}


def by_class(truth: np.ndarray, guess: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """For each class its precision, recall and F1, and the number of its images in truth (N,).

    The three are None of a class that neither occurs nor is predicted.
    """
    from sklearn.metrics import precision_recall_fscore_support

    scores = precision_recall_fscore_support(truth, guess, labels=range(len(classes)), zero_division=0.0)
    there = set(np.union1d(truth, guess).tolist())
    return [
        {"class": name}
        | {key: float(value) if number in there else None for key, value in zip(SCORES, values[:3], strict=True)}
        | {"images": int(values[3])}
        for number, (name, *values) in enumerate(zip(classes, *scores, strict=True))
    ]


def missing_classes(labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The classes that none of the labels (N,) is of."""
    counts = np.bincount(labels, minlength=len(classes))
    return [name for name, count in zip(classes, counts, strict=True) if not count]


def missing_class_warnings(kind: str, labels: np.ndarray, classes: Sequence[str], so: str) -> list[str]:
    """In at most one sentence: of which classes there is no image of this kind, and what follows."""
    names = missing_classes(labels, classes)
    if not names:
        return []
    listed = ", ".join(map(_quoted, names[:_NAMED]))
    if len(names) > _NAMED:
        listed += f", ... ({len(names)} of {len(classes)})"
    return [f"No {kind} image is of class{'es' if len(names) > 1 else ''} {listed}: {so}."]


def _quoted(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."


def largest_in_validation(data: Dataset, seed: int) -> LargestClass:
    """The largest class of the validation images that this seed makes."""
    return LargestClass.of(data.y[data.split_indices(seed)[1]], data.classes, "validation")


def class_warnings(data: Dataset, seed: int) -> list[str]:
    """In sentences: of which classes the split by this seed leaves no training or no validation image."""
    train, validation = (data.y[indices] for indices in data.split_indices(seed))
    found = missing_class_warnings("training", train, data.classes, "a network cannot learn what it has not seen")
    return found + missing_class_warnings(
        "validation", validation, data.classes, "the accuracy that ranks the trials leaves it out"
    )
