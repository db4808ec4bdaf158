"""Requantization: against Python's unbounded integers and exact fractions, up to the corners of 32 bits."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import product
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.requant import requant_parameters, requantize

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=400, database=None)
ACC = st.one_of(st.integers(-(2**31), 2**31 - 1), st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1]))
MULTIPLIER = st.one_of(st.integers(1, 2**31 - 1), st.sampled_from([1, 2**30, 2**31 - 1]))
SHIFT = st.integers(1, 62)


def exact(acc: int, multiplier: int, shift: int, zero_point: int, low: int, high: int) -> int:
    """Round acc * multiplier / 2^shift to nearest, halves up, as a fraction."""
    rounded = floor(Fraction(acc * multiplier, 2**shift) + Fraction(1, 2))
    return min(max(rounded, low), high) + zero_point


@DETERMINISTIC
@given(st.lists(ACC, min_size=1, max_size=20), MULTIPLIER, SHIFT, st.integers(-(2**16), 2**16))
def test_equals_the_rounded_fraction(accs: list[int], multiplier: int, shift: int, zero_point: int) -> None:
    for low, high in ((-128, 127), (-(2**16), 2**16), (0, 0)):
        got = requantize(np.array(accs), multiplier, shift, zero_point, low, high)
        assert got.dtype == np.int32
        assert got.tolist() == [exact(a, multiplier, shift, zero_point, low, high) for a in accs]


def test_every_corner() -> None:
    # The largest products with the largest rounding constant: nothing may wrap in int64.
    accs = [-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 2, 2**31 - 1]
    for multiplier, shift in product([1, 2, 2**30, 2**31 - 2, 2**31 - 1], range(1, 63)):
        got = requantize(np.array(accs, np.int32), multiplier, shift, 0, -(2**16), 2**16)
        assert got.tolist() == [exact(a, multiplier, shift, 0, -(2**16), 2**16) for a in accs]


def test_ties_go_up() -> None:
    accs = np.array([-5, -3, -1, 1, 3, 5])
    assert requantize(accs, 1, 1).tolist() == [-2, -1, 0, 1, 2, 3]


def test_zero_point_is_added_after_the_clip() -> None:
    # uint8 with zero point 30.
    accs = np.array([-1000, -30, 0, 225, 1000])
    assert requantize(accs, 2, 1, 30, -30, 225).tolist() == [0, 0, 30, 255, 255]
    assert requantize(accs, 2, 1, 30).tolist() == [-98, 0, 30, 157, 157]


@DETERMINISTIC
@given(st.integers(0, 2**32 - 1))
def test_parameters_per_channel_with_bias(seed: int) -> None:
    rng = np.random.default_rng(seed)
    acc = rng.integers(-(2**30), 2**30, (5, 3), dtype=np.int32)
    bias = rng.integers(-(2**30), 2**30, 3, dtype=np.int32)
    multiplier, shift = rng.integers(1, 2**31, 3), rng.integers(1, 63, 3)
    got = requantize(acc, multiplier, shift, bias=bias)
    for i, j in product(range(5), range(3)):
        total = int(acc[i, j]) + int(bias[j])
        assert got[i, j] == exact(total, int(multiplier[j]), int(shift[j]), 0, -128, 127)


def test_scalars_and_empty_arrays() -> None:
    assert requantize(3, 1, 1) == 2
    assert requantize(np.zeros((0, 4), np.int32), [1, 2, 3, 4], 1).shape == (0, 4)


@DETERMINISTIC
@given(st.floats(2.0**-62, 2.0**30, exclude_max=True).filter(lambda v: v <= (2**31 - 1) / 2))
def test_parameters_are_the_nearest(real: float) -> None:
    multiplier, shift = (int(v) for v in requant_parameters(real))
    assert 1 <= multiplier <= 2**31 - 1
    assert 1 <= shift <= 62
    error = abs(Fraction(multiplier, 2**shift) - Fraction(real))
    if shift < 62:
        assert multiplier >= 2**30
    # No multiplier does better, neither at this shift nor at either neighbour.
    for other in {max(shift - 1, 1), shift, min(shift + 1, 62)}:
        nearest = min(max(round(Fraction(real) * 2**other), 1), 2**31 - 1)
        assert error <= abs(Fraction(nearest, 2**other) - Fraction(real))
    if shift < 62:
        assert error <= Fraction(real) / 2**31


def test_known_parameters() -> None:
    real = np.array([[1.0, 0.5, 2.0**-62], [0.75, 2.0**29, 1 - 2.0**-40]])
    multiplier, shift = requant_parameters(real)
    assert multiplier.tolist() == [[2**30, 2**30, 1], [3 * 2**29, 2**30, 2**30]]
    assert shift.tolist() == [[30, 31, 62], [31, 1, 30]]
    assert requant_parameters((2**31 - 1) / 2) == (2**31 - 1, 1)


REFUSALS: list[tuple[Callable[[], object], str]] = [
    (
        lambda: requantize([2**31], 1, 1),
        "acc=2147483648 is not allowed; it must be in [-2147483648, 2147483647]",
    ),
    (
        lambda: requantize([-(2**31) - 1], 1, 1),
        "acc=-2147483649 is not allowed; it must be in [-2147483648, 2147483647]",
    ),
    (
        lambda: requantize([1.0], 1, 1),
        "acc='float64' is not allowed; it must be an integer or an array of integers",
    ),
    (
        lambda: requantize([2**31 - 1], 1, 1, bias=[1]),
        "acc + bias=2147483648 is not allowed; it must be in [-2147483648, 2147483647]",
    ),
    (
        lambda: requantize([1], 1, 1, bias=[2**31]),
        "bias=2147483648 is not allowed; it must be in [-2147483648, 2147483647]",
    ),
    (
        lambda: requantize([1], 1, 1, bias=[[1], [2]]),
        "bias=(2, 1) is not allowed; it must be of a shape that broadcasts to (1,)",
    ),
    (lambda: requantize([1], 0, 1), "multiplier=0 is not allowed; it must be in [1, 2147483647]"),
    (
        lambda: requantize([1], [2**31], 1),
        "multiplier=2147483648 is not allowed; it must be in [1, 2147483647]",
    ),
    (
        lambda: requantize([1, 2], [1, 2, 3], 1),
        "multiplier=(3,) is not allowed; it must be of a shape that broadcasts to (2,)",
    ),
    (lambda: requantize([1], 1, 0), "shift=0 is not allowed; it must be in [1, 62]"),
    (lambda: requantize([1], 1, 63), "shift=63 is not allowed; it must be in [1, 62]"),
    (
        lambda: requantize([1, 2], 1, [1, 2, 3]),
        "shift=(3,) is not allowed; it must be of a shape that broadcasts to (2,)",
    ),
    (
        lambda: requantize([1], 1, 1, 65537),
        "zero_point=65537 is not allowed; it must be in [-65536, 65536]",
    ),
    (
        lambda: requantize([1, 2], 1, 1, [1, 2, 3]),
        "zero_point=(3,) is not allowed; it must be of a shape that broadcasts to (2,)",
    ),
    (
        lambda: requantize([1], 1, 1, 0, 5, 4),
        "low=5 is not allowed; it must be an integer in [-65536, 4]",
    ),
    (
        lambda: requantize([1], 1, 1, 0, 0, 65537),
        "high=65537 is not allowed; it must be an integer in [-65536, 65536]",
    ),
    *(
        (
            lambda real=real: requant_parameters([0.5, real]),
            f"real_scale={real!r} is not allowed; it must be in [2^-62, 1073741823.5]",
        )
        for real in (0.0, -0.5, 2.0**-63, 2.0**30, float("inf"), float("nan"))
    ),
    (
        lambda: requant_parameters(["a"]),
        "real_scale='str32' is not allowed; it must be an array of real numbers",
    ),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == text
