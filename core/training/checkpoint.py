"""The .npz of a model, and the file of a group in training: the one place that knows their layout.

A model's keys and shapes are those of core.network.model, without the trial axis (w1, b1, gamma1, beta1, running_mean1,
running_var1, ..., and the linear layer's w and b), as in the published code, so that each loads the other's files.

A group's file is a line with the layout's version and the SHA-256 of what follows: an .npz of the arrays, and of JSON
for the rest. The one before it is kept beside it as <name>.before.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DamageError, InputError, reason
from core.storage import npz
from core.storage.atomic import replacing
from core.training.progress import Progress, TrialResult

_GROUP = b"fused-sweep training 1 "  # a newer layout gets a new number


def save_group(path: Path, group: Progress, about: Mapping[str, Any], to_host: Callable[[Any], np.ndarray]) -> None:
    """Write a group's progress, and what else is to be known of it (plain data). Raises InputError if it cannot."""
    arrays = {f"model.{name}": to_host(values) for name, values in group.model.items()}
    arrays |= {f"state.{name}": to_host(values) for name, values in group.state.items()}
    results = []
    for place, result in enumerate(group.results):
        results.append({field.name: getattr(result, field.name) for field in fields(result) if field.name != "model"})
        if result.model is not None and place in group.active:
            arrays |= {f"best{place}.{name}": to_host(values) for name, values in result.model.items()}
    told = {"epoch": group.epoch, "active": group.active, "results": results, "about": dict(about)}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, told=np.frombuffer(json.dumps(told).encode(), np.uint8), **arrays)
    try:
        with replacing(path) as file:
            file.write(_GROUP + hashlib.sha256(content.getbuffer()).hexdigest().encode() + b"\n")
            file.write(content.getbuffer())
            if path.exists():
                path.replace(_before(path))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {reason(error)}") from None


def _before(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")


def remove_group(path: Path) -> None:
    """Remove a group's file, and the one before it."""
    for file in (_before(path), path):
        file.unlink(missing_ok=True)


def load_group(path: Path) -> tuple[Progress, dict[str, Any]]:
    """What save_group wrote to path, with arrays of the host: the newest that is whole.

    Raises InputError if there is none: missing, damaged or of another version.
    """
    try:
        return _group(path)
    except InputError:
        if not _before(path).exists():
            raise
        return _group(_before(path))


def _group(path: Path) -> tuple[Progress, dict[str, Any]]:
    try:
        head, _, content = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
    if not head.startswith(_GROUP):
        raise DamageError(f"{path} is damaged, or by another version: it begins with {head[:40]!r}")
    if head.removeprefix(_GROUP) != hashlib.sha256(content).hexdigest().encode():
        raise DamageError(f"{path} is damaged: its SHA-256 differs from the one it states")
    arrays = {name: values.copy() for name, values in npz.read(path, content=content).items()}
    told = json.loads(arrays.pop("told").tobytes())
    results = [TrialResult(**result) for result in told["results"]]
    for place, result in enumerate(results):
        result.model = _part(arrays, f"best{place}.") or None
    model, state = _part(arrays, "model."), _part(arrays, "state.")
    return Progress(told["epoch"], told["active"], model, state, results), told["about"]


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
