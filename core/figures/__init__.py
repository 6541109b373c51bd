"""Pictures, drawn by matplotlib without a screen; python -m core.figures draws those of a run."""

from core.figures.images import augmented
from core.figures.spread import init_study
from core.figures.style import as_svg, save
from core.figures.training import curves, overlay, side_by_side

__all__ = ["as_svg", "augmented", "curves", "init_study", "overlay", "save", "side_by_side"]
