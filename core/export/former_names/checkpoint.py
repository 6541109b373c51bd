"""core.checkpoint, which the script imports together with core.ops, of which it calls load."""

from core import ops
from core.backends.registry import load
from core.export.model_npz import load_model as load_model

ops.load = load  # type: ignore[attr-defined]
