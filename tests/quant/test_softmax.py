"""The integer softmax against float64: every exponent, random and adversarial rows, the numerators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.softmax import (
    MASKED,
    SCORE_LIMIT,
    exponent,
    exponent_table,
    numerators,
    reciprocal,
    reciprocal_table,
    softmax,
)

Ints = NDArray[np.int64]


def exact(t: Ints) -> NDArray[np.float64]:
    """Give the float64 softmax of the same fixed-point scores."""
    e = np.where(t == MASKED, 0.0, 2.0 ** ((t - t.max(axis=-1, keepdims=True)) / 4096))
    return e / e.sum(axis=-1, keepdims=True)


def deviations(t: Ints) -> tuple[float, float]:
    """Give the largest deviations of a probability, and of a row's sum from 1."""
    p = softmax(t).probabilities / 65536
    return float(np.abs(p - exact(t)).max()), float(np.abs(p.sum(axis=-1) - 1).max())


def test_every_exponent() -> None:
    x = np.arange(26 << 12)
    found = exponent(x)
    wanted = 2.0 ** (22 - x / 4096)
    assert (np.abs(found - wanted) <= wanted * 2**-15 + 0.5).all()
    assert (np.diff(found) <= 0).all()
    assert found[0] == 2**22
    assert exponent([24 << 12, 2**40]).tolist() == [0, 0]
    # The last that counts: halves round up.
    assert exponent([22 << 12, 23 << 12, (23 << 12) + 1]).tolist() == [1, 1, 0]


def test_reciprocals() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([np.arange(1, 100_000), rng.integers(1, 2**46, 100_000), [2**46]])
    r, e = reciprocal(x)
    assert (2.0**e <= x).all()
    assert (x < 2.0 ** (e + 1)).all()
    assert np.abs(r * 2.0 ** (-17 - e) * x - 1).max() < 2**-14
    assert 65536 <= r.min() <= r.max() == 131072


def test_the_tables() -> None:
    base, slope = exponent_table()
    assert (base[0], base[32], base[64]) == (65536, 46341, 32768)
    assert (base[:-1] - slope == base[1:]).all()
    base, slope = reciprocal_table()
    assert (base[0], base[64], base[128]) == (131072, 87381, 65536)
    assert (base[:-1] - slope == base[1:]).all()


def test_by_hand() -> None:
    # 1, 1/2, and one that is hidden.
    found = softmax([[0, -4096, MASKED]])
    assert found.exponents.tolist() == [[2**22, 2**21, 0]]
    assert found.sums.tolist() == [3 * 2**21]
    # 1/(3*2^21) is 87381 * 2^-39: 2^22*87381 / 2^23 is 43690.5, half of it 21845.25.
    assert found.probabilities.tolist() == [[43691, 21845, 0]]
    # 7/64 of a piece from 1: 65536*64 - 706*7.
    assert exponent([7, 4096 + 7]).tolist() == [4189362, 2094681]


@pytest.mark.parametrize("deviation", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("tokens", [1, 2, 3, 17, 128, 384, 1024])
def test_random_rows(tokens: int, deviation: float) -> None:
    rng = np.random.default_rng(tokens)
    t = np.rint(rng.normal(0, deviation, (60, tokens)) * np.log2(np.e) * 4096).astype(np.int64)
    of_one, of_sum = deviations(t)
    assert of_one < 2**-14
    assert of_sum < 0.01


def rows(tokens: int) -> dict[str, Ints]:
    """Give rows that are hard on fixed point."""
    low = np.full(tokens, -(40 << 12))
    one = np.r_[0, low[1:]]
    two = low.copy()
    two[[0, -1]] = 0
    saturated = np.full(tokens, -SCORE_LIMIT)
    saturated[-1] = SCORE_LIMIT
    lone = np.full(tokens, MASKED)
    lone[tokens // 2] = -SCORE_LIMIT
    half = np.arange(tokens) * 7 % 4096
    half[1::2] = MASKED
    return {
        "all equal": np.full(tokens, 77),
        "one dominant": one,
        "two equal maxima": two,
        "saturated": saturated,
        "masked but one": lone,
        "half masked": half,
        "ramp": -np.arange(tokens) * 513,
        "saturated alike": np.full(tokens, SCORE_LIMIT),
    }


@pytest.mark.parametrize("tokens", [2, 9, 128, 384, 1024])
def test_adversarial_rows(tokens: int) -> None:
    for name, row in rows(tokens).items():
        of_one, of_sum = deviations(row[np.newaxis])
        assert of_one < 2**-12, name
        assert of_sum < 0.01, name
        assert not softmax(row).probabilities[row == MASKED].any(), name
    assert softmax(np.zeros(1, np.int64)).probabilities.tolist() == [65535]


@pytest.mark.parametrize("dominant", [1, 2, 7])
@pytest.mark.parametrize("tokens", [20, 128, 384, 1024])
def test_long_tails_that_all_round_alike(tokens: int, dominant: int) -> None:
    """A tail of E just above or below a half: the worst that 22 fraction bits do."""
    x = np.arange(4 << 12, 25 << 12)
    rounding = exponent(x) - 2.0 ** (22 - x / 4096)
    ends = [part[at] for part in np.split(x, 21) for at in (0, 1, 1700, -1)]
    # Of the tails that round worst, up and down, and those of each octave.
    offsets = np.r_[ends, x[np.argsort(rounding)[[0, 1, -2, -1]]], x[x >= 20 << 12][::97]]
    tails = np.repeat(-offsets[:, np.newaxis], tokens, axis=1)
    tails[:, :dominant] = 0
    of_one, of_sum = deviations(tails)
    assert of_one < 2**-12
    assert of_one <= tokens * 2**-23 + 6 * 2**-16
    assert of_sum < 0.01
    if tokens == 1024 and dominant == 1:
        assert of_one > 2**-13  # the bound is not idle


@pytest.mark.parametrize("tokens", [128, 1024])
def test_tails_under_any_head(tokens: int) -> None:
    """A few large scores, so that the sum lies anywhere in an octave, over a tail that rounds one way."""
    rng = np.random.default_rng(tokens)
    rows, heads = 400, rng.integers(1, 6, (400, 1))
    down = (23 << 12) + 1  # just below a half; 23 << 12 is a half, which rounds up
    tail = rng.choice([down, 23 << 12, (21 << 12) + 2397, (22 << 12) - 2396], (rows, 1))
    head = rng.integers(0, 5 << 12, (rows, tokens))
    head[:, 0] = 0
    t = -np.where(np.arange(tokens) < heads, head, tail)
    of_one, _ = deviations(t)
    assert of_one < 2**-12
    # Several octaves of tails in one row, the worst place of each.
    x = np.arange(6 << 12, 24 << 12)
    rounding = exponent(x) - 2.0 ** (22 - x / 4096)
    for worst in (np.argsort(rounding)[:300], np.argsort(rounding)[-300:]):
        t = np.where(np.arange(tokens) < heads, -head, -x[rng.choice(worst, (rows, tokens))])
        of_one, _ = deviations(t)
        assert of_one < 2**-12


def test_shapes_and_numpy_types() -> None:
    t = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    found = softmax(t)
    assert found.exponents.shape == found.probabilities.shape == (2, 3, 4)
    assert found.sums.shape == (2, 3)
    assert (softmax(t[1, 2]).probabilities == found.probabilities[1, 2]).all()


def test_numerators_of_a_layer() -> None:
    e = np.array([[2**22, 2**21, 8224, 8225, 0]])
    a, largest = numerators(e)
    # 255*8224/2^22 is 0.49999, of 8225 0.50005.
    assert a.tolist() == [[255, 128, 0, 1, 0]]
    assert largest.tolist() == [2**22]


def test_numerators_with_scales() -> None:
    rng = np.random.default_rng(5)
    e = rng.integers(0, 2**22 + 1, (200, 33))
    e[np.arange(200), rng.integers(0, 33, 200)] = 2**22
    for low in (1, 1000, 60000):
        scales = rng.integers(low, 65536, 33)
        a, largest = numerators(e, scales)
        f = e * scales / 2**22
        assert (a.max(axis=1) == 255).all()
        assert np.abs(largest - f.max(axis=1)).max() <= 0.5
        assert np.abs(a - 255 * f / f.max(axis=1, keepdims=True)).max() < 1
    # Nothing left of any product: the sum stays finite, the row is zero.
    a, largest = numerators([[2**21 - 1, 10000]], [1, 1])
    assert a.tolist() == [[0, 0]]
    assert largest.tolist() == [1]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: softmax([[MASKED, MASKED]]), "scores"),
        (lambda: softmax([[SCORE_LIMIT + 1]]), "scores"),
        (lambda: softmax([[0.5]]), "scores"),
        (lambda: softmax(np.zeros((3, 0), np.int64)), "scores"),
        (lambda: softmax(3), "scores"),
        (lambda: exponent([-1]), "x"),
        (lambda: reciprocal([0]), "x"),
        (lambda: reciprocal([2**46 + 1]), "x"),
        (lambda: numerators([2**22 + 1]), "exponents"),
        (lambda: numerators(7), "exponents"),
        (lambda: numerators([1, 2], [1]), "value_scales"),
        (lambda: numerators([1, 2], [0, 1]), "value_scales"),
    ],
)
def test_refused(call: Callable[[], object], name: str) -> None:
    with pytest.raises(ParameterError) as refused:
        call()
    assert refused.value.name == name
