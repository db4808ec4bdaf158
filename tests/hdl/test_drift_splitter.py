"""Drift's splits for layers and beforehand: always those of the schedule, early where they were asked for in time."""

import functools
import random
from collections import Counter

import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.splitter import Splitter
from bitfabric.sim.cycles.drift_array import INFINITE, ArrayWork
from bitfabric.sim.cycles.drift_schedule import schedule, search_cycles, table_cycles
from bitfabric.sim.streams import simulate

SPLIT = ("columns_left", "rows_left", "rows_right")


def make_work(rng):
    k, high, low = rng.randint(1, 60), rng.randint(0, 30), rng.randint(0, 30)
    return {"k": k, "nibbles_high": 2 * k, "nibbles_low": k, "granules_high": high, "granules_low": low}


def array_work(work, rows):
    return ArrayWork(
        *rows, work["nibbles_high"], work["nibbles_low"], work["granules_high"], work["granules_low"]
    )


class Host:
    """What stands around the splitter: a buffer of activations, layers one after the other, requests."""

    def __init__(self, config, seed):
        self.config, self.rng = config, random.Random(seed)
        self.dut = Splitter(config)
        self.rows = (0, 0)

    def hold(self, ctx, rows):
        """Let activations be in the buffer; None: let there be none."""
        ctx.set(self.dut.forget, rows is None)
        ctx.set(self.dut.settled, rows is not None)
        if rows is not None:
            self.rows = rows
            ctx.set(self.dut.rows_high, rows[0])
            ctx.set(self.dut.rows_low, rows[1])

    def new_rows(self):
        return self.rng.randint(0, 40), self.rng.randint(0, 40)

    async def ask(self, ctx, work):
        ctx.set(self.dut.prepare, 1)
        await ctx.tick()
        ctx.set(self.dut.prepare, 0)
        ctx.set(self.dut.prepare_work, work)

    async def start(self, ctx, work, reuse):
        """Start a layer with the activations in the buffer, or with new ones that come later."""
        dut = self.dut
        for name, value in (("work", work), ("reuse", reuse), ("start", 1)):
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.counted, reuse)
        if not reuse:
            self.hold(ctx, None)
            for _ in range(self.rng.choice([1, 1, 5, 40, 80])):
                assert not ctx.get(dut.valid)
                await ctx.tick()
            self.hold(ctx, self.new_rows())
            ctx.set(dut.counted, 1)

    async def wait(self, ctx, signal, limit=1000):
        for cycle in range(limit):
            if ctx.get(signal):
                return cycle
            await ctx.tick()
        raise AssertionError("it did not come")

    def check(self, ctx, work):
        result = schedule(self.config, array_work(work, self.rows))
        assert ctx.get(self.dut.impossible) == (result.cycles == INFINITE)
        assert tuple(ctx.get(getattr(self.dut, name)) for name in SPLIT) == tuple(result.split)

    def fresh_cycles(self, work):
        """Return the cycles from a start, whose counts are known, to the split."""
        return table_cycles(self.config) + search_cycles(self.config, array_work(work, self.rows))


def config_of(scheduler, rows=2, columns=2):
    return DriftConfig.preset("tiny", rows=rows, columns=columns, scheduler=scheduler, acc_depth=8)


def play(scheduler, testbench, seed=1, **sizes):
    host = Host(config_of(scheduler, **sizes), seed)
    simulate(host.dut, functools.partial(testbench, host=host))


@pytest.mark.parametrize("scheduler", ["scan", "greedy"])
def test_a_split_asked_for_in_time_is_there_at_once(scheduler):
    async def testbench(ctx, host):
        first, second = make_work(host.rng), make_work(host.rng)
        await host.start(ctx, first, reuse=False)
        await host.wait(ctx, host.dut.valid)
        host.check(ctx, first)
        await host.ask(ctx, second)
        assert not ctx.get(host.dut.prepared)
        passed = await host.wait(ctx, host.dut.prepared)
        assert passed <= host.fresh_cycles(second) + 4
        host.check(ctx, first)  # that of the layer that runs
        await host.start(ctx, second, reuse=True)
        assert ctx.get(host.dut.valid)
        assert not ctx.get(host.dut.prepared)
        host.check(ctx, second)

    play(scheduler, testbench)


@pytest.mark.parametrize("scheduler", ["scan", "greedy"])
def test_a_layer_takes_over_what_is_under_way(scheduler):
    """Started after any number of cycles: as early as it would have been prepared, and never wrong."""

    async def testbench(ctx, host):
        host.hold(ctx, (20, 13))
        work, other = make_work(host.rng), make_work(host.rng)
        fresh = host.fresh_cycles(work) + 1
        for after in range(1, fresh + 6):
            for asked, passed in ((work, max(0, fresh - after)), (other, fresh)):
                await host.ask(ctx, asked)
                await ctx.tick().repeat(after)
                await host.start(ctx, work, reuse=True)
                assert await host.wait(ctx, host.dut.valid) == passed, after
                host.check(ctx, work)

    play(scheduler, testbench)


def test_requests_wait_for_the_layer_and_for_the_activations():
    async def testbench(ctx, host):
        first, second = make_work(host.rng), make_work(host.rng)
        host.hold(ctx, (5, 6))
        await host.start(ctx, first, reuse=True)
        await host.ask(ctx, second)  # the layer's own split comes first
        await host.wait(ctx, host.dut.valid)
        host.check(ctx, first)
        assert not ctx.get(host.dut.prepared)
        await host.wait(ctx, host.dut.prepared)
        host.hold(ctx, None)  # results are written back
        await ctx.tick()
        assert not ctx.get(host.dut.prepared)
        await host.ask(ctx, second)
        await ctx.tick().repeat(100)
        assert not ctx.get(host.dut.prepared)
        host.hold(ctx, (17, 1))
        await host.wait(ctx, host.dut.prepared)
        await host.start(ctx, second, reuse=True)
        assert ctx.get(host.dut.valid)
        host.check(ctx, second)

    play("scan", testbench)


def test_what_is_forgotten_does_not_come_back():
    """Dropped in any cycle of the work; a later layer has the split of its own activations."""

    async def testbench(ctx, host):
        host.hold(ctx, (9, 2))
        work = make_work(host.rng)
        for after in range(1, host.fresh_cycles(work) + 6, 3):
            host.hold(ctx, (9, 2))
            await host.ask(ctx, work)
            await ctx.tick().repeat(after)
            host.hold(ctx, None)
            await ctx.tick()
            host.hold(ctx, (1, 33))
            for _ in range(after % 5 * 20):
                assert not ctx.get(host.dut.prepared)
                await ctx.tick()
            await host.start(ctx, work, reuse=True)
            assert not ctx.get(host.dut.valid)
            await host.wait(ctx, host.dut.valid)
            host.check(ctx, work)

    play("scan", testbench)


@pytest.mark.parametrize("scheduler", ["scan", "greedy"])
@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (1, 1), (3, 2)])
def test_any_order_of_layers_and_requests(rows, columns, scheduler):
    seen = Counter()

    async def testbench(ctx, host):
        rng, dut = host.rng, host.dut
        pool = [make_work(rng) for _ in range(3)]
        host.hold(ctx, None)
        held, asked = False, None
        for _ in range(80):
            work = asked if asked and rng.random() < 0.6 else rng.choice(pool)
            reuse = held and rng.random() < 0.8
            asked = None
            await host.start(ctx, work, reuse)
            if reuse and ctx.get(dut.valid):
                seen["prepared"] += 1
            elif rng.random() < 0.3:
                asked = rng.choice(pool)
                await host.ask(ctx, asked)
            await host.wait(ctx, dut.valid)
            host.check(ctx, work)
            seen["impossible"] += ctx.get(dut.impossible)
            held = True
            for _ in range(rng.randrange(4)):
                action = rng.randrange(4)
                if action < 2 and (asked is None or ctx.get(dut.prepared)):
                    asked = rng.choice(pool)
                    await host.ask(ctx, asked)
                elif action == 2:
                    host.hold(ctx, None)
                    await ctx.tick().repeat(rng.choice([1, 30]))
                    host.hold(ctx, host.new_rows())
                await ctx.tick().repeat(rng.choice([1, 3, 150]))
            assert ctx.get(dut.valid)

    play(scheduler, testbench, seed=f"{rows} {columns}", rows=rows, columns=columns)
    assert seen["prepared"] > 5
    assert seen["impossible"] or rows > 1
