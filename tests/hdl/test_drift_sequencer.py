"""A region's sequencer: loads, swaps and rows in the cycles that its docstring says, whatever it waits for."""

import random
from dataclasses import dataclass, field

import pytest

from bitfabric.hdl.drift.config import BUFFERINGS, DriftConfig
from bitfabric.hdl.drift.sequencer import TO_FULL, Sequencer
from bitfabric.sim.cycles.drift_array import region_cycles
from bitfabric.sim.streams import simulate

WORDS = 1 << 10
FAR = 1 << 60


@dataclass
class Tile:
    """A tile, and the cycles of its load's first row and of its swap."""

    stripe: int
    first: bool
    last: bool
    end: bool
    rows: int
    nibble: int
    info: dict
    load: int = FAR
    swap: int = FAR


@dataclass
class Chunk:
    """What an accumulator bank is claimed for."""

    info: dict
    full_from: int = FAR
    taken: int = FAR
    freed: int = FAR


def tiles_of(config, job):
    rows, columns, depth = job["rows"], job["columns"], config.acc_depth
    return [
        Tile(
            stripe=granule // columns,
            first=nibble == 0,
            last=nibble + rows >= job["nibbles"],
            end=nibble + rows >= job["nibbles"] and rank + depth >= job["m"],
            rows=min(depth, job["m"] - rank),
            nibble=nibble,
            info={
                "rows": min(depth, job["m"] - rank),
                "rank": rank,
                "granules": min(columns, job["granules"] - granule),
                "granule": granule,
            },
        )
        for granule in range(0, job["granules"], columns)
        for rank in range(0, job["m"], depth)
        for nibble in range(0, job["nibbles"], rows)
    ]


@dataclass
class Model:
    """Follow the recurrences; learn from outside when weights came and banks were freed."""

    config: DriftConfig
    job: dict
    start: int
    bank: int = 0  # that of the first chunk: banks go on in turn from job to job
    tiles: list = field(default_factory=list)
    chunks: list = field(default_factory=list)
    waited_for_weights: int = 0
    waited_for_banks: int = 0

    def __post_init__(self):
        self.tiles = tiles_of(self.config, self.job)
        self.chunks = [Chunk(tile.info) for tile in self.tiles if tile.first]
        self._loading = self._swapping = 0

    def step(self, cycle, ready):
        """Decide what begins in ``cycle``, in which weights of ``ready`` N tiles are there."""
        mode, r, c = self.config.weight_buffering, self.job["rows"], self.job["columns"]
        hold = {"single": r + c - 1, "double": r, "transit": 0}[mode]

        def load():
            if self._loading == len(self.tiles) or cycle <= self.start:
                return
            tile, due = self.tiles[self._loading], 0
            if self._loading:
                before = self.tiles[self._loading - 1]
                due = before.swap + hold + (before.rows if mode == "single" else 0)
            if cycle >= due:
                if ready > tile.stripe:
                    tile.load = cycle
                    self._loading += 1
                else:
                    self.waited_for_weights += 1

        load()
        if self._swapping < len(self.tiles):
            tile = self.tiles[self._swapping]
            due = tile.load + r - (mode != "transit")
            if self._swapping:
                before = self.tiles[self._swapping - 1]
                due = max(due, before.swap + before.rows)
            number = sum(tile.first for tile in self.tiles[: self._swapping])
            blocked = tile.first and number >= 2 and self.chunks[number - 2].freed >= cycle
            self.waited_for_banks += cycle >= due and blocked
            if cycle >= due and not blocked:
                tile.swap = cycle
                self._swapping += 1
                if tile.last:
                    chunk = number if tile.first else number - 1
                    self.chunks[chunk].full_from = cycle + tile.rows + r + c + TO_FULL + 1
                if mode == "transit":
                    load()  # may begin with the swap

    def loading(self, cycle):
        """Return the tile of whose weights a row is loaded, and which row; None if none."""
        for tile in self.tiles:
            if tile.load <= cycle < tile.load + self.job["rows"]:
                return tile, cycle - tile.load
        return None

    def streaming(self, cycle):
        """Return the tile of which an activation row is issued, which row and which bank; None if none."""
        bank = self.bank - 1
        for tile in self.tiles:
            bank += tile.first
            if tile.swap < cycle <= tile.swap + tile.rows:
                return tile, cycle - tile.swap - 1, bank % 2
        return None

    def active(self, cycle):
        r, c = self.job["rows"], self.job["columns"]
        return any(
            tile.load <= cycle < tile.load + r or tile.swap <= cycle <= tile.swap + tile.rows + r + c - 2
            for tile in self.tiles
        )


def make_job(config, rng):
    bits = rng.choice([4, 8] if config.alignment == "nibble" else range(1, 9))
    k = rng.randint(1, 3 * config.rows)
    nibbles = -(-k * bits // 4)
    columns, slots = rng.randint(1, config.columns), rng.randint(1, 4)
    return {
        "rows": rng.choice([1, config.rows, rng.randint(1, config.rows)]),
        "columns": columns,
        "m": rng.choice([1, rng.randint(1, config.acc_depth), rng.randint(1, 3 * config.acc_depth)]),
        "granules": rng.randint(1, 3 * columns),
        "nibbles": nibbles,
        "stride": -(-nibbles // config.word_nibbles),
        "slots": slots,
        "slot_words": config.weight_words // slots,
        "k": k,
        "bits": bits,
    }


def check(ctx, dut, model, cycle):
    """Compare every output of a cycle."""
    config, job = model.config, model.job
    loading, streaming = model.loading(cycle), model.streaming(cycle)
    assert ctx.get(dut.weights.load) == (loading is not None)
    if loading:
        tile, row = loading
        bit = 4 * (tile.nibble + row)
        element, base = bit // job["bits"], tile.stripe % job["slots"] * job["slot_words"]
        there = element < job["k"]
        assert ctx.get(dut.weights.valid) & 1 == there
        if there:
            place = (ctx.get(dut.weights.address), ctx.get(dut.weights.position))
            assert place == (base + element // config.word_weights, element % config.word_weights)
    swaps = any(tile.swap == cycle for tile in model.tiles)
    assert ctx.get(dut.weights.copy) == (swaps and config.weight_buffering == "transit")
    assert (ctx.get(dut.read.swap), ctx.get(dut.read.en)) == (swaps, streaming is not None)
    assert ctx.get(dut.psum.valid) == (streaming is not None)
    ends = False
    if streaming:
        tile, row, bank = streaming
        ends = tile.last and row == tile.rows - 1
        address = (tile.info["rank"] + row) * job["stride"] + tile.nibble // config.word_nibbles
        assert (ctx.get(dut.read.address), ctx.get(dut.read.nibble)) == (
            address,
            tile.nibble % config.word_nibbles,
        )
        psum = [ctx.get(dut.psum[name]) for name in ("row", "bank", "first")]
        assert psum == [row, bank, tile.first]
    assert ctx.get(dut.psum.last) == ends
    consumed = sum(tile.end and tile.load + job["rows"] <= cycle for tile in model.tiles)
    assert ctx.get(dut.consumed) == consumed
    assert ctx.get(dut.active) == model.active(cycle)


async def run(ctx, dut, job, model, rng, eager, start):
    """Run a job; return the cycles in which the region was active, and the cycle after the last one."""
    active, ready, cycle = 0, 0, start
    stripes = model.tiles[-1].stripe + 1
    arrival, departure = rng.choice([(0.03, 0.5), (1.0, 0.01), (0.1, 0.1)])
    for cycle in range(start, start + 20000):
        ctx.set(dut.start, cycle == start)
        if cycle == start:
            for name, value in job.items():
                ctx.set(getattr(dut, name), value)
        elif ready < stripes:
            ready = stripes if eager else ready + (rng.random() < arrival)
        ctx.set(dut.ready, ready)
        model.step(cycle, ready)
        taken = sum(chunk.taken < cycle for chunk in model.chunks)
        freed = sum(chunk.freed < cycle for chunk in model.chunks)
        full = taken < len(model.chunks) and model.chunks[taken].full_from <= cycle
        assert ctx.get(dut.full) == full
        if full:
            info = model.chunks[taken].info
            assert {name: ctx.get(dut.info[name]) for name in info} == info
            assert ctx.get(dut.full_bank) == (model.bank + taken) % 2
        take = full and (eager or rng.random() < 0.2)
        if take:
            model.chunks[taken].taken = cycle
        free = freed < taken + take and (eager or rng.random() < departure)
        if free:
            model.chunks[freed].freed = cycle
        ctx.set(dut.take, take)
        ctx.set(dut.freed, free)
        if cycle > start:
            check(ctx, dut, model, cycle)
            active += ctx.get(dut.active)
            assert ctx.get(dut.done) == (freed == len(model.chunks)), cycle
            if freed == len(model.chunks):
                break
        await ctx.tick()
    return active, cycle + 1


FABRICS = [{}, {"rows": 5, "columns": 7, "acc_depth": 5}, {"rows": 1, "columns": 1, "acc_depth": 1}]


@pytest.mark.parametrize("buffering", BUFFERINGS)
@pytest.mark.parametrize("options", FABRICS)
def test_cycles_are_those_of_the_recurrences(options, buffering):
    waited = {"weights": 0, "banks": 0}
    equal = 0
    for alignment in ("nibble", "bit"):
        config = DriftConfig.preset("tiny", weight_buffering=buffering, alignment=alignment, **options)
        dut, rng = Sequencer(config, WORDS), random.Random(f"{options}{buffering}")

        async def testbench(ctx, config=config, dut=dut, rng=rng):
            nonlocal equal
            cycle, bank = 1, 0
            await ctx.tick()
            assert ctx.get(dut.done)
            for number in range(24):
                job, eager = make_job(config, rng), number % 2 == 0
                model = Model(config, job, cycle, bank)
                bank += len(model.chunks)
                active, cycle = await run(ctx, dut, job, model, rng, eager, cycle)
                assert ctx.get(dut.done)
                await ctx.tick()
                waited["weights"] += model.waited_for_weights
                waited["banks"] += model.waited_for_banks
                if eager and not model.waited_for_weights and not model.waited_for_banks:
                    sizes = (job["m"], job["nibbles"], job["granules"], job["rows"], job["columns"])
                    assert active == region_cycles(buffering, config.acc_depth, *sizes), job
                    equal += 1

        simulate(dut, testbench)
    assert min(waited.values()) > 20
    assert equal >= 5


@pytest.mark.parametrize("empty", ["m", "granules"])
def test_without_work_it_is_done_at_once(empty):
    config = DriftConfig.preset("tiny")
    dut = Sequencer(config, WORDS)

    async def testbench(ctx):
        for name, value in (make_job(config, random.Random(1)) | {empty: 0, "ready": 9}).items():
            ctx.set(getattr(dut, name), value)
        ctx.set(dut.start, 1)
        assert not ctx.get(dut.done)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for _ in range(20):
            assert ctx.get(dut.done)
            assert not ctx.get(dut.active)
            await ctx.tick()

    simulate(dut, testbench)
