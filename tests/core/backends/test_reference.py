"""What the operations mean, by numbers worked out by hand."""

from __future__ import annotations

import math
from importlib.util import find_spec
from itertools import chain

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from core.backends.reference import backend, fused, plain
from core.backends.registry import load
from core.config.architecture import EPSILON
from core.errors import InputError
from tests.helpers.cases import block as block_case
from tests.helpers.cases import conv2d as conv2d_case
from tests.helpers.cases import head as head_case

RNG = np.random.default_rng(0)


def convolved(x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: int, pad: int) -> np.ndarray:
    """out[n,f,i,j] = sum over c,k,l of x[n,c,i*stride+k,j*stride+l] * w[f,c,k,l] + b[f], index by index."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    k = w.shape[-1]
    oh, ow = ((length - k) // stride + 1 for length in x.shape[2:])
    out = np.zeros((len(x), len(w), oh, ow))
    for n, f, i, j in np.ndindex(out.shape):
        window = x[n, :, i * stride : i * stride + k, j * stride : j * stride + k]
        out[n, f, i, j] = (window * w[f]).sum() + b[f]
    return out


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("x_trials", [1, 3])
def test_conv2d_follows_its_formula(stride: int, pad: int, x_trials: int) -> None:
    x, w, b = conv2d_case(x_trials).inputs.values()
    y, _ = plain.conv2d(x, w, b, stride=stride, pad=pad)
    for t in range(3):
        np.testing.assert_allclose(y[t], convolved(x[t % x_trials], w[t], b[t], stride, pad), atol=1e-12)


def test_conv2d_refuses_padding_that_sees_no_image() -> None:
    x, w, b = conv2d_case().inputs.values()
    with pytest.raises(ValueError, match="pad is 3: it must be below the kernel's width, 3"):
        plain.conv2d(x, w, b, pad=3)


def test_conv2d_in_many_slabs_is_conv2d_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    case = conv2d_case(pad=1)
    whole = case.run(backend.OPS, case.inputs)
    image = 2 * 9 * 7 * 6 * 8  # bytes of one image's patches
    monkeypatch.setattr(plain, "SLAB_BYTES", 2 * image)
    assert list(plain._slabs(5, image)) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    for name, values in case.run(backend.OPS, case.inputs).items():
        np.testing.assert_allclose(values, whole[name], atol=1e-12)


def test_max_pool_takes_the_first_of_equals_and_drops_what_fills_no_window() -> None:
    x = np.array([[1, 1, 0, 3, 9], [1, 1, 3, 3, 9], [5, 6, 2, 7, 9], [6, 6, 8, 8, 9], [9, 9, 9, 9, 9]], float)
    y, saved = plain.max_pool(x[None, None, None])
    np.testing.assert_array_equal(y[0, 0, 0], [[1, 3], [6, 8]])
    dx = plain.max_pool_grad(np.array([[[[[10.0, 20], [30, 40]]]]]), saved)
    expected = [[10, 0, 0, 20, 0], [0, 0, 0, 0, 0], [0, 30, 0, 0, 0], [0, 0, 40, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(dx[0, 0, 0], expected)


@pytest.mark.parametrize("place", range(4))
def test_max_pool_and_relu_pass_nan_on(place: int) -> None:
    x = np.array([4.0, 3, 2, 1])
    x[place] = np.nan
    y, _ = plain.relu(plain.max_pool(x.reshape(1, 1, 1, 2, 2))[0])
    assert np.isnan(y).all()


def test_relu_has_no_slope_at_zero() -> None:
    y, saved = plain.relu(np.array([-1.0, 0, 2]))
    np.testing.assert_array_equal(y, [0, 0, 2])
    np.testing.assert_array_equal(plain.relu_grad(np.array([5.0, 6, 7]), saved), [0, 0, 7])


def test_batch_norm_divides_by_the_count_and_adds_epsilon() -> None:
    x = np.array([1.0, 2, 3, 6]).reshape(1, 2, 1, 1, 2)  # mean 3, biased variance 3.5
    y, mean, variance, _ = plain.batch_norm(x, np.full((1, 1), 2.0), np.full((1, 1), 10.0))
    assert (mean.item(), variance.item()) == (3, 3.5)
    np.testing.assert_allclose(y.ravel(), 10 + 2 * np.array([-2, -1, 0, 3]) / math.sqrt(3.5 + 1e-5), rtol=1e-14)
    assert EPSILON == 1e-5


def test_batch_norm_of_equal_values_is_beta() -> None:
    y, _, variance, _ = plain.batch_norm(np.full((1, 2, 1, 2, 2), 7.0), np.ones((1, 1)), np.full((1, 1), 0.5))
    assert variance.item() == 0
    np.testing.assert_array_equal(y, 0.5)


def test_batch_norm_needs_two_values() -> None:
    with pytest.raises(ValueError, match="use a batch of 2 or more"):
        plain.batch_norm(np.ones((3, 1, 2, 1, 1)), np.ones((3, 2)), np.ones((3, 2)))


def test_batch_norm_inference_uses_the_statistics_it_is_given() -> None:
    one = np.ones((1, 1))
    y = plain.batch_norm_inference(np.full((1, 2, 1, 1, 1), 7.0), 2 * one, 10 * one, 3 * one, 4 * one)
    np.testing.assert_allclose(y, 10 + 2 * (7 - 3) / math.sqrt(4 + 1e-5), rtol=1e-14)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_softmax_cross_entropy_bears_large_logits(dtype: type, rtol: float) -> None:
    logits = np.array([[[1e4, 1e4, -1e4], [-1e4, 1e4, 0]]], dtype)
    loss, saved = plain.softmax_cross_entropy(logits, np.array([1, 0]))
    np.testing.assert_allclose(loss, [[math.log(2), 2e4]], rtol=rtol)
    dlogits = plain.softmax_cross_entropy_grad(np.ones((1, 2), dtype), saved)
    np.testing.assert_allclose(dlogits, [[[0.5, -0.5, 0], [-1, 1, 0]]], atol=rtol)


def test_dropout_drops_below_the_rate_and_keeps_the_mean() -> None:
    x = np.full((3, 4, 25_000), 2.0)
    u = RNG.random(x.shape).astype(np.float32)
    y, _ = plain.dropout(x, u, np.array([0.0, 0.5, 0.9]))
    np.testing.assert_array_equal(y[0], x[0])
    assert set(np.unique(y[1])) == {0.0, 4.0}
    np.testing.assert_array_equal(y[1] == 0, u[1] < 0.5)
    np.testing.assert_allclose((y == 0).mean(axis=(1, 2)), [0, 0.5, 0.9], atol=0.01)
    np.testing.assert_allclose(y.mean(axis=(1, 2)), 2, rtol=0.03)


def test_dropout_keeps_what_equals_the_rate() -> None:
    u = np.array([[[0.0, 0.25, 0.5]]], np.float32)
    y, _ = plain.dropout(np.ones((3, 1, 3)), u, np.array([0, 0.25, 0.5]))
    np.testing.assert_allclose(y[:, 0], [[1, 1, 1], [0, 4 / 3, 4 / 3], [0, 0, 2]])


def dropped(seed: int, step: int) -> np.ndarray:
    """The features that head drops at rate 0.75: those without a gradient."""
    case = head_case()
    inputs = {**case.alone(2), "seed": np.array([seed], np.uint64), "step": step}
    return case.run(backend.OPS, inputs)["dx"] == 0


def test_what_drops_out_depends_on_seed_and_step_alone() -> None:
    mask = dropped(seed=1, step=1)
    assert 0.65 < mask.mean() < 0.85
    np.testing.assert_array_equal(dropped(seed=1, step=1), mask)
    for other in (dropped(seed=2, step=1), dropped(seed=1, step=2), dropped(seed=1 + 2**32, step=1)):
        assert 0.25 < (other != mask).mean() < 0.5


@pytest.mark.parametrize("shortcut_trials", [0, 1, 3])
@pytest.mark.parametrize("options", [{}, {"pad": 1, "pool": 3, "eps": 0.1}, {"pad": 1, "pool": 1}])
def test_a_block_is_its_parts(options: dict[str, float], shortcut_trials: int) -> None:
    pad, pool, eps = options.get("pad", 2), options.get("pool", 2), options.get("eps", 1e-5)
    x, w, b, gamma, beta, *shortcut = block_case(3, shortcut_trials, **options).inputs.values()
    z, _ = plain.conv2d(x, w, b, pad=pad)
    normal, mean, variance, _ = plain.batch_norm(z, gamma, beta, eps=eps)
    y, *statistics, _ = fused.block(x, w, b, gamma, beta, *shortcut, **options)
    rectified = np.maximum(normal + sum(shortcut), 0)
    np.testing.assert_allclose(y, plain.max_pool(rectified, size=pool)[0], rtol=1e-13)
    np.testing.assert_array_equal(statistics, [mean, variance])
    inference = fused.block_inference(x, w, b, gamma, beta, mean, variance, *shortcut, **options)
    np.testing.assert_allclose(inference, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pool", [1, 2])
def test_a_block_leaves_its_shortcut_and_input_alone(pool: int) -> None:
    """They are one array where a block adds its own input."""
    inputs = block_case(3, 3, pad=1).inputs
    kept = {name: values.copy() for name, values in inputs.items()}
    y, *_, saved = fused.block(*inputs.values(), pad=1, pool=pool)
    dy = np.ones(y.shape)
    fused.block_grad(dy, saved)
    assert (dy == 1).all()
    for name, values in inputs.items():
        np.testing.assert_array_equal(values, kept[name])


def test_mean_pool_is_the_mean_over_the_image() -> None:
    x = np.arange(24.0).reshape(1, 2, 2, 2, 3)
    y, saved = plain.mean_pool(x)
    np.testing.assert_array_equal(y, np.array([2.5, 8.5, 14.5, 20.5]).reshape(1, 2, 2, 1, 1))
    dx = plain.mean_pool_grad(np.array([6.0, 12, 0, -6]).reshape(1, 2, 2, 1, 1), saved)
    np.testing.assert_array_equal(dx, np.repeat([1.0, 2, 0, -1], 6).reshape(x.shape))


def test_a_convolution_of_one_pixel_mixes_channels() -> None:
    x = np.arange(8.0).reshape(1, 1, 2, 2, 2)  # channel 1 is channel 0 plus 4
    w = np.array([[1.0, 0], [0, 1], [1, 1]]).reshape(1, 3, 2, 1, 1)
    y, _ = plain.conv2d(x, w, np.array([[0.0, 0, 10]]), pad=0)
    np.testing.assert_array_equal(y[0, 0], [x[0, 0, 0], x[0, 0, 1], x[0, 0].sum(axis=0) + 10])


def test_head_says_which_images_are_right() -> None:
    x, w, b, _, _, seed, step = head_case().inputs.values()
    largest = (x.reshape(3, 5, -1) @ w + b[:, None, :]).argmax(axis=2)
    _, correct, _ = fused.head(x, w, b, largest[0], np.zeros(3), seed, step)
    np.testing.assert_array_equal(correct, largest == largest[0])
    assert correct[0].all()
    assert not correct.all()


def test_auto_needs_no_gpu() -> None:
    assert load("auto").xp is np


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(InputError, match='backend is "tpu": it must be one of auto, reference, cpu, gpu'):
        load("tpu")


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed")
def test_gpu_without_cupy_is_refused() -> None:
    with pytest.raises(InputError, match='backend is "gpu", but CuPy cannot be imported'):
        load("gpu")


def test_map_trials_covers_the_axis_in_order() -> None:
    assert backend.OPS.map_trials(lambda part: list(range(7))[part], 7) == [[0], [1], [2], [3], [4], [5], [6]]


def test_map_trials_gives_each_matrix_product_one_thread() -> None:
    def threads(_: slice) -> list[int]:
        return [blas["num_threads"] for blas in threadpool_info() if "numpy" in blas["filepath"]]

    assert set(chain.from_iterable(backend.OPS.map_trials(threads, 3))) <= {1}
