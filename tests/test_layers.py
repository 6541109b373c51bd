"""Who may import whom: the arrows of the architecture, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("core", "sweep") for path in (ROOT / folder).rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in SOURCES]

FIGURES = [name for name in NAMES if name.startswith("core/figures/")]
KERNELS = [name for name in NAMES if name.startswith("core/ops/kernels/")]

# Libraries that one file alone, or a few, may import, wherever in it.
ONLY = {
    "mlflow": [f"core/{name}.py" for name in ("bundle", "registry", "served", "store_errors", "tracking")],
    "requests": ["core/store_errors.py"],
    "sqlalchemy": ["core/moved.py", "core/store_errors.py", "core/tracking.py"],
    "alembic": ["core/store_errors.py"],
    "optuna": ["sweep/journal.py", "sweep/sampling.py", "sweep/study.py"],
    "numba": ["core/ops/cpu.py", *KERNELS],
    "llvmlite": KERNELS,
    "cupy": ["core/ops/gpu.py"],
    "matplotlib": FIGURES,
    "PIL": FIGURES,
    "scipy": ["sweep/ranking.py"],
    "torch": [],
}
# What a file of core may import as it loads, besides the standard library and core; all else waits until it is used.
AT_LOAD = {"numpy", "threadpoolctl"}
AT_LOAD_OF = {
    "core/tracking.py": {"filelock", "mlflow", "sqlalchemy"},
    "core/registry.py": {"mlflow"},
    "core/store_errors.py": {"alembic", "mlflow", "requests", "sqlalchemy"},
    **{name: {"matplotlib"} for name in FIGURES},
    "core/served.py": {"mlflow", "pandas"},
    "core/ops/gpu.py": {"cupy"},
    "core/ops/cpu.py": {"numba"},
    **{name: {"llvmlite", "numba"} for name in KERNELS},
    "core/ops/kernels/cache.py": {"filelock", "llvmlite", "numba", "numpy"},
}


def imported(node: ast.AST) -> Iterator[str]:
    """Top-level packages that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield (node.module or "").partition(".")[0]


def running(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """The nodes below node, but for imports that only a type checker sees, and for functions unless asked for."""
    for child in ast.iter_child_nodes(node):
        checking = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not checking and (functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            yield child
            yield from running(child, functions=functions)


def packages(name: str, *, loading: bool) -> set[str]:
    """Packages that a file imports: as it loads, or ever."""
    tree = ast.parse((ROOT / name).read_text())
    return {package for node in running(tree, functions=not loading) for package in imported(node)}


def test_the_sources_are_found() -> None:
    assert {"core/train.py", "core/ops/gpu.py", "core/ops/kernels/jit.py", "sweep/study.py"} <= set(NAMES)
    assert "numpy" in packages("core/train.py", loading=True)
    assert "sklearn" in packages("core/data.py", loading=False) - packages("core/data.py", loading=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_library_is_imported_in_its_one_file(name: str) -> None:
    for library in packages(name, loading=False) & set(ONLY):
        assert name in ONLY[library]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("core/")])
def test_core_knows_nothing_of_the_sweep_and_loads_little(name: str) -> None:
    assert "sweep" not in packages(name, loading=False)
    allowed = {"core", *sys.stdlib_module_names, *AT_LOAD, *AT_LOAD_OF.get(name, ())}
    assert packages(name, loading=True) <= allowed


MODULES = ["core.train", "core.checkpoint", "core.evaluate", "core.data", "core.ops", "core.threads", "sweep.__main__"]


@pytest.mark.parametrize("module", MODULES)
def test_loading_a_module_loads_no_heavy_library(module: str) -> None:
    heavy = "{'mlflow', 'optuna', 'matplotlib', 'sklearn', 'pooch', 'rich', 'numba', 'cupy'}"
    code = f"import sys, {module}; print(*{heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
