"""A picture's file as what it shows: of any depth, with or without transparency, turned as its camera says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.errors import InputError, reason

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 64 * 2**20  # pixels of a picture that is read
_BLACK, _WHITE = 0, 255


def _silent(said: str) -> None:
    """Tells nobody."""


def read_image(path: Path, shape: tuple[int, int, int], tell: Callable[[str], None] = _silent) -> np.ndarray:
    """A picture's file as (C, H, W) float32 from 0 (black) to 1 (white), scaled to the network's size.

    tell  is told before which background it is seen where it is transparent: black or white, whichever it has more
          contrast to

    Raises InputError if it cannot be read.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    if channels not in (1, 3):
        raise InputError(f"{path}: the network takes images of {channels} channels, a picture's file has 1 or 3")
    try:
        with Image.open(path) as file:
            if file.width * file.height > LARGEST:
                raise ValueError(f"it has {file.width}x{file.height} pixels")
            turned = ImageOps.exif_transpose(file)
            if turned.has_transparency_data:
                turned, background = _opaque(turned)
                if background:
                    tell(f"{path.name}: what is transparent is seen before {background}")
            planes = _planes(turned, channels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not a picture that can be read: {reason(error)}") from None
    found = [np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR), np.float32) for plane in planes]
    return np.stack(found)


def _planes(picture: Image, channels: int) -> list[Image]:
    """The channels, of floats from 0 to 1. Pillow's own conversions cut 16 bits off at 255, and so all to white."""
    from PIL import Image

    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        return [Image.fromarray(np.asarray(picture, np.float32) / 65535)] * channels
    if picture.mode in ("I", "F"):
        raise ValueError(f"its pixels are of type {picture.mode}, which does not tell what white is: use 8 or 16 bits")
    bands = picture.convert("RGB" if channels == 3 else "L").split()
    return [Image.fromarray(np.asarray(band, np.float32) / 255) for band in bands]


def _opaque(picture: Image) -> tuple[Image, str]:
    """A picture with transparency before the background that it stands out from more, and which: none if it has only
    the means to be transparent.
    """
    from PIL import Image

    colours = _eight_bits(picture)
    if np.asarray(colours.getchannel("A")).min() == 255:
        return (picture if picture.mode.startswith("I") else colours.convert("RGB")), ""
    seen = [
        Image.alpha_composite(Image.new("RGBA", picture.size, (grey, grey, grey, 255)), colours).convert("RGB")
        for grey in (_BLACK, _WHITE)
    ]
    contrast = [float(np.asarray(image.convert("L")).std()) for image in seen]
    return (seen[1], "white") if contrast[1] > contrast[0] else (seen[0], "black")


def _eight_bits(picture: Image) -> Image:
    from PIL import Image

    if not picture.mode.startswith("I"):
        return picture.convert("RGBA")
    values = np.asarray(picture)  # 16 bits, of which one value stands for what is transparent
    clear = np.where(values == picture.info["transparency"], 0, 255).astype(np.uint8)
    grey = Image.fromarray((values // 257).astype(np.uint8))
    return Image.merge("RGBA", (grey, grey, grey, Image.fromarray(clear)))
