"""Cycles of DTQAtten's selection: the bound at the paper's size, and the RTL's for other lengths."""

import numpy as np
import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.selection import Selection
from bitfabric.hdl.dtqatten.topk import key_digits
from bitfabric.hdl.emit import emit
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles.dtqatten_selection import topk_cycles, topk_list_start, topk_table
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

PAPER = DtqattenConfig.preset("paper")


def test_cycles_are_at_most_linear():
    for m in range(1, 129):
        assert topk_cycles(PAPER, m) <= 2 * m + 37
    assert topk_cycles(PAPER, 128) == 236
    for lanes in (1, 3, 16, 64):
        config = DtqattenConfig(tokens_max=1024, topk_lanes=lanes)
        digits = key_digits(config)
        for m in range(1, 1025):
            assert topk_cycles(config, m) == digits * (-(-m // lanes) + 2) + m + 8
            assert topk_cycles(config, m) <= m * (1 + digits / lanes) + 3 * digits + 8


def test_the_table_ends_at_the_most_tokens():
    assert topk_table(PAPER) == [(1, 39), (16, 54), (32, 80), (64, 132), (128, 236)]
    assert topk_table(DtqattenConfig(tokens_max=1024))[-2:] == [(512, 894), (1024, 1758)]
    assert topk_table(PAPER, [5]) == [(5, topk_cycles(PAPER, 5))]


@pytest.mark.parametrize("m", [0, 129])
def test_lengths_that_do_not_fit(m):
    with pytest.raises(ParameterError, match=rf"^m={m} is not allowed; it must be an integer in \[1, 128\]$"):
        topk_cycles(PAPER, m)


@pytest.mark.parametrize(
    ("config", "lengths"),
    [
        (DtqattenConfig.preset("tiny"), range(1, 17)),
        (DtqattenConfig.preset("tiny", topk_lanes=3, tokens_max=40), (1, 3, 4, 39, 40)),
        (PAPER, (1, 16, 17, 128)),
    ],
    ids=["every m", "three lanes", "paper"],
)
def test_the_list_comes_when_it_should(config, lengths):
    """Whatever the data: here the memory's contents, which nobody has set."""
    rng = np.random.default_rng(0)
    inputs = {name: [] for name in ("start", "positions", "keep", "high")}
    valid, done = [], []
    for m in lengths:
        first, total = topk_list_start(config, m), topk_cycles(config, m)
        keep = int(rng.integers(1, m, endpoint=True))
        inputs["start"] += [1] + [0] * total
        inputs["positions"] += [m] * (total + 1)
        inputs["keep"] += [keep] * (total + 1)
        inputs["high"] += [keep // 2] * (total + 1)
        valid += [0] * first + [1] * m + [0]
        done += [0] * total + [1]
    job = VectorJob(inputs=inputs, expected={"list_valid": valid, "ids_done": done})
    verdict = run_vectors(emit(Selection(config), "selection"), job)["steps"]
    assert verdict == [{"name": "vectors", "passed": True, "problem": None, "registers": {}}]
