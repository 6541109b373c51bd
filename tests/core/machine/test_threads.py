"""How many threads compute, and what of the machine the process may use: cores and memory, control groups included."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from core.backends import registry as backends
from core.errors import InputError
from core.machine import threads
from core.machine.hardware import available_cores, available_memory

ROOT = Path(__file__).resolve().parents[3]
GIB = 2**30


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave all cores to the other tests."""
    yield
    threads.use(None)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine of eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    return 8


def system(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files of /proc and /sys."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder


def test_without_being_asked_it_is_every_core() -> None:
    threads.use(None)
    assert threads.count() == available_cores() >= 1


def test_what_was_asked_for_counts(cores: int) -> None:
    threads.use("3")
    assert threads.count() == 3
    threads.use(8)
    assert threads.count() == 8
    threads.use(None)
    assert threads.count() == 8


@pytest.mark.parametrize("asked_for", ["0", "-1", "x", "1.5", "", "9", 0, 9])
def test_no_other_number_is_taken(cores: int, asked_for: str | int) -> None:
    threads.use(2)
    with pytest.raises(InputError, match=f"threads is {asked_for}: it must be a whole number from 1 to 8, the cores"):
        threads.use(asked_for)
    assert threads.count() == 2


def test_trials_compute_on_so_many_threads(cores: int) -> None:
    def at_work(_: slice) -> int:
        running.append(1)
        seen.append(len(running))
        time.sleep(0.05)
        running.pop()
        return 0

    for number in (1, 3):
        running: list[int] = []
        seen: list[int] = []
        threads.use(number)
        assert threads.map_trials(at_work, 9) == [0] * 9
        assert max(seen) == number


def test_the_linear_algebra_library_keeps_to_it() -> None:
    def on() -> set[int]:
        return {blas["num_threads"] for blas in threadpool_info() if "numpy" in blas["filepath"]}

    threads.use(1)
    assert on() <= {1}
    threads.map_trials(lambda _: None, 2)
    assert on() <= {1}


NO_LIMIT = "9223372036854771712"  # what version 1 says


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, 8, id="none"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 8, id="v2-unlimited"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2, id="v2"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}, 3, id="v2-rounded-up"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "1000 100000"}, 1, id="v2-at-least-one"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "9900000 100000"}, 8, id="v2-more-than-all"),
        pytest.param({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "100000 50000"}, 2, id="v2-own"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
            },
            3,
            id="v2-parent",
        ),
        pytest.param({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/b/cpu.max": "100000 100000"}, 8, id="v2-another's"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/../a",
                "sys/fs/cgroup/cpu.max": "400000 100000",
                "sys/fs/cpu.max": "100000 100000",
            },
            4,
            id="v2-beside-what-is-seen",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/a\n0::/",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
            },
            2,
            id="v1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "3:cpu:/docker/0123",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "500000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            5,
            id="v1-as-the-host-names-it",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "3:cpuset:/a\n2:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
            },
            8,
            id="v1-unlimited",
        ),
    ],
)
def test_cores_are_those_that_control_groups_leave(
    tmp_path: Path, cores: int, files: dict[str, str], expected: int
) -> None:
    assert available_cores(system(tmp_path, files)) == expected


MEMINFO = {
    "proc/meminfo": "MemTotal:       16777216 kB\nMemFree:         1000 kB\nMemAvailable:    8388608 kB\nHugePages:  0"
}
V2 = {"proc/self/cgroup": "0::/a", **MEMINFO}
V1 = {"proc/self/cgroup": "4:memory:/a\n0::/", **MEMINFO}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(MEMINFO, 8 * GIB, id="machine"),
        pytest.param(V2 | {"sys/fs/cgroup/a/memory.max": "max", "sys/fs/cgroup/a/memory.current": "5"}, 8 * GIB),
        pytest.param(
            V2 | {"sys/fs/cgroup/a/memory.max": str(3 * GIB), "sys/fs/cgroup/a/memory.current": str(GIB)}, 2 * GIB
        ),
        pytest.param(
            V2 | {"sys/fs/cgroup/memory.max": str(3 * GIB), "sys/fs/cgroup/memory.current": str(GIB)}, 2 * GIB
        ),
        pytest.param(
            V2
            | {
                "sys/fs/cgroup/a/memory.max": str(3 * GIB),
                "sys/fs/cgroup/a/memory.current": str(2 * GIB),
                "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {GIB}\nactive_file 7",
            },
            2 * GIB,
            id="v2-files-that-would-be-given-up",
        ),
        pytest.param(
            V2 | {"sys/fs/cgroup/a/memory.max": str(GIB), "sys/fs/cgroup/a/memory.current": str(GIB + 5)}, 0, id="full"
        ),
        pytest.param(
            V1
            | {
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(4 * GIB),
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": str(3 * GIB),
                "sys/fs/cgroup/memory/a/memory.stat": f"inactive_file 5\ntotal_inactive_file {GIB}",
            },
            2 * GIB,
            id="v1",
        ),
        pytest.param(
            V1
            | {
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": NO_LIMIT,
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": str(3 * GIB),
            },
            8 * GIB,
            id="v1-unlimited",
        ),
    ],
)
def test_memory_is_what_the_machine_and_control_groups_leave(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert available_memory(system(tmp_path, files)) == expected


def test_memory_is_known_where_there_is_no_proc(tmp_path: Path) -> None:
    assert 2**20 < available_memory(tmp_path) < 2**50
    assert 2**20 < available_memory() < 2**50


BLOCKED = """
import sys
sys.modules["numba"] = None  # importing it fails, as where it is not installed
from core.backends import registry as backends
from core.errors import InputError
print(backends.load().name)
print(backends.load("reference").name)
try:
    backends.load("cpu")
except InputError as error:
    print(error)
"""


def test_without_numba_auto_is_reference_and_says_so() -> None:
    shown = subprocess.run([sys.executable, "-c", BLOCKED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[:2] == ["reference", "reference"]
    assert 'backend is "cpu", but it cannot be loaded (' in shown.stdout.splitlines()[2]
    (note,) = shown.stderr.splitlines()
    assert "numba" in note
    assert "using reference, which is slow" in note


def test_auto_is_the_fast_backend() -> None:
    pytest.importorskip("numba")
    assert backends.load() is backends.load("auto") is backends.load("cpu")


def test_a_mistake_of_our_own_is_no_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "core.backends.cpu.backend", None)
    for name in ("auto", "cpu"):
        with pytest.raises(ImportError, match=r"core\.backends\.cpu\.backend"):
            backends.load(name)
