"""The VSSA array: sums, counters, and every strobe and level in its cycle, against integers and the cycle model."""

import random

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal

from bitfabric.hdl.emit import emit
from bitfabric.hdl.vssa.array import VssaArray
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles import vssa
from bitfabric.sim.streams import simulate
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

ACC_BITS, TAG_BITS = 22, 5
# rows, columns, elements of a word, words
SHAPES = [(1, 1, 1, 1), (3, 2, 2, 3), (2, 5, 1, 4), (4, 3, 4, 3), (1, 3, 8, 1)]
KINDS = ["low", "rows", "columns", "tokens", "elements", "high"]
KINDS_OF_FLOOR = {0: ["low"], 1: KINDS, 2: KINDS}


class Tile:
    """Draw a tile; ``flags`` by kind: rows' and columns' precisions, or one per element."""

    def __init__(self, rng, shape, *, floor, kind, size=None):
        rows, columns, elements, words = shape
        most = elements * words
        self.shape, self.floor = shape, floor
        k = rng.choice([1, 2, elements, elements + 1, most - 1, most, rng.integers(1, most + 1)])
        k = min(max(int(k), 1), most)
        sides = [int(rng.choice([1, lanes, rng.integers(1, lanes + 1)])) for lanes in (rows, columns)]
        self.k, self.rows, self.columns = size or (k, *sides)
        self.unsigned = [int(flag) for flag in rng.integers(0, 2, 2)]
        self.tag = int(rng.integers(1 << TAG_BITS))
        self.high = [self.flags(rng, kind, side, lanes) for side, lanes in enumerate((rows, columns))]
        self.values = [
            rng.choice([0, 15, 127, 128, 240, 255], (most, lanes))
            if rng.random() < 0.2
            else rng.integers(0, 256, (most, lanes))
            for lanes in (rows, columns)
        ]

    def flags(self, rng, kind, side, lanes):
        """Return flags (K, lanes); what lies beyond the tile is noise."""
        high = rng.integers(0, 2, (self.shape[2] * self.shape[3], lanes)).astype(bool)
        inside = np.zeros((self.k, (self.rows, self.columns)[side]), dtype=bool)
        if kind in ("rows", "columns"):
            inside[:] = rng.random(inside.shape[1]) < 0.5 if kind == ("rows", "columns")[side] else True
        elif kind == "tokens":  # elements of one side, whole columns or none of the other
            inside[:] = (rng.random((self.k, 1)) < 0.2) if side == 0 else rng.random() < 0.8
        elif kind == "elements":
            inside[:] = rng.random(inside.shape) < rng.choice([0.1, 0.4])
        elif kind == "high":
            inside[:] = True
        high[: self.k, : inside.shape[1]] = inside
        return high

    def inside(self, side):
        return self.high[side][: self.k, : (self.rows, self.columns)[side]]

    def numbers(self, side):
        raw = np.where(self.high[side], self.values[side], self.values[side] & 0xF0)[: self.k]
        lanes = (self.rows, self.columns)[side]
        full = raw if self.unsigned[side] else np.where(raw < 128, raw, raw - 256)
        return np.where(np.arange(raw.shape[1]) < lanes, full, 0).astype(np.int64)

    @property
    def sums(self):
        return self.numbers(0).T @ self.numbers(1)

    def times(self):
        size = {"k": self.k, "rows": self.rows, "columns": self.columns}
        durations = vssa.steps(self.inside(0), self.inside(1), self.floor, **size)
        counts = vssa.pe_counts(self.inside(0), self.inside(1), durations, **size)
        return vssa.tile_times(durations, self.k, self.shape[2]), counts

    def word(self, index, side):
        """Return data and flags of a word."""
        elements, lanes = self.shape[2], self.shape[side]
        part = slice(index * elements, (index + 1) * elements)
        data = self.values[side][part].astype(np.uint8).tobytes()
        flags = self.high[side][part].ravel()
        assert len(data) == elements * lanes
        return int.from_bytes(data, "little"), sum(int(flag) << n for n, flag in enumerate(flags))


class Bench:
    """Write down every cycle of a row of tiles."""

    def __init__(self, shape, seed, *, pe_counters=True):
        self.shape, self.rng = shape, random.Random(seed)
        self.block = VssaArray(*shape, ACC_BITS, TAG_BITS, pe_counters)
        self.emitted = emit(self.block, "vssa_array")
        self.widths = {port["name"]: port["width"] for port in self.emitted.ports}
        self.pe_counters = pe_counters

    def run(self, tiles, gaps):
        """Announce each tile as early as allowed plus a gap, take it so, and compare all outputs."""
        rows, _, elements, _ = self.shape
        self.inputs, self.outputs = {}, {}
        write, take = 1, None
        for tile, (write_gap, take_gap) in zip(tiles, gaps, strict=True):
            write += self.gap(write_gap)
            words = -(-tile.k // elements)
            self.write(tile, write, words)
            times, counts = tile.times()
            begin = vssa.start(write, take)
            self.expect("released", begin + times.released, 1)
            for cycle in range(begin, begin + times.full):
                self.expect("computing", cycle, 1)
                self.expect("computing_tag", cycle, tile.tag)
            ready = begin + times.full
            take = max(ready, take + rows if take is not None else 0) + self.gap(take_gap)
            self.drive("take", take, 1)
            for cycle in range(ready, take + 1):
                self.expect("full", cycle, 1)
                self.expect("full_tag", cycle, tile.tag)
            for index, sums in enumerate(tile.sums[::-1]):
                wrapped = [int(value) % (1 << ACC_BITS) for value in sums]
                self.expect("o_data", take + index, sum(v << ACC_BITS * c for c, v in enumerate(wrapped)))
            if self.pe_counters:
                self.expect("working", take + 2, counts.working)
                self.expect("stalled", take + 2, counts.stalled)
            write = begin + times.released + 1
        self.compare(take + rows + 3)

    def gap(self, most):
        return self.rng.choice([0, 0, 1, 2, most]) if most else 0

    def write(self, tile, cycle, words):
        self.drive("tile_en", cycle, 1)
        for name, value in (
            ("length", tile.k),
            ("rows", tile.rows),
            ("columns", tile.columns),
            ("floor", tile.floor),
            ("a_unsigned", tile.unsigned[0]),
            ("b_unsigned", tile.unsigned[1]),
            ("tag", tile.tag),
        ):
            self.drive(f"tile_{name}", cycle, value)
        for index in range(words):
            self.drive("write_en", cycle + index, 1)
            self.drive("write_address", cycle + index, index)
            for side, name in enumerate(("row", "column")):
                data, flags = tile.word(index, side)
                self.drive(f"{name}_data", cycle + index, data)
                self.drive(f"{name}_high", cycle + index, flags)

    def drive(self, name, cycle, value):
        assert cycle not in self.inputs.setdefault(name, {}), name
        self.inputs[name][cycle] = value

    def expect(self, name, cycle, value):
        self.outputs.setdefault(name, {})[cycle] = value

    def compare(self, cycles):
        strobes = ("write_en", "tile_en", "take")  # the rest is noise where nothing is meant
        inputs = {
            name: [
                by.get(c, 0 if name in strobes else self.rng.getrandbits(self.widths[name]))
                for c in range(cycles)
            ]
            for name, by in self.inputs.items()
        }
        expected = {name: [by.get(c, 0) for c in range(cycles)] for name, by in self.outputs.items()}
        mask = {
            name: [(1 << self.widths[name]) - 1 if c in by else 0 for c in range(cycles)]
            for name, by in self.outputs.items()
            if name not in ("released", "full", "computing")
        }
        if not self.pe_counters:
            expected |= {"working": [0] * cycles, "stalled": [0] * cycles}
        job = VectorJob(inputs=inputs, expected=expected, mask=mask)
        result = run_vectors(self.emitted, job)
        assert result["steps"][0]["passed"], result


def draw(shape, count, seed):
    rng = np.random.default_rng(seed)
    tiles = []
    for _ in range(count):
        floor = int(rng.choice([0, 1, 1, 2]))
        tiles.append(Tile(rng, shape, floor=floor, kind=str(rng.choice(KINDS_OF_FLOOR[floor]))))
    return tiles


@pytest.mark.parametrize("shape", SHAPES)
def test_tiles(shape):
    tiles = draw(shape, 100, sum(shape))
    gaps = [(0, 0)] * 50 + [(9, 30)] * 50
    Bench(shape, 1, pe_counters=shape != SHAPES[2]).run(tiles, gaps)


def test_largest_tiles():
    shape = (3, 5, 2, 7)
    rng = np.random.default_rng(3)
    sizes = [(14, 3, 5), (13, 3, 5), (14, 1, 1), (1, 3, 5), (3, 2, 5), (14, 3, 1)]
    tiles = [
        Tile(rng, shape, floor=floor, kind=kind, size=size)
        for floor, kinds in KINDS_OF_FLOOR.items()
        for kind in kinds
        for size in sizes
    ]
    Bench(shape, 4).run(tiles, [(0, 0)] * len(tiles))


def test_reset_clears_what_was_under_way():
    shape = (2, 3, 1, 2)
    tile = Tile(np.random.default_rng(5), shape, floor=2, kind="high", size=(2, 2, 3))
    reset = Signal()
    block = VssaArray(*shape, ACC_BITS, TAG_BITS)

    async def testbench(ctx):
        async def announce():
            for index in range(2):
                for side, name in enumerate(("row", "column")):
                    for port, value in zip(("data", "high"), tile.word(index, side), strict=True):
                        ctx.set(getattr(block, f"{name}_{port}"), value)
                values = {"length": 2, "rows": 2, "columns": 3, "floor": 2}
                values |= dict(zip(("a_unsigned", "b_unsigned"), tile.unsigned, strict=True))
                for name, value in values.items():
                    ctx.set(getattr(block, f"tile_{name}"), value)
                ctx.set(block.write_address, index)
                ctx.set(block.write_en, 1)
                ctx.set(block.tile_en, index == 0)
                await ctx.tick()
            ctx.set(block.write_en, 0)

        for cycles in range(1, 22):  # in any cycle of the tile's run, and while it waits
            await announce()
            for _ in range(cycles):
                await ctx.tick()
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            await announce()
            while not ctx.get(block.full):
                await ctx.tick()
            ctx.set(block.take, 1)
            for sums in tile.sums[::-1]:
                wrapped = [int(value) % (1 << ACC_BITS) for value in sums]
                assert ctx.get(block.o_data) == sum(v << ACC_BITS * c for c, v in enumerate(wrapped)), cycles
                await ctx.tick()
                ctx.set(block.take, 0)

    simulate(ResetInserter(reset)(block), testbench)


@pytest.mark.parametrize("shape", [SHAPES[0], (4, 3, 2, 1), SHAPES[4]])
def test_lint(shape, lint, tmp_path):
    for pe_counters in (False, True):
        path = tmp_path / "vssa_array.v"
        path.write_text(emit(VssaArray(*shape, 25, 1, pe_counters), "vssa_array").verilog)
        assert lint(path) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 1, 1, 1, 20, 1), "rows=0 is not allowed; it must be an integer of at least 1"),
        ((1, 0, 1, 1, 20, 1), "columns=0 is not allowed; it must be an integer of at least 1"),
        ((1, 1, 3, 1, 20, 1), "line_elements=3 is not allowed; it must be a power of two"),
        ((1, 1, 1, 0, 20, 1), "words=0 is not allowed; it must be an integer of at least 1"),
        ((1, 1, 1, 1, 16, 1), "acc_bits=16 is not allowed; it must be an integer in [17, 32]"),
        ((1, 1, 1, 1, 20, 0), "tag_bits=0 is not allowed; it must be an integer of at least 1"),
    ],
)
def test_construction_errors(arguments, text):
    with pytest.raises(ParameterError) as error:
        VssaArray(*arguments)
    assert str(error.value) == text
