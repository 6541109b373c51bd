"""The .npz of a model: the one place that knows the file's layout.

Keys and shapes are those of core.model, without the trial axis (w1, b1, gamma1, beta1, running_mean1, running_var1,
..., and the linear layer's w and b), as in the published code, so that each loads the other's files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from core import npz
from core.errors import InputError


def save_model(path: Path, model: Mapping[str, np.ndarray]) -> None:
    """Write the arrays; the file appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **model)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_model(path: Path) -> dict[str, np.ndarray]:
    """One trial's arrays as float32. Raises InputError if the file is not a whole .npz of finite numbers."""
    arrays = npz.read(path)
    for name, values in arrays.items():
        if values.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} holds {values.dtype}, not numbers")
        with np.errstate(over="ignore"):
            arrays[name] = values.astype(np.float32)
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{path}: {name} holds nan, inf or a number beyond float32")
    return arrays
