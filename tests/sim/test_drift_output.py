"""The output side's cycle model by hand; ``tests/hdl/test_drift_{drain,readout}.py`` hold the RTL against it."""

import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.sim.cycles.drift_drain import Bank, Drained, drain_times
from bitfabric.sim.cycles.drift_output import (
    DRAIN_LATENCY,
    READOUT_LATENCY,
    drain_word_cycles,
    readout_cycles,
)

PAPER = DriftConfig.preset("paper")  # four granules and 32 bytes to a word


@pytest.mark.parametrize(
    ("rows", "granules", "accumulators", "cycles"),
    [
        (1, 1, False, 1),
        (1, 4, False, 1),
        (1, 5, False, 2),
        (128, 36, False, 128 * 9),
        (3, 9, True, 3 * 3 * 4),
    ],
)
def test_words_of_a_bank(rows, granules, accumulators, cycles):
    assert drain_word_cycles(rows, granules, PAPER, accumulators) == cycles


def test_latencies():
    """Select, rotate, shift, requantize (4), function (3), align; memory, pooling (2), FIFO (2)."""
    assert (DRAIN_LATENCY, READOUT_LATENCY) == (11, 5)


def test_a_bank_alone():
    banks = [[], [Bank(full=10, rows=2, granules=5)], [], []]
    assert drain_times(PAPER, banks) == [Drained(region=1, picked=10, freed=14)]
    assert drain_times(PAPER, banks, accumulators=True) == [Drained(region=1, picked=10, freed=26)]


def test_regions_take_turns():
    """Banks of 4 cycles each, without gaps; hh's second one waits for its turn although it is full first."""
    bank = Bank(full=0, rows=4, granules=4)
    late = Bank(full=13, rows=4, granules=4)
    times = drain_times(PAPER, [[bank, bank], [bank], [bank], [late]])
    assert [(time.region, time.picked, time.freed) for time in times] == [
        (0, 0, 4),
        (1, 4, 8),
        (2, 8, 12),
        (0, 12, 16),
        (3, 16, 20),
    ]


def test_a_single_row_of_a_single_word():
    """The next bank of a region is shown a cycle after the one before was picked: just in time."""
    bank = Bank(full=5, rows=1, granules=1)
    times = drain_times(PAPER, [[bank] * 3, [], [], []])
    assert [(time.picked, time.freed) for time in times] == [(5, 6), (6, 7), (7, 8)]


def test_nothing_to_drain():
    assert drain_times(PAPER, [[], [], [], []]) == []


def test_readout_of_a_layer():
    """128 rows of 768 channels: 24 words each; their 2 x 2 pooling reads each word once, too."""
    assert readout_cycles(PAPER, 128, 768) == 128 * 24 + 5
    assert readout_cycles(PAPER, 32, 768, kernel=(2, 2)) == 128 * 24 + 5
    assert readout_cycles(PAPER, 128, 768, accumulators=True) == 4 * 128 * 24 + 5
    assert readout_cycles(PAPER, 1, 1, kernel=(3, 2)) == 6 + 5
