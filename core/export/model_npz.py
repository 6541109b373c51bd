"""The .npz of a trained network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from core.errors import InputError
from core.storage import npz
from core.storage.atomic import replacing


def save_model(path: Path, model: Mapping[str, np.ndarray]) -> None:
    """Write the arrays; the file appears whole or not at all."""
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **model)


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
