"""The loop nest against three nested loops."""

import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.loop import PanaceaLoop
from bitfabric.sim.streams import plain, simulate


def nest(config, m, k, n, dtp):
    """Return the tiles in their order: output channels, tokens, contraction."""
    step = config.m_step * (2 if dtp else 1)
    found = []
    for m0 in range(0, m, step):
        for n0 in range(0, n, config.tile_n):
            for k0 in range(0, k, config.tile_k):
                lasts = {
                    "last_m": m0 + step >= m,
                    "last_n": n0 + config.tile_n >= n,
                    "last_k": k0 + config.tile_k >= k,
                }
                found.append(
                    {
                        "rows_a": min(config.m_step, m - m0),
                        "rows_b": max(min(step, m - m0) - config.m_step, 0),
                        "columns": min(config.tile_n, n - n0),
                        "k_valid": min(config.tile_k, k - k0),
                        "first_m": m0 == 0,
                        "first_n": n0 == 0,
                        "first_k": k0 == 0,
                        **lasts,
                        "last": all(lasts.values()),
                    }
                )
    return found


@pytest.mark.parametrize("dtp", [False, True])
def test_steps_through_the_tiles(dtp):
    # T_M = 8, T_K = 8, T_N = 8; without the buffers for it the bit of the job has no say.
    config = PanaceaConfig.preset("tiny", dtp=dtp)
    loop = PanaceaLoop(config)
    layers = [(1, 1, 1), (8, 8, 8), (16, 9, 7), (17, 3, 24), (24, 25, 10), (65535, 65535, 65535)]

    async def testbench(ctx):
        assert not ctx.get(loop.active)
        for m, k, n in layers:
            for double in (0, 1):
                for name, value in (("m", m), ("k", k), ("n", n), ("dtp", double)):
                    ctx.set(loop.job[name], value)
                ctx.set(loop.start, 1)
                await ctx.tick()
                ctx.set(loop.start, 0)
                tiles = nest(config, m, k, n, double and dtp) if m < 1000 else [None] * 5
                for number, tile in enumerate(tiles):
                    assert ctx.get(loop.active)
                    if tile is not None:
                        assert plain(ctx.get(loop.tile)) == tile
                    if number % 3 == 0:  # stays without a step
                        await ctx.tick()
                        assert tile is None or plain(ctx.get(loop.tile)) == tile
                    ctx.set(loop.step, 1)
                    await ctx.tick()
                    ctx.set(loop.step, 0)
                # The largest layer is broken off by the next start.
                assert ctx.get(loop.active) == (m > 1000)

    simulate(loop, testbench)
