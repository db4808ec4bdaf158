"""The memory of results: runs of bytes anywhere, words out."""

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.out_memory import OutMemory
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


@pytest.mark.parametrize(
    ("lanes", "bits", "words"), [(4, 64, 2), (8, 64, 14), (4, 128, 16), (16, 256, 6), (32, 256, 10)]
)
def test_runs_and_reads(lanes, bits, words):
    config = DriftConfig.preset("tiny", lanes=lanes, axis_data_bits=bits, out_words=words)
    memory = OutMemory(config)
    size = config.beat_bytes
    rng = np.random.default_rng(lanes + words)

    async def testbench(ctx):
        content = np.zeros(words * size, np.uint8)
        wanted = None
        for _ in range(400):
            count = int(rng.integers(0, lanes + 1))
            first = int(rng.integers(0, words * size - count))
            data = rng.integers(0, 256, lanes)
            write, read = (int(bit) for bit in rng.random(2) < 0.8)
            address = int(rng.integers(0, words))
            ctx.set(memory.write_en, write)
            ctx.set(memory.write_address, first // size)
            ctx.set(memory.write_offset, first % size)
            ctx.set(memory.write_count, count)
            ctx.set(memory.write_data, int.from_bytes(bytes(data.tolist()), "little"))
            ctx.set(memory.read_en, read)
            ctx.set(memory.read_address, address)
            if read:
                wanted = int.from_bytes(content[address * size : (address + 1) * size].tobytes(), "little")
            if write:
                places = np.arange(first, first + count)
                content[places] = data[places % lanes]
            await ctx.tick()
            if wanted is not None:  # kept while nothing is read
                assert ctx.get(memory.read_data) == wanted

    simulate(memory, testbench)


def test_odd_words_are_refused():
    with pytest.raises(ParameterError, match="out_words=7 is not allowed"):
        DriftConfig.preset("tiny", out_words=7)
