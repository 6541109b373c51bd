"""The GPU's kernels: compiled for GPUs, where nvcc is here; and what of them the table of operations does not show.

That the kernels are right is for test_ops.py and test_shapes.py, which run them on the CPU (host_gpu.py).
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.backends.gpu import cuda, head, tiles
from core.backends.gpu.operations import make_ops
from core.backends.reference.backend import OPS
from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import AUGMENTATIONS, Settings
from core.data.images import Images
from core.network.parameters import initial_model
from core.ops import Ops
from core.random import uniform
from core.training.loop import train_group
from core.training.optimisers import initial_state
from tests.core.backends.test_shapes import LARGER, same_every_time, trained
from tests.helpers import host_gpu
from tests.helpers.cases import Case
from tests.helpers.host_gpu import HostDevice, to_host

REFERENCE = OPS
pytestmark = pytest.mark.skipif(host_gpu.COMPILER is None, reason="g++ is not here")


def on(device: HostDevice) -> Ops:
    return make_ops(device, xp=device.xp, to_host=to_host)


# ---------------------------------------------------------------------------------------------------------- compiled


@pytest.mark.slow("nvcc compiles all kernels")
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not here")
@pytest.mark.parametrize("capability", [75, 80, 90])
def test_the_kernels_compile_for_gpus_old_and_new(tmp_path: Path, capability: int) -> None:
    """Without a warning, and with no more than a few bytes of registers spilled."""
    (tmp_path / "kernels.cu").write_text(cuda.source())
    command = ["nvcc", f"-arch=sm_{capability}", "-std=c++17", "-cubin", "--Werror", "all-warnings", "-Xptxas", "-v"]
    done = subprocess.run([*command, "kernels.cu"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    frames = [int(line.split()[0]) for line in done.stderr.splitlines() if "bytes stack frame" in line]
    assert len(frames) > 30
    assert max(frames) <= 16


def nvrtc() -> Path | None:
    """The run-time compiler that CuPy uses, where a package has brought it."""
    found = [path for folder in sys.path for path in Path(folder).glob("nvidia/*/lib/libnvrtc.so.1[23]")]
    return found[0] if found else None


@pytest.mark.skipif(nvrtc() is None, reason="NVRTC is not here")
@pytest.mark.parametrize("capability", [75, 80, 90, 120])
def test_the_compiler_that_cupy_uses_takes_the_kernels(capability: int) -> None:
    library, program, size = ctypes.CDLL(str(nvrtc())), ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), cuda.source().encode(), b"kernels.cu", 0, None, None)
    options = (ctypes.c_char_p * 1)(f"-arch=sm_{capability}".encode())
    status = library.nvrtcCompileProgram(program, 1, options)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert status == 0, log.value.decode()
    assert not log.value.strip()


# ------------------------------------------------------------------------------- what running them on the CPU finds

FAULTS = {
    "a barrier is missing": ("  __syncthreads(); // memory is filled\n", "", "its threads race"),
    "a store beyond the end": ("store4(y + to, best);", "store4(y + to + 4, best);", "SIGSEGV"),
    "some threads miss a barrier": (
        "  __syncthreads();\n  if (lane > 0 || l >= classes) return;",
        "  if (lane > 0 || l >= classes) return;\n  __syncthreads();",
        "threads wait at different lines",
    ),
    "a value is not written": ("slope, dbeta[e] = (float)sum;", "slope;", "wrong"),
    "a filter is turned the wrong way": ("(taps - 1 - tap) * stored_filters", "tap * stored_filters", "wrong"),
}

RUN = """
import sys
from pathlib import Path
from tests.helpers import host_gpu
host_gpu.OPTIMISED = "-Og"  # each is compiled for one short run
from core.backends.gpu import cuda
text = Path(sys.argv[1]).read_text()
cuda.source = lambda: text
import numpy as np
from tests.helpers.host_gpu import host_ops
from tests.core.backends.test_shapes import LARGER, trained
from core.config.settings import Settings
from core.backends.reference.backend import OPS
trials = [Settings(dropout=0.3, seed=seed) for seed in (0, 1)]
models = [trained(ops, LARGER["report, larger"], trials, 2) for ops in (OPS, host_ops())]
for name, values in models[0].items():
    assert np.allclose(models[1][name], values, rtol=2e-3, atol=2e-4), "wrong"
"""


@pytest.mark.slow("g++ compiles all kernels anew for each fault")
@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_fault_in_a_kernel_does_not_go_unseen(tmp_path: Path, fault: str | None) -> None:
    text, message = cuda.source(), ""
    if fault:
        right, wrong, message = FAULTS[fault]
        assert text.count(right) == 1
        text = text.replace(right, wrong)
    (tmp_path / "kernels.cu").write_text(text)
    path = str(Path(__file__).resolve().parents[3])
    command = [sys.executable, "-c", RUN, str(tmp_path / "kernels.cu")]
    variables = os.environ | {"PYTHONPATH": path, "TMPDIR": str(tmp_path)}  # where the library is built
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (fault is None), done.stderr
    ended_by = signal.Signals(-done.returncode).name if done.returncode < 0 else ""
    assert message in done.stderr + ended_by


# ------------------------------------------------------------------------------------------------------------- tiles


@same_every_time
@given(
    images=st.integers(1, 300), height=st.integers(1, 70), width=st.integers(1, 400), channels=st.integers(1, 130),
    filters=st.integers(1, 130), kernel=st.sampled_from([1, 3]), pad=st.integers(0, 2),
)  # fmt: skip
def test_tiles_cover_a_convolution_and_fit_a_block(
    images: int, height: int, width: int, channels: int, filters: int, kernel: int, pad: int
) -> None:
    shape = tiles.Convolution.of((images, channels, height, width), filters, kernel, pad)
    if min(shape.rows, shape.columns) < 1:
        return
    cut, gradient = tiles.convolution(shape), tiles.correlation(shape)
    if cut:
        tile = cut.shape
        assert tile.tile_rows * tile.bands >= shape.rows > tile.tile_rows * (tile.bands - 1)
        assert tile.tile_images == 1 or tile.bands == 1
        assert cut.threads <= tiles.THREADS
        assert cut.shared <= tiles.SHARED
        places = tile.tile_images * tile.tile_rows * tile.columns
        assert cut.threads >= places / 8 * (tiles.width(shape.filters) / 8)
    if gradient:
        tile = gradient.cut.shape
        assert tile.tile_rows * tile.bands >= shape.rows > tile.tile_rows * (tile.bands - 1)
        assert gradient.cut.threads <= tiles.THREADS
        assert gradient.cut.shared <= tiles.SHARED
        assert 1 <= gradient.slices <= tile.tile_rows
    assert (cut and gradient) or width > 40


@pytest.mark.slow("large images, on a GPU's kernels run by the CPU")
@pytest.mark.parametrize(("trials", "shape", "filters"), [(2, (3, 4, 9, 300), 5), (1, (2, 3, 40, 90), 12)])
def test_large_images_are_cut_into_bands_or_left_to_the_reference(
    trials: int, shape: tuple[int, int, int, int], filters: int
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((trials, *shape))
    w = rng.standard_normal((trials, filters, shape[1], 3, 3)) / 5
    vectors = {name: rng.standard_normal((trials, filters)) for name in ("b", "gamma", "beta")}
    case = Case("block", {"x": x, "w": w, **vectors}, ("y", "mean", "variance"), ("x", "w", "b", "gamma", "beta"))
    exact = case.run(REFERENCE, case.inputs)
    found = case.run(on(HostDevice(1)), case.inputs, np.float32, need_dx=False)
    for name, values in found.items():
        np.testing.assert_allclose(
            values, exact[name], rtol=1e-3, atol=1e-3 * max(1, np.abs(exact[name]).max()), err_msg=name
        )


# ---------------------------------------------------------------------------------------------------- random numbers


@pytest.mark.parametrize("count", [1, 4, 1027])
def test_random_numbers_have_the_bits_of_core_random(count: int) -> None:
    seeds = np.array([0, 5, 2**63 + 7], np.uint64)
    numbers = on(HostDevice()).augment.__self__._uniform(seeds, 6, 2**31, count)
    np.testing.assert_array_equal(to_host(numbers), uniform(seeds, 6, 2**31, count))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("flip", "crop"), [((0.5, 0.5), (3, 3)), ((0.0, 1.0), (0, 2)), ((0.3, 0.3), (0, 0))])
def test_images_are_gathered_as_augment_makes_them(dtype: type, flip: tuple, crop: tuple) -> None:
    """Bit by bit; the step sees what core.training.augment would have given it."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 2, 7, 6)).astype(dtype)
    images, ops = Images(pixels, rng.integers(0, 3, 30), 1 / 255), on(HostDevice())
    there = Images.on_device(ops, images.pixels, images.labels, images.scale)
    trials = [Settings(flip=f, crop=c) for f, c in zip(flip, crop, strict=True)]
    group, chosen = Hyperparameters.of(trials), rng.permutation(30)[:13]
    architecture = Architecture((2, 7, 6), (3,), 3)
    model = initial_model(architecture, trials, xp=ops.xp)
    step = ops.make_step(ops, architecture, group, data_seed=9)
    step(model, initial_state("sgd", model, group), there, ops.xp.asarray(chosen), ops.xp.zeros(2), 21)
    x, labels = images.batch(chosen)
    expected = REFERENCE.augment(x, group.augmentation, 9, 21)
    found, numbers = map(to_host, step._batches[13])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(numbers, labels)


# ---------------------------------------------------------------------------------------------------- whole trainings


class Recorder(HostDevice):
    """Keeps count of recordings, of arrays, and of what is launched outside of a recording."""

    def __init__(self) -> None:
        super().__init__(orders=1)
        self.recorded, self.live, self.peak = 0, 0, 0
        self.outside: list[str] = []
        self._inside = False

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        values = super().empty(shape, dtype)
        self.live += values.nbytes
        self.peak = max(self.peak, self.live)
        weakref.finalize(values.base, self._freed, values.nbytes)  # which every view of it keeps alive
        return values

    def _freed(self, size: int) -> None:
        self.live -= size

    def launch(self, kernel: str, *arguments: Any) -> None:
        if not self._inside:
            self.outside.append(kernel)
        super().launch(kernel, *arguments)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self._inside = True
            work()
            self._inside = False

        return replay


def test_a_group_trains_to_its_end_and_a_step_is_recorded_once_for_each_batch_length() -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (50, 1, 8, 8), dtype=np.uint8), rng.integers(0, 4, 50)
    architecture = Architecture((1, 8, 8), (4, 6), 4)
    trials = [Settings(lr=0.05, seed=seed, batch_size=16, epochs=epochs) for seed, epochs in ((0, 3), (1, 2))]
    device = Recorder()
    curves = []
    for ops in (REFERENCE, on(device)):
        parts = (Images.on_device(ops, pixels[part], labels[part], 1 / 255) for part in (slice(38), slice(38, None)))
        reports = list(train_group(ops, architecture, trials, *parts))
        curves.append([metrics["train_loss"] for report in reports for metrics in report.metrics.values()])
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)
    assert device.recorded == 4  # batches of 16 and of 6, for two trials and for the one that is left
    steps = 3 * 3
    assert device.outside.count("gather_bytes") == device.outside.count("set_step") == steps


class Graphs(HostDevice):
    """Records as a GPU does: work runs once, then its launches are kept, and from there on only those are done.

    What CuPy does itself, a GPU would record too; so the network of a test must need none of it.
    """

    _captured: list[tuple[Any, ...]] | None = None

    def __init__(self) -> None:
        super().__init__(orders=1)
        self._kept: list[np.ndarray] = []  # arrays that are recorded by their address alone

    def address(self, values: np.ndarray) -> int:
        self._kept.append(values)
        return super().address(values)

    def launch(self, *arguments: Any) -> None:
        if self._captured is None:
            super().launch(*arguments)
        else:
            self._captured.append(arguments)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        graph: list[tuple[Any, ...]] = []
        calls = 0

        def replay() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                work()
                return
            if calls == 2:
                self._captured = graph
                work()
                self._captured = None
            for arguments in graph:
                self.launch(*arguments)

        return replay


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_all_that_changes_from_step_to_step_is_in_the_arrays_of_a_recording(optimiser: str) -> None:
    """The number of the step, the learning rates, the batch, the masks: nothing of them is recorded."""
    rng = np.random.default_rng(3)
    pixels, labels = rng.integers(0, 256, (40, 3, 9, 8), dtype=np.uint8), rng.integers(0, 4, 40)
    architecture = Architecture((3, 9, 8), (8, 16), 4)
    trials = [Settings(dropout=0.5, seed=seed, momentum=0.9, flip=0.5, crop=1, optimiser=optimiser) for seed in (0, 1)]
    group, batches = Hyperparameters.of(trials), [rng.permutation(40)[:11] for _ in range(5)]
    models, totals = [], []
    for ops in (REFERENCE, on(Graphs())):
        put, images = ops.xp.asarray, Images.on_device(ops, pixels, labels, 1 / 255)
        model = initial_model(architecture, trials, xp=ops.xp)
        state = initial_state(optimiser, model, group)
        step = ops.make_step(ops, architecture, group, optimiser=optimiser)
        rates = [put(np.array([0.02, 0.01]) * (number + 1)) for number in range(5)]
        totals.append([ops.to_host(step(model, state, images, put(batches[n]), rates[n], n)).copy() for n in range(5)])
        models.append({name: ops.to_host(values) for name, values in model.items()})
    np.testing.assert_allclose(totals[1], totals[0], rtol=1e-4)
    for name in ("w1", "w2", "w3", "gamma1", "running_var2"):
        np.testing.assert_allclose(models[1][name], models[0][name], rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("architecture", LARGER.values(), ids=LARGER)
def test_the_memory_of_a_step_is_what_was_estimated(architecture: Architecture) -> None:
    device = Recorder()
    trained(on(device), architecture, [Settings(), Settings()], 1)
    estimate = on(device).step_memory(architecture, 2, 19)
    assert estimate / 3 < device.peak < estimate


def test_a_step_goes_with_the_last_who_knows_it() -> None:
    """It has the arrays of a whole group: they must not wait for the garbage collector."""
    ops = on(Recorder())
    architecture, group = Architecture((1, 8, 8), (8,), 4), Hyperparameters.of([Settings()])
    model = initial_model(architecture, [Settings()], xp=ops.xp)
    state = initial_state("sgd", model, group)
    rng = np.random.default_rng(0)
    images = Images.on_device(ops, rng.integers(0, 256, (9, 1, 8, 8), np.uint8), rng.integers(0, 4, 9), 1 / 255)
    weights = model["w1"].base
    step = ops.make_step(ops, architecture, group)
    gc.collect()
    gc.disable()
    try:
        for number in range(3):
            step(model, state, images, ops.xp.arange(9), ops.xp.zeros(1), number)
        known = [weakref.ref(step), weakref.ref(weights)]
        del step, model, state, weights
        assert [reference() is None for reference in known] == [True, True]
    finally:
        gc.enable()


def test_more_classes_than_the_kernels_know_train_with_the_reference() -> None:
    architecture = Architecture((1, 4, 4), (2,), head.MOST_CLASSES + 1)
    exact, found = (trained(ops, architecture, [Settings(dropout=0.5)], 2) for ops in (REFERENCE, on(HostDevice(1))))
    np.testing.assert_allclose(found["w2"], exact["w2"], rtol=2e-3, atol=2e-4)


def test_augmentations_of_every_kind_reach_the_step() -> None:
    strong = dict(zip(AUGMENTATIONS, (0.5, 1, 20, 0.3, 0.3, 0.3, 0.1, 2), strict=True))
    architecture = Architecture((3, 8, 8), (4,), 4)
    trials = [Settings(**strong), Settings(seed=1)]
    exact, found = (trained(ops, architecture, trials, 2) for ops in (REFERENCE, on(HostDevice())))
    for name, values in exact.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=2e-4, err_msg=name)
