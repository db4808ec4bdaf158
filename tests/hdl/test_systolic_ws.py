"""The weight-stationary array: PE, row and array against integer products, tile after tile at every spacing."""

import random

import numpy as np
import pytest

from bitfabric.hdl.systolic_ws.array import SystolicWsArray
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.hdl.systolic_ws.pe import SystolicWsPe
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.gemm import gemm
from bitfabric.sim.streams import simulate


def signed(rng, bits):
    return rng.randrange(-(1 << (bits - 1)), 1 << (bits - 1))


@pytest.mark.parametrize("buffering", ["single", "double"])
@pytest.mark.parametrize(("act_bits", "weight_bits", "psum_bits"), [(8, 8, 19), (2, 2, 4), (3, 7, 12)])
def test_pe(act_bits, weight_bits, psum_bits, buffering):
    block = SystolicWsPe(act_bits, weight_bits, psum_bits, buffering)
    double = buffering == "double"
    rng = random.Random(1)
    corners = [-(1 << (act_bits - 1)), (1 << (act_bits - 1)) - 1, 0, -1]
    wrap = 1 << psum_bits

    async def testbench(ctx):
        weight = chain = None  # unknown until loaded
        for cycle in range(400):
            act = rng.choice([*corners, signed(rng, act_bits)])
            inputs = {
                "act_in": act,
                "weight_in": rng.choice([-(1 << (weight_bits - 1)), signed(rng, weight_bits)]),
                "psum_in": signed(rng, psum_bits),
                "load_in": rng.random() < 0.3 or not cycle,
            }
            if double:
                inputs["swap_in"] = rng.random() < 0.3 or not cycle
            for name, value in inputs.items():
                ctx.set(getattr(block, name), value)
            await ctx.tick()
            for name in ("act", "load", "swap")[: 3 if double else 2]:
                assert ctx.get(getattr(block, f"{name}_out")) == inputs[f"{name}_in"]
            if weight is not None:
                total = inputs["psum_in"] + act * weight
                assert (ctx.get(block.psum_out) - total) % wrap == 0
            if inputs["load_in"]:
                chain = inputs["weight_in"]
            if inputs["swap_in" if double else "load_in"]:
                weight = inputs["weight_in"]
            assert ctx.get(block.weight_out) == (chain if double else weight)

    simulate(block, testbench)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, 8, 16, "single"), "act_bits=1 is not allowed; it must be an integer of at least 2"),
        ((8, 1, 16, "single"), "weight_bits=1 is not allowed; it must be an integer of at least 2"),
        ((8, 8, 15, "single"), "psum_bits=15 is not allowed; it must be an integer of at least 16"),
        (
            (8, 8, 16, "none"),
            "weight_buffering='none' is not allowed; it must be one of 'single', 'double'",
        ),
    ],
)
def test_pe_construction_errors(arguments, text):
    with pytest.raises(ParameterError) as error:
        SystolicWsPe(*arguments)
    assert str(error.value) == text


class Tile:
    """A tile of weights (R, C) and activations (M, R), with the cycles of its load and of its first feed."""

    def __init__(self, weights, acts, load, feed):
        self.weights, self.acts, self.load, self.feed = weights, acts, load, feed


def operands(rng, config, m):
    def matrix(rows, columns, bits):
        values = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (rows, columns))
        corner = rng.choice([-(1 << (bits - 1)), (1 << (bits - 1)) - 1, 0, -1])
        return np.full_like(values, corner) if rng.random() < 0.3 else values

    return matrix(config.rows, config.columns, config.weight_bits), matrix(m, config.rows, config.act_bits)


def schedule(config, sizes, rng, *, pause=0.0, closer=0):
    """Place tiles as closely as documented: psums gone (single), ``max(M, R)`` cycles from feed to feed (double).

    ``closer`` moves each tile's load that many cycles up against it, ``pause`` inserts gaps at random.
    """
    rows, columns = config.rows, config.columns
    tiles, load, busy = [], 1, 0
    for m in sizes:
        load += int(rng.integers(1, 5)) if rng.random() < pause else 0
        feed = max(load + rows, busy)
        feed += int(rng.integers(1, 5)) if rng.random() < pause else 0
        tiles.append(Tile(*operands(rng, config, m), load, feed))
        busy = feed + m
        load = (feed if config.weight_buffering == "double" else busy + rows + columns - 2) - closer
    return tiles


def run(config, tiles, set_lanes, seed=0):
    """Drive the array's edges with the documented skews, noise everywhere else, and return the psums by tile."""
    block = SystolicWsArray(config)
    rows, columns = config.rows, config.columns
    double = config.weight_buffering == "double"
    end = tiles[-1].feed + len(tiles[-1].acts) + rows + columns
    rng = random.Random(seed)
    acts = [[signed(rng, config.act_bits) for _ in range(rows)] for _ in range(end)]
    weights = [[signed(rng, config.weight_bits) for _ in range(columns)] for _ in range(end + columns)]
    load, swap = ([0] * end for _ in range(2))
    for tile in tiles:
        for m, row in enumerate(tile.acts.tolist()):
            for lane, act in enumerate(row):
                acts[tile.feed + m + lane][lane] = act
        # The first row's weight comes last; double buffered it waits at the edge for the swap.
        stays = tile.feed - 1 if double else tile.load + rows - 1
        for cycle in range(tile.load, stays + 1):
            row = max(rows - 1 - (cycle - tile.load), 0)
            for column in range(columns):
                weights[cycle + column][column] = int(tile.weights[row, column])
        for row in range(rows):
            first, last = (row, rows - 2) if double else (0, rows - 1)
            for cycle in range(tile.load + first, tile.load + last + 1):
                load[cycle] |= 1 << row
            if tile.feed - 1 + row < end:
                swap[tile.feed - 1 + row] |= 1 << row
    psums = []

    async def testbench(ctx):
        for cycle in range(end):
            set_lanes(ctx, block.act, acts[cycle])
            set_lanes(ctx, block.weight, weights[cycle])
            ctx.set(block.load, load[cycle])
            if double:
                ctx.set(block.swap, swap[cycle])
            psums.append([ctx.get(block.psum[column]) for column in range(columns)])
            await ctx.tick()

    simulate(block, testbench)
    return [
        [[psums[tile.feed + m + rows + c][c] for c in range(columns)] for m in range(len(tile.acts))]
        for tile in tiles
    ]


SHAPES = [(1, 1), (1, 5), (4, 1), (3, 2), (5, 7)]


@pytest.mark.parametrize("pause", [0.0, 0.5])
@pytest.mark.parametrize("buffering", ["single", "double"])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_array(rows, columns, buffering, pause, set_lanes):
    config = SystolicWsConfig(rows=rows, columns=columns, weight_buffering=buffering)
    rng = np.random.default_rng(rows * 10 + columns)
    sizes = [1, 1, 1, rows, rows + 1, max(rows - 1, 1), 2 * rows + 3, 1, *rng.integers(1, 2 * rows + 2, 8)]
    tiles = schedule(config, sizes, rng, pause=pause)
    if not pause:  # no cycle is lost
        feeds = np.diff([tile.feed for tile in tiles])
        tail = 2 * rows + columns - 2
        assert feeds.tolist() == [max(m, rows) if buffering == "double" else m + tail for m in sizes[:-1]]
    for tile, psums in zip(tiles, run(config, tiles, set_lanes), strict=True):
        assert psums == gemm(tile.acts, tile.weights).tolist()


@pytest.mark.parametrize("buffering", ["single", "double"])
@pytest.mark.parametrize(("act_bits", "weight_bits"), [(8, 8), (2, 3), (4, 2)])
@pytest.mark.parametrize("corner", ["lowest", "highest", "ones", "zeros"])
def test_corners(act_bits, weight_bits, buffering, corner, set_lanes):
    config = SystolicWsConfig(
        rows=5, columns=3, act_bits=act_bits, weight_bits=weight_bits, weight_buffering=buffering
    )
    value = {"lowest": (-1, 0), "highest": (1, -1), "ones": (0, -1), "zeros": (0, 0)}[corner]
    act, weight = ((value[0] << (bits - 1)) + value[1] for bits in (act_bits, weight_bits))
    rng = np.random.default_rng(0)
    tiles = schedule(config, [4, 2], rng)
    for tile in tiles:
        tile.acts[:], tile.weights[:] = act, weight
    assert run(config, tiles, set_lanes) == [[[5 * act * weight] * 3] * len(tile.acts) for tile in tiles]


def test_double_buffering_cannot_be_faster(set_lanes):
    # Guards the tests above: a load that begins a cycle too early spoils the tile before it.
    config = SystolicWsConfig(rows=4, columns=3, weight_buffering="double")
    tiles = schedule(config, [2] * 6, np.random.default_rng(3), closer=1)
    assert {int(step) for step in np.diff([tile.feed for tile in tiles])} == {3}
    expected = [gemm(tile.acts, tile.weights).tolist() for tile in tiles]
    assert run(config, tiles, set_lanes) != expected
