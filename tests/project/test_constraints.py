"""constraints.txt, pyproject.toml and the imports agree; the Makefile's help is complete."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import constraints

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_constraints_are_names_and_versions_only() -> None:
    assert len(pinned()) > 50
    for name, version in pinned().items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"[0-9a-z.]+", version)
    assert list(pinned()) == sorted(pinned())


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_every_requirement_is_pinned_to_a_version_it_allows(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pinned()[requirement.name])


def test_constraints_leave_out_the_project_and_what_two_extras_disagree_on() -> None:
    common = {"fused-sweep": "1", "b": "2", "b-c": "3"}
    text = constraints.text([common | {"cuda": "12"}, common | {"cuda": "13", "a": "1"}])
    assert text == constraints.HEADER + "a==1\nb==2\nb-c==3\n"


def imported(folder: str) -> set[str]:
    """First names of all modules that the Python files of a folder import."""
    nodes = [node for path in (ROOT / folder).rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in names}


def test_every_imported_package_is_a_requirement() -> None:
    outside = (imported("core") | imported("sweep")) - sys.stdlib_module_names - {"core", "sweep"}
    assert {"numpy", "mlflow", "optuna"} <= outside
    sources = packages_distributions() | {"cupy": ["cupy-cuda12x"]}
    required = {requirement.name for requirement in REQUIREMENTS}
    assert {name for name in outside if required.isdisjoint(map(str.lower, sources.get(name, [name])))} == set()


def test_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert re.findall(r"^  ([a-z-]+) +\S", text, re.MULTILINE) == [n for n in phony[1].split() if n[0] != "_"]
