"""The CPU's kernels whatever the threads, their cache, and the memory they use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from core.backends.registry import load
from tests.conftest import Once
from tests.core.backends.test_shapes import LARGER

numba = pytest.importorskip("numba")
CPU = load("cpu")
ROOT = Path(__file__).resolve().parents[3]
same_every_time = settings(
    derandomize=True, deadline=None, max_examples=40, database=None, suppress_health_check=[HealthCheck.filter_too_much]
)


# ------------------------------------------------------------------------------------------------------------- threads

TRAIN = """
import sys
import numpy as np
from core.machine import threads
threads.use(int(sys.argv[1]))
from core.config.settings import Settings
from core.backends.registry import load
from tests.core.backends.test_shapes import LARGER, trained
CPU = load("cpu")
trials = [Settings(lr=0.1, dropout=0.5, seed=seed) for seed in (0, 1, 1)]
for name, architecture in LARGER.items():
    np.savez(f"{name} {sys.argv[1]}.npz", **trained(CPU, architecture, trials, 4))
"""


def python(
    code: str, *arguments: str, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, in this folder or that of the tests."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=True)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this machine has one core")
@pytest.mark.parametrize("name", LARGER)
def test_the_number_of_threads_changes_no_bit(once: Once, name: str) -> None:
    folder = once("threads", lambda folder: [python(TRAIN, count, folder=folder) for count in ("1", "2")])
    with np.load(folder / f"{name} 1.npz") as one, np.load(folder / f"{name} 2.npz") as two:
        assert [*one] == [*two]
        for values in one:
            np.testing.assert_array_equal(two[values], one[values], err_msg=values)


# -------------------------------------------------------------------------------------------------------------- memory

PEAK = """
import resource, sys
from core.config.architecture import Architecture
from core.config.settings import Settings
from core.backends.registry import load
CPU = load("cpu")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
import numpy as np
from core.data.images import Images
before = peak()
rng = np.random.default_rng(0)
from core.network.parameters import initial_model
from core.config.hyperparameters import Hyperparameters
from core.training.optimisers import initial_state
trials = [Settings(filters="32x64")]
shape = Architecture((3, 32, 32), (32, 64), 10)
images = Images(rng.integers(0, 256, (128, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 128), 1 / 255)
model, group = initial_model(shape, trials), Hyperparameters.of(trials)
state, step = initial_state("sgd", model, group), CPU.make_step(CPU, shape, group)
for number in range(3):
    step(model, state, images, np.arange(128), np.array([0.1]), number)
print(peak() - before)
"""


def test_a_trial_of_32x64_filters_needs_little_memory() -> None:
    pytest.importorskip("resource")
    assert int(python(PEAK).stdout) < 400e6


def test_memory_is_lent_to_one_at_a_time_and_used_again() -> None:
    from core.backends.cpu.kernels.buffers import Pool

    pool = Pool()
    first = pool.empty((100, 1000))
    view = first[3:5, 7]
    del first
    view[:] = 1.0
    second = pool.empty((100, 1000))
    second[:] = 2.0
    np.testing.assert_array_equal(view, 1.0)
    where = view.base.ctypes.data
    del view
    third = pool.empty((1000, 100))
    assert third.ctypes.data == where
    assert second.ctypes.data != where


# --------------------------------------------------------------------------------------------------------------- cache

ONE = """
from core.backends.cpu.kernels.cache import compiling
with compiling():
    from core.backends.cpu.kernels import update
"""
LOAD = """
import json, time
started = time.process_time()
from core.backends.registry import load
import numpy as np
ops = load("cpu")
one = np.ones((1, 2), np.float32)
ops.block(np.ones((1, 2, 1, 4, 4), np.float32), np.ones((1, 2, 1, 3, 3), np.float32), one, one, one)
print(json.dumps(time.process_time() - started))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that two processes, started at once, have filled with one file's kernels."""
    folder = tmp_path_factory.mktemp("cache")
    variables = os.environ | {"FUSED_SWEEP_CACHE": str(folder), "PYTHONPATH": str(ROOT)}
    both: list[Any] = [
        subprocess.Popen([sys.executable, "-c", ONE], env=variables, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    notes = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Compiling" in note for note in notes) == 1  # the other waited
    return folder


def written(folder: Path) -> dict[Path, int]:
    """The files of its kernels, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")}


@pytest.mark.slow("compiles kernels in processes of their own")
def test_what_one_process_compiled_the_next_one_loads(compiled: Path) -> None:
    before = written(compiled)
    assert len(before) > 2
    assert python(ONE, FUSED_SWEEP_CACHE=str(compiled)).stderr == ""
    assert written(compiled) == before
    every_kernel = python(LOAD)  # which this process has compiled, or another has
    assert every_kernel.stderr == ""
    assert json.loads(every_kernel.stdout) < 5  # seconds of a core: about one; compiling takes 20


# Two kernels, of which one takes another file's machine code into its own.
HELPER = """
from core.backends.cpu.kernels.jit import kernel

@kernel("int64(int64)")
def more(x):
    return x + 1
"""
USER = """
from core.backends.cpu.kernels.cache import compiling
with compiling():
    from core.backends.cpu.kernels.helper import more
    from core.backends.cpu.kernels.jit import kernel

    @kernel("int64(int64)")
    def twice(x):
        return 2 * more(x)
"""


def checkout(folder: Path, helper: str, age: float) -> Path:
    """A copy of the sources with these kernels, all files so many seconds old."""
    shutil.copytree(ROOT / "core", folder / "core", ignore=shutil.ignore_patterns("__pycache__"))
    kernels = folder / "core/backends/cpu/kernels"
    (kernels / "helper.py").write_text(helper)
    (kernels / "user.py").write_text(USER)
    for path in kernels.iterdir():
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    return folder


def twice(copy: Path, cache: Path, **variables: str) -> tuple[int, str]:
    """What the copy's kernel makes of 20, and what it says on the way."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from core.backends.cpu.kernels.user import twice\n"
    code += "print(twice(20))"
    done = python(code, str(copy), FUSED_SWEEP_CACHE=str(cache), **variables)
    return int(done.stdout), done.stderr


def test_copies_of_the_same_text_share_what_one_has_compiled(tmp_path: Path) -> None:
    """And of folders for other texts, those used last stay."""
    from core.backends.cpu.kernels.cache import KEPT

    cache = tmp_path / "cache"
    for number in range(KEPT + 3):
        (old := cache / f"{number:016x}" / "complete").parent.mkdir(parents=True)
        old.touch()
        os.utime(old, (number, number))
    (cache / "mine").mkdir()
    first, second = (checkout(tmp_path / name, HELPER, age) for name, age in (("here", 0), ("elsewhere", 5000)))
    result, said = twice(first, cache)
    assert result == 42
    assert "Compiling" in said
    before = written(cache)
    assert len(before) == 4
    assert twice(second, cache) == (42, "")
    assert written(cache) == before
    left = {path.name for path in cache.iterdir()}
    assert len(left) == KEPT + 1
    assert {f"{number:016x}" for number in range(4, KEPT + 3)} | {"mine"} < left


@pytest.mark.slow("compiles kernels in processes of their own")
def test_an_edited_helper_and_another_option_of_the_compiler_compile_again(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert twice(checkout(tmp_path / "a", HELPER, 0), cache)[0] == 42
    edited = checkout(tmp_path / "b", HELPER.replace("x + 1", "x + 2"), 0)
    assert twice(edited, cache)[0] == 44
    assert "Compiling" in twice(edited, cache, NUMBA_OPT="1")[1]
    assert twice(edited, cache, NUMBA_NUM_THREADS="1") == (44, "")


def test_all_kernels_are_counted() -> None:
    """What the progress of compiling counts to."""
    from core.backends.cpu.kernels import cache

    code = "from core.backends.cpu import backend; from numba.core.dispatcher import Dispatcher; import gc, json\n"
    code += "print(json.dumps([d.py_func.__module__ for d in gc.get_objects() if isinstance(d, Dispatcher)]))"
    found = json.loads(python(code).stdout)
    assert cache._Progress()._all == sum(name.startswith("core.backends.cpu.kernels.") for name in found)


@pytest.mark.slow("compiles kernels in processes of their own")
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_may_only_be_read_is_read(compiled: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compiled, tmp_path / "cache"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert python(ONE, FUSED_SWEEP_CACHE=str(folder)).stderr == ""
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
