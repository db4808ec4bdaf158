"""Drift's delays towards the fabric's edges: activations by local row, psum controls by the rows they pass."""

import random

import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.core import PsumDelay
from bitfabric.hdl.drift.dispatcher import Dispatcher, SkewedStream
from bitfabric.hdl.drift.sequencer import TO_FABRIC
from bitfabric.sim.streams import simulate

SETTLE = 2  # cycles from a split to its lanes


@pytest.mark.parametrize("rows", [1, 2, 5, 22])
def test_local_row_i_is_i_cycles_late(rows):
    dut, rng = SkewedStream(rows), random.Random(rows)
    sent = []

    async def testbench(ctx):
        for cycle in range(3 * rows + 5):
            sent.append(([rng.randrange(16) for _ in range(rows)], rng.randrange(2)))
            for row, nibble in enumerate(sent[cycle][0]):
                ctx.set(dut.window[row], nibble)
            ctx.set(dut.swap, sent[cycle][1])
            for row in range(min(rows, cycle + 1)):
                window, swap = sent[cycle - row]
                assert (ctx.get(dut.o[row].act), ctx.get(dut.o[row].swap)) == (window[row], swap)
            await ctx.tick()

    simulate(dut, testbench)


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 9])
def test_every_split_leads_the_streams_to_their_rows(rows):
    dut, rng = Dispatcher(DriftConfig.preset("tiny", rows=rows)), random.Random(rows)

    async def testbench(ctx):
        for left in range(rows + 1):
            splits = (left, rng.randint(0, rows) if left % 2 else rows - left)
            ctx.set(dut.rows_left, splits[0])
            ctx.set(dut.rows_right, splits[1])
            await ctx.tick().repeat(SETTLE)
            sent = []
            for cycle in range(2 * rows + 6):
                windows = [[rng.randrange(16) for _ in range(rows)] for _ in range(4)]
                sent.append((windows, rng.randrange(16)))
                for region in range(4):
                    for row in range(rows):
                        ctx.set(dut.windows[region][row], windows[region][row])
                ctx.set(dut.swaps, sent[cycle][1])
                for half, (edge, split) in enumerate(zip((dut.west, dut.east), splits, strict=True)):
                    for row in range(rows):
                        region = half if row < split else 2 + half
                        local = split - 1 - row if row < split else row - split
                        if cycle > local:
                            then, swaps = sent[cycle - 1 - local]
                            assert ctx.get(edge[row].act) == then[region][local], (splits, row)
                            assert ctx.get(edge[row].swap) == swaps >> region & 1
                await ctx.tick()

    simulate(dut, testbench)


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_a_psums_control_waits_for_its_rows(rows):
    config = DriftConfig.preset("tiny", rows=rows)
    dut, rng = PsumDelay(config), random.Random(rows)

    async def testbench(ctx):
        for used in range(rows + 1):
            ctx.set(dut.rows, used)
            delay, sent = TO_FABRIC + used, []
            for cycle in range(rows + 30):
                control = {"valid": rng.randrange(2), "row": rng.randrange(8)}
                control |= {name: rng.randrange(2) for name in ("bank", "first", "last")}
                sent.append(control)
                ctx.set(dut.i, control)
                # Behind a longer delay the old controls are still under way; without rows there is nothing to meet.
                if used and cycle >= rows + TO_FABRIC:
                    assert {name: ctx.get(dut.o[name]) for name in control} == sent[cycle - delay]
                await ctx.tick()

    simulate(dut, testbench)


def test_nothing_is_valid_after_reset():
    dut = PsumDelay(DriftConfig.preset("tiny"))

    async def testbench(ctx):
        ctx.set(dut.rows, 4)
        ctx.set(dut.i, {"valid": 0, "row": 3, "bank": 1, "first": 1, "last": 1})
        for _ in range(12):
            assert not ctx.get(dut.o.valid)
            await ctx.tick()

    simulate(dut, testbench)
