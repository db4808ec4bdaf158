"""DRQ's cycle model by itself: what follows from the definitions; the end-to-end tests hold it to the RTL's counters."""

import numpy as np
import pytest

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.quant.drq import NEVER
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles.drq import case_cycles, gemm_cycles
from bitfabric.sim.cycles.drq_tiles import Layer, fill_cycles, row_cycles, word_times
from bitfabric.sim.drq_case import DrqCase
from bitfabric.sim.drq_limits import rows_max
from bitfabric.sim.drq_random import random_cases

TINY = DrqConfig.preset("tiny")


def test_one_product_by_hand():
    case = DrqCase(image=np.full((1, 1, 1), 3), weights=np.full((1, 1), 5), threshold=NEVER)
    cycles = case_cycles(TINY, case)
    # The plan is known in 8, the map's beat comes in 9; its flag is read in 12 and written in 13, the piece is taken
    # up in 14, its word written in 18; it is dealt in 19, in the array's buffer in 20; a step in 23 and 24. The sum
    # leaves in 25, in the last of 3 rows, in 27; it is read in 29 and leaves 4 cycles later, which is seen in 34.
    assert cycles.breakdown == {"load": 22, "compute": 2, "stalled": 0, "drain": 10}
    assert cycles.total == 34
    assert cycles.traffic == {"steps_2": 1, "steps_4": 0, "sensitive": 0, "pe_working": 2, "pe_stalled": 0}


def brute_steps(config, case):
    """Return the steps of 2 and of 4 cycles, PE by PE."""
    counts = {2: 0, 4: 0}
    for n in range(0, case.n, config.columns):
        columns = min(config.columns, case.n - n)
        for m in range(0, case.m, config.rows):
            high = case.high_rows[m : m + config.rows]
            rows, k = high.shape
            for step in range(k + rows + columns - 2):
                slow = any(
                    0 <= step - row - column < k and high[row, step - row - column]
                    for row in range(rows)
                    for column in range(columns)
                )
                counts[4 if slow else 2] += 1
    return counts


def test_steps_and_pes():
    for case in random_cases(TINY, 5, 12, effort=800):
        cycles = case_cycles(TINY, case)
        counts = brute_steps(TINY, case)
        assert (cycles.traffic["steps_2"], cycles.traffic["steps_4"]) == (counts[2], counts[4])
        assert cycles.array_cycles == 2 * counts[2] + 4 * counts[4]
        # An 8-bit weight and a 4-bit activation take 2 cycles of a PE, two of 8 bits 4.
        assert cycles.traffic["pe_working"] == 2 * case.n * (case.high_rows.size + case.high_rows.sum())
        macs = TINY.rows * TINY.columns
        assert cycles.traffic["pe_stalled"] <= macs * cycles.array_cycles - cycles.traffic["pe_working"]
        assert cycles.utilization == cycles.traffic["pe_working"] / (macs * cycles.array_cycles)
        assert cycles.total == sum(cycles.breakdown.values())


def test_share_of_low_activations():
    config = DrqConfig.preset("small")
    shares = (0.0, 0.9, 0.99, 1.0)
    totals = [gemm_cycles(config, 40, 100, 20, act_low=share).array_cycles for share in shares]
    steps = sum((100 + rows + columns - 2) for rows in [8] * 5 for columns in (8, 8, 4))
    assert totals[-1] == 2 * steps
    # What is in the array before the first element's end, or behind the last one's, is none of 8 bits.
    assert totals[0] == 4 * steps
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) == len(totals)
    regions = gemm_cycles(config, 40, 100, 20, act_low=0.9).traffic["sensitive"]
    assert regions == 10 * 100 - 900


def test_more_rows_than_the_machine_holds():
    most = rows_max(TINY, 16)
    whole, half = gemm_cycles(TINY, most, 16, 5), gemm_cycles(TINY, 7, 16, 5)
    both = gemm_cycles(TINY, most + 7, 16, 5)
    assert both.total == whole.total + half.total
    assert both.breakdown == {name: whole.breakdown[name] + half.breakdown[name] for name in both.breakdown}
    assert both.traffic == {name: whole.traffic[name] + half.traffic[name] for name in both.traffic}
    with pytest.raises(ParameterError, match="K=129 is not allowed"):
        gemm_cycles(TINY, 1, 129, 1)


def test_results_are_no_ones_to_change():
    gemm_cycles(TINY, 3, 4, 5).breakdown["load"] = 0
    assert gemm_cycles(TINY, 3, 4, 5).breakdown["load"] > 0


@pytest.mark.parametrize(
    ("counts", "times", "late"),
    [
        ([4], [0], False),
        ([3], [0], False),
        ([3, 3], [1, 2], True),  # 2 of the last piece do not fit
        ([2, 2, 4], [1, 2], False),
        ([1, 4, 3], [1, 2], False),
        ([3, 4, 4], [1, 2, 3], True),
    ],
)
def test_word_times(counts, times, late):
    assert word_times(np.array(counts), 4) == (times, late)


def test_cycles_of_rows_and_positions():
    assert row_cycles(Layer(height=1, width=5, channels=3, n=1), 4) == (
        5,
        0,
    )  # 15 elements: 3 in the last word
    assert row_cycles(Layer(height=1, width=3, channels=3, n=1), 4) == (
        3,
        1,
    )  # 9 elements: 1 in the last word
    assert row_cycles(Layer(height=1, width=3, channels=9, n=1), 4) == (9, 0)
    layer = Layer(height=4, width=4, channels=2, n=1, kernel_height=3, kernel_width=3, padding=1)
    # Kernel rows of 6 elements from -2, 0, 2 and 4: of 2 words each; 18 elements end with 2 of a word, and the last
    # piece has 4, 2, 4 and 2.
    fills, starts = fill_cycles(TINY, layer)
    assert starts.tolist() == [0, 3, 6, 9, 12, 15]
    assert fills.tolist() == [7 + 6 + 7, 6 + 7 + 6, 7 + 6 + 7, 6 + 7 + 6, 7 + 6 + 7, 6]
