"""What MLflow serves a trained network from: a folder with a script, its files, and the package that the script needs.

The package is stored under a name that tells its content. Python finds a package by its name among those it has loaded,
so of two versions with packages of one name the second would compute with the first one's.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServedModel:
    """What MLflow needs to serve a model without a pickle.

    script        Python that calls mlflow.models.set_model
    files         what the script reads, by name
    code          a package that it imports, always by `from PACKAGE...`
    requirements  packages that both need
    input_shape   of one example
    """

    script: Path
    files: Mapping[str, Path]
    code: Path
    requirements: tuple[str, ...]
    input_shape: tuple[int, ...]


def save(path: Path, model: ServedModel) -> None:
    """Write the folder that MLflow serves. The import takes a second, which only sweeps that end should wait for."""
    with warnings.catch_warnings(action="ignore"):  # of its own types, and of an example of an input that it misses
        import mlflow.pyfunc
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        with tempfile.TemporaryDirectory() as folder:
            name = copy_package(model.code, Path(folder))
            script = Path(folder) / model.script.name
            script.write_text(_renamed(model.script.read_text(encoding="utf-8"), model.code.name, name), "utf-8")
            with _importable(Path(folder), name):  # MLflow runs the script as it saves it
                mlflow.pyfunc.save_model(
                    path,
                    python_model=str(script),
                    artifacts={key: str(file) for key, file in model.files.items()},
                    code_paths=[str(Path(folder) / name)],
                    pip_requirements=list(model.requirements),
                    signature=ModelSignature(Schema([TensorSpec(np.dtype(np.float32), (-1, *model.input_shape))])),
                )


def copy_package(package: Path, folder: Path) -> str:
    """Copy a package into folder under a name made of its content, which its own imports follow; returns the name."""
    files = {
        path.relative_to(package): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    digest = hashlib.sha256()
    for path, content in files.items():
        digest.update(f"{path.as_posix()} {len(content)}\n".encode() + content)
    name = f"fused_sweep_{digest.hexdigest()[:16]}"
    for path, content in files.items():
        place = folder / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        python = path.suffix == ".py"
        place.write_bytes(_renamed(content.decode(), package.name, name).encode() if python else content)
    return name


def _renamed(source: str, package: str, name: str) -> str:
    return re.sub(rf"^(\s*from ){re.escape(package)}(?=[. ])", rf"\g<1>{name}", source, flags=re.MULTILINE)


@contextmanager
def _importable(folder: Path, name: str) -> Iterator[None]:
    """Let the package be imported, and forget it afterwards, as its folder goes: it may be loaded from another."""
    known = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for module in set(sys.modules) - known:
            if module == name or module.startswith(f"{name}."):
                del sys.modules[module]
