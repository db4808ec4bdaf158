"""The index decoder against the run-length decoder of the golden model, forced vectors included."""

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.index_decoder import IndexDecoder
from bitfabric.quant import rle
from bitfabric.sim.streams import simulate

# A quad of 3 in a word; one of 4; three; six.
NARROW = PanaceaConfig.preset("tiny", peas=8, tile_k=32, axis_data_bits=64)
MIDDLE = PanaceaConfig.preset("small")
WIDE = PanaceaConfig.preset("small", axis_data_bits=256)
WIDEST = PanaceaConfig.preset("small", axis_data_bits=512)


def nibbles(value):
    return value * 0x1111


def entry(value, index):
    return index << 16 | value


async def decode(ctx, unit, config, entries, rng, start=None):
    """Feed a group's entries word by word; return the vectors kept by their positions, and whether all was well."""
    quads = [entries[at : at + config.quad] for at in range(0, len(entries), config.quad)]
    quads = [quad + [0] * (config.quad - len(quad)) for quad in quads]
    start = int(rng.integers(config.quads)) if start is None else start
    found, well, left, first = {}, True, len(entries), True
    while quads:
        # Other groups' quads stand before and behind this one's.
        words = [[int(word) for word in rng.integers(0, 1 << 20, config.quad)] for _ in range(config.quads)]
        mine, quads = quads[: config.quads - start], quads[config.quads - start :]
        words[start : start + len(mine)] = mine
        flat = [word for quad in words for word in quad]
        for name, value in (("en", 1), ("first", first), ("start", start), ("left", left)):
            ctx.set(getattr(unit, name), value)
        ctx.set(unit.word, sum(word << (20 * number) for number, word in enumerate(flat)))
        well &= not ctx.get(unit.error)
        mask, vectors = ctx.get(unit.mask), ctx.get(unit.vectors)
        for position in range(config.tile_k):
            if mask >> position & 1:
                assert position not in found
                found[position] = vectors >> (16 * position) & 0xFFFF
        await ctx.tick()
        left, start, first = left - config.quad * len(mine), 0, False
        if rng.integers(2):  # without a word nothing moves
            ctx.set(unit.en, 0)
            assert (ctx.get(unit.mask), ctx.get(unit.error)) == (0, 0)
            await ctx.tick()
    ctx.set(unit.en, 0)
    return found, well


@pytest.mark.parametrize("config", [NARROW, MIDDLE, WIDE, WIDEST], ids=["64", "128", "256", "512"])
def test_equals_the_golden_decoder(config):
    unit = IndexDecoder(config)
    rng = np.random.default_rng(config.axis_data_bits)

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
            found, well = await decode(ctx, unit, config, entries, rng)
            assert well
            wanted = np.flatnonzero(rle.decode(code.indices, k_valid, skippable=code.forced)).tolist()
            assert found == dict(zip(wanted, vectors[~code.forced].tolist(), strict=True))
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
        assert await decode(ctx, unit, WIDE, entries, rng) == ({18: 0x5455, 21: 1}, True)

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
            found, well = await decode(ctx, unit, WIDE, entries, rng)
            assert not well
            assert all(position < k_valid for position in found)
            # One entry less is right, and so is what comes after an error.
            _, well = await decode(ctx, unit, WIDE, entries[:-1], rng)
            assert well

    simulate(unit, testbench)


def test_something_behind_the_last_vector_is_told():
    """What fills up a quad is 0: a count that is too low shows there."""
    unit = IndexDecoder(WIDE)

    async def testbench(ctx):
        ctx.set(unit.k_valid, 32)
        ctx.set(unit.first, 1)
        for start in range(3):
            ctx.set(unit.start, start)
            ctx.set(unit.word, (entry(7, 1) << 20 | entry(7, 0)) << (80 * start))
            for en in (0, 1):
                ctx.set(unit.en, en)
                for left in (1, 2):
                    ctx.set(unit.left, left)
                    assert ctx.get(unit.error) == (en and left == 1)

    simulate(unit, testbench)
