"""What images mean: the range of their values, the axis of their channels, and the memory that they take."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.backends import registry as backends
from core.config.architecture import Architecture
from core.config.settings import Settings
from core.data import dataset, pixels
from core.data import registry as datasets
from core.data.formats import npz_file
from core.data.images import Images
from core.errors import InputError
from core.storage import npz
from core.training.loop import train_group

ROOT = Path(__file__).resolve().parents[3]
DIGITS = datasets.load("digits")
INK = (DIGITS.x > 7).astype(np.uint8)
GREY = np.round(DIGITS.x[:, 0] * 15.9375).astype(np.uint8)  # 0 to 255


def saved(folder: Path, name: str = "a", **arrays: np.ndarray) -> str:
    np.savez(folder / f"{name}.npz", **arrays)
    return str(folder / f"{name}.npz")


def loaded(folder: Path, x: np.ndarray, **more: np.ndarray) -> dataset.Dataset:
    return datasets.load(saved(folder, x=x, y=DIGITS.y[: len(x)] if len(x) > 40 else np.arange(len(x)) % 3, **more))


def accuracy(found: dataset.Dataset) -> float:
    """The best on validation images in a few epochs."""
    backend, split = backends.load("reference"), found.split(0)
    images = [
        Images.on_device(backend, x, y, found.scale)
        for x, y in ((split.x_train, split.y_train), (split.x_validation, split.y_validation))
    ]
    shape = Architecture((1, 8, 8), (8,), 10)
    reports = train_group(backend, shape, [Settings(filters="8", lr=0.1, epochs=4, batch_size=32)], *images)
    return max(report.metrics[0]["val_accuracy"] for report in reports)


FORMS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "0 and 255": (lambda ink: ink * np.uint8(255), ""),
    "0 and 1": (lambda ink: ink, "x goes from 0 to 1: multiplied by 1"),
    "divided twice": (lambda ink: (ink / 255 / 255 * 255).astype(np.float32), "multiplied by 255"),
    "far from zero": (lambda ink: 1000.0 + ink, "x goes from 1000 to 1001: 1000.25 is subtracted"),
    "all but grey": (lambda ink: ink + np.uint8(200), "200.25 is subtracted, multiplied by 1"),
    "huge": (lambda ink: ink * 1e30, "multiplied by 1e-30"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_pictures_train_alike_in_every_form(tmp_path: Path, form: str) -> None:
    made, said = FORMS[form]
    found = loaded(tmp_path, made(INK[:, 0]))
    assert said in datasets.describe(found)
    assert ("(" in datasets.describe(found)) == bool(said)
    assert accuracy(found) > 0.8


KEPT: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "uint8": (lambda x: x, 1 / 255),
    "uint8 to 16": (lambda x: x // 16, 1 / 255),
    "dark": (lambda x: x // 5, 1 / 255),
    "floats": (lambda x: x / np.float32(255), 1.0),
    "floats to 255": (lambda x: x.astype(np.float32), 1.0),
    "floats to 65535": (lambda x: x * 257.0, 1.0),
    "from -1 to 1": (lambda x: x / 127.5 - 1, 1.0),
    "standardised": (lambda x: (x - x.mean()) / x.std(), 1.0),
    "bright": (lambda x: 1 + x / 255, 1.0),
    "of one value": (lambda x: np.full(x.shape, 0.5), 1.0),
}


@pytest.mark.parametrize("kind", KEPT)
def test_what_trains_as_it_is_is_left_as_it_is(tmp_path: Path, kind: str) -> None:
    made, scale = KEPT[kind]
    x = made(GREY)
    found = loaded(tmp_path, x)
    assert (repr(found.scale), found.pixels.offset) == (repr(scale), 0.0)
    np.testing.assert_array_equal(found.x[:, 0], x.astype(found.x.dtype))


def test_the_hash_of_what_is_left_as_it_is_stays(tmp_path: Path) -> None:
    x, y = np.arange(6 * 20, dtype=np.uint8).reshape(6, 1, 5, 4) * 2, np.arange(6) % 2
    known = {
        "uint8": "70fc1c7452ef816e8e99b3232c1b144510284953830f0adbf0633496a37674bf",
        "float64": "12600599bef64473b807b60281cafba2a3299deba1f8ca0cabf5032f1d25b84e",
    }
    for kind, sha256 in known.items():
        found = datasets.load(saved(tmp_path, x=x if kind == "uint8" else x / 255, y=y))
        assert found.sha256 == sha256


def test_test_images_do_not_decide(tmp_path: Path) -> None:
    test = {"x_test": np.full((4, 8, 8), 200, np.uint8), "y_test": np.arange(4)}
    found = loaded(tmp_path, INK[:, 0], **test)
    assert (found.scale, found.pixels.white) == (1.0, 1.0)
    assert "x goes from 0 to 1, x_test from 200 to 200: they should be alike" in datasets.describe(found)


def test_an_offset_is_taken_from_test_images_too(tmp_path: Path) -> None:
    far = 1e6 + INK[:50, 0].astype(np.float64) / 64  # which float32 would round to sixteenths
    found = loaded(tmp_path, far, x_test=far[:7], y_test=np.arange(7) % 3)
    assert found.x_test is not None
    np.testing.assert_array_equal(found.x[:, 0].astype(np.float64) + found.pixels.offset, far)
    np.testing.assert_array_equal(found.x_test, found.x[:7])
    assert found.sha256 != loaded(tmp_path, found.x[:, 0]).sha256


@pytest.mark.parametrize("least", [-1e-9, -0.02, -0.12])
def test_a_little_below_black_is_rounding_or_interpolation(least: float) -> None:
    x = np.linspace(0, 1, 5 * 64).reshape(5, 1, 8, 8)
    for white in (1, 255):
        low = x * white
        low[0, 0, 0, 0] = least * white
        pixel_range = pixels.infer_range(low)
        assert (pixel_range.black, pixel_range.white, pixel_range.offset, pixel_range.scale) == (0, white, 0, 1)
    assert (pixels.infer_range(2 * x - 1).black, pixels.infer_range(2 * x - 1).white) == (-1, 1)


@pytest.mark.parametrize("high", [1e-170, 1e-50, 1e-39])
def test_what_float32_cannot_hold_is_alike(high: float) -> None:
    x = np.zeros((9, 1, 4, 4))
    x[::2] = high
    pixel_range = pixels.infer_range(x)
    assert f"all pixels of x, 0 to {high:g}, are alike: nothing can be learnt" in pixel_range.note
    assert (pixel_range.scale, pixel_range.offset, pixel_range.black, pixel_range.white) == (1, 0, 0, 1)
    assert np.isfinite(pixel_range.as_picture(pixels.as_input(x, pixel_range.offset))).all()


def test_every_pixel_of_one_value_is_said(tmp_path: Path) -> None:
    assert "every pixel of x is 3: nothing" in datasets.describe(loaded(tmp_path, np.full((9, 4, 4), 3, np.uint8)))


def coloured(count: int = 9, height: int = 6, width: int = 8) -> np.ndarray:
    """Pictures (N, H, W, 3)."""
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)


LAST = {
    "colour": coloured(),
    "square": coloured(9, 6, 6),
    "with alpha": np.concatenate([coloured(), coloured()[..., :1]], -1),
    "grey and square": coloured(9, 8, 8)[..., :1],
    "many channels": coloured(9, 8, 8 * 2).reshape(9, 8, 8, 6),
}


@pytest.mark.parametrize("kind", LAST)
def test_channels_that_come_last_are_put_first(tmp_path: Path, kind: str) -> None:
    x = LAST[kind]
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    found = loaded(tmp_path, x, x_test=x[:4], y_test=np.arange(4) % 3)
    assert "(the channels of x come last)" in datasets.describe(found)
    np.testing.assert_array_equal(found.x, first)
    same = loaded(tmp_path, first, x_test=first[:4], y_test=np.arange(4) % 3)
    assert found.sha256 == same.sha256
    assert "come last" not in datasets.describe(same)


def test_test_images_may_have_the_other_layout(tmp_path: Path) -> None:
    x, y_test = coloured(), np.arange(4) % 3
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    for own, test, said in ((x, first, "x"), (first, x, "x_test")):
        found = loaded(tmp_path, own, x_test=test[:4], y_test=y_test)
        np.testing.assert_array_equal(found.x, first)
        np.testing.assert_array_equal(found.x_test, first[:4])
        assert f"(the channels of {said} come last)" in datasets.describe(found)


FIRST = [(3, 32, 32), (1, 28, 28), (1, 28, 1), (1, 5, 3), (3, 128, 1), (9, 1, 128), (16, 8, 8), (512, 7, 7), (2, 5, 4)]
FIRST += [(32, 32, 32), (3, 3, 3), (13, 64, 60), (40, 30, 20)]


@pytest.mark.parametrize("shape", FIRST)
def test_channels_that_come_first_stay(shape: tuple[int, int, int]) -> None:
    x = np.empty((2, *shape), np.uint8)
    found, last = pixels.channels_first(x, "x")
    assert (found.shape, last) == (x.shape, False)


@pytest.mark.parametrize("shape", [(3, 32, 3), (2, 32, 3), (28, 20, 1), (9, 128, 1)])
def test_where_sizes_do_not_tell_the_file_must(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, *shape), np.uint8)
    with pytest.raises(
        InputError, match=r'a\.npz: x has shape .* may be first or last: .* data_format="channels_first"'
    ):
        loaded(tmp_path, x)
    assert loaded(tmp_path, x, data_format=np.array("channels_first")).x.shape == x.shape
    last = loaded(tmp_path, x, data_format=np.array("channels_last"))
    np.testing.assert_array_equal(last.x, x.transpose(0, 3, 1, 2))
    with pytest.raises(InputError, match="data_format is NHWC: it must be channels_first or channels_last"):
        loaded(tmp_path, x, data_format=np.array("NHWC"))


PEAK = """
import os, sys
from pathlib import Path
from core.data import registry
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
registry.load(sys.argv[1])  # what it imports does not count
for path in sys.argv[2:]:
    if not os.fork():  # each in a process of its own, which has nothing to give back
        registry.load(sys.argv[1])  # nor what it touches
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
        registry.load(path)
        print(peak() - before)
        break
    os.wait()
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's count of peak memory")
def test_the_memory_that_is_asked_for_is_what_loading_takes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (300, 3, 64, 64), np.uint8)
    paths, needed = [saved(tmp_path, "small", x=GREY, y=DIGITS.y)], []

    def memory(headers: dict[str, npz.Header]) -> int:
        needed.append(npz_file._memory(headers))
        return 0

    arrays = [values, *((values / 255).astype(kind) for kind in ("<f2", "<f4", "<f8"))]
    arrays += [np.asfortranarray(arrays[0]), np.asfortranarray(arrays[2]), np.moveaxis(values, 1, 3)]
    forms = [(f"{number}", x, np.savez) for number, x in enumerate(arrays)]
    forms.append(("deflated", values, np.savez_compressed))
    for name, x, save in forms:
        paths.append(str(tmp_path / f"{name}.npz"))
        save(paths[-1], x=x, y=np.arange(300) % 3, x_test=x[:60], y_test=np.arange(60) % 3)
        npz.read(Path(paths[-1]), memory=memory)  # type: ignore[arg-type]
    done = subprocess.run([sys.executable, "-c", PEAK, *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    for path, asked, measured in zip(paths[1:], needed, map(int, done.stdout.split()), strict=True):
        assert abs(measured - asked) < 3 * 2**20, (Path(path).name, measured / asked)


def test_what_does_not_fit_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, x=np.zeros((512, 64, 64), np.float16), y=np.arange(512) % 3)
    monkeypatch.setattr(npz, "available_memory", lambda: 6 * 2**20)  # the file has 4 MiB
    with pytest.raises(InputError, match=r"a\.npz is not a readable \.npz: 12 MiB are needed to read it, 6 are free"):
        datasets.load(path)


def test_memory_for_images_without_offset_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(200, 202, (1024, 64, 64), np.uint8)  # 4 MiB, as floats 16
    test = {"x_test": x[:512], "y_test": np.arange(512) % 3}
    path = saved(tmp_path, x=x, y=np.arange(1024) % 3, **test)
    held = []

    def available() -> int:
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.reset_peak()
        return 2**40

    monkeypatch.setattr(npz_file, "available_memory", available)
    tracemalloc.start()
    try:
        assert datasets.load(path).pixels.offset
        taken = tracemalloc.get_traced_memory()[1] - held[0]
    finally:
        tracemalloc.stop()
    assert abs(taken - 20 * 2**20) < 3 * 2**20  # that of x, and 8 for x_test, while the 4 of x have been given back
    monkeypatch.setattr(npz_file, "available_memory", lambda: 20 * 2**20 - 1)
    with pytest.raises(InputError, match=r"a\.npz: 20 MiB are needed to subtract 200\.5 from its images, 20 are free"):
        datasets.load(path)


def test_what_cannot_be_shuffled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    large = replace(DIGITS, x=np.zeros((1024, 1, 64, 64), np.uint8))
    monkeypatch.setattr(dataset, "available_memory", lambda: 2**21)
    with pytest.raises(InputError, match="scikit-learn: 4 MiB are needed to shuffle its images, 2 are free"):
        large.split(0)
