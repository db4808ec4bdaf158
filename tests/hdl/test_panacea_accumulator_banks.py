"""The accumulators' two banks against plain sums."""

import numpy as np
import pytest

from bitfabric.hdl.panacea.accumulator_banks import AccumulatorBanks
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


def wrapped(values, bits):
    half = 1 << (bits - 1)
    return (values + half) % (1 << bits) - half


@pytest.mark.parametrize(("depth", "bits", "value_bits"), [(1, 8, 8), (4, 20, 12), (5, 32, 20)])
def test_adds_reads_and_empties(depth, bits, value_bits):
    lanes = 3
    unit = AccumulatorBanks(lanes, bits, value_bits, depth)
    rng = np.random.default_rng(depth)
    sums = np.zeros((2, depth, lanes), np.int64)
    bound = 1 << (value_bits - 1)

    async def testbench(ctx):
        bank, shown = 0, None
        for _ in range(30):
            # Add to one bank, now and then to the same word again, while the other one is read and emptied.
            reads = [word for word in range(depth) for _ in range(int(rng.integers(0, 3)))]
            pending = None
            for step in range(40):
                # The last cycle of a turn brings values only: the banks change roles after it.
                en = int(rng.integers(4) > 0) if step < 39 else 0
                word = int(rng.integers(depth))
                ctx.set(unit.en, en)
                ctx.set(unit.bank, bank)
                ctx.set(unit.word, word)
                values = rng.choice([-bound, bound - 1, *rng.integers(-bound, bound, 4)], lanes)
                for lane in range(lanes):
                    ctx.set(unit.values[lane], int(values[lane]))
                if pending is not None:
                    sums[bank, pending] = wrapped(sums[bank, pending] + values, bits)
                pending = word if en else None
                read = reads and rng.integers(2)
                ctx.set(unit.read_en, int(bool(read)))
                if read:
                    at = reads.pop(0)
                    ctx.set(unit.read_bank, 1 - bank)
                    ctx.set(unit.read_word, at)
                    shown = sums[1 - bank, at].tolist()
                    sums[1 - bank, at] = 0
                await ctx.tick()
                if shown is not None:  # the last word read stays
                    assert [ctx.get(value) for value in unit.data] == shown
            bank, shown = 1 - bank, None

    simulate(unit, testbench)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 8, 8, 4), "lanes=0 is not allowed; it must be an integer of at least 1"),
        ((1, 0, 8, 4), "bits=0 is not allowed; it must be an integer of at least 1"),
        ((1, 8, 9, 4), r"value_bits=9 is not allowed; it must be an integer in \[1, 8\]"),
        ((1, 8, 8, 0), "depth=0 is not allowed; it must be an integer of at least 1"),
    ],
)
def test_refuses_bad_parameters(sizes, message):
    with pytest.raises(ParameterError, match=message):
        AccumulatorBanks(*sizes)
