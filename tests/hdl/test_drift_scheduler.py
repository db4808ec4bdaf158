"""Drift's schedulers in RTL: the split, its cycles and the time it takes, against the model."""

import random

import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.schedule_greedy import Proportion
from bitfabric.hdl.drift.schedule_quotients import QuotientTable
from bitfabric.hdl.drift.scheduler import Scheduler
from bitfabric.hdl.emit import emit
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles.drift_array import INFINITE, ArrayWork
from bitfabric.sim.cycles.drift_schedule import schedule, search_cycles, share, table_cycles
from bitfabric.sim.streams import simulate

M_TOP, Q_TOP, G_TOP = 65535, 131070, 32767
# rows, columns, depths of accumulators, works of all depths; 432 works in all
FABRICS = [(1, 1, (1, 8), 16), (2, 3, (1, 5), 20), (4, 4, (8, 6), 20), (5, 7, (16, 3), 16)]


def number(rng, top):
    return rng.choice([0, 1, top, rng.randint(0, top), rng.randint(0, top) >> rng.randrange(16)])


def make_work(rng):
    """Return work of any size, corners among it; some parts have none."""
    m, q, g = ([number(rng, top) for _ in range(2)] for top in (M_TOP, Q_TOP, G_TOP))
    return ArrayWork(*m, *(max(1, value) for value in q), *g)


def make_gemm(rng):
    """Return work like a layer's."""
    m, k, n = rng.randint(1, 300), rng.randint(1, 400), rng.randint(1, 300)
    m_low, n_low = rng.randint(0, m), rng.randint(0, n)
    return ArrayWork(m - m_low, m_low, 2 * k, k, -(-(n - n_low) // 2), -(-n_low // 4))


def set_work(ctx, block, work):
    for name in ("m_high", "m_low", "q_high", "q_low", "g_high", "g_low"):
        ctx.set(getattr(block, name), getattr(work, name))


async def wait(ctx, signal, limit):
    """Return the cycles until ``signal`` is high, the present one being 0."""
    for cycle in range(limit):
        if ctx.get(signal):
            return cycle
        await ctx.tick()
    raise AssertionError("it did not come")


async def pulse(ctx, signal):
    ctx.set(signal, 1)
    await ctx.tick()
    ctx.set(signal, 0)


def check_result(ctx, block, config, work, result=None):
    result = result or schedule(config, work)
    split = tuple(ctx.get(getattr(block, name)) for name in ("columns_left", "rows_left", "rows_right"))
    assert (split, ctx.get(block.cycles)) == (tuple(result.split), result.cycles), work


def run(config, works, seed):
    """Search for each work: after its tables, while they are made, with them, and twice with the same ones."""
    block = Scheduler(config)
    rng = random.Random(seed)

    async def testbench(ctx):
        limit = table_cycles(config) + 10
        for work in works:
            set_work(ctx, block, work)
            tables, expected = table_cycles(config), search_cycles(config, work)
            result = schedule(config, work)
            when = rng.choice([0, rng.randrange(1, tables), tables, tables + rng.randrange(5)])
            if when == 0:
                ctx.set(block.start, 1)
            await pulse(ctx, block.tabulate)
            ctx.set(block.start, 0)
            assert not ctx.get(block.ready)
            for cycle in range(1, when):
                assert ctx.get(block.ready) == (cycle >= tables)
                await ctx.tick()
            if when:
                await pulse(ctx, block.start)
            assert ctx.get(block.busy)
            passed = await wait(ctx, block.done, limit + expected) + when + 1
            assert passed == max(when, tables) + expected, (work, when)
            assert not ctx.get(block.busy)
            check_result(ctx, block, config, work, result)
            await ctx.tick()
            assert not ctx.get(block.done)
            check_result(ctx, block, config, work, result)

    simulate(block, testbench)


@pytest.mark.parametrize("scheduler", ["scan", "greedy"])
@pytest.mark.parametrize("buffering", ["single", "double", "transit"])
@pytest.mark.parametrize(("rows", "columns", "depths", "count"), FABRICS)
def test_the_model_is_followed(rows, columns, depths, count, buffering, scheduler):
    for depth in depths:
        seed = f"{rows} {columns} {depth} {buffering} {scheduler}"
        rng = random.Random(seed)
        config = DriftConfig(
            rows=rows, columns=columns, acc_depth=depth, weight_buffering=buffering, scheduler=scheduler
        )
        works = [(make_work, make_gemm)[i % 2](rng) for i in range(count // 2)]
        run(config, works, seed)


@pytest.mark.parametrize(("scheduler", "buffering"), [("scan", "double"), ("greedy", "single")])
def test_at_the_papers_size(scheduler, buffering):
    config = DriftConfig(scheduler=scheduler, weight_buffering=buffering)
    rng = random.Random(9)
    bert = ArrayWork(13, 115, 1536, 768, 39, 173)
    run(config, [bert, make_work(rng), make_gemm(rng)][: 2 if scheduler == "scan" else 3], 3)


@pytest.mark.parametrize("scheduler", ["scan", "greedy"])
def test_counts_may_change_between_searches(scheduler):
    config = DriftConfig(rows=4, columns=4, acc_depth=8, scheduler=scheduler)
    block = Scheduler(config)
    first = ArrayWork(20, 40, 60, 30, 12, 17)
    works = [first, ArrayWork(60, 0, 60, 30, 12, 17), ArrayWork(0, 0, 60, 30, 12, 17)]

    async def testbench(ctx):
        set_work(ctx, block, first)
        await pulse(ctx, block.tabulate)
        await wait(ctx, block.ready, table_cycles(config))
        for work in works:
            set_work(ctx, block, work)
            await pulse(ctx, block.start)
            assert await wait(ctx, block.done, 500) + 1 == search_cycles(config, work)
            check_result(ctx, block, config, work)

    simulate(block, testbench)


@pytest.mark.parametrize("scheduler", ["scan", "greedy"])
def test_what_is_under_way_can_be_dropped(scheduler):
    config = DriftConfig(rows=2, columns=3, acc_depth=8, scheduler=scheduler)
    block = Scheduler(config)
    works = [ArrayWork(20, 40, 60, 30, 12, 17), ArrayWork(3, 70, 60, 31, 1, 170)]
    tables = table_cycles(config)
    longest = tables + max(search_cycles(config, work) for work in works)

    async def testbench(ctx):
        for after in range(1, longest + 2):
            set_work(ctx, block, works[0])
            await pulse(ctx, block.tabulate)
            ctx.set(block.start, 1)
            for _ in range(after):
                await ctx.tick()
                ctx.set(block.start, 0)
            await pulse(ctx, block.clear)
            assert [ctx.get(port) for port in (block.busy, block.done, block.ready)] == [0, 0, 0]
            if after % 8:
                continue
            set_work(ctx, block, works[1])
            await pulse(ctx, block.tabulate)
            await pulse(ctx, block.start)
            passed = await wait(ctx, block.done, 2 * longest) + 2
            assert passed == tables + search_cycles(config, works[1])
            check_result(ctx, block, config, works[1])

    simulate(block, testbench)


@pytest.mark.parametrize(("bits", "length", "ports"), [(18, 22, 1), (15, 36, 1), (15, 64, 2), (5, 1, 2)])
def test_quotients(bits, length, ports):
    block = QuotientTable(bits, length, ports)
    rng = random.Random(bits)
    top = (1 << bits) - 1
    pairs = [(top, 0), (rng.randint(1, top), top), (1, rng.randint(1, 2 * length) & top)]

    async def testbench(ctx):
        for high, low in pairs:
            ctx.set(block.high, high)
            ctx.set(block.low, low)
            await pulse(ctx, block.start)
            assert await wait(ctx, block.ready, 2000) + 1 == -(-bits // 2) * (length + 1) + 2
            for index in range(length + 1):
                for port in range(ports):
                    ctx.set(block.address[port], (index + port) % (length + 1))
                await ctx.tick()
                for port in range(ports):
                    divisor = (index + port) % (length + 1)
                    if divisor:
                        assert ctx.get(block.tiles_high[port]) == -(-high // divisor)
                    if divisor < length:
                        assert ctx.get(block.tiles_low[port]) == -(-low // (length - divisor))

    simulate(block, testbench)


@pytest.mark.parametrize("length", [1, 2, 3, 22, 36, 64])
def test_proportion(length):
    steps = length.bit_length() + length % 2
    block = Proportion(34, length, steps)
    rng = random.Random(length)
    top = (1 << 34) - 1
    pairs = [(0, 0), (0, 7), (7, 0), (1, 1), (top, top), (top, 1), (1, top), (1, 2 * length - 1)]
    pairs += [
        (rng.randrange(top) >> rng.randrange(34), rng.randrange(top) >> rng.randrange(34)) for _ in range(40)
    ]

    async def testbench(ctx):
        for high, low in pairs:
            ctx.set(block.high, high)
            ctx.set(block.low, low)
            await pulse(ctx, block.start)
            for _ in range(steps):
                await ctx.tick()
            assert ctx.get(block.lines) == share(length, high, low), (high, low)

    simulate(block, testbench)


def test_no_split_serves_all():
    config = DriftConfig(rows=1, columns=1)
    assert schedule(config, ArrayWork(1, 1, 1, 1, 1, 1)).cycles == INFINITE


@pytest.mark.parametrize(
    "options",
    [
        {"rows": 4, "columns": 4, "weight_buffering": "single"},
        {"rows": 5, "columns": 3, "acc_depth": 3},
        {"rows": 1, "columns": 1, "scheduler": "greedy", "weight_buffering": "transit"},
        {"scheduler": "greedy"},
    ],
)
def test_the_verilog_is_clean(options, lint, tmp_path):
    path = tmp_path / "drift_scheduler.v"
    path.write_text(emit(Scheduler(DriftConfig(**options)), path.stem).verilog)
    assert lint(path) == []


def test_construction_errors():
    for make, name in (
        (lambda: QuotientTable(0, 3), "bits"),
        (lambda: QuotientTable(4, 0), "length"),
        (lambda: QuotientTable(4, 3, 0), "ports"),
        (lambda: Proportion(0, 3, 2), "bits"),
        (lambda: Proportion(4, 0, 2), "length"),
        (lambda: Proportion(4, 4, 2), "steps"),
    ):
        with pytest.raises(ParameterError) as error:
            make()
        assert error.value.name == name
