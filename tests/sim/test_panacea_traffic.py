"""Panacea's traffic: what is counted is what crosses the streams."""

from __future__ import annotations

import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.sim.cycles.panacea import case_cycles, gemm_cycles
from bitfabric.sim.panacea_job import output_of, stream_of
from bitfabric.sim.panacea_random import random_cases


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_streams(preset: str) -> None:
    config = PanaceaConfig.preset(preset)
    for case in random_cases(config, 7, 30):
        moved = case_cycles(config, case).traffic
        assert moved["ema_words_in"] == len(stream_of(config, case))
        assert moved["ema_words_out"] == len(output_of(config, case))
        passes, steps = -(-case.m // config.tile_n), case.steps(config)
        assert moved["wmem_words_read"] == moved["wmem_words_written"] * (
            1 if case.stream_weights else passes
        )
        assert moved["amem_words_read"] == moved["amem_words_written"] * (steps if case.resident else 1)
        assert (
            moved["omem_words_written"]
            == moved["omem_words_read"]
            == (moved["ema_words_out"] if case.codes else 0)
        )


def test_nothing_skipped_is_moved() -> None:
    config = PanaceaConfig.preset("paper")
    dense, sparse = (
        gemm_cycles(
            config, 64, 256, 128, weight_sparsity=share, act_sparsity=share, dtp=False, resident=False
        ).traffic
        for share in (0.0, 1.0)
    )
    # 2 weight tiles and 2 x 1 activation tiles of 8 K tiles: 32 dense words, and 43 of HO vectors where all are kept.
    assert dense["wmem_words_written"] == 2 * 8 * (1 + 32 + 43)
    assert sparse["wmem_words_written"] == 2 * 8 * (1 + 32)
    assert dense["amem_words_written"] == dense["amem_words_read"] == 2 * 8 * (1 + 32 + 43)
    assert sparse["amem_words_read"] == 2 * 8 * (1 + 32)
