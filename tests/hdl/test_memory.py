import random

import pytest

from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.emit import emit
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(("width", "depth"), [(1, 1), (8, 1), (1, 2), (7, 5), (33, 16), (16, 17)])
def test_random_traffic(width, depth, transparent):
    block = Ram(width, depth, transparent)
    rng = random.Random(depth)

    async def testbench(ctx):
        words = [0] * depth
        expected = None
        collisions = 0
        for _ in range(300):
            write, read = rng.random() < 0.6, rng.random() < 0.6
            write_addr, read_addr = rng.randrange(depth), rng.randrange(depth)
            value = rng.choice([0, (1 << width) - 1, rng.getrandbits(width)])
            ctx.set(block.write_en, write)
            ctx.set(block.write_addr, write_addr)
            ctx.set(block.write_data, value)
            ctx.set(block.read_en, read)
            ctx.set(block.read_addr, read_addr)
            if read:
                expected = words[read_addr]
            if write:
                words[write_addr] = value
                if read and read_addr == write_addr:
                    collisions += 1
                    expected = value if transparent else expected
            await ctx.tick()
            if expected is not None:  # held while read_en is low
                assert ctx.get(block.read_data) == expected
        assert collisions > 5

    simulate(block, testbench)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(("width", "depth", "granularity"), [(8, 1, 4), (24, 5, 8), (6, 4, 6), (3, 2, 1)])
def test_parts_of_words(width, depth, granularity, transparent):
    block = Ram(width, depth, transparent, granularity)
    rng = random.Random(width)
    emit(Ram(width, depth, transparent, granularity), "ram")

    async def testbench(ctx):
        words = [0] * depth
        for _ in range(200):
            address, enables, value = (
                rng.randrange(n) for n in (depth, 1 << len(block.write_en), 1 << width)
            )
            mask = sum(
                ((1 << granularity) - 1) << (granularity * i)
                for i in range(width // granularity)
                if enables >> i & 1
            )
            read_addr = rng.randrange(depth)
            ctx.set(block.write_en, enables)
            ctx.set(block.write_addr, address)
            ctx.set(block.write_data, value)
            ctx.set(block.read_en, 1)
            ctx.set(block.read_addr, read_addr)
            before = words[read_addr]
            words[address] = words[address] & ~mask | value & mask
            await ctx.tick()
            assert ctx.get(block.read_data) == (words[read_addr] if transparent else before)

    simulate(block, testbench)


@pytest.mark.parametrize(("depth", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11)])
def test_address_bits(depth, bits):
    assert address_bits(depth) == bits
    block = Ram(4, depth)
    assert len(block.read_addr) == len(block.write_addr) == bits
    emit(block, "ram")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 4), "width=0 is not allowed; it must be an integer of at least 1"),
        ((8, 0), "depth=0 is not allowed; it must be an integer of at least 1"),
        ((8, -3), "depth=-3 is not allowed; it must be an integer of at least 1"),
        ((8, "4"), "depth='4' is not allowed; it must be an integer of at least 1"),
        ((8, 4, False, 0), "granularity=0 is not allowed; it must be an integer of at least 1"),
        ((8, 4, False, 3), "granularity=3 is not allowed; it must be a divisor of width=8"),
    ],
)
def test_construction_errors(arguments, text):
    with pytest.raises(ParameterError) as error:
        Ram(*arguments)
    assert str(error.value) == text
