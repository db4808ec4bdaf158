import random

import pytest

from bitfabric.hdl.common.double_buffer import DoubleBuffer
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize(("width", "depth"), [(1, 1), (8, 1), (8, 2), (3, 7), (32, 16)])
def test_banks_arrive_whole_and_in_order(width, depth, stall):
    block = DoubleBuffer(width, depth)
    tiles = 20
    data = [
        [random.Random(tile * 100 + word).getrandbits(width) for word in range(depth)]
        for tile in range(tiles)
    ]
    cycles = {}

    async def writer(ctx):
        rng = random.Random(1)
        for tile in range(tiles):
            for word in range(depth):
                while not ctx.get(block.write_free) or rng.random() < stall:
                    await ctx.tick()
                ctx.set(block.write_en, 1)
                ctx.set(block.write_addr, word)
                ctx.set(block.write_data, data[tile][word])
                ctx.set(block.write_done, word == depth - 1)  # together with the last word
                await ctx.tick()
                ctx.set(block.write_en, 0)
                ctx.set(block.write_done, 0)

    async def reader(ctx):
        rng = random.Random(2)
        cycle = 0
        for tile in range(tiles):
            got = []
            for word in range(depth):
                while not ctx.get(block.read_full) or rng.random() < stall:
                    await ctx.tick()
                    cycle += 1
                ctx.set(block.read_en, 1)
                ctx.set(block.read_addr, word)
                ctx.set(block.read_done, word == depth - 1)
                await ctx.tick()
                cycle += 1
                got.append(ctx.get(block.read_data))
                ctx.set(block.read_en, 0)
                ctx.set(block.read_done, 0)
            assert got == data[tile]
        cycles["read"] = cycle

    simulate(block, writer, reader)
    if not stall and depth > 1:
        # One word per cycle: the first tile is written before the first read, then both overlap.
        assert cycles["read"] == depth * (tiles + 1)


def test_handover_in_one_cycle_and_guards():
    block = DoubleBuffer(8, 2)

    async def testbench(ctx):
        async def step(**ports):
            for name, value in ports.items():
                ctx.set(getattr(block, name), value)
            await ctx.tick()
            for name in ports:
                ctx.set(getattr(block, name), 0)

        def state():
            return ctx.get(block.write_free), ctx.get(block.read_full)

        assert state() == (1, 0)
        await step(read_done=1)  # nothing to free
        assert state() == (1, 0)
        await step(write_en=1, write_addr=1, write_data=11)
        await step(write_done=1)
        assert state() == (1, 1)
        await step(write_en=1, write_addr=1, write_data=22, write_done=1)
        assert state() == (0, 1)
        await step(write_en=1, write_addr=1, write_data=99, write_done=1)  # no bank is free: nothing happens
        assert state() == (0, 1)
        await step(read_en=1, read_addr=1, read_done=1)
        assert ctx.get(block.read_data) == 11
        assert state() == (1, 1)
        # Both ends hand over in the same cycle; the read of the old bank still counts.
        await step(write_en=1, write_addr=1, write_data=33, write_done=1, read_en=1, read_addr=1, read_done=1)
        assert ctx.get(block.read_data) == 22
        assert state() == (1, 1)
        await step(write_en=1, write_addr=0, write_data=44)
        assert ctx.get(block.read_data) == 22  # held
        await step(read_en=1, read_addr=1, read_done=1)
        assert ctx.get(block.read_data) == 33
        assert state() == (1, 0)
        await step(read_en=1, read_addr=0, read_done=1)  # no bank is full: nothing happens
        assert ctx.get(block.read_data) == 33
        await step(write_done=1)
        await step(read_en=1, read_addr=0)
        assert ctx.get(block.read_data) == 44

    simulate(block, testbench)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 4), "width=0 is not allowed; it must be an integer of at least 1"),
        ((8, 0), "depth=0 is not allowed; it must be an integer of at least 1"),
    ],
)
def test_construction_errors(arguments, text):
    with pytest.raises(ParameterError) as error:
        DoubleBuffer(*arguments)
    assert str(error.value) == text
