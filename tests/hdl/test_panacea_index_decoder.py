"""The index decoder against the run-length decoder of the golden model, forced vectors included."""

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.index_decoder import IndexDecoder
from bitfabric.quant import rle
from bitfabric.sim.streams import simulate

# Quads of 3 and of 4 entries.
NARROW = PanaceaConfig.preset("tiny", peas=8, tile_k=32, axis_data_bits=64)
WIDE = PanaceaConfig.preset("small")


def nibbles(value):
    return value * 0x1111


def entry(value, index):
    return index << 16 | value


async def decode(ctx, unit, entries, rng):
    """Feed a group's entries quad by quad; return the positions kept with their vectors, and whether all was well."""
    size = len(unit.o)
    found, well = [], True
    for start in range(0, len(entries), size):
        quad = entries[start : start + size]
        ctx.set(unit.en, 1)
        ctx.set(unit.first, start == 0)
        ctx.set(unit.count, len(quad))
        ctx.set(unit.quad, sum(word << (20 * number) for number, word in enumerate(quad)))
        well &= not ctx.get(unit.error)
        found += [
            (ctx.get(unit.o[number].position), ctx.get(unit.o[number].vector))
            for number in range(size)
            if ctx.get(unit.o[number].keep)
        ]
        await ctx.tick()
        if rng.integers(2):  # without a quad nothing moves
            ctx.set(unit.en, 0)
            await ctx.tick()
    ctx.set(unit.en, 0)
    return found, well


@pytest.mark.parametrize("config", [NARROW, WIDE], ids=["3", "4"])
def test_equals_the_golden_decoder(config):
    unit = IndexDecoder(config)
    rng = np.random.default_rng(config.quad)

    async def testbench(ctx):
        forced = 0
        for _ in range(200):
            k_valid, skipped = int(rng.choice([32, rng.integers(1, 33)])), int(rng.integers(16))
            keep = rng.random(k_valid) < rng.choice([0.02, 0.1, 0.5, 1.0])
            keep[-1] |= rng.integers(2)
            code = rle.encode(keep)
            forced += int(code.forced.sum())
            vectors = rng.integers(0, 1 << 16, len(code.indices))
            vectors[vectors == nibbles(skipped)] ^= 1
            vectors[code.forced] = nibbles(skipped)
            ctx.set(unit.skipped, skipped)
            ctx.set(unit.k_valid, k_valid)
            entries = [
                entry(int(value), int(index)) for value, index in zip(vectors, code.indices, strict=True)
            ]
            found, well = await decode(ctx, unit, entries, rng)
            assert well
            wanted = rle.decode(code.indices, k_valid, skippable=code.forced)
            np.testing.assert_array_equal(np.flatnonzero(wanted), [position for position, _ in found])
            assert [vector for _, vector in found] == vectors[~code.forced].tolist()
        assert forced > 20

    simulate(unit, testbench)


def test_a_forced_vector_is_known_by_its_value():
    """Index 15 does not make a vector a forced one, and neither does another index save it."""
    unit = IndexDecoder(WIDE)
    rng = np.random.default_rng(0)

    async def testbench(ctx):
        ctx.set(unit.skipped, 5)
        ctx.set(unit.k_valid, 32)
        entries = [entry(0x5555, 2), entry(0x5455, 15), entry(0x5555, 0), entry(1, 1)]
        assert await decode(ctx, unit, entries, rng) == ([(18, 0x5455), (21, 1)], True)

    simulate(unit, testbench)


@pytest.mark.parametrize(
    ("k_valid", "indices"), [(16, [15, 0]), (32, [15, 15, 0]), (1, [1]), (8, [3, 3, 0]), (5, [0] * 6)]
)
def test_an_index_beyond_the_sub_tile_is_told(k_valid, indices):
    unit = IndexDecoder(WIDE)
    rng = np.random.default_rng(0)

    async def testbench(ctx):
        ctx.set(unit.k_valid, k_valid)
        for value in (7, 0):  # kept or forced
            entries = [entry(value, index) for index in indices]
            found, well = await decode(ctx, unit, entries, rng)
            assert not well
            assert all(position < k_valid for position, _ in found)
            # One entry less is right, and so is what comes after an error.
            _, well = await decode(ctx, unit, entries[:-1], rng)
            assert well

    simulate(unit, testbench)


def test_something_behind_the_last_vector_is_told():
    """What fills up a quad is 0: a count that is too low shows there."""
    unit = IndexDecoder(WIDE)

    async def testbench(ctx):
        ctx.set(unit.k_valid, 32)
        ctx.set(unit.first, 1)
        ctx.set(unit.quad, entry(7, 1) << 20 | entry(7, 0))
        for en in (0, 1):
            ctx.set(unit.en, en)
            for count in (1, 2):
                ctx.set(unit.count, count)
                assert ctx.get(unit.error) == (en and count == 1)

    simulate(unit, testbench)
