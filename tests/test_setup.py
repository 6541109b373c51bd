"""The set-up: constraints.txt, the Makefile's help, and tools/setup.sh with stand-ins for pip, Pythons and GPUs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import constraints

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for line in sum(EXTRAS.values(), PROJECT["dependencies"])]

# A Python whose `-m venv` copies itself and whose pip only writes down its arguments, or dies: the rest is real.
PYTHON = f"""#!/bin/sh
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *"pip "*install*) echo "$@" >>installs && if [ -n "$KILLED" ]; then touch .venv/half && kill -9 $PPID; fi ;;
    *) exec {sys.executable} "$@" ;;
esac
"""
NO_PYTHON = "#!/bin/sh\nexit 127\n"
OLD_PYTHON = '#!/bin/sh\ncase "$*" in *version_info*) exit 1 ;; esac\n'
NO_ENSUREPIP = f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; *) exec {sys.executable} "$@" ;; esac\n'


class Machine:
    """A folder with a copy of the project's set-up, and a folder of commands that come first on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder / "my project", folder / "bin"
        self.bin.mkdir()
        for name in ("pyproject.toml", "constraints.txt", "tools/setup.sh"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        for name in ("python3.13", "python3.12", "python3.11", "nvidia-smi"):
            self.command(name, NO_PYTHON)
        self.command("python3", PYTHON)

    def command(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def setup(self, what: str = "runtime", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "KILLED": "", **variables}
        command = [self.folder / "tools" / "setup.sh", what]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def installs(self) -> list[str]:
        """What each call of pip was asked to install."""
        log = self.folder / "installs"
        return [line.split(" -e ")[1] for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


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
    providers = packages_distributions() | {"cupy": ["cupy-cuda12x"]}
    required = {requirement.name for requirement in REQUIREMENTS}
    assert {name for name in outside if required.isdisjoint(providers.get(name, [name]))} == set()


def test_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert re.findall(r"^  ([a-z-]+) +\S", text, re.MULTILINE) == [n for n in phony[1].split() if n[0] != "_"]


@pytest.mark.parametrize(
    ("answer", "extra", "reason"),
    [
        ("echo '| Driver Version: 550.54.15   CUDA Version: 12.4     |'", "[gpu]", "cupy-cuda12x"),
        ("echo '| Driver Version: 580.65.06   CUDA Version: 13.0     |'", "[gpu13]", "cupy-cuda13x"),
        ("echo '| KMD Version: 595.10  CUDA UMD Version: 13.2 |'", "[gpu13]", "cupy-cuda13x"),
        ("echo '| Driver Version: 470.82   CUDA Version: 11.4  |'", "", "CuPy needs CUDA 12, the NVIDIA driver has 11"),
        ("echo 'No devices were found'; exit 6", "", "No NVIDIA GPU"),
        ("echo 'CUDA Version: 12.4'; exit 9", "", "No NVIDIA GPU"),
    ],
)
def test_cupy_is_chosen_by_the_driver(machine: Machine, answer: str, extra: str, reason: str) -> None:
    machine.command("nvidia-smi", f"#!/bin/sh\n{answer}\n")
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert reason in done.stderr
    assert machine.installs() == [f".{extra}"]


def test_setup_sees_a_gpu_that_came_later(machine: Machine) -> None:
    machine.setup()
    machine.command("nvidia-smi", "#!/bin/sh\necho 'CUDA Version: 12.8'\n")
    machine.setup()
    assert machine.installs() == ["."]
    machine.setup("gpu")
    machine.setup("dev")
    assert machine.installs() == [".", ".[gpu]", ".[dev,gpu]"]


def test_nothing_is_done_twice(machine: Machine) -> None:
    machine.setup()
    again = machine.setup()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    machine.setup("dev")
    machine.setup("dev")
    machine.setup("runtime")
    assert machine.installs() == [".", ".[dev]"]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_file_installs_again_into_the_same_folder(machine: Machine, name: str) -> None:
    machine.setup("dev")
    kept = machine.folder / ".venv" / "kept"
    kept.touch()
    with (machine.folder / name).open("a") as file:
        file.write("# changed\n")
    machine.setup("dev")
    assert machine.installs() == [".[dev]"] * 2
    assert kept.exists()


@pytest.mark.parametrize("before", ["nothing", "runtime"])
def test_an_interrupted_installation_is_made_anew(machine: Machine, before: str) -> None:
    if before == "runtime":
        machine.setup("runtime")
    assert machine.setup("dev", KILLED="yes").returncode != 0
    assert (machine.folder / ".venv" / "half").exists()
    assert machine.setup("runtime").returncode == 0
    assert machine.installs()[-2:] == [".[dev]", "."]
    assert not (machine.folder / ".venv" / "half").exists()


def test_a_venv_whose_python_has_gone_is_made_anew(machine: Machine) -> None:
    machine.setup()
    (machine.folder / ".venv" / "bin" / "python").unlink()
    (machine.folder / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    assert machine.setup().returncode == 0
    assert machine.installs() == [".", "."]


def test_a_failure_of_pip_is_said_in_one_line(machine: Machine) -> None:
    machine.command("python3", PYTHON.replace('echo "$@" >>installs', "exit 1"))
    failed = machine.setup()
    assert failed.returncode == 2
    assert "error: pip could not install" in failed.stderr
    machine.command("python3", PYTHON)
    assert machine.setup().returncode == 0
    assert machine.installs() == ["."]


@pytest.mark.parametrize("broken", [NO_PYTHON, OLD_PYTHON, NO_ENSUREPIP])
def test_a_python_that_will_not_do_is_passed_over(machine: Machine, broken: str) -> None:
    machine.command("python3", broken)
    machine.command("python3.12", PYTHON)
    assert machine.setup().returncode == 0
    assert machine.installs() == ["."]


@pytest.mark.parametrize(
    ("python", "message"),
    [
        (NO_PYTHON, "error: no Python 3.11 or newer: tried python3 python3.13 python3.12 python3.11; install one"),
        (OLD_PYTHON, "error: no Python 3.11 or newer"),
        (NO_ENSUREPIP, "error: python3 cannot make .venv, it lacks ensurepip: install python3.1"),
    ],
)
def test_no_python_is_one_line_and_status_2(machine: Machine, python: str, message: str) -> None:
    machine.command("python3", python)
    failed = machine.setup()
    assert failed.returncode == 2
    assert [line.startswith(message) for line in failed.stderr.splitlines()[1:]] == [True]  # after the one on the GPU
    assert not (machine.folder / ".venv").exists()


def test_the_variable_python_is_the_only_one_tried(machine: Machine) -> None:
    machine.command("python3.12", NO_PYTHON)
    failed = machine.setup(PYTHON="python3.12")
    assert failed.returncode == 2
    assert "tried python3.12;" in failed.stderr
