"""A double buffer that hands over tags, written in parts of a word."""

import random

import pytest

from bitfabric.hdl.common.tagged_buffer import TaggedBuffer
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate

PARTS, BITS, DEPTH = 3, 5, 4


def test_banks_and_tags_in_order():
    block = TaggedBuffer(PARTS * BITS, DEPTH, 6, BITS)
    rng = random.Random(1)
    banks = [[rng.getrandbits(PARTS * BITS) for _ in range(DEPTH)] for _ in range(9)]
    tags = [rng.getrandbits(6) for _ in banks]

    async def writer(ctx):
        order = [(word, part) for word in range(DEPTH) for part in range(PARTS)]
        for bank, tag in zip(banks, tags, strict=True):
            while not ctx.get(block.write_free):
                await ctx.tick()
            rng.shuffle(order)
            for index, (word, part) in enumerate(order):
                noise = rng.getrandbits(PARTS * BITS) & ~(((1 << BITS) - 1) << part * BITS)
                ctx.set(block.write_en, 1 << part)
                ctx.set(block.write_addr, word)
                ctx.set(block.write_data, noise | bank[word] & ((1 << BITS) - 1) << part * BITS)
                ctx.set(block.write_done, index == len(order) - 1)
                ctx.set(block.write_tag, tag if index == len(order) - 1 else rng.getrandbits(6))
                await ctx.tick()
            ctx.set(block.write_en, 0)
            ctx.set(block.write_done, 0)

    async def reader(ctx):
        for bank, tag in zip(banks, tags, strict=True):
            while not ctx.get(block.read_full) or rng.random() < 0.8:
                await ctx.tick()
            for word, value in enumerate(bank):
                assert ctx.get(block.read_tag) == tag
                ctx.set(block.read_en, 1)
                ctx.set(block.read_addr, word)
                ctx.set(block.read_done, word == DEPTH - 1)
                await ctx.tick()
                assert ctx.get(block.read_data) == value
            ctx.set(block.read_en, 0)
            ctx.set(block.read_done, 0)

    simulate(block, writer, reader)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((8, 2, 0), "tag_bits=0 is not allowed; it must be an integer of at least 1"),
        ((8, 2, 1, 3), "granularity=3 is not allowed; it must be a divisor of width=8"),
        ((8, 0, 1), "depth=0 is not allowed; it must be an integer of at least 1"),
    ],
)
def test_construction_errors(arguments, text):
    with pytest.raises(ParameterError) as error:
        TaggedBuffer(*arguments)
    assert str(error.value) == text
