"""What Drift's golden model refuses, naming the parameter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfabric.quant.drift import (
    MixedOperand,
    critical_threshold,
    dequantize,
    gemm,
    high_operand,
    integer_threshold,
    pool,
    representation_density,
    representation_range,
    select,
    select_blocks,
    select_float,
    select_integer,
    select_rows,
    statistics,
    sweep_threshold,
)
from bitfabric.quant.errors import ParameterError

WIDTHS = [(hp, lp) for hp in range(2, 9) for lp in range(1, hp + 1)]
DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=150, database=None)
ONE = np.ones((2, 2), np.int8)
LINES = (np.zeros(2, np.bool_), np.full(2, 8), np.zeros(2, np.int64))


@DETERMINISTIC
@given(widths=st.tuples(st.integers(-1, 12), st.integers(-1, 12)))
def test_widths(widths: tuple[int, int]) -> None:
    if widths in WIDTHS:
        select(np.array([[1]]), 1.0, 1.0, -1, *widths)
    else:
        with pytest.raises(ParameterError, match="_bits="):
            select(np.array([[1]]), 1.0, 1.0, -1, *widths)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: select(ONE, 0.0, 1.0), "scale"),
        (lambda: select(ONE, math.nan, 1.0), "scale"),
        (lambda: select(ONE, np.ones(3), 1.0), "scale"),
        (lambda: select(ONE, "a", 1.0), "scale"),
        (lambda: select(ONE, 1.0, -1.0), "threshold"),
        (lambda: select(ONE, 1.0, math.nan), "threshold"),
        (lambda: select(ONE, 1.0, 1.0, 2), "axis"),
        (lambda: select(ONE, 1.0, 1.0, (1, -1)), "axis"),
        (lambda: select(ONE * 0.5, 1.0, 1.0), "q"),
        (lambda: select(np.zeros((0, 2), np.int8), 1.0, 1.0), "q"),
        (lambda: select_rows(ONE, 1.0, 1.0, 0), "rows_per_subtensor"),
        (lambda: select_rows(ONE[0], 1.0, 1.0), "q"),
        (lambda: select_blocks(ONE, (1, 1, 1), 1.0, 1.0), "block"),
        (lambda: select_blocks(ONE, (0,), 1.0, 1.0), "block"),
        (lambda: select([[1, 2]], 1.0, [1.0, 2.0]), "threshold"),
        (lambda: select(np.ones((2, 2), np.bool_), 1.0, 1.0), "q"),
        (lambda: select(5, 1.0, 1.0), "axis"),
        (lambda: select(ONE, 1.0, 1.0, 1.0), "axis"),
        (lambda: select_blocks(ONE, 2, 1.0, 1.0), "block"),
        (lambda: select_float(ONE, np.ones(2), 1.0), "scale"),
        (lambda: select_float(ONE, 1.0, math.nan), "threshold"),
        (lambda: statistics(np.array([-(2**63), 1])), "q"),
        (lambda: statistics(np.array([2**64 - 1], np.uint64)), "q"),
        (lambda: integer_threshold(1, "1", 1.0), "scale"),
        (lambda: integer_threshold(1, math.inf, 1.0), "scale"),
        (lambda: integer_threshold(1, 10**400, 1.0), "scale"),
        (lambda: integer_threshold(1, 1.0, None), "threshold"),
        (lambda: integer_threshold(1, 1.0, 1j), "threshold"),
        (lambda: integer_threshold(1.0, 1.0, 1.0), "n"),
        (lambda: sweep_threshold(ONE, "1", [1.0]), "scale"),
        (lambda: dequantize(ONE * 0.5, select(ONE, 1.0, 1.0), 1.0), "y"),
        (lambda: dequantize(ONE, select(ONE, 1.0, 1.0), math.nan), "scale"),
        (lambda: dequantize(ONE, select(ONE, 1.0, 1.0), np.ones(3)), "scale"),
        (lambda: representation_range(0, -1.0), "scale"),
        (lambda: representation_range(0.0, 1.0), "high_clip"),
        (lambda: representation_density(0, math.inf), "scale"),
        (lambda: representation_density(0, "1"), "scale"),
        (lambda: high_operand(ONE, 2), "axis"),
        (lambda: gemm(MixedOperand(ONE * 0.5, *LINES), high_operand(ONE, 1)), r"acts\.values"),
        (lambda: gemm(high_operand(ONE, 0), MixedOperand(np.full((2, 2), 128), *LINES)), r"weights\.values"),
        (lambda: pool(np.full((2, 1), 2**62), 1, 2, (1, 2)), "y"),
        (lambda: select_integer([128], [1], 0), "maximum"),
        (lambda: select_integer([1], [1, 1], 0), "magnitude_sum"),
        (lambda: select_integer([1], [-1], 0), "magnitude_sum"),
        (lambda: select_integer([1], [1], [0, 0]), "limit"),
        (lambda: select_integer([1], [1], -1), "limit"),
        (lambda: integer_threshold(0, 1.0, 1.0), "n"),
        (lambda: critical_threshold(1, 5, 1, 1.0), "high_clip"),
        (lambda: select(ONE, 1.0, 1.0).expand(np.zeros(2), (3, 2)), "shape"),
        (lambda: select(ONE, 1.0, 1.0).expand(np.zeros(2), (2,)), "shape"),
    ],
)
def test_refused(call: object, named: str) -> None:
    assert callable(call)
    with pytest.raises(ParameterError, match=f"^{named}="):
        call()
