"""Pictures' files are read as what they show, and given to the network as its data set has them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.data.pixels import PixelRange, infer_range
from core.errors import InputError
from core.figures.picture import read_image

SHADES = np.array([[0, 40, 128], [200, 255, 90]], np.uint8)
COLOURS = np.stack([SHADES, SHADES[::-1], SHADES.T.reshape(2, 3)], -1)
ALPHA = np.array([[255, 255, 0], [255, 128, 255]], np.uint8)


def grey(path: Path) -> np.ndarray:
    return read_image(path, (1, 2, 3))[0]


def png(path: Path, values: np.ndarray, colour: int, depth: int = 16, clear: int | None = None) -> Path:
    """A PNG of values (H, W, C), of kinds that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, _ = values.shape
    rows = values.astype(">u2" if depth == 16 else "u1").reshape(height, -1)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + (b"" if clear is None else chunk(b"tRNS", struct.pack(">H", clear)))
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
        + chunk(b"IEND", b"")
    )
    return path


def test_eight_and_sixteen_bits_show_the_same(tmp_path: Path) -> None:
    deep = SHADES.astype(np.uint16) * 257
    Image.fromarray(SHADES).save(tmp_path / "8.png")
    Image.fromarray(deep).save(tmp_path / "16.png")
    Image.fromarray(deep.astype(">u2")).save(tmp_path / "16.tif")
    np.testing.assert_array_equal(grey(tmp_path / "8.png"), SHADES.astype(np.float32) / 255)
    for name in ("16.png", "16.tif"):
        np.testing.assert_allclose(grey(tmp_path / name), SHADES / 255, atol=1e-7)
        np.testing.assert_allclose(read_image(tmp_path / name, (3, 2, 3))[2], SHADES / 255, atol=1e-7)
    both = np.stack([deep, np.full_like(deep, 65535)], -1)
    np.testing.assert_allclose(grey(png(tmp_path / "ga.png", both, 4)), SHADES / 255, atol=1e-7)
    colours = read_image(png(tmp_path / "rgb.png", COLOURS.astype(np.uint16) * 257, 2), (3, 2, 3))
    np.testing.assert_allclose(colours, COLOURS.transpose(2, 0, 1) / 255, atol=1e-7)


def test_one_bit_and_palettes(tmp_path: Path) -> None:
    ink = SHADES > 100
    Image.fromarray(ink).save(tmp_path / "1.png")
    np.testing.assert_array_equal(grey(tmp_path / "1.png"), ink)
    Image.fromarray(COLOURS).quantize(6).save(tmp_path / "p.png")
    found = read_image(tmp_path / "p.png", (3, 2, 3))
    np.testing.assert_allclose(found, COLOURS.transpose(2, 0, 1) / 255, atol=1e-7)


def drawn_in_alpha(shade: int) -> np.ndarray:
    return np.concatenate([np.full((2, 3, 3), shade, np.uint8), SHADES[..., None]], -1)


def test_what_is_transparent_is_seen_before_the_background_that_it_stands_out_from(tmp_path: Path) -> None:
    for shade, expected, background in ((255, SHADES / 255, "black"), (0, 1 - SHADES / 255, "white")):
        Image.fromarray(drawn_in_alpha(shade)).save(tmp_path / "a.png")
        said: list[str] = []
        found = read_image(tmp_path / "a.png", (1, 2, 3), said.append)
        np.testing.assert_allclose(found[0], expected, atol=0.5 / 255)
        assert said == [f"a.png: what is transparent is seen before {background}"]
    Image.fromarray(SHADES).save(tmp_path / "b.png")
    read_image(tmp_path / "b.png", (1, 2, 3), pytest.fail)


def test_where_nothing_is_transparent_no_background_is_told(tmp_path: Path) -> None:
    alpha = np.full_like(SHADES[..., None], 255)
    Image.fromarray(np.concatenate([COLOURS, alpha], -1)).save(tmp_path / "rgba.png")
    found = read_image(tmp_path / "rgba.png", (3, 2, 3), pytest.fail)
    np.testing.assert_allclose(found, COLOURS.transpose(2, 0, 1) / 255, atol=1e-7)
    Image.fromarray(np.concatenate([SHADES[..., None], alpha], -1)).save(tmp_path / "la.png")
    np.testing.assert_allclose(read_image(tmp_path / "la.png", (1, 2, 3), pytest.fail)[0], SHADES / 255, atol=1e-7)
    deep = SHADES[..., None].astype(np.uint16) * 250
    found = read_image(png(tmp_path / "16.png", deep, 0, clear=7), (1, 2, 3), pytest.fail)
    np.testing.assert_allclose(found[0], SHADES * 250.0 / 65535, atol=1e-7)


def test_transparency_of_other_kinds(tmp_path: Path) -> None:
    Image.fromarray(np.stack([SHADES, ALPHA], -1)).save(tmp_path / "la.png")
    expected = (SHADES * (ALPHA / 255) + 255 - ALPHA) / 255
    np.testing.assert_allclose(grey(tmp_path / "la.png"), expected, atol=1 / 255)  # white has more contrast
    clear = np.where(SHADES == 40, 0, SHADES) / 255
    for depth, factor in ((8, 1), (16, 257)):
        png(tmp_path / "t.png", SHADES[..., None].astype(np.uint16) * factor, 0, depth, 40 * factor)
        np.testing.assert_allclose(grey(tmp_path / "t.png"), clear, atol=1e-7)
    palette = Image.fromarray(SHADES).convert("P")
    palette.save(tmp_path / "p.png", transparency=int(np.asarray(palette)[0, 1]))
    np.testing.assert_allclose(grey(tmp_path / "p.png"), clear, atol=1e-7)


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 3  # upside down
    Image.fromarray(SHADES).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(grey(tmp_path / "turned.png"), SHADES[::-1, ::-1].astype(np.float32) / 255)


@pytest.mark.parametrize("values", [SHADES.astype(np.int32) * 300, SHADES.astype(np.float32)])
def test_a_picture_that_does_not_tell_what_white_is_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(
        InputError, match=r"a\.tif is not a picture that can be read: .*what white is: use 8 or 16 bits"
    ):
        grey(tmp_path / "a.tif")


KINDS: dict[str, Any] = {
    "uint8": lambda x: x,
    "floats to 1": lambda x: (x / 255).astype(np.float32),
    "floats to 255": lambda x: x.astype(np.float32),
    "from -1 to 1": lambda x: x / 127.5 - 1,
    "standardised": lambda x: (x / 255 - 0.3) / 0.2,
    "divided twice": lambda x: x / 255 / 255,
    "to 16": lambda x: (x // 15.9).astype(np.uint8),
    "far from zero": lambda x: 1000 + x / 255,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_given_as_the_data_set_has_it(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 1, 4, 4)).astype(np.uint8)
    pixels[0, 0, 0, :2] = 0, 255
    x = KINDS[kind](pixels)
    pixel_range = infer_range(x)
    expected = (x - pixel_range.offset) * pixel_range.scale
    rounding = 0.07 if kind == "to 16" else 1e-4
    found = pixel_range.of_picture(pixels.astype(np.float32) / 255)
    np.testing.assert_allclose(found, expected, atol=rounding * expected.std() * 4)
    np.testing.assert_allclose(pixel_range.as_picture(found), pixels / 255, atol=1e-4)


def test_pictures_of_cifar10_are_given_as_they_were() -> None:
    read = SHADES.astype(np.float32) / 255
    np.testing.assert_array_equal(PixelRange(1 / 255, white=255.0).of_picture(read), read)
    np.testing.assert_array_equal(PixelRange(1 / 255, white=255.0).as_picture(read), read)
