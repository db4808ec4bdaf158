"""The tile loop against three nested loops in Python."""

import random

import pytest

from bitfabric.hdl.gemm.tile_loop import TileLoop
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.sim.streams import simulate

CONFIGS = [
    SystolicWsConfig.preset("tiny"),  # steps of 8, 2 and 3
    SystolicWsConfig.preset("tiny", rows=1, columns=1, acc_depth=1),
    SystolicOsConfig.preset("tiny", rows=5, columns=7, weight_depth=6),
]


def places(tiles, m, k, n):
    """Return ``tiles`` with their place in the loops, from their offsets."""
    return [
        {
            **{name: tile[name] for name in ("m_valid", "n_valid", "k_valid")},
            "last_m": int(tile["m0"] + tile["m_valid"] == m),
            "first_n": int(tile["n0"] == 0),
            "last_n": int(tile["n0"] + tile["n_valid"] == n),
            "first_k": int(tile["k0"] == 0),
            "last_k": int(tile["k0"] + tile["k_valid"] == k),
            "last": int(index == len(tiles) - 1),
        }
        for index, tile in enumerate(tiles)
    ]


def dimensions(config, rng):
    """Yield sizes around the steps: 1, exact multiples, one more or less, primes."""
    steps = (config.m_step, config.k_step, config.columns)
    yield 1, 1, 1
    yield steps
    yield tuple(3 * step for step in steps)
    yield tuple(2 * step + 1 for step in steps)
    yield 17, 13, 7
    for _ in range(8):
        yield tuple(rng.choice([1, step, max(step - 1, 1), rng.randint(1, 3 * step)]) for step in steps)


@pytest.mark.parametrize("pause", [0.0, 0.5])
@pytest.mark.parametrize("config", CONFIGS, ids=["ws", "single", "os"])
def test_loop_nest(config, pause, tile_nest):
    block = TileLoop(config)
    rng = random.Random(3)

    async def testbench(ctx):
        async def cycle(**strobes):
            for name, value in strobes.items():
                ctx.set(getattr(block, name), value)
            await ctx.tick()
            for name in strobes:
                ctx.set(getattr(block, name), 0)

        assert not ctx.get(block.active)
        for m, k, n in dimensions(config, rng):
            ctx.set(block.m, m)
            ctx.set(block.k, k)
            ctx.set(block.n, n)
            await cycle(start=1)
            for expected in places(list(tile_nest(config, m, k, n)), m, k, n):
                while rng.random() < pause:  # a tile stays until it is stepped over
                    await cycle()
                tile = ctx.get(block.tile)
                assert {name: getattr(tile, name) for name in expected} == expected, (m, k, n)
                assert ctx.get(block.active)
                await cycle(step=1)
            assert not ctx.get(block.active), (m, k, n)
            await cycle()

    simulate(block, testbench)


def test_start_begins_again(tile_nest):
    config = CONFIGS[0]
    block = TileLoop(config)

    async def testbench(ctx):
        for name, value in (("m", 20), ("k", 7), ("n", 3), ("start", 1)):
            ctx.set(getattr(block, name), value)
        await ctx.tick()
        ctx.set(block.start, 0)
        ctx.set(block.step, 1)
        await ctx.tick().repeat(5)
        ctx.set(block.step, 0)
        ctx.set(block.start, 1)
        await ctx.tick()
        first = places(list(tile_nest(config, 20, 7, 3)), 20, 7, 3)[0]
        tile = ctx.get(block.tile)
        assert {name: getattr(tile, name) for name in first} == first

    simulate(block, testbench)


def test_the_largest_gemm(tile_nest):
    config = SystolicOsConfig(rows=256, columns=256, weight_depth=65535, act_depth=65535)
    block = TileLoop(config)
    tiles = places(list(tile_nest(config, 65535, 65535, 65535)), 65535, 65535, 65535)

    async def testbench(ctx):
        for name in ("m", "k", "n", "start"):
            ctx.set(getattr(block, name), 65535 if name != "start" else 1)
        await ctx.tick()
        ctx.set(block.start, 0)
        ctx.set(block.step, 1)
        for expected in tiles[:300]:  # a whole row of N tiles, and on to the next M step
            tile = ctx.get(block.tile)
            assert {name: getattr(tile, name) for name in expected} == expected
            await ctx.tick()

    simulate(block, testbench)
