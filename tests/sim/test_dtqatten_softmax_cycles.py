"""The softmax unit's cycle model by hand; that the hardware keeps it is tested with the unit."""

import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles.dtqatten_softmax import BandTimes, SoftmaxTimer

PAPER = DtqattenConfig.preset("paper")  # 18 queries a band


def test_a_band_alone():
    # 8 cycles to the first exponent, m of them, 7 to the first reciprocal, C' of them; 5 to the first numerator.
    timer = SoftmaxTimer(PAPER, 100, per_token=False)
    assert timer.take(7, 18) == BandTimes(
        taken=7, begins=140, importance_done=243, numerators_done=245, factors_done=269
    )
    assert SoftmaxTimer(PAPER, 100, per_token=True).take(7, 18).factors_done == 7 + 100 + 17 + 18


@pytest.mark.parametrize("per_token", [False, True])
def test_long_rows_take_a_cycle_a_key(per_token):
    timer = SoftmaxTimer(PAPER, 128, per_token)
    times = [timer.take(0, queries) for queries in [18] * 7 + [2] + [18] * 7 + [2]]
    assert [t.taken for t in times] == [128 * i for i in range(16)]
    assert [t.numerators_done for t in times] == [256 + 18 + 20 + 128 * i for i in range(16)]


def test_short_rows_wait_for_the_buffer():
    timer = SoftmaxTimer(PAPER, 10, per_token=False)
    times = [timer.take(0, 10) for _ in range(5)]
    assert [t.begins for t in times] == [35, 47, 70, 82, 105]
    assert [t.taken for t in times] == [0, 12, 35, 47, 70]


def test_factors_are_there_for_the_shortest_tile():
    """A tile dealt with ``numerators_done`` asks for them m + R' + C' + 4 cycles later at the earliest."""
    for m in (1, 2, 18, 128):
        queries = min(m, 18)
        times = SoftmaxTimer(PAPER, m, per_token=False).take(0, queries)
        assert times.factors_done <= times.numerators_done + m + queries + 5


@pytest.mark.parametrize(
    ("positions", "columns", "name"),
    [(0, 1, "positions"), (129, 1, "positions"), (5, 6, "columns"), (5, 0, "columns")],
)
def test_errors(positions, columns, name):
    with pytest.raises(ParameterError, match=f"{name}="):
        SoftmaxTimer(PAPER, positions, per_token=False).take(0, columns)
