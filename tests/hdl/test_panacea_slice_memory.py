"""The ring of compressed tiles against a list: passes, rewinds, words freed, and no write into a full memory."""

import numpy as np
import pytest

from bitfabric.hdl.panacea.slice_memory import SliceMemory
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


def plan(rng, words, rounds):
    """Return rounds of (passes, tiles), a tile being its words: a round's tiles are read ``passes`` times."""
    found, counter = [], 0
    for _ in range(rounds):
        sizes, room = [], words
        while room and (not sizes or rng.integers(3)):
            sizes.append(int(rng.integers(1, room + 1)) if rng.integers(2) else 1)
            room -= sizes[-1]
        tiles = []
        for size in sizes:
            tiles.append(list(range(counter, counter + size)))
            counter += size
        found.append((int(rng.integers(1, 4)), tiles))
    return found


@pytest.mark.parametrize("words", [2, 7, 16])
def test_reads_what_was_written(words):
    rounds = plan(np.random.default_rng(words), words, 40)
    unit = SliceMemory(16, words)
    used, finished = [0], [False]

    async def writer(ctx):
        rng = np.random.default_rng(1)
        for _, tiles in rounds:
            for tile in tiles:
                for number, word in enumerate(tile):
                    while not ctx.get(unit.write_ready) or rng.integers(3) == 0:
                        await ctx.tick()
                    ctx.set(unit.write_en, 1)
                    ctx.set(unit.write_data, word)
                    ctx.set(unit.write_tile, number == len(tile) - 1)
                    await ctx.tick()
                    used[0] += 1
                    assert used[0] <= words
                    ctx.set(unit.write_en, 0)

    async def reader(ctx):
        rng = np.random.default_rng(2)
        for passes, tiles in rounds:
            for number in range(passes):
                for index, tile in enumerate(tiles):
                    while not ctx.get(unit.tile_ready):
                        await ctx.tick()
                    base = ctx.get(unit.base)
                    for offset, word in enumerate(tile):
                        if rng.integers(2):
                            continue
                        ctx.set(unit.read_en, 1)
                        ctx.set(unit.read_addr, (base + offset) % words)
                        await ctx.tick()
                        ctx.set(unit.read_en, 0)
                        assert ctx.get(unit.read_data) == word
                    last = number == passes - 1
                    ctx.set(unit.tile_done, 1)
                    ctx.set(unit.tile_words, len(tile))
                    ctx.set(unit.tile_free, last)
                    ctx.set(unit.rewind, not last and index == len(tiles) - 1)
                    await ctx.tick()
                    ctx.set(unit.tile_done, 0)
                    if last:
                        used[0] -= len(tile)
        finished[0] = True

    simulate(unit, writer, reader)
    assert finished[0]
    assert used[0] == 0


def test_a_tile_is_seen_when_it_is_complete():
    unit = SliceMemory(8, 4)

    async def testbench(ctx):
        for last in (0, 1):
            assert not ctx.get(unit.tile_ready)
            ctx.set(unit.write_en, 1)
            ctx.set(unit.write_tile, last)
            await ctx.tick()
        assert ctx.get(unit.tile_ready)

    simulate(unit, testbench)


def test_is_full_until_a_tile_is_freed():
    unit = SliceMemory(8, 3)

    async def testbench(ctx):
        for number in range(3):
            assert (ctx.get(unit.full), ctx.get(unit.write_ready)) == (0, 1)
            ctx.set(unit.write_en, 1)
            ctx.set(unit.write_tile, number == 1)
            await ctx.tick()
        ctx.set(unit.write_en, 0)
        assert (ctx.get(unit.full), ctx.get(unit.write_ready)) == (1, 0)
        ctx.set(unit.tile_done, 1)
        ctx.set(unit.tile_words, 2)
        for free in (0, 1):
            ctx.set(unit.tile_free, free)
            ctx.set(unit.rewind, 1 - free)
            assert ctx.get(unit.full)
            await ctx.tick()
        assert not ctx.get(unit.full)

    simulate(unit, testbench)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((0, 8), "width=0 is not allowed; it must be an integer of at least 1"),
     ((8, 1), "words=1 is not allowed; it must be an integer of at least 2")],
)  # fmt: skip
def test_refuses_bad_parameters(sizes, message):
    with pytest.raises(ParameterError, match=message):
        SliceMemory(*sizes)
