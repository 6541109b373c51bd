"""What arrays of images mean: which axis their channels are on, and which of their values are black and white.

x alone decides. What trains well as it is stays as it is, and so does the data's SHA-256.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.errors import InputError

FORMATS = ("channels_first", "channels_last")
_FEW = 4  # channels that pictures have: grey, with alpha, colour, with alpha
_CONTRAST = (0.0025, 1e18)  # standard deviations that train: below, batch norm's epsilon outweighs the variance of a
# convolution's output (2 std^2 with He's weights), above, it overflows
_SMALLEST = float(np.finfo(np.float32).tiny)  # standard deviation that float32 can hold
_FAR = 16  # standard deviations from zero, beyond which the images' differences are lost behind what they share


@dataclass(frozen=True)
class PixelRange:
    """What the values of images mean: the network's input is (value - offset) * scale.

    black, white  the values of a black and of a white pixel
    note          what is out of the ordinary, for the user
    """

    scale: float
    offset: float = 0.0
    black: float = 0.0
    white: float = 1.0
    note: str = ""

    def of_picture(self, picture: np.ndarray) -> np.ndarray:
        """A picture, from 0 (black) to 1 (white), as the network's input."""
        black, span = (self.black - self.offset) * self.scale, (self.white - self.black) * self.scale
        return (picture * span + black).astype(np.float32)

    def as_picture(self, x: np.ndarray) -> np.ndarray:
        """The network's input as a picture, where white is 1 and black 0."""
        black, span = (self.black - self.offset) * self.scale, (self.white - self.black) * self.scale
        result: np.ndarray = (x - black) / span
        return result


def infer_range(x: np.ndarray) -> PixelRange:
    """What the values of x, uint8 or finite floats, mean: uint8 from 0 to 255, floats from 0 to 1 or standardised,
    unless x cannot be that. A network would not learn from values that are all but equal, as 0 and 1 are of 255.
    """
    promised = 255.0 if x.dtype == np.uint8 else 1.0
    low, high = float(x.min()), float(x.max())
    black, white = _black_and_white(low, high, promised)
    mean, std = _moments(x)
    if low == high or std < _SMALLEST:
        alike = f"every pixel of x is {low:g}" if low == high else f"all pixels of x, {low:g} to {high:g}, are alike"
        return PixelRange(1 / promised, 0.0, black, white, f"{alike}: nothing can be learnt from them")
    unit = 2.0 ** math.floor(math.log2(std))
    offset = round(mean / unit) * unit if abs(mean) > _FAR * std else 0.0  # rounded: no sum's last digit decides
    scale = 1 / promised
    if not _CONTRAST[0] <= std * scale <= _CONTRAST[1]:
        scale = 1 / (high - low)
        scale = scale if std * scale >= _CONTRAST[0] else 1 / unit
    said = [f"{offset:g} is subtracted"] * bool(offset)
    said += [f"multiplied by {scale:g}"] * (scale != 1 / promised)
    if not said and white > 8 * promised:
        said = [f"left so, where noise is counted from 0 to 1; white is {white:g} in a picture's file"]
    note = f"x goes from {low:g} to {high:g}: {', '.join(said)}" if said else ""
    return PixelRange(scale, offset, black, white, note)


def _black_and_white(low: float, high: float, promised: float) -> tuple[float, float]:
    """Which values those are that a picture's file calls black and white."""
    most = 1.001 * promised  # rounding
    below = -max(0.0, high) / 8  # what interpolation and rounding leave below black
    if low >= below and high <= most:
        return 0.0, promised if high >= promised / 8 or high < _SMALLEST else high
    if low >= -most and high <= most:
        return -promised, promised
    if low >= below and 128 <= high <= 255:
        return 0.0, 255.0
    return (low, high) if low < high else (0.0, promised)


def range_warnings(x: np.ndarray, x_test: np.ndarray) -> list[str]:
    """What is to be said where test images have values of another size: they would not be told apart."""
    ends = [(float(values.min()), float(values.max())) for values in (x, x_test)]
    size, size_test = (max(-low, high) for low, high in ends)
    if 1 / 16 <= (size_test or 1.0) / (size or 1.0) <= 16:
        return []
    return ["x goes from {:g} to {:g}, x_test from {:g} to {:g}: they should be alike".format(*ends[0], *ends[1])]


def _moments(x: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation."""
    mean = math.fsum(float(part.sum()) for part in _parts(x)) / x.size
    return mean, math.sqrt(math.fsum(float(np.square(part - mean).sum()) for part in _parts(x)) / x.size)


def _parts(x: np.ndarray) -> Iterator[np.ndarray]:
    """All of x in float64, some images at a time."""
    images = max(1, 2**16 // max(1, x[0].size))
    return (x[start : start + images].astype(np.float64) for start in range(0, len(x), images))


def as_input(x: np.ndarray, offset: float) -> np.ndarray:
    """x in the order of its axes, without offset: as uint8 where it is that and there is none, else as float32."""
    if not offset:
        return np.ascontiguousarray(x, np.uint8 if x.dtype == np.uint8 else np.float32)
    result, done = np.empty(x.shape, np.float32), 0
    for part in _parts(x):
        result[done : done + len(part)] = part - offset
        done += len(part)
    return result


def channels_first(x: np.ndarray, name: str, data_format: str | None = None) -> tuple[np.ndarray, bool]:
    """Images (N, C, H, W) of x, which is that, (N, H, W) or (N, H, W, C), and whether it is the last.

    name         what x is called in messages
    data_format  one of FORMATS: else the sizes must tell, since pictures have few channels, and are often square

    Raises InputError where they do not.
    """
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise InputError(f"{name} has shape {x.shape}; it must be (N, C, H, W), (N, H, W, C) or (N, H, W)")
    if x.ndim == 3:
        return x[:, None], False
    last = _last(x.shape) if data_format is None else data_format == FORMATS[1]
    if last is None:
        raise InputError(
            f"{name} has shape {x.shape}, whose channels may be first or last: say so by "
            f'data_format="{FORMATS[0]}" or "{FORMATS[1]}" beside it'
        )
    return (np.moveaxis(x, 3, 1) if last else x), last


def may_be_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether images of this shape may have their channels last."""
    return len(shape) == 4 and _last(shape) is not False


def _last(shape: tuple[int, ...]) -> bool | None:
    """Whether the channels of images of this shape come last; None where that cannot be told."""
    _, a, b, c = shape
    if a == 1 or b == c:
        return False
    if a == b and c < a:
        return True
    if c > _FEW or (a <= _FEW and c != 3):
        return False
    return None if a <= _FEW or c == 1 else True  # colours on both sides; grey, or signals one pixel wide?
