"""Random changes to a batch of training images, on the device; how strong they are is each trial's own matter."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from core.config.settings import Settings
from core.errors import InputError
from core.random import Array, Purpose, module_of, uniform

LUMA = (0.299, 0.587, 0.114)  # how much red, green and blue count in grey (ITU-R BT.601)

_Draw = Callable[[Purpose, int], Array]
Shift = Callable[[Array, int, Array, Array, Array], Array]
Uniform = Callable[[Array, int, int, int], Array]


def augment(x: Array, strength: np.ndarray, seed: int, step: int) -> Array:
    """The batch as each trial is to see it. Changes come in the order of the columns of strength, but crop before flip:

    crop        zeros are put around the image, so many pixels wide, and from it an image of the old size is cut
                anywhere (Krizhevsky et al. 2012; He et al. 2016)
    flip        mirrored left-right with this probability
    rotate      about its centre by an angle uniform in [-rotate, rotate] degrees; bilinear, zero outside
    brightness  multiplied by a factor uniform in [1 - brightness, 1 + brightness]
    contrast    its distance from the image's mean grey multiplied by such a factor
    saturation  each pixel's distance from its own grey multiplied by such a factor
    noise       normal noise of this standard deviation is added
    cutout      a square of so many pixels a side becomes zero (DeVries & Taylor 2017). Its centre (of an even side, the
                pixel after its middle) is uniform over the image's pixels; what lies outside is cut off

    Grey is 0.299 R + 0.587 G + 0.114 B of three channels, else their mean. Values are not clipped to a range
    afterwards: images may have any. Cropping and flipping alone keep pixels' exact values.

    x         (1, N, C, H, W) float32 or float64, the batch that all trials share; not changed
    strength  (T, 8) on the host: a column for each of core.config.settings.AUGMENTATIONS, 0 for none; see check_fits
    seed      of the data: like the order of the images, draws do not depend on a trial's seed
    step      counted from 0 through the whole training

    Returns (T, N, C, H, W) in the type of x; (1, N, C, H, W) if all trials' strengths are equal, and x itself if all
    are 0. A trial's images do not depend on the other trials: all share the same draws, and scale them.
    """
    return augment_by(x, strength, seed, step, shift=shifted, uniform=partial(uniform, xp=module_of(x)))


def augment_by(x: Array, strength: np.ndarray, seed: int, step: int, *, shift: Shift, uniform: Uniform) -> Array:
    """augment, with a backend's own shifted and core.random.uniform, which must give the same bits."""
    if not strength.any():
        return x
    draw = _draws(x, seed, step, uniform)
    kinds = [tuple(row) for row in strength.tolist()]
    with np.errstate(all="ignore"):  # values that overflow are found at the epoch's end, by the trial's loss
        images = {kind: _augmented(x[0], kind, draw, shift) for kind in dict.fromkeys(kinds)}
    return images[kinds[0]][None] if len(images) == 1 else module_of(x).stack([images[kind] for kind in kinds])


def check_fits(settings: Settings, input_shape: tuple[int, int, int]) -> None:
    """Raise InputError if crop or cutout is larger than the smaller side of images of shape (C, H, W)."""
    _, height, width = input_shape
    for name in ("crop", "cutout"):
        size = getattr(settings, name)
        if size > min(height, width):
            raise InputError(f"{name} is {size}: larger than images of {height}x{width} pixels")


def _draws(x: Array, seed: int, step: int, uniform: Uniform) -> _Draw:
    """draw(purpose, each) -> (N, each): normal numbers in the type of x for NOISE, else uniform ones in float64.

    They are drawn once for all trials, and only if one asks; an image's do not depend on the number of images.
    """
    n = x.shape[1]

    @cache
    def draw(purpose: Purpose, each: int) -> Array:
        u = uniform(np.array([seed], np.uint64), purpose, step, n * each).reshape(n, each)
        return _normal(u.astype(x.dtype)) if purpose is Purpose.NOISE else u.astype(np.float64)

    return draw


def _normal(u: Array) -> Array:
    """Standard normal numbers from as many uniform ones in [0, 1), each row an even number (Box & Muller 1958)."""
    xp = module_of(u)
    first, second = xp.split(u, 2, axis=1)
    radius = xp.sqrt(-2 * xp.log(1 - first))  # 1 - u is in (0, 1]: the logarithm is finite
    angle = second * (2 * np.pi)
    return xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)], axis=1)


def _whole(u: Array, count: int) -> Array:
    """Uniform numbers in [0, 1) to whole ones in 0 ... count - 1."""
    return (u * count).astype(np.int64)


def _augmented(x: Array, strength: tuple[float, ...], draw: _Draw, shift: Shift) -> Array:
    """x (N, C, H, W) as a trial of these strengths sees it."""
    flip, crop, rotate, brightness, contrast, saturation, noise, cutout = strength
    if flip or crop:
        x = _cropped_and_flipped(x, int(crop), flip, draw, shift)
    if rotate:
        x = _rotated(x, rotate * (2 * draw(Purpose.ROTATE, 1)[:, 0] - 1))
    if brightness or contrast or saturation:
        x = _coloured(x, (brightness, contrast, saturation), 2 * draw(Purpose.COLOUR, 3) - 1)
    if noise:
        values = x[0].size
        x = x + noise * draw(Purpose.NOISE, values + values % 2)[:, :values].reshape(x.shape)
    if cutout:
        x = _cut_out(x, int(cutout), draw(Purpose.CUTOUT, 2))
    return x


def _cropped_and_flipped(x: Array, crop: int, flip: float, draw: _Draw, shift: Shift) -> Array:
    """Each image shifted by up to crop pixels in each direction, and mirrored with probability flip."""
    xp, n = module_of(x), len(x)
    top, left, mirrored = xp.zeros(n, np.int64), xp.zeros(n, np.int64), xp.zeros(n, np.bool_)
    if crop:
        top, left = _whole(draw(Purpose.CROP, 2), 2 * crop + 1).T
    if flip:
        mirrored = draw(Purpose.FLIP, 1)[:, 0] < flip
    return shift(x, crop, top, left, mirrored)


def shifted(x: Array, crop: int, top: Array, left: Array, mirrored: Array) -> Array:
    """Of each image with crop zeros around it, what begins at (top, left) and has the old size; then perhaps mirrored.

    Returns (N, C, H, W) for x (N, C, H, W); top and left (N,) from 0 to 2 * crop; mirrored (N,) bool. One gather of
    whole pixels: each output row is read from a row of the padded image, onwards or back.
    """
    xp = module_of(x)
    n, c, height, width = x.shape
    if crop:
        x = _padded(x, crop)
    rows, columns = x.shape[2:]
    first = xp.arange(n) * (c * rows * columns) + top * columns + left + mirrored * (width - 1)
    across = first[:, None] + (1 - 2 * mirrored)[:, None] * xp.arange(width)
    down = xp.arange(c)[:, None] * (rows * columns) + xp.arange(height) * columns
    return x.reshape(-1).take(across[:, None, None, :] + down[:, :, None])


def _padded(x: Array, pad: int) -> Array:
    """x with zeros on every side."""
    n, c, height, width = x.shape
    padded = module_of(x).zeros((n, c, height + 2 * pad, width + 2 * pad), x.dtype)
    padded[:, :, pad:-pad, pad:-pad] = x
    return padded


def _rotated(x: Array, degrees: Array) -> Array:
    """Each image turned counter-clockwise by its angle (N,). A pixel is read from between four, weighted."""
    xp = module_of(x)
    n, c, height, width = x.shape
    angle = degrees[:, None, None] * (np.pi / 180)
    cos, sin = xp.cos(angle), xp.sin(angle)
    middle, centre = (height - 1) / 2, (width - 1) / 2
    down, right = xp.arange(height)[:, None] - middle, xp.arange(width) - centre
    top, lower = _between(cos * down + sin * right + middle, height, x.dtype)
    left, further = _between(cos * right - sin * down + centre, width, x.dtype)
    ring = _padded(x, 1).reshape(-1)  # the zeros outside
    planes = xp.arange(n * c).reshape(n, c, 1, 1) * ((height + 2) * (width + 2))
    corner = planes + (top * (width + 2) + left)[:, None]

    def along_row(index: Array) -> Array:
        return ring.take(index) * (1 - further) + ring.take(index + 1) * further

    return along_row(corner) * (1 - lower) + along_row(corner + (width + 2)) * lower


def _between(position: Array, size: int, dtype: np.dtype) -> tuple[Array, Array]:
    """Of positions along an axis: the pixel before, counted with one pixel of padding, and the next one's weight.

    Positions far outside are moved to the padding, where all is zero. The weight is (N, 1, H, W).
    """
    xp = module_of(position)
    inside = xp.clip(position, -1, size) + 1
    before = xp.minimum(xp.floor(inside), size)
    return before.astype(np.int64), (inside - before).astype(dtype)[:, None]


def _coloured(x: Array, strength: tuple[float, float, float], change: Array) -> Array:
    """Brightness, contrast and saturation, each by a factor of 1 + strength * change; change (N, 3) is in [-1, 1)."""
    by = [(1 + strength[i] * change[:, i]).astype(x.dtype)[:, None, None, None] for i in range(3)]
    if strength[0]:
        x = x * by[0]
    if strength[1]:
        mean = _grey(x).mean(axis=(2, 3), keepdims=True)
        x = mean + by[1] * (x - mean)
    if strength[2]:
        grey = _grey(x)
        x = grey + by[2] * (x - grey)
    return x


def _grey(x: Array) -> Array:
    """(N, C, H, W) -> (N, 1, H, W)."""
    if x.shape[1] != len(LUMA):
        return x.mean(axis=1, keepdims=True)
    return sum(weight * x[:, i : i + 1] for i, weight in enumerate(LUMA))


def _cut_out(x: Array, side: int, u: Array) -> Array:
    """Rows centre - side // 2 to centre - side // 2 + side - 1 become zero, in columns found likewise."""
    xp = module_of(x)

    def covered(u: Array, size: int) -> Array:
        distance = xp.arange(size) - (_whole(u, size)[:, None] - side // 2)
        return (distance >= 0) & (distance < side)

    rows, columns = covered(u[:, 0], x.shape[2]), covered(u[:, 1], x.shape[3])
    return xp.where((rows[:, :, None] & columns[:, None, :])[:, None], x.dtype.type(0), x)
