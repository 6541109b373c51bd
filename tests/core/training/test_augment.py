"""Augmentation: each change against plain Python on single images, what it may depend on, and its distributions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from core.config.settings import AUGMENTATIONS, Settings
from core.errors import InputError
from core.random import Purpose, uniform
from core.training import augment as module
from core.training.augment import augment, augment_by, check_fits, shifted

SEED, STEP = 2**40 + 3, 17
EVERYTHING = {
    "flip": 0.5,
    "crop": 2,
    "rotate": 40.0,
    "brightness": 0.3,
    "contrast": 0.5,
    "saturation": 0.8,
    "noise": 0.1,
    "cutout": 3,
}
EACH_ALONE = [{name: value} for name, value in EVERYTHING.items()]
SHAPES = [(1, 6, 9), (2, 7, 5), (3, 5, 8), (3, 3, 3)]  # the first values of an image are an odd number in some

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def rows(*trials: dict[str, float]) -> np.ndarray:
    """The trials' strengths (T, 8)."""
    return np.array([[trial.get(name, 0) for name in AUGMENTATIONS] for trial in trials], np.float64)


def batch(shape: tuple[int, int, int], count: int = 12, dtype: type = np.float64) -> np.ndarray:
    x = np.random.default_rng(5).random((1, count, *shape)).astype(dtype)
    x.flags.writeable = False  # augment must not change what all trials share
    return x


def one(x: np.ndarray, seed: int = SEED, step: int = STEP, **strength: float) -> np.ndarray:
    """The images (N, C, H, W) as a single trial sees them."""
    y = augment(x, rows(strength), seed, step)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    return y[0]


def draws(purpose: Purpose, count: int, each: int) -> np.ndarray:
    """The uniform numbers (count, each) of the batch's images."""
    return uniform(np.array([SEED], np.uint64), purpose, STEP, count * each).reshape(count, each).astype(np.float64)


# ------------------------------------------------------------------------------- the same on one image, in plain Python


def pixel(image: np.ndarray, i: int, j: int) -> np.ndarray:
    """(C,), zero outside."""
    _, height, width = image.shape
    return image[:, i, j] if 0 <= i < height and 0 <= j < width else np.zeros(len(image))


def remade(image: np.ndarray, value: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """An image of the same shape with value(i, j) (C,) in row i, column j."""
    y = np.zeros(image.shape)
    for i, j in np.ndindex(image.shape[1:]):
        y[:, i, j] = value(i, j)
    return y


def grey(image: np.ndarray) -> np.ndarray:
    return image[0] * 0.299 + image[1] * 0.587 + image[2] * 0.114 if len(image) == 3 else image.mean(axis=0)


def crop(image: np.ndarray, strength: int, u: np.ndarray) -> np.ndarray:
    top, left = (math.floor(v * (2 * strength + 1)) - strength for v in u)
    return remade(image, lambda i, j: pixel(image, i + top, j + left))


def flip(image: np.ndarray, strength: float, u: np.ndarray) -> np.ndarray:
    return image[:, :, ::-1] if u[0] < strength else image


def rotate(image: np.ndarray, strength: float, u: np.ndarray) -> np.ndarray:
    angle = math.radians(strength * (2 * u[0] - 1))
    middle, centre = (image.shape[1] - 1) / 2, (image.shape[2] - 1) / 2

    def value(i: int, j: int) -> np.ndarray:
        z = complex(j - centre, middle - i) / complex(math.cos(angle), math.sin(angle))  # the pixel before its turn
        row, column = middle - z.imag, centre + z.real
        top, left = math.floor(row), math.floor(column)
        return sum(
            pixel(image, k, m) * (1 - abs(row - k)) * (1 - abs(column - m))
            for k in (top, top + 1)
            for m in (left, left + 1)
        )

    return remade(image, value)


def brightness(image: np.ndarray, strength: float, u: np.ndarray) -> np.ndarray:
    return image * (1 - strength + 2 * strength * u[0])


def contrast(image: np.ndarray, strength: float, u: np.ndarray) -> np.ndarray:
    factor = 1 - strength + 2 * strength * u[1]
    return factor * image + (1 - factor) * grey(image).mean()


def saturation(image: np.ndarray, strength: float, u: np.ndarray) -> np.ndarray:
    factor = 1 - strength + 2 * strength * u[2]
    return factor * image + (1 - factor) * grey(image)


def noise(image: np.ndarray, strength: float, u: np.ndarray) -> np.ndarray:
    half = len(u) // 2
    radius = [math.sqrt(-2 * math.log(1 - v)) for v in u[:half]]
    z = [r * math.cos(2 * math.pi * v) for r, v in zip(radius, u[half:], strict=True)]
    z += [r * math.sin(2 * math.pi * v) for r, v in zip(radius, u[half:], strict=True)]
    return image + strength * np.array(z[: image.size]).reshape(image.shape)


def cutout(image: np.ndarray, strength: int, u: np.ndarray) -> np.ndarray:
    i, j = (math.floor(v * size) for v, size in zip(u, image.shape[1:], strict=True))
    before, after = strength // 2, (strength + 1) // 2
    y = image.copy()
    y[:, max(i - before, 0) : i + after, max(j - before, 0) : j + after] = 0
    return y


CHANGES: dict[str, tuple[Callable[..., np.ndarray], Purpose, int]] = {  # in their order; numbers for an image
    "crop": (crop, Purpose.CROP, 2),
    "flip": (flip, Purpose.FLIP, 1),
    "rotate": (rotate, Purpose.ROTATE, 1),
    "brightness": (brightness, Purpose.COLOUR, 3),
    "contrast": (contrast, Purpose.COLOUR, 3),
    "saturation": (saturation, Purpose.COLOUR, 3),
    "noise": (noise, Purpose.NOISE, 0),
    "cutout": (cutout, Purpose.CUTOUT, 2),
}


def expected(x: np.ndarray, strength: dict[str, Any]) -> np.ndarray:
    """(N, C, H, W), image by image."""
    images = list(x[0])
    for name, (change, purpose, each) in CHANGES.items():
        if strength.get(name):
            u = draws(purpose, len(images), each or math.ceil(images[0].size / 2) * 2)
            images = [change(image, strength[name], u[i]) for i, image in enumerate(images)]
    return np.stack(images)


@each_shape
@pytest.mark.parametrize("strength", [*EACH_ALONE, {"cutout": 2}, {"rotate": 180.0}], ids=str)
def test_each_change_is_that_of_plain_python(shape: tuple[int, int, int], strength: dict[str, Any]) -> None:
    x = batch(shape)
    y = one(x, **strength)
    np.testing.assert_allclose(y, expected(x, strength), rtol=1e-12, atol=1e-12)
    assert np.allclose(y, x[0]) == ("saturation" in strength and shape[0] == 1)  # one channel has no colours


@each_shape
def test_changes_come_in_their_order(shape: tuple[int, int, int]) -> None:
    x = batch(shape)
    np.testing.assert_allclose(one(x, **EVERYTHING), expected(x, EVERYTHING), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strength", [{"crop": 2}, {"flip": 0.5}, {"crop": 3, "flip": 0.5}, {"cutout": 3}], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_pixels_keep_their_exact_values(dtype: type, strength: dict[str, Any]) -> None:
    x = batch((3, 5, 8), dtype=dtype)
    np.testing.assert_array_equal(one(x, **strength), expected(x, strength).astype(dtype))


@pytest.mark.slow("loads PyTorch")
def test_rotation_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    x = batch((2, 7, 10))
    _, count, _, height, width = x.shape
    angle = np.radians(150 * (2 * draws(Purpose.ROTATE, count, 1)[:, 0] - 1))
    cos, sin, zero = np.cos(angle), np.sin(angle), 0 * angle
    theta = np.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], axis=1).reshape(count, 2, 3)
    grid = torch.nn.functional.affine_grid(torch.tensor(theta), x.shape[1:], align_corners=False)
    y = torch.nn.functional.grid_sample(torch.tensor(x[0]), grid, padding_mode="zeros", align_corners=False)
    np.testing.assert_allclose(one(x, rotate=150), y.numpy(), atol=1e-12)


@pytest.mark.parametrize("size", [4, 5])
def test_rotation_turns_counter_clockwise_about_the_centre(size: int) -> None:
    x = batch((1, size, size), count=4)[0]
    y = module._rotated(x, np.array([0.0, 90.0, -90.0, 180.0]))
    turned = [np.rot90(image, turns, axes=(1, 2)) for image, turns in zip(x, (0, 1, -1, 2), strict=True)]
    np.testing.assert_allclose(y, turned, atol=1e-12)
    np.testing.assert_array_equal(y[0], x[0])


def test_grey_images_have_no_saturation() -> None:
    x = np.repeat(batch((1, 6, 7)), 3, axis=2)
    np.testing.assert_allclose(one(x, saturation=1), x[0], rtol=1e-14)
    x = batch((1, 6, 7))
    np.testing.assert_array_equal(one(x, saturation=1), x[0])


# ------------------------------------------------------------------------------------- what a trial's images depend on

TRIALS = [EVERYTHING, {}, {"flip": 1.0, "noise": 0.2}, EVERYTHING | {"rotate": 0.0}, {"cutout": 2}, EVERYTHING]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_trial_among_others_sees_what_it_sees_alone(dtype: type) -> None:
    x = batch((3, 7, 5), dtype=dtype)
    together = augment(x, rows(*TRIALS), SEED, STEP)
    assert together.shape == (len(TRIALS), *x.shape[1:])
    assert together.dtype == dtype
    for trial, images in zip(TRIALS, together, strict=True):
        np.testing.assert_array_equal(images, one(x, **trial))
    order = [3, 0, 5, 2, 1, 4]
    np.testing.assert_array_equal(augment(x, rows(*TRIALS)[order], SEED, STEP), together[order])


def test_trials_of_equal_strengths_share_one_batch() -> None:
    x = batch((3, 7, 5))
    shared = augment(x, rows(EVERYTHING, EVERYTHING, EVERYTHING), SEED, STEP)
    assert shared.shape == x.shape
    np.testing.assert_array_equal(shared[0], one(x, **EVERYTHING))


def test_nothing_asked_for_returns_the_batch_itself() -> None:
    x = batch((3, 7, 5))
    assert augment(x, rows({}), SEED, STEP) is x
    assert augment(x, rows({}, {}, {}), SEED, STEP) is x


def test_numbers_are_drawn_once_and_only_if_a_trial_needs_them() -> None:
    drawn: list[Purpose] = []

    def counted(seed: np.ndarray, purpose: Purpose, *rest: Any) -> np.ndarray:
        drawn.append(purpose)
        return uniform(seed, purpose, *rest)

    for strength in EACH_ALONE:
        drawn.clear()
        strengths = rows(strength, {}, {name: value / 2 for name, value in strength.items()})
        augment_by(batch((3, 7, 5)), strengths, 0, 0, shift=shifted, uniform=counted)
        assert drawn == [CHANGES[next(iter(strength))][1]]


@pytest.mark.parametrize("strength", EACH_ALONE, ids=str)
def test_draws_differ_by_seed_step_and_image_and_come_again(strength: dict[str, Any]) -> None:
    x = np.repeat(batch((3, 8, 9), count=1), 40, axis=1)
    y = one(x, **strength)
    np.testing.assert_array_equal(one(x, **strength), y)
    for other in (one(x, step=STEP + 1, **strength), one(x, seed=SEED + 1, **strength), np.roll(y, 1, axis=0)):
        assert (y != other).any(axis=(1, 2, 3)).sum() >= 10  # of 40 images; half of the flips agree
    np.testing.assert_allclose(one(x[:, :7], **strength), y[:7], rtol=1e-12)  # the short batch at an epoch's end


def test_float32_has_the_draws_of_float64() -> None:
    for shape in SHAPES:
        x = batch(shape, dtype=np.float32)
        for strength in [*EACH_ALONE, EVERYTHING]:
            exact = one(x.astype(np.float64), **strength)
            np.testing.assert_allclose(one(x, **strength), exact, atol=3e-6, err_msg=f"{strength}")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_pixel_stays_in_its_image_and_warns_of_nothing(bad: float) -> None:
    x = batch((3, 7, 5)).copy()
    x[0, 4, 1, 3, 2] = bad
    y = one(x, **EVERYTHING)
    assert not np.isfinite(y[4]).all()
    assert np.isinf(one(x.astype(np.float32), noise=1e300)).any()
    others = np.arange(x.shape[1]) != 4
    np.testing.assert_array_equal(y[others], one(batch((3, 7, 5)), **EVERYTHING)[others])


def test_cutout_hides_nan() -> None:
    x = np.full((1, 3, 1, 4, 4), np.nan)
    assert (one(x, cutout=1) == 0).sum() == 3


# ------------------------------------------------------------------------------------------------------- distributions


def assert_even(values: np.ndarray, low: float, high: float, bins: int = 20) -> None:
    """Spread evenly over [low, high], by chi-squared: above 4 of its standard deviations lie less than 1 in 1000."""
    assert low <= values.min() <= values.max() <= high
    counts = np.histogram(values, bins=bins, range=(low, high))[0]
    fair = len(values) / bins
    assert ((counts - fair) ** 2 / fair).sum() < bins - 1 + 4 * math.sqrt(2 * (bins - 1))


def numbered(count: int, height: int, width: int) -> np.ndarray:
    """Images whose pixels are numbered from 1."""
    pixels = 1.0 + np.arange(height * width).reshape(height, width)
    return np.broadcast_to(pixels, (1, count, 1, height, width))


def test_crops_are_even_over_all_offsets() -> None:
    y = one(numbered(10_000, 5, 6), crop=2)
    offset = y[:, 0, 2, 2] - 1  # the source of this pixel is in rows 0 to 4 and columns 0 to 4
    row, column = np.divmod(offset, 6)
    assert_even(5 * row + column, -0.5, 24.5, bins=25)


@pytest.mark.parametrize("probability", [0.2, 0.5, 1.0])
def test_flips_are_as_frequent_as_asked(probability: float) -> None:
    y = one(numbered(10_000, 1, 2), flip=probability)
    assert (y[:, 0, 0, 0] == 2).mean() == pytest.approx(probability, abs=0.02 * (probability < 1))


def test_angles_are_even_over_their_range() -> None:
    ramps = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)))  # the first grows rightwards, the second downwards
    y = one(np.broadcast_to(ramps, (1, 10_000, 2, 5, 5)), rotate=30)
    right, down = y[:, :, 2, 3].T - 2  # where the pixel right of the centre comes from
    np.testing.assert_allclose(np.hypot(right, down), 1)
    assert_even(np.degrees(np.arctan2(down, right)), -30, 30)


def test_factors_are_even_over_their_range_and_apart() -> None:
    x = np.zeros((1, 10_000, 3, 1, 2))
    x[:, :, 2] = [1, 3]  # blue: 2 on the mean
    bright = one(x, brightness=0.4)[:, 2, 0, 0]
    stark = one(x, contrast=0.6)[:, 2, 0]
    rich = one(x, saturation=0.8)[:, :, 0, 0]
    factors = np.stack([bright, (stark[:, 1] - stark[:, 0]) / 2, rich[:, 2] - rich[:, 0]])
    for factor, strength in zip(factors, (0.4, 0.6, 0.8), strict=True):
        assert_even(factor, 1 - strength, 1 + strength)
    np.testing.assert_allclose(np.corrcoef(factors), np.eye(3), atol=0.05)


def test_noise_is_normal_and_without_correlation() -> None:
    z = one(np.zeros((1, 2000, 1, 5, 11), np.float32), noise=0.5).reshape(2000, 55) / 0.5
    assert z.mean() == pytest.approx(0, abs=0.015)
    assert z.std() == pytest.approx(1, abs=0.01)
    assert (np.abs(z) > 1.959964).mean() == pytest.approx(0.05, abs=0.003)
    for values in (z, np.abs(z)):  # the two numbers made of one radius are in either half
        correlation = np.corrcoef(values.T) - np.eye(55)
        assert np.abs(correlation).max() < 0.12  # five standard deviations


def test_cutout_is_even_over_the_pixels() -> None:
    y = one(numbered(10_000, 4, 6), cutout=1)
    assert ((y == 0).sum(axis=(1, 2, 3)) == 1).all()
    assert_even(np.argmin(y.reshape(-1, 24), axis=1), -0.5, 23.5, bins=24)


@pytest.mark.parametrize("side", [2, 3, 6])
def test_cutouts_area(side: int) -> None:
    hidden = one(numbered(3000, 6, 7), cutout=side)[:, 0] == 0
    tall, wide = hidden.any(axis=2).sum(axis=1), hidden.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(hidden.sum(axis=(1, 2)), tall * wide)
    assert tall.max() == wide.max() == side
    for lengths, size in ((tall, 6), (wide, 7)):
        mean = np.mean([min(i + (side + 1) // 2, size) - max(i - side // 2, 0) for i in range(size)])
        assert lengths.mean() == pytest.approx(mean, abs=0.15)


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-24])
def test_the_smallest_and_the_largest_draw(monkeypatch: pytest.MonkeyPatch, u: float) -> None:
    monkeypatch.setattr(module, "uniform", lambda seed, purpose, step, count, xp: xp.full((1, count), u, xp.float32))
    x = numbered(2, 9, 9).astype(np.float32)
    y = one(x, crop=4)
    assert y[0, 0, 4, 4] == (1 if u == 0 else 81)
    assert y[1, 0, 8, 8] == (41 if u == 0 else 0)
    np.testing.assert_array_equal(one(x, flip=1), x[0, ..., ::-1])
    np.testing.assert_array_equal(one(x, flip=u), x[0])
    assert one(x, cutout=1).reshape(2, -1).argmin(axis=1).tolist() == ([0, 0] if u == 0 else [80, 80])
    z = one(np.zeros_like(x), noise=1)
    assert np.isfinite(z).all()
    assert np.abs(z).max() == pytest.approx(0 if u == 0 else math.sqrt(48 * math.log(2)))


# ---------------------------------------------------------------------------------------------------- what fits images


@pytest.mark.parametrize("name", ["crop", "cutout"])
def test_what_is_larger_than_an_image_is_refused(name: str) -> None:
    check_fits(Settings(**{name: 8}), (3, 8, 9))
    check_fits(Settings(), (1, 1, 1))
    with pytest.raises(InputError, match=f"^{name} is 9: larger than images of 8x12 pixels$"):
        check_fits(Settings(**{name: 9}), (3, 8, 12))
    with pytest.raises(InputError, match=f"^{name} is 9: larger than images of 12x8 pixels$"):
        check_fits(Settings(**{name: 9}), (3, 12, 8))
