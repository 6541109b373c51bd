"""Who may import whom: the arrows of the architecture, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("core", "sweep") for path in (ROOT / folder).rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in SOURCES]

# Packages, and files that are one of their own: none imports what stands in a later line.
ORDER = """
core.errors
core.addresses core.project core.text
core.shell_commands
core.arguments core.ops core.random
core.machine
core.storage
core.config
core.data
core.network
core.training
core.backends
core.export core.tracking
core.evaluate
core.figures core.cifar10
sweep.experiment
sweep.search
sweep.results
sweep.terminal sweep.executors
sweep.records
sweep.stages
sweep.doctor sweep.report
sweep.commands
sweep.__main__
"""
PLACES = {package: place for place, line in enumerate(ORDER.split("\n")) for package in line.split()}

# Libraries that one package alone, or a few, may import, wherever in it.
ONLY = {
    "mlflow": ["core/tracking/", "core/export/mlflow_model.py"],
    "requests": ["core/tracking/errors.py"],
    "sqlalchemy": ["core/tracking/"],
    "alembic": ["core/tracking/errors.py"],
    "optuna": ["sweep/search/samplers.py", "sweep/records/study.py", "sweep/records/journal"],
    "numba": ["core/backends/cpu/"],
    "llvmlite": ["core/backends/cpu/kernels/"],
    "cupy": ["core/backends/gpu/"],
    "matplotlib": ["core/figures/"],
    "PIL": ["core/figures/"],
    "scipy": ["sweep/results/ranking.py"],
    "torch": [],
}
# What a file of core may import as it loads, besides the standard library and core; all else waits until it is used.
AT_LOAD = {"numpy", "threadpoolctl"}
AT_LOAD_OF = {
    "core/tracking/": {"alembic", "filelock", "mlflow", "requests", "sqlalchemy"},
    "core/figures/": {"matplotlib"},
    "core/export/mlflow_model.py": {"mlflow", "pandas"},
    "core/backends/gpu/": {"cupy"},
    "core/backends/cpu/": {"filelock", "llvmlite", "numba"},
}


def module_of(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module_of(name): name for name in NAMES}


def package_of(module: str) -> str:
    """The package of ORDER that a module belongs to."""
    return max((package for package in PLACES if f"{module}.".startswith(f"{package}.")), key=len)


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


def libraries(name: str, *, loading: bool) -> set[str]:
    """Top-level packages that a file imports: as it loads, or ever."""
    tree = ast.parse((ROOT / name).read_text())
    return {package for node in running(tree, functions=not loading) for package in imported(node)}


def own_imports(name: str) -> set[str]:
    """Modules of ours that a file imports: anywhere, for a type checker too."""
    found = set[str]()
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (parts & MODULES.keys()) or {node.module}
    return found & MODULES.keys()


ARROWS = {module: own_imports(name) for module, name in MODULES.items()}


def test_the_sources_are_found() -> None:
    assert {"core/training/loop.py", "core/backends/gpu/backend.py", "sweep/records/study.py"} <= set(NAMES)
    assert "numpy" in libraries("core/training/loop.py", loading=True)
    digits = "core/data/formats/digits.py"
    assert "sklearn" in libraries(digits, loading=False) - libraries(digits, loading=True)
    assert "core.ops" in ARROWS["core.training.loop"]


def test_every_file_belongs_to_a_package() -> None:
    assert {package_of(module) for module in MODULES if module not in ("core", "sweep")} == PLACES.keys()


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ("core", "sweep")])
def test_no_arrow_leads_to_a_higher_package(module: str) -> None:
    here = package_of(module)
    for other in ARROWS[module] - {"core", "sweep"}:
        there = package_of(other)
        assert PLACES[there] < PLACES[here] or there == here, f"{module} imports {other}"


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(ARROWS).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", NAMES)
def test_a_library_is_imported_in_its_one_place(name: str) -> None:
    for library in libraries(name, loading=False) & set(ONLY):
        assert name.startswith(tuple(ONLY[library])), library


@pytest.mark.parametrize("name", [name for name in NAMES if name != "core/tracking/tags.py"])
def test_tags_are_named_in_one_file(name: str) -> None:
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        found = node.value if isinstance(node, ast.Subscript) else node.func if isinstance(node, ast.Call) else None
        owner = found.value if isinstance(found, ast.Attribute) and found.attr == "get" else found
        if isinstance(owner, ast.Attribute) and owner.attr == "tags" and isinstance(node, ast.Subscript | ast.Call):
            key = node.slice if isinstance(node, ast.Subscript) else next(iter(node.args), None)
            assert not isinstance(key, ast.Constant), ast.unparse(node)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("core/")])
def test_core_loads_little(name: str) -> None:
    own = [packages for place, packages in AT_LOAD_OF.items() if name.startswith(place)]
    allowed = {"core", *sys.stdlib_module_names, *AT_LOAD}.union(*own)
    assert libraries(name, loading=True) <= allowed


LIGHT = [
    *("core.training.loop", "core.training.checkpoint", "core.evaluate.__main__", "core.data.registry"),
    *("core.backends.registry", "core.machine.threads", "sweep.__main__"),
]


@pytest.mark.parametrize("module", LIGHT)
def test_loading_a_module_loads_no_heavy_library(module: str) -> None:
    heavy = "{'mlflow', 'optuna', 'matplotlib', 'sklearn', 'pooch', 'rich', 'numba', 'cupy'}"
    code = f"import sys, {module}; print(*{heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
