"""Drift's thresholds by predicted loss change: the least that stays within the budget."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfabric.quant.drift import (
    choose_threshold,
    conversion_error,
    fisher_curvature,
    hutchinson_trace,
    loss_change,
    select,
    select_blocks,
    trace_curvature,
)
from bitfabric.quant.drift.conversion import ROUNDINGS, Rounding
from bitfabric.quant.errors import ParameterError

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=100, database=None)


@DETERMINISTIC
@given(
    seed=st.integers(0, 2**32 - 1),
    block=st.sampled_from([(1,), (2,), (None, 1), (2, 3)]),
    rounding=st.sampled_from(ROUNDINGS),
    part=st.floats(0, 1.1),
)
def test_no_smaller_threshold_stays_within_the_budget(
    seed: int, block: tuple[int | None, ...], rounding: Rounding, part: float
) -> None:
    rng = np.random.default_rng(seed)
    hp = int(rng.integers(2, 9))
    lp = int(rng.integers(1, hp + 1))
    q = rng.integers(-(2 ** (hp - 1)), 2 ** (hp - 1), (int(rng.integers(1, 8)), 4)) >> rng.integers(0, hp)
    q[: rng.integers(2)] = 0
    # Integers and powers of two: sums are exact in floats, in whatever order.
    curvature, scale = rng.integers(0, 4, q.shape), 2.0 ** int(rng.integers(-6, 7))

    def predict(delta: float) -> float:
        chosen = select_blocks(q, block, scale, delta, hp, lp)
        return loss_change(curvature, conversion_error(q, chosen, scale, rounding))

    budget = part * predict(0.0)
    found = choose_threshold(
        q, scale, curvature, budget, block=block, high_bits=hp, low_bits=lp, rounding=rounding
    )
    assert found.predicted == predict(found.threshold) <= budget
    if found.threshold:
        assert predict(math.nextafter(found.threshold, 0.0)) > budget
    deltas = np.sort(rng.uniform(0, 2 * found.threshold + 1, 10)).tolist()
    changes = [predict(delta) for delta in deltas]
    assert changes == sorted(changes, reverse=True)
    assert [change <= budget for change in changes] == [delta >= found.threshold for delta in deltas]


def test_the_largest_scale() -> None:
    # The second row would be low at any float; infinity alone keeps it high.
    with np.errstate(over="ignore"):
        found = choose_threshold([[0, 0], [100, 100]], 1e308, 1.0, 0.0)
    assert found.threshold == math.inf
    assert (found.predicted, found.selection.low.tolist()) == (0.0, [True, False])


def test_all_zero_sub_tensors_stay_low_without_any_budget() -> None:
    q = np.array([[0, 0, 0], [101, 55, -3], [16, 32, -48]])
    found = choose_threshold(q, 0.5, 1.0, 0.0)
    # The third row loses nothing, but its threshold is below the second's, which would be low with it.
    assert found.selection.low.tolist() == [True, False, False]
    assert found.predicted == 0.0
    found = choose_threshold(q, 0.5, np.array([[1.0], [0.0], [1.0]]), 0.0)
    assert (found.threshold, found.low_share) == (0.0, 1.0)


def test_sub_tensors_that_leave_together_are_counted_together() -> None:
    q = np.array([[101, 55, -3], [55, 101, 3]])
    one = loss_change(1.0, conversion_error(q[:1], select(q[:1], 1.0, 0.0), 1.0))
    assert choose_threshold(q, 1.0, 1.0, 1.5 * one).low_share == 0.0
    assert choose_threshold(q, 1.0, 1.0, 2 * one).low_share == 1.0


Q = np.ones((2, 2), np.int8)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: choose_threshold(Q, 1.0, 1.0, -1.0), "budget"),
        (lambda: choose_threshold(Q, 1.0, 1.0, math.nan), "budget"),
        (lambda: choose_threshold(Q, 0.0, 1.0, 1.0), "scale"),
        (lambda: choose_threshold(Q, 1.0, -1.0, 1.0), "curvature"),
        (lambda: choose_threshold(Q, 1.0, math.nan, 1.0), "curvature"),
        (lambda: choose_threshold([[127, 16]], 1.0, [1.0, math.inf], 0.0), "curvature"),
        (lambda: choose_threshold(Q, 1.0, 1.0, "1"), "budget"),
        (lambda: choose_threshold(Q, 1.0, np.ones(3), 1.0), "curvature"),
        (lambda: loss_change(np.ones(3), Q), "curvature"),
        (lambda: trace_curvature(math.inf, 1), "trace"),
        (lambda: trace_curvature(1.0, 0), "elements"),
        (lambda: fisher_curvature(1.0), "gradients"),
        (lambda: hutchinson_trace(lambda v: v, 0), "size"),
        (lambda: hutchinson_trace(lambda v: v, 1, 0), "probes"),
    ],
)
def test_refused(call: object, named: str) -> None:
    assert callable(call)
    with pytest.raises(ParameterError, match=f"^{named}="):
        call()


def test_a_negative_trace_costs_nothing() -> None:
    assert trace_curvature(-3.0, 4) == 0.0
