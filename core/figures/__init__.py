"""Pictures, drawn by matplotlib without a screen; python -m core.figures draws those of a run."""

from core.figures.activations import init_study
from core.figures.images import augmented
from core.figures.style import DOTS, Picture, content, rendered
from core.figures.training import curves, overlay, side_by_side

__all__ = ["DOTS", "Picture", "augmented", "content", "curves", "init_study", "overlay", "rendered", "side_by_side"]
