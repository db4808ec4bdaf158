"""The packer: rows as strings of bits against numpy, in both alignments; full stores."""

import random

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.packer import Packer
from bitfabric.sim.streams import simulate


def row_words(values, bits, word_bits):
    """Return a row's string of ``bits``-bit elements, cut into words."""
    string = np.unpackbits(values.astype(np.uint8)[:, None], axis=1, bitorder="little")[:, :bits].reshape(-1)
    string = np.pad(string, (0, -len(string) % word_bits))
    return [
        int.from_bytes(np.packbits(word, bitorder="little").tobytes(), "little")
        for word in string.reshape(-1, word_bits)
    ]


def items_of(values, bits, low, end, size):
    """Return a row's beats with what the converter says of them."""
    items, fill = [], 0
    beats = len(values) // size
    for beat in range(beats):
        last = beat == beats - 1
        reach = fill + bits
        rest = last and reach > 8
        data = int.from_bytes(values[beat * size : (beat + 1) * size].tobytes(), "little")
        packing = {"bits": bits, "fill": fill, "low": low, "flush": 0}
        items.append(
            (data, {**packing, "write": int(last or reach >= 8), "end": int(end and last and not rest)})
        )
        fill = reach % 8
        if rest:
            items.append((0, {**packing, "fill": fill, "flush": 1, "write": 1, "end": int(end)}))
    return items


def run(config, rows, *, stall=0.0, seed=0):
    """Pack ``(values, bits, low)`` rows; return the stores' words by address, and the error."""
    block = Packer(config)
    rng = random.Random(seed)
    items = [
        item
        for index, (values, bits, low) in enumerate(rows)
        for item in items_of(values, bits, low, index == len(rows) - 1, config.beat_bytes)
    ]
    stores = ({}, {})
    error = None

    async def testbench(ctx):
        nonlocal error
        # Half a word of a row that was given up.
        ctx.set(block.valid, 1)
        ctx.set(block.beat, (1 << config.axis_data_bits) - 1)
        ctx.set(block.packing, {"bits": 4, "fill": 0})
        ctx.set(block.start, 1)
        await ctx.tick()
        ctx.set(block.start, 0)
        queue, ended, cycle, done_at = list(items), None, 0, []
        while queue or cycle < ended + 6:
            give = bool(queue) and rng.random() >= stall
            ctx.set(block.valid, give)
            # Garbage between beats, and in the place of the beat that a rest is not.
            data, packing = queue.pop(0) if give else (0, {"bits": 3, "fill": 5, "write": 1, "end": 1})
            ctx.set(block.beat, data if give and not packing["flush"] else rng.getrandbits(60))
            ctx.set(block.packing, packing)
            if give and packing["end"]:
                ended = cycle
            ports = (block.high_en, block.high_address, block.low_en, block.low_address)
            _, _, *enables, word, done = await ctx.tick().sample(*ports, block.word, block.done)
            for store, en, address in zip(stores, enables[::2], enables[1::2], strict=True):
                if en:
                    assert address not in store
                    store[address] = word
            if done:
                done_at.append(cycle)
            cycle += 1
        assert done_at == [ended + Packer.LATENCY + 1]
        error = ctx.get(block.store_error)

    simulate(block, testbench)
    return stores, error


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("axis_data_bits", [64, 128])
@pytest.mark.parametrize("alignment", ["nibble", "bit"])
def test_rows(alignment, axis_data_bits, stall):
    config = DriftConfig.preset("tiny", alignment=alignment, axis_data_bits=axis_data_bits, low_words=256)
    rng = np.random.default_rng(axis_data_bits)
    size = config.beat_bytes
    widths = (4, 8) if alignment == "nibble" else range(1, 9)
    for high_bits in widths:
        for low_bits in widths:
            if low_bits > high_bits:
                continue
            rows = []
            for _ in range(10):
                low = int(rng.integers(2))
                values = rng.integers(-128, 128, size * int(rng.integers(1, 12))).astype(np.int8)
                rows.append((values, low_bits if low else high_bits, low))
            stores, error = run(config, rows, stall=stall, seed=high_bits)
            assert error == 0
            for low, store in enumerate(stores):
                expected = [
                    word
                    for values, bits, is_low in rows
                    if is_low == low
                    for word in row_words(values, bits, axis_data_bits)
                ]
                assert list(store) == list(range(len(expected)))
                assert list(store.values()) == expected


@pytest.mark.parametrize("low", [0, 1])
@pytest.mark.parametrize("over", [0, 1])
def test_full_stores(low, over):
    words = (6, 4)
    config = DriftConfig.preset("tiny", high_words=words[0], low_words=words[1])
    rng = np.random.default_rng(low)
    rows = [(rng.integers(-128, 128, 8).astype(np.int8), 8, low) for _ in range(words[low] + over)]
    stores, error = run(config, rows)
    assert len(stores[low]) == words[low]
    assert error == over
