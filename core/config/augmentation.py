"""How strongly training images are changed."""

from __future__ import annotations

from dataclasses import dataclass

from core.config.rules import PIXELS, UP_TO_ONE, number
from core.config.setting import Column, setting

ARRAY = "augmentation"

_COLUMN = Column(array=ARRAY)


@dataclass(frozen=True)
class AugmentationSettings:
    """How strongly training images are changed. See core.config.settings."""

    flip: float = setting(
        0.0,
        number(lambda value: 0 <= value <= 1, "a probability in [0, 1]"),
        "probability that a training image is mirrored left-right",
        column=_COLUMN,
        synonyms="horizontal_flip hflip random_flip random_horizontal_flip mirror fliplr",
    )
    crop: int = setting(
        0,
        PIXELS,
        "pixels by which it may be shifted in each direction, zeros coming in",
        column=_COLUMN,
        synonyms="random_crop shift translate padding pad width_shift_range height_shift_range",
    )
    rotate: float = setting(
        0.0,
        number(lambda value: 0 <= value <= 180, "a number of degrees in [0, 180]"),
        "degrees by which it may be turned either way",
        column=_COLUMN,
        synonyms="rotation rotation_range random_rotation degrees",
    )
    brightness: float = setting(
        0.0,
        UP_TO_ONE,
        "pixels are multiplied by a factor from 1 - brightness to 1 + brightness",
        column=_COLUMN,
        synonyms="brightness_range color_jitter colour_jitter",
    )
    contrast: float = setting(
        0.0, UP_TO_ONE, "so is the distance from the image's mean grey", column=_COLUMN, synonyms="contrast_range"
    )
    saturation: float = setting(
        0.0,
        UP_TO_ONE,
        "so is each pixel's distance from its own grey",
        column=_COLUMN,
        synonyms="saturation_range",
    )
    noise: float = setting(
        0.0,
        number(lambda value: 0 <= value <= 1e6, "a number from 0 to 1e6"),
        "standard deviation of normal noise, where pixels go from 0 to 1",
        column=_COLUMN,
        synonyms="gaussian_noise noise_std stddev sigma",
    )
    cutout: int = setting(
        0,
        PIXELS,
        "side in pixels of a square set to zero",
        column=_COLUMN,
        synonyms="random_erasing erasing coarse_dropout",
    )
