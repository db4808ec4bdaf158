"""Drift's conversion to low precision: every 8-bit integer at every number of dropped bits."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from bitfabric.quant.drift import Selection, convert, dequantize, high_clips, select, select_blocks
from bitfabric.quant.drift.conversion import ROUNDINGS, Rounding
from bitfabric.quant.errors import ParameterError

WIDTHS = [(hp, lp) for hp in range(2, 9) for lp in range(1, hp + 1)]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(("hp", "lp"), WIDTHS)
def test_every_integer(hp: int, lp: int, rounding: Rounding) -> None:
    limit = 2 ** (hp - 1) - 1
    for hc in range(hp - lp + 1):
        lc = hp - lp - hc
        q = np.arange(-(2 ** (hp - 1)), 2 ** (hp - 1)).reshape(-1, 1)
        lines = len(q)
        for low in (True, False):
            every = np.full(lines, low)
            selection = Selection(every, np.full(lines, hc), np.full(lines, lc), hp, lp)
            y = convert(q, selection, rounding)
            assert y.dtype == np.int8
            for value, got in zip(q[:, 0].tolist(), y[:, 0].tolist(), strict=True):
                value = max(value, -limit)
                expected = value
                if low:
                    half = Fraction(1, 2) if rounding == "half_up" and lc else Fraction(0)
                    expected = math.floor(Fraction(value, 2**lc) + half)
                    expected = min(max(expected, -(2 ** (lp - 1))), 2 ** (lp - 1) - 1)
                assert got == expected
                # Where hc allows the value, nothing but rounding is lost.
                if low and abs(value) << hc <= limit:
                    slack = 1 if rounding == "truncate" or expected == 2 ** (lp - 1) - 1 else Fraction(1, 2)
                    assert abs(Fraction(value, 2**lc) - got) <= slack


@pytest.mark.parametrize(("hp", "lp"), WIDTHS)
def test_truncation_never_saturates(hp: int, lp: int) -> None:
    limit = 2 ** (hp - 1) - 1
    for value in range(-limit, limit + 1):
        lc = hp - lp - int(high_clips([abs(value)], hp, lp)[0])
        assert -(2 ** (lp - 1)) <= value >> lc < 2 ** (lp - 1)


def test_the_paper_s_example() -> None:
    # Figure 3, second row: a wide distribution loses its four low bits.
    q = np.array([[127, -127, 8, -8, 7, -9, 120]])
    selection = select(q, 1.0, 0.0)
    assert selection.low_clip.tolist() == [4]
    assert convert(q, selection).tolist() == [[7, -8, 1, 0, 0, -1, 7]]
    assert convert(q, selection, "truncate").tolist() == [[7, -8, 0, -1, 0, -1, 7]]


def test_equal_widths_change_nothing() -> None:
    q = np.array([[-128, 127, 3]])
    selection = select(q, 1.0, 0.0, low_bits=8)
    assert selection.low.all()
    assert convert(q, selection).tolist() == [[-127, 127, 3]]


def test_real_values() -> None:
    q = np.array([[127, -50, 16], [7, -3, 1], [90, 90, 90]])
    selection = Selection(np.array([True, True, False]), np.array([0, 4, 0]), np.array([4, 0, 4]))
    y = convert(q, selection)
    assert y.tolist() == [[7, -3, 1], [7, -3, 1], [90, 90, 90]]
    assert dequantize(y, selection, 0.5).tolist() == [[56, -24, 8], [3.5, -1.5, 0.5], [45, 45, 45]]
    assert selection.bits.tolist() == [4, 4, 8]
    assert selection.shift.tolist() == [4, 0, 0]


def test_blocks_with_tails() -> None:
    rng = np.random.default_rng(0)
    q = rng.integers(-127, 128, (5, 7, 2)) >> rng.integers(0, 7, (5, 7, 1))
    selection = select_blocks(q, (2, 3), 1.0, 20.0)
    assert 0 < selection.low.mean() < 1
    y = convert(q, selection)
    for i, j in np.ndindex(selection.low.shape):
        part = np.s_[2 * i : 2 * i + 2, 3 * j : 3 * j + 3]
        lc = int(selection.low_clip[i, j])
        expected = np.clip((q[part] + (1 << lc >> 1)) >> lc, -8, 7) if selection.low[i, j] else q[part]
        assert np.array_equal(y[part], expected)


def test_refused() -> None:
    selection = select(np.ones((2, 2), np.int8), 1.0, 0.0)
    with pytest.raises(ParameterError, match=r"^rounding="):
        convert(np.ones((2, 2), np.int8), selection, "up")
    with pytest.raises(ParameterError, match=r"^shape="):
        convert(np.ones((3, 2), np.int8), selection)
    with pytest.raises(ParameterError, match=r"^q="):
        convert(np.ones((2, 2)), selection)
