"""A model's file: whole or refused, whatever happened to its bytes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.config.architecture import Architecture
from core.config.settings import Settings
from core.errors import InputError
from core.export import model_npz
from core.network.parameters import architecture_arrays, architecture_of, initial_model
from core.storage import npz as npz_files
from tests.helpers.cases import NETWORKS

SMALL = Architecture((2, 6, 7), (3, 4), 5)
TINY = Architecture((1, 2, 2), (1,), 2)  # whose file is so small that every byte of it can be tried


def model(architecture: Architecture = SMALL) -> dict[str, np.ndarray]:
    arrays = {name: values[0] for name, values in initial_model(architecture, [Settings()]).items()}
    return arrays | architecture_arrays(architecture)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.npz"
    model_npz.save_model(path, model(TINY))
    return path


@pytest.mark.parametrize("architecture", NETWORKS.values(), ids=NETWORKS)
def test_what_is_saved_is_loaded(tmp_path: Path, architecture: Architecture) -> None:
    path, saved = tmp_path / "model.npz", model(architecture)
    model_npz.save_model(path, saved)
    loaded = model_npz.load_model(path)
    assert list(loaded) == list(saved)
    for name, values in saved.items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_array_equal(loaded[name], values)
    assert architecture_of(loaded, architecture.input_shape) == architecture
    assert [left.name for left in tmp_path.iterdir()] == ["model.npz"]


def test_the_reports_network_makes_a_file_of_the_published_layout(file: Path) -> None:
    model_npz.save_model(file, model(Architecture((3, 8, 8), (3, 4), 10)))
    with np.load(file) as published:
        assert published.files == [
            *("w1", "b1", "gamma1", "beta1", "running_mean1", "running_var1"),
            *("w2", "b2", "gamma2", "beta2", "running_mean2", "running_var2", "w3", "b3"),
        ]


def test_a_file_of_the_published_layout_loads(tmp_path: Path) -> None:
    """Published files hold float64, also of scalars, and are compressed or not."""
    arrays = {name: values.astype(np.float64) for name, values in model().items()}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "published.npz", **arrays, best_val_acc=np.float64(0.7), epoch=np.array(12))
        loaded = model_npz.load_model(tmp_path / "published.npz")
        assert architecture_of(loaded, (2, 6, 7)) == SMALL
        np.testing.assert_array_equal(loaded["w3"], model()["w3"])
        assert loaded["epoch"] == 12


def test_arrays_may_be_stored_by_columns(tmp_path: Path) -> None:
    np.savez(tmp_path / "columns.npz", w1=np.asfortranarray(model()["w1"]))
    np.testing.assert_array_equal(model_npz.load_model(tmp_path / "columns.npz")["w1"], model()["w1"])


def test_damage_in_a_compressed_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "compressed.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w1.npy", npy(model()["w1"]))
    np.testing.assert_array_equal(model_npz.load_model(path)["w1"], model()["w1"])
    whole = path.read_bytes()
    for place in (39, *range(60, 140, 8)):  # beyond the headers, before the end of the shortest
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"is not a readable \.npz"):
            model_npz.load_model(path)


def test_a_file_too_large_for_memory_is_refused_before_it_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_files, "LARGEST", 1000)
    with pytest.raises(InputError, match=r"it announces 0\.0 GiB, at most 0\.0 are read"):
        model_npz.load_model(file)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ValueError, match="allow_pickle"):
        model_npz.save_model(file, {"w1": np.ones(1000), "b1": np.array([object()])})
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_who_reads_the_old_file_during_a_save_reads_all_of_it(file: Path) -> None:
    before = file.read_bytes()
    with open(file, "rb") as reader:
        start = reader.read(100)
        model_npz.save_model(file, model())
        assert start + reader.read() == before
    assert set(model_npz.load_model(file)) == set(model())


def refused(path: Path, damaged: bytes) -> bool:
    """Whether the file, so damaged, is refused as a model; a file that is taken must be what was saved."""
    path.write_bytes(damaged)
    try:
        loaded = model_npz.load_model(path)
        assert architecture_of(loaded, TINY.input_shape) == TINY
    except InputError:
        return True
    for name, values in model(TINY).items():
        np.testing.assert_array_equal(loaded[name], values)
    return False


def test_a_file_cut_short_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    assert all(refused(file, whole[:length]) for length in range(len(whole)))
    assert not refused(file, whole)


@pytest.mark.slow("flips a bit of every byte of a file")
def test_a_flipped_bit_is_refused_or_does_no_harm(file: Path) -> None:
    whole = file.read_bytes()
    found = 0
    for place, bit in enumerate(np.random.default_rng(0).integers(0, 8, len(whole))):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        found += refused(file, bytes(damaged))
    assert found > len(whole) / 2  # the rest are dates, versions and the like


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a readable .npz"),
        (b"hello", "is not a readable .npz"),
        (npy(np.ones(3)), "is not a readable .npz"),
        (npz(w1=np.array([print])), "w1 holds Python objects, which are never loaded"),
        (zipped(w1=b"text"), "is not a readable .npz"),
        (zipped(**{"w1.npy": b"text"}), "is not a readable .npz"),
        (zipped(**{"w1.npy": npy(np.ones(3)) + b"more"}), "w1 announces 24 bytes and holds 28"),
        (zipped(**{"w1.npy": npy(np.ones(3))[:-8]}), "w1 announces 24 bytes and holds 16"),
        (npz(w1=np.array(["a"])), "w1 holds <U1, not numbers"),
        (npz(w1=np.array([1j])), "w1 holds complex128, not numbers"),
        (npz(w1=np.array([1.0, np.nan])), "w1 holds nan, inf or a number beyond float32"),
        (npz(w1=np.array([np.inf])), "w1 holds nan, inf or a number beyond float32"),
        (npz(w1=np.array([1e300])), "w1 holds nan, inf or a number beyond float32"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        model_npz.load_model(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        model_npz.load_model(tmp_path / "none.npz")
    with pytest.raises(InputError, match="is not a readable"):
        model_npz.load_model(tmp_path)
