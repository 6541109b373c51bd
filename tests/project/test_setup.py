"""tools/setup.sh, with stand-ins for what it starts: Pythons, pip and nvidia-smi."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.progress import how_far

ROOT = Path(__file__).resolve().parents[2]

# A Python whose `-m venv` copies itself and whose pip only writes down its arguments, or dies: the rest is real.
PYTHON = f"""#!/bin/sh
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *"pip "*install*)
        sleep "$SECONDS_OF_PIP"
        echo "$@" >>installs
        if [ -n "$KILLED" ]; then touch .venv/half && kill -9 $PPID; fi ;;
    *) exec "{sys.executable}" "$@" ;;
esac
"""
NO_PYTHON = "#!/bin/sh\nexit 127\n"
OLD_PYTHON = '#!/bin/sh\ncase "$*" in *version_info*) exit 1 ;; esac\n'
NO_ENSUREPIP = f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; *) exec "{sys.executable}" "$@" ;; esac\n'


class Machine:
    """A folder with a copy of the project's set-up, and a folder of commands that come first on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder / "my project", folder / "bin"
        self.bin.mkdir()
        for name in ("pyproject.toml", "constraints.txt", "tools/setup.sh", "tools/progress.py"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        for name in ("python3.13", "python3.12", "python3.11", "nvidia-smi"):
            self.command(name, NO_PYTHON)
        self.command("python3", PYTHON)

    def command(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def setup(self, what: str = "runtime", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "SECONDS_OF_PIP": "0", "KILLED": "", **variables}
        command = [self.folder / "tools" / "setup.sh", what]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def installs(self) -> list[str]:
        """What each call of pip was asked to install."""
        log = self.folder / "installs"
        return [line.split()[-1] for line in log.read_text().splitlines()] if log.exists() else []

    def without(self, *programs: str) -> str:
        """A PATH on which these are not."""
        found = self.bin.with_name("without")
        found.mkdir()
        for folder in os.environ["PATH"].split(os.pathsep):
            for path in Path(folder).glob("*"):
                if path.name not in programs and not (found / path.name).exists():
                    (found / path.name).symlink_to(path)
        return f"{self.bin}:{found}"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


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


def test_another_cupy_comes_into_a_new_venv(machine: Machine) -> None:
    machine.command("nvidia-smi", "#!/bin/sh\necho 'CUDA Version: 12.8'\n")
    machine.setup()
    (machine.folder / ".venv" / "cupy-cuda12x").touch()
    machine.command("nvidia-smi", "#!/bin/sh\necho 'CUDA Version: 13.0'\n")
    machine.setup("gpu")
    assert machine.installs() == [".[gpu]", ".[gpu13]"]
    assert not (machine.folder / ".venv" / "cupy-cuda12x").exists()


def test_nothing_is_done_twice(machine: Machine) -> None:
    machine.setup()
    again = machine.setup()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    machine.setup("dev")
    machine.setup("dev")
    machine.setup("runtime")
    assert machine.installs() == [".", ".[dev]"]


def test_all_tests_have_what_single_ones_need_and_the_quick_ones_what_they_need(machine: Machine) -> None:
    assert machine.setup("test-all").returncode == 0
    assert machine.installs() == [".[dev,browser,postgres]", "torch==2.13.0+cpu"]
    for what in ("test-all", "dev", "runtime"):
        assert machine.setup(what).stderr == ""
    assert len(machine.installs()) == 2


def test_a_pytorch_that_pip_is_not_offered_is_looked_for_again_next_time(machine: Machine) -> None:
    lacking = PYTHON.replace("sleep", 'case "$*" in *torch*) echo "$@" >>installs; exit 1 ;; esac; sleep')
    machine.command("python3", lacking)
    for count in (1, 2):
        done = machine.setup("test-all")
        assert done.returncode == 0
        assert "no CPU build of PyTorch 2.13.0: tests that compare with it are skipped" in done.stderr
        assert machine.installs() == [".[dev,browser,postgres]", "torch==2.13.0+cpu"] * count
    assert machine.setup("dev").stderr == ""


@pytest.mark.parametrize("user", ["root", "another"])
def test_programs_that_lack_are_installed_by_root_and_told_to_others(machine: Machine, user: str) -> None:
    path = machine.without("chromium", "chromium-browser", "google-chrome", "g++", "apt-get", "id")
    machine.command("id", f"#!/bin/sh\necho {0 if user == 'root' else 1000}\n")
    machine.command("apt-get", '#!/bin/sh\necho "$@" >>asked\n')
    for _ in range(2):
        told = machine.setup("test-all", PATH=path).stderr
        assert ("To install what lacks (Debian, Ubuntu): sudo apt-get install chromium" in told) == (user == "another")
    asked = machine.folder / "asked"
    assert asked.exists() == (user == "root")
    assert user == "another" or asked.read_text().count("install -y -qq --no-install-recommends chromium") == 2
    assert machine.setup("dev", PATH=path).stderr == ""


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


def test_two_at_once_install_once(machine: Machine) -> None:
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: machine.setup(SECONDS_OF_PIP="1"), range(2)))
    assert [done.returncode for done in both] == [0, 0]
    assert "Another installation is going on" in both[0].stderr + both[1].stderr
    assert machine.installs() == ["."]


def test_a_venv_whose_python_has_gone_is_made_anew(machine: Machine) -> None:
    machine.setup()
    (machine.folder / ".venv" / "bin" / "python").unlink()
    (machine.folder / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    assert machine.setup().returncode == 0
    assert machine.installs() == [".", "."]


def test_a_failure_of_pip_is_said_with_its_reason(machine: Machine) -> None:
    reason = "printf 'Collecting numpy\\nERROR: No matching distribution\\nfound for numpy\\n'; exit 1 #"
    machine.command("python3", PYTHON.replace("sleep", reason))
    failed = machine.setup()
    assert failed.returncode == 2
    assert "Collecting" not in failed.stderr
    assert failed.stderr.splitlines()[-3:-1] == ["ERROR: No matching distribution", "found for numpy"]
    assert failed.stderr.splitlines()[-1].startswith("error: pip could not install")
    machine.command("python3", PYTHON)
    assert machine.setup().returncode == 0
    assert machine.installs() == ["."]


# What pip printed, before and after it knew all packages, and while it installed them.
LOG = [
    "Using pip 23.2.1",
    "Collecting numpy>=2.0 (from fused-sweep==0.1.0)",
    "  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (5 kB)",
    "Processing /wheels/rich-15.0.0-py3-none-any.whl (from fused-sweep==0.1.0)",
    "Collecting MarkupSafe>=2.0 (from jinja2)",
    "  Using cached markupsafe-3.0.4-cp311-cp311-manylinux_2_28_x86_64.whl (22 kB)",
    "  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl (16.9 MB)",
    "Installing collected packages: numpy, rich, MarkupSafe, fused-sweep",
]


@pytest.mark.parametrize(
    ("lines", "written", "said"),
    [
        (1, 0, ""),
        (3, 0, "fetched 0 of the 1 packages found so far"),
        (6, 0, "fetched 2 of the 3 packages found so far"),
        (7, 0, "fetched 3 of the 3 packages found so far"),
        (8, 2, "installed 2 of 4 packages"),
        (8, 9, "installed 4 of 4 packages"),
    ],
)
def test_how_far_pip_is_is_read_from_its_log(lines: int, written: int, said: str) -> None:
    assert how_far("\n".join(LOG[:lines]), written) == said


def test_installing_says_how_far_it_is(machine: Machine) -> None:
    """The stand-in for pip goes on when the progress was said."""
    lines = "\n".join(LOG[:7])
    writes = f"echo '{lines}'; until grep -q fetched said; do sleep 0.1; done"
    machine.command("python3", PYTHON.replace('sleep "$SECONDS_OF_PIP"', writes))
    said = machine.folder / "said"
    with said.open("w") as file:
        command, path = [machine.folder / "tools" / "setup.sh", "runtime"], f"{machine.bin}:{os.environ['PATH']}"
        subprocess.run(command, env={"PATH": path, "KILLED": ""}, stderr=file, timeout=60, check=True)
    assert "fetched 3 of the 3 packages found so far\n" in said.read_text()
    assert said.read_text().endswith("Installed.\n")


@pytest.mark.parametrize("broken", [NO_PYTHON, OLD_PYTHON, NO_ENSUREPIP], ids=["none", "old", "no ensurepip"])
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
    ids=["none", "old", "no ensurepip"],
)
def test_no_python_is_one_line_and_status_2(machine: Machine, python: str, message: str) -> None:
    machine.command("python3", python)
    failed = machine.setup()
    assert failed.returncode == 2
    [_, line] = failed.stderr.splitlines()  # the first is on the GPU
    assert line.startswith(message)
    assert not (machine.folder / ".venv").exists()


def test_the_variable_python_is_the_only_one_tried(machine: Machine) -> None:
    machine.command("python3.12", NO_PYTHON)
    failed = machine.setup(PYTHON="python3.12")
    assert failed.returncode == 2
    assert "tried python3.12;" in failed.stderr
