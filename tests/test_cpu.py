"""The CPU's kernels on shapes of every kind, whatever the threads; their cache; and the memory they use."""

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
from cases import NETWORKS, Case, Inputs, worst_excess
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from core.batches import Images
from core.config import Architecture, Hyperparameters, Settings
from core.model import Model, initial_model
from core.ops import Ops, load
from core.ops.reference import OPS as REFERENCE
from core.optim import initial_state

numba = pytest.importorskip("numba")
CPU = load("cpu")
ROOT = Path(__file__).resolve().parent.parent
same_every_time = settings(
    derandomize=True, deadline=None, max_examples=40, database=None, suppress_health_check=[HealthCheck.filter_too_much]
)


# ------------------------------------------------------------------------------------------------ shapes of every kind


@st.composite
def blocks(draw: st.DrawFn, inference: bool = False) -> Case:
    """A block of any size: channels around the width of a vector, odd images, short batches, gamma of every sign."""
    trials, pool, pad = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    images = draw(st.integers(1, 19))
    channels, filters = (draw(st.one_of(st.integers(1, 5), st.sampled_from([15, 16, 17, 32, 40]))) for _ in range(2))
    height, width = (draw(st.integers(3, 12)) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inputs = {
        "x": rng.standard_normal((draw(st.sampled_from([1, trials])), images, channels, height, width)),
        "w": rng.standard_normal((trials, filters, channels, 3, 3)) / np.sqrt(9 * channels),
        "b": rng.standard_normal((trials, filters)),
        "gamma": rng.choice([-1.5, 0.0, 0.5, 2.0], (trials, filters)),
        "beta": rng.standard_normal((trials, filters)),
    }
    if inference:
        inputs |= {"mean": rng.standard_normal((trials, filters)), "variance": rng.uniform(0.5, 2, (trials, filters))}
    if draw(st.booleans()):
        out = height + 2 * pad - 2, width + 2 * pad - 2
        inputs["shortcut"] = rng.standard_normal((draw(st.sampled_from([1, trials])), images, filters, *out))
    options = {"pad": pad, "pool": pool}
    if inference:
        return Case("block_inference", inputs, ("y",), (), options)
    assume(images * (height + 2 * pad - 2) * (width + 2 * pad - 2) > 1)
    assume(not at_a_kink(inputs, pad, pool))
    wanted = ("x", "w", "b", "gamma", "beta", *(["shortcut"] if "shortcut" in inputs else []))
    return Case("block", inputs, ("y", "mean", "variance"), wanted, options)


def at_a_kink(inputs: Inputs, pad: int, pool: int) -> bool:
    """Whether rounding could decide if a value passes ReLU, or which of a window is the largest."""
    z, _ = REFERENCE.conv2d(inputs["x"], inputs["w"], inputs["b"], pad=pad)
    z = REFERENCE.batch_norm(z, inputs["gamma"], inputs["beta"])[0] + inputs.get("shortcut", 0.0)
    below, beside = z.shape[3] // pool, z.shape[4] // pool
    windows = z[..., : below * pool, : beside * pool].reshape(*z.shape[:3], below, pool, beside, pool)
    ordered = np.sort(windows.swapaxes(4, 5).reshape(*z.shape[:3], below, beside, -1))
    steps = np.abs(np.diff(ordered[..., -2:], prepend=-1)[..., -1:])
    return bool((np.abs(z) < 1e-5).any() or ((steps > 0) & (steps < 1e-5)).any())


@same_every_time
@given(case=blocks())
def test_any_block_errs_little(case: Case) -> None:
    assert worst_excess(case, CPU) <= 1


@same_every_time
@given(case=blocks())
def test_any_first_block_errs_little(case: Case) -> None:
    assert worst_excess(case, CPU, need_dx=False) <= 1


@same_every_time
@given(case=blocks(inference=True))
def test_any_block_in_test_mode_errs_little(case: Case) -> None:
    assert worst_excess(case, CPU) <= 1


@st.composite
def heads(draw: st.DrawFn) -> Case:
    trials, images = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    channels, classes = draw(st.sampled_from([1, 3, 16, 20])), draw(st.sampled_from([2, 10, 16, 33]))
    height, width = (draw(st.integers(1, 6)) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = channels * height * width
    inputs = {
        "x": rng.standard_normal((trials, images, channels, height, width)),
        "w": rng.standard_normal((trials, size, classes)) / np.sqrt(size),
        "b": rng.standard_normal((trials, classes)),
        "labels": rng.integers(0, classes, images),
        "rate": rng.choice(draw(st.sampled_from([[0.0], [0.0, 0.5, 0.9]])), trials),
        "seed": rng.integers(0, 2, trials).astype(np.uint64),
        "step": 3,
    }
    return Case("head", inputs, ("loss", "correct"), ("x", "w", "b"))


@same_every_time
@given(case=heads())
def test_any_head_errs_little(case: Case) -> None:
    assert worst_excess(case, CPU) <= 1


@pytest.mark.parametrize("shape", [(1, 1, 2, 1, 1), (2, 1, 33, 5, 7), (3, 300, 16, 1, 1)])
def test_a_projection_errs_little(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.standard_normal(shape),
        "w": rng.standard_normal((3, 17, shape[2], 1, 1)) / np.sqrt(shape[2]),
        "b": rng.standard_normal((3, 17)),
    }
    for x in (inputs["x"], np.repeat(inputs["x"][:1], 3, axis=0)):
        case = Case("conv2d", inputs | {"x": x if len(x) in (1, 3) else x[:1]}, ("y",), ("x", "w", "b"), {"pad": 0})
        assert worst_excess(case, CPU) <= 1


def test_a_value_alone_cannot_be_normalised() -> None:
    x, w, c = np.ones((1, 1, 1, 1, 1), np.float32), np.ones((1, 2, 1, 3, 3), np.float32), np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match="batch of 2"):
        CPU.block(x, w, c, c, c, pad=1, pool=1)


def test_equal_values_pool_like_the_first_and_nan_spreads() -> None:
    x = np.zeros((1, 2, 20, 4, 4), np.float32)
    x[0, 1] = np.nan
    w, one = np.ones((1, 3, 20, 3, 3), np.float32), np.ones((1, 3), np.float32)
    running = {"mean": 0 * one, "variance": one}
    y = CPU.block_inference(x, w, 0 * one, one, one, **running, pad=1)
    np.testing.assert_array_equal(y[0, 0], np.ones((3, 2, 2)))
    assert np.isnan(y[0, 1]).all()
    *_, saved = CPU.block(x[:, :1], w, 0 * one, one, one, np.zeros((1, 1, 3, 4, 4), np.float32), pad=1)
    *_, gradient = CPU.block_grad(np.ones((1, 1, 3, 2, 2), np.float32), saved)
    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1  # of equals the first, in row order
    np.testing.assert_array_equal(gradient[0, 0], np.broadcast_to(expected, (3, 4, 4)))


def test_read_only_and_oddly_laid_out_arrays_are_welcome() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 5, 6, 7, 16)).astype(np.float32)[:, ::-1].transpose(0, 1, 4, 2, 3)
    w, c = rng.standard_normal((2, 16, 16, 3, 3)).astype(np.float32), np.ones((2, 16), np.float32)
    x.flags.writeable = False
    expected, *_, saved = CPU.block(np.ascontiguousarray(x), w, c, c, c)
    y, *_ = CPU.block(x, w, c, c, c)
    np.testing.assert_array_equal(y, expected)
    dy = np.broadcast_to(np.float32(1), y.shape)
    np.testing.assert_array_equal(CPU.block_grad(dy, saved)[1], CPU.block_grad(dy.copy(), saved)[1])


# ------------------------------------------------------------------------------------------------------ whole networks


def trained(ops: Ops, architecture: Architecture, trials: list[Settings], steps: int) -> Model:
    """The model after so many steps on made-up images."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (60, *architecture.input_shape), dtype=np.uint8)
    images = Images(pixels, rng.integers(0, architecture.classes, 60), 1 / 255)
    model = initial_model(architecture, trials)
    group = Hyperparameters.of(trials)
    optimiser = trials[0].optimiser
    state = initial_state(optimiser, model, group)
    step = ops.make_step(ops, architecture, group, optimiser=optimiser)
    for number in range(steps):
        step(model, state, images, rng.permutation(60)[:19], np.array([trial.lr for trial in trials]), number)
    return model


LARGER = {
    "report, larger": Architecture((3, 13, 12), (20, 17), 4),
    "deep": Architecture((1, 17, 18), (8, 16, 5, 32), 4, global_pool=True),
    "residual, larger": Architecture((3, 16, 15), (16, 24), 4, residual=True),
}


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("architecture", [*NETWORKS.values(), *LARGER.values()], ids=[*NETWORKS, *LARGER])
def test_every_network_trains_as_with_the_reference(architecture: Architecture, optimiser: str) -> None:
    trials = [
        Settings(lr=0.02, reg=0.01, dropout=0.3, seed=seed, optimiser=optimiser, flip=0.5 * seed, crop=seed)
        for seed in (0, 1)
    ]
    exact, fast = (trained(ops, architecture, trials, 3) for ops in (REFERENCE, CPU))
    convolutions = range(1, len(architecture.layers) + 1)
    idle = {f"{name}{i}" for name in ("b", "running_mean") for i in convolutions}
    for name in exact.keys() - (
        idle if optimiser == "adam" else set()
    ):  # adam makes much of a gradient that is only rounding
        values = exact[name]
        np.testing.assert_allclose(fast[name], values, rtol=2e-3, atol=2e-4, err_msg=name)


TRAIN = """
import sys
import numpy as np
from core import threads
threads.use(int(sys.argv[1]))
from test_cpu import CPU, LARGER, Settings, trained
trials = [Settings(lr=0.1, dropout=0.5, seed=seed) for seed in (0, 1, 1)]
np.savez(sys.argv[2], **trained(CPU, LARGER[sys.argv[3]], trials, 4))
"""


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, in the folder of the tests."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    variables = os.environ | {"PYTHONPATH": path} | environment
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this machine has one core")
@pytest.mark.parametrize("name", LARGER)
def test_the_number_of_threads_changes_no_bit(tmp_path: Path, name: str) -> None:
    models = []
    for count in (1, 2):
        file = tmp_path / f"{count}.npz"
        python(TRAIN, str(count), str(file), name)
        models.append(dict(np.load(file)))
    for name, values in models[0].items():
        np.testing.assert_array_equal(models[1][name], values, err_msg=name)


@pytest.mark.parametrize("architecture", LARGER.values(), ids=LARGER)
def test_a_trial_trains_alike_alone_and_in_a_group(architecture: Architecture) -> None:
    trials = [Settings(lr=0.1, dropout=0.5, seed=seed, reg=0.01 * seed) for seed in range(3)]
    together = trained(CPU, architecture, trials, 4)
    alone = trained(CPU, architecture, trials[1:2], 4)
    for name, values in alone.items():
        np.testing.assert_array_equal(together[name][1:2], values, err_msg=name)


# -------------------------------------------------------------------------------------------------------------- memory

PEAK = """
import resource, sys
from test_cpu import CPU, Architecture, Settings, trained
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
import numpy as np
from core.batches import Images
before = peak()
rng = np.random.default_rng(0)
from core.model import initial_model
from core.config import Hyperparameters
from core.optim import initial_state
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
    from core.ops.kernels.memory import Pool

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

LOAD = """
import json, time
started = time.perf_counter()
from core.ops import load
import numpy as np
ops = load("cpu")
one = np.ones((1, 2), np.float32)
ops.block(np.ones((1, 2, 1, 4, 4), np.float32), np.ones((1, 2, 1, 3, 3), np.float32), one, one, one)
print(json.dumps(time.perf_counter() - started))
"""


def loading(folder: Path) -> tuple[float, str]:
    """Seconds until a new process has used a kernel, and what it wrote on stderr."""
    done = python(LOAD, FUSED_SWEEP_CACHE=str(folder))
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that two processes, started at once, have filled."""
    folder = tmp_path_factory.mktemp("cache")
    variables = os.environ | {"FUSED_SWEEP_CACHE": str(folder), "PYTHONPATH": str(ROOT)}
    both: list[Any] = [
        subprocess.Popen([sys.executable, "-c", LOAD], env=variables, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    notes = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Compiling" in note for note in notes) == 1  # the other waited
    return folder


def test_what_one_process_compiled_the_next_one_loads(compiled: Path) -> None:
    seconds, notes = loading(compiled)
    assert notes == ""
    assert seconds < 5  # about half a second on an idle machine; compiling takes 20


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_may_only_be_read_is_read(compiled: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compiled, tmp_path / "cache"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert loading(folder)[1] == ""
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
