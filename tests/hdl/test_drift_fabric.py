"""Drift's fabric: four regions at once, each at its shortest period, every psum at the cycle it is due."""

from collections import defaultdict

import numpy as np
import pytest

from bitfabric.hdl.drift.config import BUFFERINGS, DriftConfig
from bitfabric.hdl.drift.controls import LINK
from bitfabric.hdl.drift.fabric import DriftFabric
from bitfabric.quant import bitbrick
from bitfabric.sim.streams import simulate

SETTLE = 2  # cycles from a split to its directions


def period(buffering, m, rows, columns):
    """Return the cycles between two tiles of a region, as few as there may be."""
    return {"single": 2 * rows + m + columns - 2, "double": max(m, 2 * rows - 1), "transit": max(m, rows)}[
        buffering
    ]


def wrap(values, bits):
    return (values + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def group_sums(config, weights, wide, acts):
    """Return the sums (M, 4) of a group's setting, 8-bit weights if ``wide``, with activation nibbles (M,)."""
    fixed = config.stationary.from_bits(weights)
    if config.alignment == "nibble":
        nibbles = np.tile(list(fixed.weights), (4, 1))
        significance, sign = np.arange(4) + 4 * fixed.high, np.array([0, 0, 0, fixed.sign])
    else:
        nibbles = np.array([list(row) for row in fixed.weights])
        significance, sign = np.array(list(fixed.significance)), fixed.sign >> np.arange(4) & 1
    signed = np.array([not wide, True, not wide, True])
    values = np.where(signed & (nibbles > 7), nibbles - 16, nibbles)
    return bitbrick.group_sums(acts[:, None] >> np.arange(4) & 1, values, significance, sign)


class Plan:
    """What enters the fabric in each cycle and what has to leave it."""

    def __init__(self, config, split, rng):
        self.config, self.rng = config, rng
        self.inputs = defaultdict(list)  # cycle: (port, index or None, value)
        self.psums = defaultdict(list)  # cycle: (port, column, four values)
        self.end = 0
        columns_left, rows_left, rows_right = split
        for half, columns in (("west", columns_left), ("east", config.columns - columns_left)):
            upper = rows_left if half == "west" else rows_right
            for edge, rows in (("north", upper), ("south", config.rows - upper)):
                if rows and columns:
                    self._add(half, edge, upper, rows, columns)

    def _add(self, half, edge, split, rows, columns):
        """Plan a region's tiles from a cycle of its own on."""
        config, rng = self.config, self.rng
        m, tiles = int(rng.integers(1, 7)), 3
        buffering = config.weight_buffering
        load = SETTLE + int(rng.integers(0, 6))
        row_of = [split - 1 - i if edge == "north" else split + i for i in range(rows)]
        column_of = [j if half == "west" else config.columns - 1 - j for j in range(columns)]
        bits = [config.group.held_psum_bits(column) for column in range(4)]
        for _ in range(tiles):
            acts = rng.integers(0, 16, (m, rows))
            swap = load + rows - 1 + (buffering == "transit")
            for i, row in enumerate(row_of):
                self.inputs[swap + i].append((half, row, "swap", 1))
                for token in range(m):
                    self.inputs[swap + 1 + token + i].append((half, row, "act", int(acts[token, i])))
            for j, column in enumerate(column_of):
                total = np.zeros((m, 4), np.int64)
                for i in range(rows):
                    weights = int.from_bytes(rng.bytes(12), "little") % (1 << config.stationary.size)
                    total += group_sums(config, weights, half == "west", acts[:, i])
                    self.inputs[load + j + i].append((f"{edge}_weights", column, None, weights))
                    self.inputs[load + j + i].append((f"{edge}_load", column, None, 1))
                if buffering == "transit":
                    self.inputs[swap + j].append((f"{edge}_copy", column, None, 1))
                for token in range(m):
                    due = swap + 1 + token + rows + j
                    values = [wrap(int(v), b) for v, b in zip(total[token], bits, strict=True)]
                    self.psums[due].append((f"{edge}_psum", column, values))
                    self.end = max(self.end, due)
            load += period(buffering, m, rows, columns)

    async def run(self, ctx, dut):
        """Play it; what nobody drives is random, but for loads, copies and swaps."""
        config, rng = self.config, self.rng
        flags = ["north_load", "south_load"]
        flags += ["north_copy", "south_copy"] if config.weight_buffering == "transit" else []
        for cycle in range(self.end + 1):
            links = {
                (side, row): [int(rng.integers(16)), 0]
                for side in ("west", "east")
                for row in range(config.rows)
            }
            words, bits = {}, dict.fromkeys(flags, 0)
            for port, index, field, value in self.inputs[cycle]:
                if field:
                    links[port, index][field == "swap"] = value
                elif port in bits:
                    bits[port] |= value << index
                else:
                    words[port, index] = value
            for (side, row), (act, swap) in links.items():
                ctx.set(getattr(dut, side)[row], LINK.const({"act": act, "swap": swap}))
            for (port, column), value in words.items():
                ctx.set(getattr(dut, port)[column].as_value(), value)
            for port, value in bits.items():
                ctx.set(getattr(dut, port), value)
            for port, column, values in self.psums[cycle]:
                assert [ctx.get(getattr(dut, port)[column][n]) for n in range(4)] == values, (
                    cycle,
                    port,
                    column,
                )
            await ctx.tick()


def splits(config, rng):
    """Return splits with every region alone, with all of them, and some more."""
    rows, columns = config.rows, config.columns
    fixed = [(columns, rows, 0), (columns, 0, rows), (0, 0, rows), (0, rows, 0)]
    if columns > 1 and rows > 1:
        fixed += [(1, 1, rows - 1), (columns - 1, rows - 1, 1)]
    return fixed + [tuple(int(rng.integers(0, n + 1)) for n in (columns, rows, rows)) for _ in range(3)]


@pytest.mark.parametrize(
    ("alignment", "rows", "columns"), [("nibble", 4, 3), ("bit", 3, 3), ("nibble", 1, 1), ("bit", 1, 2)]
)
@pytest.mark.parametrize("buffering", BUFFERINGS)
def test_every_psum_of_every_region(buffering, alignment, rows, columns):
    config = DriftConfig.preset(
        "tiny", alignment=alignment, weight_buffering=buffering, rows=rows, columns=columns
    )
    dut, rng = DriftFabric(config), np.random.default_rng(rows + columns)

    async def testbench(ctx):
        for split in splits(config, rng):
            for port, value in zip((dut.columns_left, dut.rows_left, dut.rows_right), split, strict=True):
                ctx.set(port, value)
            await Plan(config, split, rng).run(ctx, dut)

    simulate(dut, testbench)
