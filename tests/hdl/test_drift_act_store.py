"""The activation store: windows of nibbles from anywhere, on both ports at once."""

import random

import pytest

from bitfabric.hdl.drift.act_store import ActStore, WindowCopy
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


@pytest.mark.parametrize(
    ("rows", "axis_data_bits", "words"), [(1, 64, 4), (4, 64, 6), (16, 64, 8), (5, 128, 22), (22, 256, 10)]
)
def test_windows(rows, axis_data_bits, words):
    config = DriftConfig.preset("tiny", rows=rows, axis_data_bits=axis_data_bits)
    block = ActStore(config, words)
    rng = random.Random(words)
    per_word = config.word_nibbles
    contents = [rng.randrange(1 << axis_data_bits) for _ in range(words)]
    nibbles = [(word >> 4 * i) & 15 for word in contents for i in range(per_word)]
    corners = [
        (address, nibble) for address in (0, 1, words - 2, words - 1) for nibble in (0, 1, per_word - 1)
    ]
    requests = [
        corners[i] if i < len(corners) else (rng.randrange(words), rng.randrange(per_word))
        for i in range(300)
    ]

    async def testbench(ctx):
        order = list(range(words))
        rng.shuffle(order)
        for address in order:
            ctx.set(block.write_en, 1)
            ctx.set(block.write_address, address)
            ctx.set(block.write_data, contents[address])
            await ctx.tick()
        ctx.set(block.write_en, 0)
        asked = []
        for index in range(len(requests) + 2):
            now = []
            for port in (0, 1):
                # The other port asks for something else, now and then for nothing.
                address, nibble = requests[index % len(requests)] if port else rng.choice(requests)
                en = rng.random() < 0.8
                ctx.set(
                    block.request[port],
                    {"en": en, "swap": rng.randrange(2), "address": address, "nibble": nibble},
                )
                now.append((address * per_word + nibble) if en else None)
            asked.append(now)
            await ctx.tick()
            if index >= 1:
                for port, start in enumerate(asked[index - 1]):
                    if start is not None:
                        expected = nibbles[start : start + rows]
                        got = [ctx.get(block.window[port][row]) for row in range(rows)]
                        assert got[: len(expected)] == expected, (index, port, start)

    simulate(block, testbench)


def test_a_word_can_be_read_in_the_cycle_after_its_write():
    config = DriftConfig.preset("tiny")
    block = WindowCopy(config, 4)

    async def testbench(ctx):
        for address in range(4):
            word = 0x1111 * (address + 1)
            ctx.set(block.write_en, 1)
            ctx.set(block.write_address, address)
            ctx.set(block.write_data, word)
            await ctx.tick()
            ctx.set(block.write_en, 0)
            ctx.set(block.request, {"en": 1, "swap": 0, "address": address, "nibble": 0})
            await ctx.tick()
            ctx.set(block.request, {"en": 0, "swap": 0, "address": 0, "nibble": 0})
            await ctx.tick()
            assert [ctx.get(block.window[row]) for row in range(4)] == [address + 1] * 4

    simulate(block, testbench)


def test_lint(emit_lint):
    assert emit_lint(ActStore(DriftConfig.preset("tiny"), 6), "act_store") == []


@pytest.fixture
def emit_lint(lint, tmp_path):
    from bitfabric.hdl.emit import emit

    def run(block, name):
        path = tmp_path / f"{name}.v"
        path.write_text(emit(block, name).verilog)
        return lint(path)

    return run


@pytest.mark.parametrize("block", [ActStore, WindowCopy])
def test_construction_errors(block):
    config = DriftConfig.preset("tiny")
    with pytest.raises(ParameterError, match="words=5 is not allowed; it must be even"):
        block(config, 5)
    with pytest.raises(ParameterError, match="words=0"):
        block(config, 0)
