"""What DTQAtten's figures rest on: the cycle model, which the RTL's counters equal."""

import numpy as np
import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.sim.cycles.dtqatten import block_times

MIXES = {
    "4-bit": lambda m: np.zeros(m, bool),
    "8-bit": lambda m: np.ones(m, bool),
    "last one 8-bit": lambda m: np.arange(m) == m - 1,
    "first one 8-bit": lambda m: np.arange(m) == 0,
    "clustered": lambda m: np.arange(m) >= m // 2,
    "alternating": lambda m: np.arange(m) % 2 == 0,
}


@pytest.mark.parametrize("mix", MIXES)
def test_tokens_are_selected_under_the_last_results(mix):
    """At the paper's size both stages' ids are known before the last head's results have left the arrays."""
    config = DtqattenConfig.preset("paper")
    for kept in range(1, 129):
        counters = block_times(config, high=MIXES[mix](kept), head_size=64, entries=128).counters
        assert counters["select"] <= counters["pv_left"], kept


@pytest.mark.parametrize(("tokens", "scores", "results"), [(128, 1.5, 1.2), (384, 1.7, 1.3)])
def test_reordering_saves_cycles(tokens, scores, results):
    """At the paper's shares, 28 % pruned and 31 % of 8 bits, head by head (four seeds)."""
    config = DtqattenConfig.preset("paper", tokens_max=tokens)
    kept, high = -(-72 * tokens // 100), -(-31 * tokens // 100)
    sums = np.zeros((2, 2))
    for seed in range(4):
        flags = np.random.default_rng(seed).permutation(np.arange(kept) < high)
        for row, order in enumerate((flags, np.sort(flags))):
            head = block_times(config, high=order, head_size=64, entries=tokens).heads[0]
            sums[row] += head.qk, head.pv
    gains = sums[0] / sums[1]
    assert gains[0] >= scores
    assert gains[1] >= results
