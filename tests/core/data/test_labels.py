"""Which of a file's labels is which class, and what the classes are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.data import registry as datasets
from core.data.dataset import Dataset
from core.errors import InputError

X = (np.arange(360) % 251).astype(np.uint8).reshape(30, 1, 3, 4)
Y = np.arange(30) % 3
SUITS = np.array(["clubs", "hearts", "spades"])


def loaded(folder: Path, y: np.ndarray, **more: np.ndarray) -> Dataset:
    np.savez(folder / "own.npz", x=X[: len(y)], y=y, **more)
    return datasets.load(str(folder / "own.npz"))


AS_EVER = {  # with the SHA-256 that such a file has always had
    "from 0": ({"y": Y}, "7fb5de1e06ff", ("0", "1", "2")),
    "with a test": ({"y": Y, "x_test": X[:7], "y_test": Y[:7]}, "d6d11a3f0b42", ("0", "1", "2")),
    "a class for the test alone": (
        {"y": Y.astype(np.uint8), "x_test": X[:7], "y_test": (Y[:7] + 1).astype(np.int16)},
        "83ca4dc73799",
        ("0", "1", "2", "3"),
    ),
    "named": ({"y": Y, "classes": np.array(["a", "b", "c"])}, "e5ec706389c2", ("a", "b", "c")),
    "more names than labels": ({"y": Y, "classes": np.array(list("abcde"))}, "ac83c8902ea3", tuple("abcde")),
    "a name for label 0, which is missing": (
        {"y": Y + 1, "classes": np.array(list("abcd"))},
        "e824db26daab",
        tuple("abcd"),
    ),
}


@pytest.mark.parametrize("case", AS_EVER)
def test_labels_that_count_the_classes_from_0_are_taken_as_they_are(tmp_path: Path, case: str) -> None:
    arrays, sha256, names = AS_EVER[case]
    found = loaded(tmp_path, **arrays)
    assert (found.sha256[:12], found.classes, found.note) == (sha256, names, "")
    np.testing.assert_array_equal(found.y, arrays["y"])


GAPS = np.array([7, 0, 63])[Y]  # 0, 7 and 63 become 0, 1 and 2
OTHERS = {
    "from 1": (Y + 1, None, ("1", "2", "3"), Y, "labels 1 to 3 are classes 0 to 2, each named after its label"),
    "gaps": (GAPS, None, ("0", "7", "63"), np.array([1, 0, 2])[Y], "labels 0, 7, 63 are classes 0 to 2, each named"),
    "a gap": (Y + (Y == 2), None, ("0", "1", "3"), Y, "labels 0, 1, 3 are classes 0 to 2, each named after its label"),
    "from 1, named": (Y + 1, SUITS, SUITS, Y, "labels 1 to 3 are classes clubs to spades, in the order of classes"),
    "gaps, named": (GAPS, SUITS, SUITS, np.array([1, 0, 2])[Y], "labels 0, 7, 63 are classes clubs to spades, in the"),
    "from 1, and one of no image": (2 * (Y > 0) + 1, SUITS, SUITS, 2 * (Y > 0), "labels 1 to 3 are classes clubs to"),
    "many": (
        5 * np.arange(30),
        None,
        tuple(map(str, range(0, 150, 5))),
        np.arange(30),
        "labels 0, 5, 10, ..., 145 are",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_labels_that_leave_numbers_out_make_no_classes_of_them(tmp_path: Path, case: str) -> None:
    y, names, classes, expected, note = OTHERS[case]
    found = loaded(tmp_path, y, **({} if names is None else {"classes": names}))
    assert found.classes == tuple(classes)
    np.testing.assert_array_equal(found.y, expected)
    assert found.y.dtype == np.int64
    assert f"({note}" in datasets.describe(found)
    assert f", {len(classes)} classes, " in datasets.describe(found)


def test_test_labels_are_the_same_classes(tmp_path: Path) -> None:
    found = loaded(tmp_path, Y + 1, x_test=X[:4], y_test=np.array([3, 1, 9, 2], np.uint16))
    assert found.classes == ("1", "2", "3", "9")
    assert found.y_test is not None
    assert found.y_test.tolist() == [2, 0, 3, 1]
    np.testing.assert_array_equal(found.y, Y)


def test_other_labels_of_the_same_classes_are_other_data(tmp_path: Path) -> None:
    assert len({loaded(tmp_path, y).sha256 for y in (Y, Y + 1, GAPS)}) == 3


REFUSED = {
    "gaps that no names fit": (np.array([0, 7, 63])[Y], list("abcde"), "5 names for the labels 0, 7, 63: give one for"),
    "one name too few": (Y + 1, list("ab"), "at least 3 names as text"),
    "a name too few where label 0 occurs": (np.array([0, 1, 4])[Y], list("abcd"), "4 names for the labels 0, 1, 4: "),
    "one label": (np.full(30, 7), None, "the labels make 1 classes"),
    "one label, named": (np.full(30, 1), list("ab"), "the labels make 1 classes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_fit_no_names_get_one_clear_line(tmp_path: Path, case: str) -> None:
    y, names, expected = REFUSED[case]
    with pytest.raises(InputError, match=expected) as caught:
        loaded(tmp_path, y, **({} if names is None else {"classes": np.array(names)}))
    assert "own.npz" in str(caught.value)
    assert "\n" not in str(caught.value)
