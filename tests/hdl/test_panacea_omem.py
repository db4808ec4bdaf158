"""OMEM: records through its buffers, records kept for the next layer, and what does not fit."""

import random

import pytest
from amaranth.hdl import Module, ResetInserter, Signal

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.encoder import record_words
from bitfabric.hdl.panacea.omem import Omem
from bitfabric.hdl.panacea.omem_reader import omem_depth
from bitfabric.sim.streams import simulate

BITS = 64


def make_config(**changes):
    sizes = {"peas": 8, "tile_k": 8, "tile_n": 8, "omem_words": 1024, "omem_records": 24}
    return PanaceaConfig(axis_data_bits=BITS, **{**sizes, **changes})


def make_job(m=1, k=1, n=1, **changes):
    return {"m": m, "k": k, "n": n, "codes": 1, "next_slices": 2, **changes}


def make_record(rng, config):
    """Return a record's dense words, and its header and HO words."""
    dense, ho = record_words(config)
    counts = [rng.choice([1, most, rng.randint(1, most)]) for most in (dense, ho)]
    return [[rng.getrandbits(BITS) for _ in range(count)] for count in counts]


def words_of(record):
    dense, ho = record
    return [ho[0], *dense, *ho[1:]]


def order(config, m, n, dtp):
    """Return the places (N tile, K tile) of the next layer's records in the order in which they are made."""
    step = config.m_step * (1 + dtp)
    return [
        (n0 // config.tile_n, k0 // config.tile_k)
        for m0 in range(0, m, step)
        for n0 in range(0, n, config.tile_n)
        for k0 in range(m0, min(m0 + step, m), config.tile_k)
    ]


class Bench:
    """Hold an Omem whose domain can be reset, and run layers on it."""

    def __init__(self, config, seed=0):
        self.config, self.rng = config, random.Random(seed)
        self.dut, self.reset = Omem(config), Signal()
        self.top = Module()
        self.top.submodules.dut = ResetInserter({"sync": self.reset})(self.dut)

    async def layer(self, ctx, job, records, *, source=0, stall=0.0):
        """Write records; return beats, source words, and the cycles of `kept` and of overflows."""
        dut, rng = self.dut, self.rng
        ctx.set(dut.job, job)
        ctx.set(self.reset, 1)
        await ctx.tick()
        ctx.set(self.reset, 0)
        await ctx.tick().repeat(rng.randint(1, 3))
        ctx.set(dut.start, 1)
        ctx.set(dut.source_start, source > 0)
        seen = {"beats": [], "source": [], "kept": [], "overflow": [], "complete": []}
        expected = 0 if job.get("keep") else sum(len(words_of(record)) for record in records)
        index, begun, writes, cycle, after = 0, False, [], 0, 0
        while after < 10 and cycle < 8000:
            for name in ("begin", "dense_en", "ho_en", "complete"):
                ctx.set(getattr(dut, name), 0)
            if index < len(records) and cycle > 2:
                if not begun:
                    # A layer's last outputs need all of its inputs.
                    early = index == len(records) - 1 and len(seen["source"]) < source
                    if not early and ctx.get(dut.free) and rng.random() >= stall:
                        ctx.set(dut.begin, 1)
                        dense, ho = records[index]
                        header = ("ho", 0, ho[0])
                        others = [("dense", a, w) for a, w in enumerate(dense)]
                        others += [("ho", a, w) for a, w in enumerate(ho) if a]
                        rng.shuffle(others)
                        begun, writes = True, [*others, header]
                else:
                    name, address, word = writes.pop(0)
                    ctx.set(getattr(dut, f"{name}_en"), 1)
                    ctx.set(getattr(dut, f"{name}_offset"), address)
                    ctx.set(getattr(dut, f"{name}_data"), word)
                    if not writes:
                        dense, ho = records[index]
                        index, begun = index + 1, False
                        last = index == len(records)
                        size = {"dense_words": len(dense), "ho_words": len(ho), "last": last}
                        ctx.set(dut.size, size)
                        ctx.set(dut.complete, 1)
                        seen["complete"].append(cycle)
            ctx.set(dut.o.ready, rng.random() >= stall)
            ctx.set(dut.source.ready, rng.random() >= stall)
            ports = (dut.o.valid, dut.o.ready, dut.o.payload, dut.source.valid, dut.source.ready)
            _, _, valid, ready, beat, word_valid, word_ready, word, kept, overflow = await ctx.tick().sample(
                *ports, dut.source.payload, dut.kept, dut.overflow
            )
            ctx.set(dut.start, 0)
            ctx.set(dut.source_start, 0)
            if valid and ready:
                seen["beats"].append((cycle, beat.data, beat.last))
            if word_valid and word_ready:
                seen["source"].append((cycle, word))
            for name, happens in (("kept", kept), ("overflow", overflow)):
                if happens:
                    seen[name].append(cycle)
            cycle += 1
            over = index == len(records) and len(seen["beats"]) >= expected
            after += over and len(seen["source"]) >= source
        return seen

    def run(self, testbench):
        simulate(self.top, testbench)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("tile_k", [4, 32])
def test_buffered_records(stall, tile_k):
    config = make_config(tile_k=tile_k)
    bench = Bench(config, tile_k)
    records = [make_record(bench.rng, config) for _ in range(12)]

    async def testbench(ctx):
        seen = await bench.layer(ctx, make_job(), records, stall=stall)
        words = [word for record in records for word in words_of(record)]
        assert [word for _, word, _ in seen["beats"]] == words
        assert [last for _, _, last in seen["beats"]] == [0] * (len(words) - 1) + [1]
        assert not seen["kept"]
        assert not seen["overflow"]
        if not stall:
            times, position = [cycle for cycle, _, _ in seen["beats"]], 0
            for record, complete in zip(records, seen["complete"], strict=True):
                count = len(words_of(record))
                before = times[position - 1] if position else -1
                first = max(complete + 3, before + 1)
                assert times[position : position + count] == list(range(first, first + count))
                position += count

    bench.run(testbench)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize(
    ("dtp", "m", "n", "steps"), [(0, 75, 20, 1), (1, 75, 20, 2), (1, 64, 8, 3), (0, 5, 3, 2), (1, 33, 17, 1)]
)
def test_kept_records(dtp, m, n, steps, stall):
    config = make_config(omem_records=30)
    bench = Bench(config, m + dtp)
    k_tiles, n_tiles = -(-m // config.tile_k), -(-n // config.tile_n)
    next_m = steps * config.m_step * (1 + dtp) - 3

    def fill(job):
        places = order(config, job["m"], job["n"], job["dtp"])
        made = {place: make_record(bench.rng, config) for place in places}
        return [made[place] for place in places], made

    def words(made):
        return [w for n_tile in range(n_tiles) for k in range(k_tiles) for w in words_of(made[n_tile, k])]

    async def testbench(ctx):
        first = make_job(m, 1, n, keep=1, dtp=dtp)
        records, made = fill(first)
        seen = await bench.layer(ctx, first, records, stall=stall)
        assert seen["kept"] == [seen["complete"][-1]]
        assert not seen["beats"]
        # Layers that do not keep leave it alone, whether they read it or not.
        for resident, use in ((0, 1), (1, 1), (0, 0)):
            job = make_job(next_m, m, n, dtp=dtp, resident=resident, from_omem=use)
            records = [make_record(bench.rng, config) for _ in range(3)]
            expected = words(made) * (1 if resident else steps) * use
            seen = await bench.layer(ctx, job, records, source=len(expected), stall=stall)
            assert [word for _, word in seen["source"]] == expected
            assert [w for _, w, _ in seen["beats"]] == [w for record in records for w in words_of(record)]
            if use and not stall:
                assert [cycle for cycle, _ in seen["source"]] == list(range(4, 4 + len(expected)))
        # A layer that keeps reads one half and writes the other.
        for _ in range(2):
            expected = words(made)
            job = make_job(m, m, n, dtp=dtp, resident=1, from_omem=1, keep=1)
            records, made = fill(job)
            seen = await bench.layer(ctx, job, records, source=len(expected), stall=stall)
            assert [word for _, word in seen["source"]] == expected
            assert not seen["overflow"]

    bench.run(testbench)


def test_overflows():
    config = make_config(omem_words=64, omem_records=3)  # 16 words of each kind in a half
    bench = Bench(config)
    assert omem_depth(config) == 16

    def record(dense, ho):
        return [[1] * dense, [2] * ho]

    async def testbench(ctx):
        async def overflows(records, **job):
            return len((await bench.layer(ctx, make_job(m=64, n=8, **job), records))["overflow"])

        assert not await overflows([record(8, 7), record(8, 7), record(8, 7)], keep=0)
        assert not await overflows([record(8, 5), record(7, 5), record(1, 6)], keep=1)
        assert await overflows([record(8, 5), record(8, 5), record(1, 5)], keep=1)
        assert await overflows([record(1, 6), record(1, 6), record(1, 5)], keep=1)
        assert await overflows([record(1, 1)] * 4, keep=1)

    bench.run(testbench)


def test_a_record_longer_than_its_buffer():
    config = make_config(omem_words=48)  # 12 words: buffers of 6
    bench = Bench(config)

    async def testbench(ctx):
        for dense, ho, bad in ((6, 6, False), (7, 1, True), (1, 7, True)):
            seen = await bench.layer(ctx, make_job(), [[[1] * dense, [2] * ho]] * 2)
            assert bool(seen["overflow"]) == bad

    bench.run(testbench)
