"""The accumulators at the edges of Drift's fabric: joined or not, K tiles back to back, drained while they fill."""

import random

import pytest

from bitfabric.hdl.arith.nibble_join import joined_bits
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.edge import EdgeColumn
from bitfabric.sim.streams import simulate

IDLE = {"valid": 0, "row": 0, "bank": 0, "first": 0, "last": 0}


class Bench:
    """Drive a column and keep what its accumulators have to hold."""

    def __init__(self, dut, config, rng):
        self.dut, self.config, self.rng = dut, config, rng
        self.sums = {}  # (bank, row, accumulator)

    def noise(self):
        return {
            "valid": self.rng.randrange(2),
            "row": self.rng.randrange(self.config.acc_depth),
            "bank": self.rng.randrange(2),
            "first": self.rng.randrange(2),
            "last": self.rng.randrange(2),
        }

    def present(self, ctx, left, control):
        """Present a control for its half, with psums, and account for them."""
        dut, rng = self.dut, self.rng
        ctx.set(dut.left, left)
        ctx.set(dut.control_west if left else dut.control_east, control)
        ctx.set(dut.control_east if left else dut.control_west, self.noise())  # the other half's
        limit, joined = 1 << (self.config.group.psum_bits - 1), 1 << (joined_bits(self.config.rows) - 1)
        psums = [rng.choice([-limit, limit - 1, rng.randrange(-limit, limit)]) for _ in range(4)]
        if left:  # what two nibble columns join to fits its width
            for low in (0, 2):
                least, most = -joined - psums[low] + 15 >> 4, joined - 1 - psums[low] >> 4
                high = rng.choice([least, most, rng.randint(least, most)])
                psums[low + 1] = min(max(high, -limit), limit - 1)
        for column, psum in enumerate(psums):
            ctx.set(dut.psum[column], psum)
        if control["valid"]:
            parts = (
                {0: psums[0] + 16 * psums[1], 2: psums[2] + 16 * psums[3]} if left else dict(enumerate(psums))
            )
            for index, value in parts.items():
                key = control["bank"], control["row"], index
                self.sums[key] = value + (0 if control["first"] else self.sums[key])

    def read(self, ctx, left, bank, row):
        """Ask for a row; the other half's request is something else."""
        dut, half = self.dut, 0 if left else 1
        ctx.set(dut.drain_en, 1 << half)
        ctx.set(dut.drain_bank, bank << half | (1 - bank) << (1 - half))
        ctx.set(dut.drain_row[half], row)
        ctx.set(dut.drain_row[1 - half], self.rng.randrange(self.config.acc_depth))

    def check(self, ctx, left, bank, row):
        for index in (0, 2) if left else range(4):
            assert ctx.get(self.dut.data[index]) == self.sums[bank, row, index], (left, bank, row, index)


@pytest.mark.parametrize(("rows", "depth"), [(1, 8), (4, 8), (3, 1), (6, 5)])
def test_sums_are_drained_while_the_other_bank_fills(rows, depth):
    config = DriftConfig.preset("tiny", rows=rows, acc_depth=depth)
    dut, rng = EdgeColumn(config), random.Random(rows * depth)
    bench = Bench(dut, config, rng)

    async def testbench(ctx):
        done = None  # the complete bank: half, bank, rows
        for run in range(40):
            left, bank, tiles = run // 8 % 2, run % 2, rng.randrange(1, 6)
            if done and done[0] != left:
                done = None  # the split changed: nothing is under way then
            used = 1 if run % 3 == 0 else rng.randrange(1, depth + 1)
            asked = None
            for tile in range(tiles):
                for row in range(used):
                    while rng.random() < 0.2 * (run % 2):
                        bench.present(ctx, left, {**bench.noise(), "valid": 0})
                        await ctx.tick()
                    control = {
                        "valid": 1,
                        "row": row,
                        "bank": bank,
                        "first": tile == 0,
                        "last": tile == tiles - 1 and row == used - 1,
                    }
                    bench.present(ctx, left, control)
                    ctx.set(dut.drain_en, 2 if left else 1)  # of the other half
                    if done and rng.random() < 0.5:
                        asked = done[1], rng.randrange(done[2])
                        bench.read(ctx, left, *asked)
                    await ctx.tick()
                    assert ctx.get(dut.control_out.as_value()) == ctx.get(
                        (dut.control_west if left else dut.control_east).as_value()
                    )
                    if asked:  # kept if there was no other read
                        bench.check(ctx, left, *asked)
            bench.present(ctx, left, IDLE)
            ctx.set(dut.drain_en, 0)
            await ctx.tick()  # presented in the cycle before last, read from here on
            done = left, bank, used
            for row in range(used):
                bench.read(ctx, left, bank, row)
                await ctx.tick()
                bench.check(ctx, left, bank, row)

    simulate(dut, testbench)


def test_wide_columns_leave_the_odd_accumulators_alone():
    config = DriftConfig.preset("tiny")
    dut = EdgeColumn(config)
    bench = Bench(dut, config, random.Random(1))

    async def testbench(ctx):
        for left in (0, 1):
            for row in range(config.acc_depth):
                bench.present(ctx, left, {**IDLE, "valid": 1, "row": row, "first": 1})
                await ctx.tick()
            bench.present(ctx, left, IDLE)
            await ctx.tick()
        for row in range(config.acc_depth):  # read as the right half: 1 and 3 are as they were before
            bench.present(ctx, 0, IDLE)
            bench.read(ctx, 0, 0, row)
            await ctx.tick()
            bench.check(ctx, 0, 0, row)

    simulate(dut, testbench)


def test_narrow_accumulators_wrap_as_the_sum_does_not():
    """Many rows and few K: a psum is wider than an accumulator, its value is not."""
    config = DriftConfig.preset("tiny", rows=16, k_max=1, acc_bits=16)
    dut = EdgeColumn(config)

    async def testbench(ctx):
        ctx.set(dut.left, 1)
        for low, high, expected in ((0, 1024, 1 << 14), (15, -1024, 15 - (1 << 14))):
            ctx.set(dut.psum[0], low)
            ctx.set(dut.psum[1], high)
            ctx.set(dut.control_west, {**IDLE, "valid": 1, "first": 1})
            await ctx.tick()
            ctx.set(dut.control_west, IDLE)
            await ctx.tick()
            ctx.set(dut.drain_en, 1)
            await ctx.tick()
            assert ctx.get(dut.data[0]) == expected

    simulate(dut, testbench)
