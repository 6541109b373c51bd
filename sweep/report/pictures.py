"""The pictures of the page: those of a stage drawn anew, those of its winner's network as MLflow has them."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core import figures
from core.figures import runs
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.report.stage_part import StagePart

CAPTIONS = {
    "curves": "Validation accuracy by epoch of all trials; the winner's is bold.",
    "by-value": "Best validation accuracy by the value searched: bars are fixed points, dots random draws.",
    "main-effects": "Best validation accuracy by each setting: every trial, and the mean of each level.",
    "heat-maps": "Best validation accuracy by two settings at a time, a panel for each value of the third.",
    "surface": "Best validation accuracy over two settings in three dimensions, a colour for each value of the third.",
    "parallel": "Every trial as a line through its settings to its accuracy; the winner's is bold.",
}
KEPT = {
    "activation-spread": "Activations by layer at the start of the winner's network, under each initialisation.",
    "augmented": "Training images, and what augmentation makes of them.",
}
WINNERS = {  # without their number, in the order in which they are shown
    "curves": "Its loss and accuracy by epoch.",
    "confusion": "Its confusion matrix on the validation images.",
    "mistakes": "Its most confident mistakes on the validation images.",
    "filters-conv": "The filters of convolution {}.",
    "batch-norm": "Batch normalisation: scale and shift of every convolution.",
    "biases": "Its biases.",
    "linear": "The weights of the linear layer, by class.",
    "image": "A validation image, whose way through the network follows.",
    "maps-conv": "What convolution {} makes of that image.",
    "maps-pool": "What layer {} passes on, after batch normalisation, ReLU and pooling.",
    "maps-relu": "What layer {} passes on, after batch normalisation and ReLU.",
    "probabilities": "The probabilities that it gives the classes of that image.",
}
LIGHT = ("augmented", "filters-conv", "image", "maps-conv", "maps-pool", "maps-relu", "mistakes")  # on a dark page, too
WIDE = 10.0  # inches: a wider picture cannot be read beside another one
# Where the page is dark, so is an SVG in it: what is white and black; the colours of data stay.
DARK = """@media (prefers-color-scheme: dark) { svg { fill: #e8e8e8 }
[style*="fill: #ffffff"] { fill: #16181b !important } [style*="stroke: #ffffff"] { stroke: #16181b !important }
[style*="fill: #000000"] { fill: #e8e8e8 !important } [style*="stroke: #000000"] { stroke: #e8e8e8 !important }
[style*="fill: #0072b2"] { fill: #3a8fe8 !important } [style*="stroke: #0072b2"] { stroke: #3a8fe8 !important }
[style*="fill: #666666"] { fill: #a9b0b7 !important }
[style*="fill: #f2f2f2"], [style*="fill: #e6e6e6"], [style*="fill: #ececec"] { fill: #3a3f45 !important } }
"""


@dataclass(frozen=True)
class Picture:
    """An image within the page: a data URI, what it shows, and the classes of its element."""

    source: str
    caption: str
    classes: str = ""


@dataclass(frozen=True)
class Pictures:
    """Those of a stage, and those of its winner's network."""

    stage: Sequence[Picture] = ()
    winner: Sequence[Picture] = ()


def stage_pictures(tracker: Tracker, stage: StagePart) -> Pictures:
    """A stage's are drawn anew, as SVG, where its records suffice; all others are as MLflow has them."""
    if not stage.run_id or not stage.winner_run:
        return Pictures()
    run = tracker.lookup.find(stage.run_id)
    found = drawn(runs.of_stage(tracker, run), CAPTIONS)
    return Pictures(found + _kept(tracker, run, KEPT), _kept(tracker, tracker.lookup.find(stage.winner_run), WINNERS))


def drawn(found: Mapping[str, figures.Picture], captions: Mapping[str, str]) -> list[Picture]:
    """The pictures as SVG; without those that cannot be drawn."""
    return [_svg(content, captions[name.removesuffix(".svg")]) for name, content in figures.rendered(found, "svg")]


def _svg(content: bytes, caption: str) -> Picture:
    """It follows the page's colours."""
    size = re.search(rb'<svg [^>]*width="([\d.]+)pt"', content)
    wide = size is not None and float(size[1]) / 72 > WIDE
    style = b'<style type="text/css">'
    return picture(content.replace(style, style + DARK.encode(), 1), "svg+xml", caption, wide=wide)


def _png(content: bytes, caption: str, light: bool) -> Picture:
    """One that is not light has its lightness turned round on a dark page."""
    (width,) = struct.unpack(">I", content[16:20])  # the second word of the first chunk
    return picture(content, "png", caption, wide=width / figures.DOTS > WIDE, light=light)


def _kept(tracker: Tracker, run: RunInfo, captions: Mapping[str, str]) -> list[Picture]:
    """The run's pictures that have captions, by kind in the captions' order, each kind's by its number."""
    kinds, found = [name.partition("-")[0] for name in captions], []
    for path in tracker.artifacts.names(run, "figures"):
        if (match := re.fullmatch(r"figures/(\D+?)(\d*)\.png", path)) and (caption := captions.get(match[1])):
            place = kinds.index(match[1].partition("-")[0])
            found.append((place, int(match[2] or 0), path, caption.format(match[2]), match[1] in LIGHT))
    return [
        _png(tracker.artifacts.path(run, path).read_bytes(), caption, light)
        for _, _, path, caption, light in sorted(found)
    ]


def picture(content: bytes, kind: str, caption: str, wide: bool = False, light: bool = True) -> Picture:
    """An image of type image/kind."""
    classes = " ".join(name for name, given in (("wide", wide), ("turned", not light)) if given)
    return Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", caption, classes)
