"""Random numbers: the generator's published answers, its distributions, and what a value may depend on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from core.random import Purpose, normal, permutation, philox, random_bits, uniform

# Random123 1.14, examples/kat_vectors: philox 4x32 10.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[np.ndarray]:
    return [np.array([int(word, 16)], np.uint64) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter: str, key: str, answer: str) -> None:
    assert philox(words(counter), words(key)) == words(answer)


def test_random_bits_place_seed_step_purpose_and_index_in_philox() -> None:
    seed, purpose, step = 0x299F31D0A4093822, 0x13198A2E, 0x85A308D3
    bits = random_bits(np.array([seed], np.uint64), purpose, step, 10)
    assert bits.dtype == np.uint32
    counter = [np.array([2], np.uint64), *words("85a308d3 13198a2e 00000000")]  # index 8 and 9: block 2
    expected = philox(counter, words("a4093822 299f31d0"))
    assert bits[0, 8:].tolist() == [int(word[0]) for word in expected[:2]]


def test_values_stay_the_same_between_versions() -> None:
    seed = np.array([7], np.uint64)
    assert random_bits(seed, Purpose.DROPOUT, 3, 3).tolist() == [[98791391, 225704122, 1032867604]]
    assert permutation(7, Purpose.ORDER, 2, 10).tolist() == [2, 1, 9, 6, 5, 7, 0, 3, 8, 4]
    np.testing.assert_allclose(
        normal(seed, Purpose.INITIAL, 0, 3),
        [[0.23734656989947187, -0.5690867816397378, 0.41558123742694625]],
        rtol=1e-12,
    )
    assert [int(purpose) for purpose in Purpose] == [*range(9), 16]


@pytest.mark.parametrize("draw", [random_bits, uniform, normal])
def test_a_value_does_not_depend_on_the_company_of_its_seed(draw: Callable[..., np.ndarray]) -> None:
    together = draw(np.array([5, 2**40, 5, 0], np.uint64), Purpose.DROPOUT, 3, 11)
    assert together.shape == (4, 11)
    for seed, row in zip([5, 2**40, 5, 0], together, strict=True):
        np.testing.assert_array_equal(draw(np.array([seed], np.uint64), Purpose.DROPOUT, 3, 11)[0], row)


@pytest.mark.parametrize("draw", [random_bits, uniform])
def test_asking_for_more_does_not_change_the_first(draw: Callable[..., np.ndarray]) -> None:
    seed = np.array([5], np.uint64)
    np.testing.assert_array_equal(draw(seed, 2, 3, 6), draw(seed, 2, 3, 1001)[:, :6])


@pytest.mark.parametrize("other", [(8, 2, 3), (7 + 2**32, 2, 3), (7, 1, 3), (7, 2, 4)])
def test_seed_purpose_and_step_each_change_every_value(other: tuple[int, int, int]) -> None:
    first = random_bits(np.array([7], np.uint64), 2, 3, 100)
    seed, purpose, step = other
    assert (first == random_bits(np.array([seed], np.uint64), purpose, step, 100)).sum() == 0


def test_uniform_is_in_0_1_and_even() -> None:
    u = uniform(np.arange(4, dtype=np.uint64), Purpose.DROPOUT, 0, 50_000)
    assert u.dtype == np.float32
    assert 0 <= u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 43.8  # chi-squared of 19 degrees: 0.1 % lie above


def test_uniform_is_the_upper_24_bits() -> None:
    seed = np.array([3], np.uint64)
    np.testing.assert_array_equal(uniform(seed, 2, 0, 9) * 2.0**24, random_bits(seed, 2, 0, 9) >> 8)


def test_normal_is_standard_and_without_correlation() -> None:
    z = normal(np.array([1, 2], np.uint64), Purpose.INITIAL, 0, 100_001)
    assert z.shape == (2, 100_001)
    np.testing.assert_allclose(z.mean(axis=1), 0, atol=0.015)
    np.testing.assert_allclose(z.std(axis=1), 1, atol=0.01)
    np.testing.assert_allclose((np.abs(z) > 1.959964).mean(), 0.05, atol=0.003)
    cosine, sine = z[0, :50_000], z[0, 50_001:]  # the two numbers made of one radius
    assert abs(np.corrcoef(cosine, sine)[0, 1]) < 0.02
    assert abs(np.corrcoef(cosine**2, sine**2)[0, 1]) < 0.02


@pytest.mark.parametrize("count", [0, 1, 2, 5, 1000])
def test_permutation_has_every_number_once(count: int) -> None:
    assert sorted(permutation(0, Purpose.ORDER, 0, count)) == list(range(count))


def test_permutation_sorts_64_bit_keys() -> None:
    """Of so many keys some agree in their upper half; the order of the images must not favour the first of those."""
    count = 200_000
    words = random_bits(np.array([1], np.uint64), Purpose.ORDER, 0, 2 * count)[0]
    upper, lower = words[:count], words[count:]
    assert len(np.unique(upper)) < count
    np.testing.assert_array_equal(permutation(1, Purpose.ORDER, 0, count), np.lexsort((lower, upper)))


def test_permutations_put_every_number_everywhere() -> None:
    places = np.zeros((5, 5))
    for step in range(2000):
        places[np.arange(5), permutation(0, Purpose.ORDER, step, 5)] += 1
    np.testing.assert_allclose(places, 400, atol=80)
