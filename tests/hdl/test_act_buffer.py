"""The activation buffer: read tile by tile while it fills, read again, handed over bank by bank."""

import random

import pytest

from bitfabric.hdl.gemm.act_buffer import ActBuffer
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


def make_banks(rng, depth, width, count):
    """Return banks of tiles of words; some fill their bank, some are single words."""
    banks = []
    for _ in range(count):
        left, bank = rng.choice([depth, rng.randint(1, depth)]), []
        while left:
            size = rng.choice([1, left, rng.randint(1, left)])
            bank.append([rng.getrandbits(width) for _ in range(size)])
            left -= size
        banks.append(bank)
    return banks


async def pulse(ctx, block, **ports):
    for name, value in ports.items():
        ctx.set(getattr(block, name), value)
    await ctx.tick()
    for name in ports:
        ctx.set(getattr(block, name), 0)


@pytest.mark.parametrize("read_pause", [0.0, 0.5])
@pytest.mark.parametrize("write_pause", [0.0, 0.5])
@pytest.mark.parametrize(("width", "depth"), [(1, 1), (8, 2), (24, 7), (16, 16)])
def test_tiles_arrive_in_order_and_stay(width, depth, write_pause, read_pause):
    block = ActBuffer(width, depth)
    banks = make_banks(random.Random(depth), depth, width, 12)
    progress = {"written": 0, "early": 0, "full": 0}

    async def writer(ctx):
        rng = random.Random(1)
        for number, bank in enumerate(banks):
            while not ctx.get(block.write_free):
                progress["full"] += 1
                await ctx.tick()
            address = 0
            for index, tile in enumerate(bank):
                for offset, word in enumerate(tile):
                    while rng.random() < write_pause:
                        await ctx.tick()
                    last = offset == len(tile) - 1
                    ends = last and index == len(bank) - 1
                    ports = {"write_en": 1, "write_addr": address, "write_data": word}
                    await pulse(ctx, block, **ports, tile_written=last, bank_written=ends)
                    address += 1
            progress["written"] = number + 1

    async def reader(ctx):
        rng = random.Random(2)
        for number, bank in enumerate(banks):
            words: list[int] = []

            async def read(address, words=words, **strobes):
                while rng.random() < read_pause:
                    await ctx.tick()
                await pulse(ctx, block, read_en=1, read_addr=address, **strobes)
                assert ctx.get(block.read_data) == words[address]

            again = rng.random() < 0.5
            for index, tile in enumerate(bank):
                while not ctx.get(block.tile_ready):
                    await ctx.tick()
                progress["early"] += progress["written"] <= number and index < len(bank) - 1
                start = len(words)
                words += tile
                for offset in range(len(tile)):
                    last = index == len(bank) - 1 and offset == len(tile) - 1
                    await read(start + offset, tile_taken=offset == 0, bank_released=last and not again)
            if again:  # as for the next N tile: no tile is taken, the bank is released at the end
                for address in range(len(words)):
                    await read(address, bank_released=address == len(words) - 1)

    simulate(block, writer, reader)
    assert progress["written"] == len(banks)
    assert progress["full"], "the writer never had to wait"
    if depth > 2:
        assert progress["early"], "no bank was read before it was full"


def test_handshakes():
    block = ActBuffer(8, 4)

    async def testbench(ctx):
        def state():
            return ctx.get(block.write_free), ctx.get(block.tile_ready)

        assert state() == (1, 0)
        await pulse(ctx, block, write_en=1, write_addr=0, write_data=11, tile_written=1)
        assert state() == (1, 1)  # seen a cycle later, the bank still being filled
        # A tile is written and another one taken in the same cycle, its word read from the bank being filled.
        await pulse(
            ctx,
            block,
            write_en=1,
            write_addr=1,
            write_data=22,
            tile_written=1,
            bank_written=1,
            tile_taken=1,
            read_en=1,
            read_addr=0,
        )
        assert ctx.get(block.read_data) == 11
        assert state() == (1, 1)
        await pulse(ctx, block, tile_taken=1)
        assert state() == (1, 0)
        await pulse(ctx, block, write_en=1, write_addr=0, write_data=33, tile_written=1, bank_written=1)
        assert state() == (0, 1)
        # Released in the cycle of the last read, whose word stays while the bank is written again.
        await pulse(ctx, block, read_en=1, read_addr=1, bank_released=1)
        assert (ctx.get(block.read_data), state()) == (22, (1, 1))
        await pulse(ctx, block, write_en=1, write_addr=1, write_data=44)
        assert ctx.get(block.read_data) == 22
        await pulse(ctx, block, read_en=1, read_addr=0)
        assert ctx.get(block.read_data) == 33

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
        ActBuffer(*arguments)
    assert str(error.value) == text
