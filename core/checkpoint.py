"""The .npz of a model: the one place that knows the file's layout.

Keys and shapes are those of core.model, without the trial axis (w1, b1, gamma1, beta1, running_mean1, running_var1,
..., and the linear layer's w and b), as in the published code, so that each loads the other's files.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

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
    """One trial's arrays as float32. Raises InputError if the file is not a whole model of finite numbers."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise InputError(f"{path} is not a readable .npz of a model: {error}") from None
    for name, values in arrays.items():
        if values.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} holds {values.dtype}, not numbers")
        if not np.isfinite(values).all():
            raise InputError(f"{path}: {name} holds nan or inf")
    return {name: values.astype(np.float32) for name, values in arrays.items()}
