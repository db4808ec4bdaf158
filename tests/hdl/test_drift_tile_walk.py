"""A region's tiles against a nest of loops."""

import random

import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.tile_walk import TileWalk
from bitfabric.sim.streams import simulate

WORDS = 1 << 12
FIELDS = ("first", "last", "end", "rows", "rank", "address", "nibble", "granule", "granules")


def nest(config, job):
    """Yield the tiles: N tiles, chunks of rows, K tiles innermost."""
    rows, columns = job["rows"], job["columns"]
    for stripe, granule in enumerate(range(0, job["granules"], columns)):
        for rank in range(0, job["m"], config.acc_depth):
            left = job["m"] - rank
            for nibble in range(0, job["nibbles"], rows):
                last = nibble + rows >= job["nibbles"]
                yield {
                    "first": nibble == 0,
                    "last": last,
                    "end": last and left <= config.acc_depth,
                    "rows": min(left, config.acc_depth),
                    "rank": rank,
                    "address": rank * job["stride"] + nibble // config.word_nibbles,
                    "nibble": nibble % config.word_nibbles,
                    "granule": granule,
                    "granules": min(columns, job["granules"] - granule),
                    "stripe": stripe,
                    "base": stripe % job["slots"] * job["slot_words"],
                }


def make_job(config, rng):
    nibbles = rng.choice([1, rng.randint(1, 12), rng.randint(1, 70)])
    slots = rng.randint(1, 8)
    return {
        "rows": rng.randint(1, config.rows),
        "columns": rng.randint(1, config.columns),
        "m": rng.choice([1, config.acc_depth, rng.randint(1, 4 * config.acc_depth)]),
        "granules": rng.choice([1, rng.randint(1, 3 * config.columns), rng.randint(1, 20)]),
        "nibbles": nibbles,
        "stride": -(-nibbles // config.word_nibbles) + rng.randrange(2),
        "slots": slots,
        "slot_words": rng.randint(1, config.weight_words // slots),
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rows": 5, "columns": 7, "acc_depth": 5},
        {"rows": 1, "columns": 1, "acc_depth": 1, "weight_words": 8},
    ],
)
def test_walk_is_the_nest(options):
    config = DriftConfig.preset("tiny", **options)
    dut, rng = TileWalk(config, WORDS), random.Random(str(options))
    wrapped = tails = 0

    async def testbench(ctx):
        nonlocal wrapped, tails
        await ctx.tick()
        assert not ctx.get(dut.valid)
        for number in range(16):
            job = make_job(config, rng)
            for name, value in job.items():
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            tiles = list(nest(config, job))
            wrapped += tiles[-1]["stripe"] >= job["slots"]
            tails += tiles[-1]["granules"] < job["columns"] or tiles[-1]["rows"] < config.acc_depth
            for tile in tiles[: rng.randint(1, len(tiles)) if number % 4 == 3 else 400]:
                for _ in range(rng.randrange(2)):  # stays until the step
                    await ctx.tick()
                assert ctx.get(dut.valid)
                got = {name: ctx.get(dut.tile[name]) for name in FIELDS}
                got |= {name: ctx.get(getattr(dut, name)) for name in ("stripe", "base")}
                assert got == tile, job
                ctx.set(dut.step, 1)
                await ctx.tick()
                ctx.set(dut.step, 0)
            if number % 4 != 3 and len(tiles) <= 400:  # every fourth is given up for the next one
                assert not ctx.get(dut.valid)

    simulate(dut, testbench)
    assert wrapped
    assert tails or config.groups == 1


@pytest.mark.parametrize("empty", ["m", "granules"])
def test_no_work_no_tile(empty):
    config = DriftConfig.preset("tiny")
    dut = TileWalk(config, WORDS)

    async def testbench(ctx):
        for name, value in (make_job(config, random.Random(1)) | {empty: 0}).items():
            ctx.set(getattr(dut, name), value)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for _ in range(3):
            assert not ctx.get(dut.valid)
            await ctx.tick()

    simulate(dut, testbench)


def test_the_longest_string_and_the_most_rows():
    """65535 rows, strings of 131070 nibbles and 32767 granules: the counts reach their ends."""
    config = DriftConfig.preset("tiny", rows=16, acc_depth=4096, m_max=65535)
    job = {"rows": 16, "columns": 3, "m": 65535, "granules": 32767, "nibbles": 131070, "stride": 0}
    dut = TileWalk(config, WORDS)

    async def testbench(ctx):
        for name, value in (job | {"slots": 8, "slot_words": 1}).items():
            ctx.set(getattr(dut, name), value)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.step, 1)
        for step in range(2 * 8192):
            last = step % 8192 == 8191
            assert ctx.get(dut.tile.last) == last
            assert ctx.get(dut.tile.rank) == step // 8192 * 4096
            await ctx.tick()
        assert (ctx.get(dut.tile.granules), ctx.get(dut.tile.end)) == (3, 0)

    simulate(dut, testbench)
