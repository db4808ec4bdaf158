"""Weight rows and columns: a bit string's rows against numpy, at both edges, from both sides, over word boundaries."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from bitfabric.hdl.block import place
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.weight_column import WeightColumn
from bitfabric.hdl.drift.weight_rows import WeightRows
from bitfabric.quant import bitbrick
from bitfabric.sim.streams import simulate

LATENCY = 2  # cycles from a control to its weights at the fabric


def expanded(config, weights, bits, groups):
    """Return each row's setting for the string of ``len(weights)`` elements, and which of its bits exist."""
    layout = bitbrick.row_layout(len(weights), bits, groups)
    rows = []
    for element, significance, sign in zip(
        layout.element.reshape(-1, 4),
        layout.significance.reshape(-1, 4),
        layout.sign.reshape(-1, 4),
        strict=True,
    ):
        there = element >= 0
        granules = np.where(there, weights[element], 0)
        nibbles = (granules[:, None] >> 4 * np.arange(4) & 15).tolist()
        if config.alignment == "nibble":
            fields = {"weights": nibbles[0], "sign": int(sign[3]), "high": int(significance[0] == 4)}
        else:
            fields = {"weights": nibbles, "sign": sign.tolist(), "significance": significance.tolist()}
        rows.append((fields, there.tolist()))
    return rows


class Edge:
    """An edge's string of rows, requested with pauses."""

    def __init__(self, bench, name, rng):
        self.bench, self.name, self.rng = bench, name, rng
        self.rows = bench.generators[name]
        self.due = {}  # cycle: (setting, existing bits)
        self.queue, self.controls = [], {}

    def begin(self, ctx, words):
        """Choose a string: width, K, place, rows of groups; restart with its first row or in a cycle before."""
        config, rng = self.bench.config, self.rng
        bits = int(rng.choice([4, 8] if config.alignment == "nibble" else range(1, 9)))
        base = int(rng.integers(config.weight_words))
        k = int(rng.integers(1, (config.weight_words - base) * config.word_weights + 1))
        weights = words[base:].reshape(-1)[:k]
        self.queue = expanded(config, weights, bits, int(rng.integers(1, 6)))
        for port, value in (("bits", bits), ("k", k), ("base", base)):
            ctx.set(getattr(self.rows, port), value)
        return rng.random() < 0.5

    def drive(self, ctx, cycle, words):
        """Ask for the next row, or pause; begin a string where there is none."""
        rng, restart = self.rng, not self.queue
        wait = restart and self.begin(ctx, words)
        step = not wait and (restart or rng.random() < 0.8)
        if step:
            self.due[cycle + LATENCY] = self.queue.pop(0)
        copy = int(rng.integers(2))
        ctx.set(self.rows.restart, restart)
        ctx.set(self.rows.step, step)
        ctx.set(self.bench.copies[self.name], copy)
        self.controls[cycle] = (int(step), copy)

    def check(self, ctx, cycle):
        """Compare what is at the fabric with what was asked for two cycles ago."""
        config, column = self.bench.config, self.bench.column
        load, copy = self.controls.get(cycle - LATENCY, (0, 0))
        assert ctx.get(getattr(column, f"{self.name}_load")) == load
        transit = config.weight_buffering == "transit"
        if transit:
            assert ctx.get(getattr(column, f"{self.name}_copy")) == copy
        out = ctx.get(getattr(column, f"{self.name}_control_out"))
        earlier = self.controls.get(cycle - 1, (0, 0))
        assert (out.load, out.copy) == (earlier[0], earlier[1] if transit else 0)
        if cycle not in self.due:
            return
        fields, there = self.due[cycle]
        got = ctx.get(getattr(column, f"{self.name}_stationary"))
        if config.alignment == "nibble":
            assert list(got.weights) == fields["weights"]
            if there[0]:
                assert (got.sign, got.high) == (fields["sign"], fields["high"])
            return
        for row in range(4):
            assert list(got.weights[row]) == fields["weights"][row]
            if there[row]:
                assert got.significance[row] == fields["significance"][row]
                assert (got.sign >> row & 1) == fields["sign"][row]


class Bench:
    """A column with a row generator for each edge, as one module."""

    def __init__(self, config, left):
        self.config, self.left, self.m = config, left, Module()
        self.column = place(self.m, "column", WeightColumn(config))
        self.generators, self.copies = {}, {}
        for name in ("north", "south"):
            rows = self.generators[name] = place(self.m, name, WeightRows(config))
            copy = self.copies[name] = Signal(name=f"copy_{name}")
            control = getattr(self.column, f"{name}_control_{'west' if left else 'east'}")
            other = getattr(self.column, f"{name}_control_{'east' if left else 'west'}")
            self.m.d.comb += [
                control.eq(rows.row),
                control.load.eq(rows.step),
                control.copy.eq(copy),
                other.eq(~control.as_value()),
            ]

    async def fill(self, ctx, rng):
        """Write every word and return them as granules."""
        column, config = self.column, self.config
        words = rng.integers(0, 1 << 16, (config.weight_words, config.word_weights))
        ctx.set(column.write_en, 1)
        for address, word in enumerate(words.tolist()):
            ctx.set(column.write_address, address)
            ctx.set(column.write_data, sum(granule << 16 * i for i, granule in enumerate(word)))
            await ctx.tick()
        ctx.set(column.write_en, 0)
        ctx.set(column.write_data, 0)
        return words


@pytest.mark.parametrize(
    ("alignment", "overrides"),
    [
        ("nibble", {"weight_words": 7}),
        ("nibble", {"weight_words": 4, "axis_data_bits": 128, "weight_buffering": "transit"}),
        ("nibble", {"weight_words": 1}),
        ("bit", {"weight_words": 8, "weight_buffering": "transit"}),
        ("bit", {"weight_words": 7}),
        ("bit", {"weight_words": 3, "axis_data_bits": 128}),
        ("bit", {"weight_words": 2}),
        ("bit", {"weight_words": 1}),
    ],
)
@pytest.mark.parametrize("left", [0, 1])
def test_rows_of_every_width_reach_both_edges(alignment, overrides, left):
    config = DriftConfig.preset("tiny", alignment=alignment, **overrides)
    bench, rng = Bench(config, left), np.random.default_rng(config.weight_words)
    edges = [Edge(bench, name, rng) for name in ("north", "south")]

    async def testbench(ctx):
        ctx.set(bench.column.left, left)
        words = await bench.fill(ctx, rng)
        for cycle in range(500):
            for edge in edges:
                edge.drive(ctx, cycle, words)
            for edge in edges:
                edge.check(ctx, cycle)
            await ctx.tick()

    simulator = Simulator(bench.m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("alignment", ["nibble", "bit"])
def test_rows_of_the_longest_string(alignment):
    """K = 65535: the last element's row is valid, and nothing is on to the end of the largest tile."""
    dut = WeightRows(DriftConfig.preset("tiny", alignment=alignment, weight_words=1 << 14))

    async def testbench(ctx):
        ctx.set(dut.bits, 4)
        ctx.set(dut.k, 65535)
        ctx.set(dut.step, 1)
        await ctx.tick().repeat(65534)
        assert ctx.get(dut.row.valid) == (15 if alignment == "bit" else 1)
        assert (ctx.get(dut.row.address), ctx.get(dut.row.position)) == (65534 // 4, 65534 % 4)
        for _ in range(64):
            await ctx.tick()
            assert ctx.get(dut.row.valid) == 0

    simulate(dut, testbench)
