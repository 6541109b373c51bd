"""Data sets: what each is, how it is split, and what an .npz must be."""

from __future__ import annotations

import re
import struct
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.data import registry as datasets
from core.errors import InputError


def good() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.integers(0, 256, (30, 2, 5, 4), dtype=np.uint8),
        "y": np.arange(30) % 3,
        "x_test": rng.integers(0, 256, (7, 2, 5, 4), dtype=np.uint8),
        "y_test": np.arange(7) % 3,
    }


def save(path: Path, arrays: dict[str, Any]) -> str:
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return str(path)


def test_digits() -> None:
    digits = datasets.load("digits")
    assert digits.x.shape == (1437, 1, 8, 8)
    assert digits.x_test is not None
    assert digits.x_test.shape == (360, 1, 8, 8)
    assert (digits.x.dtype, digits.scale, len(digits.classes)) == (np.uint8, 1 / 16, 10)
    assert digits.x.max() == 16
    assert datasets.load("digits").sha256 == digits.sha256


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without CIFAR-10."""
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("SWEEP_ROOT", str(tmp_path))
    return tmp_path


def test_auto_falls_back_to_digits_and_says_so(nowhere: Path) -> None:
    for name in (None, "auto"):
        found = datasets.load(name)
        assert found.name == "digits"
        assert re.search(r"\(CIFAR-10 not found: run `.*python -m core.cifar10`", datasets.describe(found))
    assert "CIFAR-10" not in datasets.describe(datasets.load("digits"))
    with pytest.raises(InputError, match=r"-m core\.cifar10` downloads it"):
        datasets.load("cifar10")
    with pytest.raises(InputError, match="--data-dir is"):
        datasets.load(None, nowhere)


def test_a_split_is_shuffled_by_seed_and_loses_nothing(tmp_path: Path) -> None:
    arrays = good() | {
        "x": np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1).repeat(2, 1),
        "x_test": None,
        "y_test": None,
    }
    loaded = datasets.load(save(tmp_path / "a.npz", arrays))
    split = loaded.split(3)
    assert (len(split.x_train), len(split.x_validation)) == (24, 6)
    order = np.concatenate([split.x_train, split.x_validation])[:, 0, 0, 0]
    assert sorted(order) == list(range(30))
    assert list(order) != list(range(30))
    np.testing.assert_array_equal(np.concatenate([split.y_train, split.y_validation]), loaded.y[order])
    np.testing.assert_array_equal(loaded.split(3).x_train, split.x_train)
    assert (loaded.split(4).x_train != split.x_train).any()


def test_own_data_keeps_its_pixels(tmp_path: Path) -> None:
    loaded = datasets.load(save(tmp_path / "my data.npz", good() | {"classes": np.array(["a", "b", "c"])}))
    assert (loaded.name, loaded.scale, loaded.classes) == ("my_data", 1 / 255, ("a", "b", "c"))
    np.testing.assert_array_equal(loaded.x, good()["x"])
    floats = datasets.load(save(tmp_path / "f.npz", {"x": np.full((6, 5, 4), 0.5), "y": np.arange(6) % 2}))
    assert (floats.x.shape, floats.x.dtype, floats.scale) == ((6, 1, 5, 4), np.float32, 1.0)
    assert floats.x_test is None


def test_the_hash_tells_any_change(tmp_path: Path) -> None:
    hashes = {datasets.load(save(tmp_path / "a.npz", good())).sha256}
    for key in good():
        changed = good()
        changed[key] = changed[key].copy()
        changed[key].flat[-1] ^= 1
        hashes.add(datasets.load(save(tmp_path / "a.npz", changed)).sha256)
    hashes.add(datasets.load(save(tmp_path / "a.npz", good() | {"x_test": None, "y_test": None})).sha256)
    assert len(hashes) == 6


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no x": ({"x": None, "x_train": good()["x"]}, "no array x: .*; there are: y, x_test, y_test, x_train$"),
    "no y": ({"y": None}, "no array y"),
    "objects": ({"x": np.array([{}] * 30, object)}, "x holds Python objects"),
    "object labels": ({"y": np.array([0, 1, "2"] * 10, object)}, "y holds Python objects"),
    "two axes": ({"x": np.zeros((30, 5), np.uint8)}, r"x has shape \(30, 5\)"),
    "no pixel": ({"x": np.zeros((30, 2, 0, 4), np.uint8)}, "x has shape"),
    "signed pixels": ({"x": np.zeros((30, 2, 5, 4), int)}, "x holds int64"),
    "beyond float32": ({"x": np.full((30, 2, 5, 4), 1e300), "x_test": None, "y_test": None}, "too large for float32"),
    "nan": ({"x": np.full((30, 2, 5, 4), np.nan), "x_test": None, "y_test": None}, "nan"),
    "lengths": ({"y": np.arange(29) % 3}, "29 labels for 30 images"),
    "float labels": ({"y": np.arange(30) % 3 / 1.0}, "y is float64"),
    "negative label": ({"y": np.arange(30) % 3 - 1}, "labels from -1 to 1"),
    "huge label": ({"y": np.arange(30) * 10**9}, "labels from 0"),
    "one class": ({"y": np.zeros(30, int), "y_test": np.zeros(7, int)}, "1 classes"),
    "half a test": ({"y_test": None}, "only one of x_test and y_test"),
    "test of another shape": ({"x_test": np.zeros((7, 2, 5, 5), np.uint8)}, "they must be alike"),
    "test of another type": ({"x_test": np.zeros((7, 2, 5, 4))}, "they must be alike"),
    "few images": ({"x": good()["x"][:4], "y": np.arange(4) % 3}, "at least 5"),
    "class names": ({"classes": np.array(["a", "b"])}, "at least 3 names"),
    "class names without end": ({"classes": np.array(["a"] * 10_001)}, "at least 3 names"),
    "two classes of one name": ({"classes": np.array(["a", "b", "a"])}, 'two classes are called "a"'),
    "class numbers": ({"classes": np.arange(3)}, "at least 3 names"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_get_one_clear_line(tmp_path: Path, case: str) -> None:
    changes, expected = BAD[case]
    path = save(tmp_path / "bad.npz", good() | changes)
    with pytest.raises(InputError, match=expected) as caught:
        datasets.load(path)
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def member(header: str, content: bytes) -> bytes:
    """An .npy of any header, also of one that NumPy would not write."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


def header(shape: str, kind: str = "|u1") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}"


LYING = {
    "a bomb": (header("(1000000, 3, 300, 300)"), r"x announces \d+ bytes and holds 30"),
    "a shape below zero": (header("(-30, 1, 1)"), "x announces -30 bytes"),
    "two sizes below zero": (header("(-30, -1, 1)"), "is not a readable .npz"),
    "fewer images than bytes": (header("(29, 1, 1)"), "x announces 29 bytes and holds 30"),
    "more images than bytes": (header("(31, 1, 1)"), "x announces 31 bytes and holds 30"),
    "objects": (header("(30, 1, 1)", "|O"), "x holds Python objects"),
    "a header cut off": (header("(30, 1, 1")[:-1], "is not a readable .npz"),
}


@pytest.mark.parametrize("case", LYING)
def test_lying_headers_get_one_clear_line(tmp_path: Path, case: str) -> None:
    """The zip file itself is whole, with all its checksums right."""
    text, expected = LYING[case]
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("x.npy", member(text, bytes(30)))
        archive.writestr("y.npy", member(header("(30,)"), bytes([0, 1] * 15)))
    with pytest.raises(InputError, match=expected) as caught:
        datasets.load(str(tmp_path / "bad.npz"))
    assert "\n" not in str(caught.value)


def test_a_bomb_that_announces_little_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", member(header("(30, 1, 1)"), bytes(2**28)))
    content = path.read_bytes()
    for size in struct.pack("<I", zipfile.ZipFile(path).infolist()[0].file_size), b"\0\0\0\x10":
        content = content.replace(size, struct.pack("<I", 200))
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="Bad CRC-32"):
            datasets.load(str(path))
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_does_not_write_is_not_unpacked(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", member(header("(30, 1, 1)"), bytes(30)))
    with pytest.raises(InputError, match=r"x\.npy is compressed in a way that NumPy does not write"):
        datasets.load(str(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_truncated_and_flipped_files_give_clear_errors_or_the_same_data(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        for key, values in good().items():
            with archive.open(f"{key}.npy", "w") as file:
                np.lib.format.write_array(file, values)
    whole = path.read_bytes()
    reference = datasets.load(str(path)).sha256
    rng = np.random.default_rng(1)
    variants = [whole[:length] for length in rng.integers(0, len(whole), 60)]
    for place in rng.integers(0, len(whole), 200):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        variants.append(bytes(flipped))
    refused = 0
    for variant in variants:
        path.write_bytes(variant)
        try:
            assert datasets.load(str(path)).sha256 == reference
        except InputError:
            refused += 1
    assert refused > 100


def test_unknown_names(nowhere: Path) -> None:
    with pytest.raises(InputError, match='data is "mnist": it must be auto, cifar10, digits'):
        datasets.load("mnist")
    with pytest.raises(InputError, match="there is no file"):
        datasets.load(str(nowhere / "none.npz"))


def test_a_format_is_a_line_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets.FILES, ".toy", lambda path: replace(datasets.load("digits"), name=path.stem))
    assert datasets.load(str(tmp_path / "mine.toy")).name == "mine"
    assert [datasets.is_file(name) for name in ("a.toy", "b.npz", "digits", "c.txt")] == [True, True, False, False]
    with pytest.raises(InputError, match=r"or \.toy file"):
        datasets.load("mnist")


def test_the_line_says_what_was_chosen() -> None:
    line = datasets.describe(datasets.load("digits"))
    for part in ("digits", "1437", "1x8x8", "360 for test", "10 classes"):
        assert part in line
