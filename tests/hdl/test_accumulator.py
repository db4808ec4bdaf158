"""Accumulators: sums over K tiles, wrap-around, and banks that fill while the other one is drained."""

import random

import pytest

from bitfabric.hdl.gemm.accumulator import AccumulatorColumn, Accumulators
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate

IDLE = {"valid": 0, "row": 0, "bank": 0, "first": 0, "last": 0}


def wrap(value, bits):
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def control(row, bank, k, tiles, rows):
    """Return what accompanies the psum of ``row`` in K tile ``k`` of ``tiles``."""
    return {"valid": 1, "row": row, "bank": bank, "first": k == 0, "last": k == tiles - 1 and row == rows - 1}


async def read_column(ctx, block, bank, row):
    ctx.set(block.drain_en, 1)
    ctx.set(block.drain_bank, bank)
    ctx.set(block.drain_row, row)
    await ctx.tick()
    ctx.set(block.drain_en, 0)
    return ctx.get(block.drain_data)


@pytest.mark.parametrize("pause", [0.0, 0.5])
@pytest.mark.parametrize(("rows", "tiles"), [(1, 1), (1, 7), (2, 5), (3, 2), (5, 4)])
def test_column_adds_the_tiles_of_k(rows, tiles, pause):
    block = AccumulatorColumn(acc_bits=20, psum_bits=17, depth=5)
    rng = random.Random(rows * 10 + tiles)
    psums = [[[rng.randrange(-(2**16), 2**16) for _ in range(rows)] for _ in range(tiles)] for _ in "ab"]

    async def testbench(ctx):
        for bank in (0, 1, 0):
            for k in range(tiles):
                for row in range(rows):
                    while rng.random() < pause:  # what is not valid must leave no trace
                        ctx.set(block.south, {**control(row, rng.randrange(2), 1, 2, 9), "valid": 0})
                        ctx.set(block.psum, rng.randrange(-(2**16), 2**16))
                        await ctx.tick()
                    ctx.set(block.south, control(row, bank, k, tiles, rows))
                    ctx.set(block.psum, psums[bank][k][row])
                    await ctx.tick()
            ctx.set(block.south, IDLE)
            await ctx.tick()
            for row in range(rows):
                expected = wrap(sum(tile[row] for tile in psums[bank]), 20)
                assert await read_column(ctx, block, bank, row) == expected
        for row in range(rows):  # the other bank was not touched
            assert await read_column(ctx, block, 1, row) == wrap(sum(t[row] for t in psums[1]), 20)

    simulate(block, testbench)


def test_column_latency_and_control():
    block = AccumulatorColumn(acc_bits=16, psum_bits=8, depth=2)

    async def testbench(ctx):
        word = control(1, 1, 0, 1, 2)
        ctx.set(block.south, word)
        ctx.set(block.psum, -77)
        await ctx.tick()
        east = ctx.get(block.east)
        assert {name: getattr(east, name) for name in IDLE} == word
        ctx.set(block.south, IDLE)
        await ctx.tick()  # presented in cycle 0, in the memory from cycle 2 on
        assert ctx.get(block.east).valid == 0
        assert await read_column(ctx, block, 1, 1) == -77
        await ctx.tick().repeat(3)
        assert ctx.get(block.drain_data) == -77

    simulate(block, testbench)


@pytest.mark.parametrize("value", [-128, 127, 0, -1])
def test_column_wraps(value):
    block = AccumulatorColumn(acc_bits=8, psum_bits=8, depth=1)

    async def testbench(ctx):
        for k in range(9):
            ctx.set(block.south, control(0, 0, k, 9, 1))
            ctx.set(block.psum, value)
            await ctx.tick()
        ctx.set(block.south, IDLE)
        await ctx.tick()
        assert await read_column(ctx, block, 0, 0) == wrap(9 * value, 8)

    simulate(block, testbench)


def test_column_without_an_adder_keeps_the_last_psum():
    block = AccumulatorColumn(acc_bits=16, psum_bits=16, depth=3, accumulate=False)

    async def testbench(ctx):
        for row, value in ((0, 11), (1, -(2**15)), (2, 2**15 - 1), (0, -1)):
            ctx.set(block.south, control(row, 0, 1, 2, 3))  # `first` is ignored
            ctx.set(block.psum, value)
            await ctx.tick()
        ctx.set(block.south, IDLE)
        await ctx.tick()
        assert [await read_column(ctx, block, 0, row) for row in range(3)] == [-1, -(2**15), 2**15 - 1]

    simulate(block, testbench)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize(("columns", "depth", "accumulate"), [(1, 1, True), (3, 4, True), (5, 2, False)])
def test_banks_fill_while_they_are_drained(columns, depth, accumulate, stall, set_lanes):
    block = Accumulators(columns, acc_bits=16, psum_bits=12, depth=depth, accumulate=accumulate)
    rng = random.Random(columns)
    works = []
    for index in range(24):
        rows, tiles = rng.randint(1, depth), rng.randint(1, 4) if accumulate else 1
        psums = [
            [[rng.randrange(-2048, 2048) for _ in range(columns)] for _ in range(rows)] for _ in range(tiles)
        ]
        works.append(
            {"rows": rows, "n_valid": rng.randint(1, columns), "last": index % 3 == 2, "psums": psums}
        )
    seen = {"overlap": False, "waited": False}
    filling = {"work": -1}

    async def feeder(ctx):
        # Column c's psum follows column 0's by c cycles, and so does its control inside the block.
        diagonal = [[0] * columns for _ in range(columns)]

        async def cycle(word, row_psums):
            diagonal.insert(0, row_psums)
            diagonal.pop()
            ctx.set(block.south, word)
            set_lanes(ctx, block.psum, (diagonal[c][c] for c in range(columns)))
            await ctx.tick()
            ctx.set(block.claim, 0)

        def noise():
            return [rng.randrange(-2048, 2048) for _ in range(columns)]

        for index, work in enumerate(works):
            while not ctx.get(block.free) or rng.random() < stall:
                seen["waited"] |= not ctx.get(block.free)
                await cycle(IDLE, noise())
            filling["work"] = index
            ctx.set(block.claim, 1)
            info = {"m_valid": work["rows"], "n_valid": work["n_valid"], "last": work["last"]}
            ctx.set(block.claim_info, info)
            for k, tile in enumerate(work["psums"]):
                for row, row_psums in enumerate(tile):
                    while ctx.get(block.claim) == 0 and rng.random() < stall:
                        await cycle(IDLE, noise())
                    await cycle(control(row, index % 2, k, len(work["psums"]), work["rows"]), row_psums)
        for _ in range(columns + 2):
            await cycle(IDLE, noise())

    async def drainer(ctx):
        for index, work in enumerate(works):
            while not ctx.get(block.full) or rng.random() < stall:
                await ctx.tick()
            info = ctx.get(block.info)
            assert (info.m_valid, info.n_valid, info.last) == (work["rows"], work["n_valid"], work["last"])
            for row in range(work["rows"]):
                while rng.random() < stall:
                    await ctx.tick()
                ctx.set(block.drain_en, 1)
                ctx.set(block.drain_row, row)
                ctx.set(block.release, row == work["rows"] - 1)
                await ctx.tick()
                ctx.set(block.drain_en, 0)
                ctx.set(block.release, 0)
                if rng.random() < stall:  # the row stays until the bank is freed, or the next one is read
                    await ctx.tick().repeat(40)
                seen["overlap"] |= filling["work"] > index
                sums = [wrap(sum(tile[row][c] for tile in work["psums"]), 16) for c in range(columns)]
                assert [ctx.get(block.drain_data[c]) for c in range(columns)] == sums, (index, row)
            ctx.set(block.freed, 1)
            await ctx.tick()
            ctx.set(block.freed, 0)

    simulate(block, feeder, drainer)
    assert filling["work"] == len(works) - 1
    assert seen == {"overlap": True, "waited": True}


@pytest.mark.parametrize("columns", [1, 4])
def test_a_bank_is_full_after_its_last_column_was_written(columns):
    block = Accumulators(columns, acc_bits=16, psum_bits=12, depth=2)

    async def testbench(ctx):
        ctx.set(block.claim, 1)
        ctx.set(block.south, control(0, 0, 0, 1, 1))
        await ctx.tick()
        ctx.set(block.claim, 0)
        ctx.set(block.south, IDLE)
        for _ in range(columns):
            assert not ctx.get(block.full)
            await ctx.tick()
        assert ctx.get(block.full)
        assert ctx.get(block.free)  # the second bank
        ctx.set(block.claim, 1)
        await ctx.tick()
        ctx.set(block.claim, 0)
        assert not ctx.get(block.free)
        ctx.set(block.release, 1)
        await ctx.tick()
        ctx.set(block.release, 0)
        assert not ctx.get(block.full)
        assert not ctx.get(block.free)  # released, but its last row may still be needed
        ctx.set(block.freed, 1)
        await ctx.tick()
        assert ctx.get(block.free)

    simulate(block, testbench)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 8, 4), "acc_bits=0 is not allowed; it must be an integer of at least 1"),
        ((8, 0, 4), "psum_bits=0 is not allowed; it must be an integer of at least 1"),
        ((8, 9, 4), "psum_bits=9 is not allowed; it must be at most acc_bits=8"),
        ((8, 8, 0), "depth=0 is not allowed; it must be an integer of at least 1"),
    ],
)
def test_column_construction_errors(arguments, text):
    with pytest.raises(ParameterError) as error:
        AccumulatorColumn(*arguments)
    assert str(error.value) == text


def test_no_columns():
    with pytest.raises(ParameterError) as error:
        Accumulators(0, 8, 8, 4)
    assert str(error.value) == "columns=0 is not allowed; it must be an integer of at least 1"
