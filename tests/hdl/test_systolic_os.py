"""The output-stationary array: PE and array against integer products, with and without overlapping tiles."""

import random

import numpy as np
import pytest

from bitfabric.hdl.systolic_os.array import SystolicOsArray
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_os.pe import SystolicOsPe
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.gemm import gemm
from bitfabric.sim.streams import simulate


def signed(rng, bits):
    return rng.randrange(-(1 << (bits - 1)), 1 << (bits - 1))


@pytest.mark.parametrize(("act_bits", "weight_bits", "acc_bits"), [(8, 8, 32), (2, 2, 4), (7, 3, 11)])
def test_pe(act_bits, weight_bits, acc_bits):
    block = SystolicOsPe(act_bits, weight_bits, acc_bits)
    rng = random.Random(1)
    wrap = 1 << acc_bits

    async def testbench(ctx):
        acc = chain = None  # unknown until `first`, until captured or shifted in
        for cycle in range(500):
            west = {
                "act": rng.choice([-(1 << (act_bits - 1)), 0, -1, signed(rng, act_bits)]),
                "valid": rng.random() < 0.7 or not cycle,
                "first": rng.random() < 0.2 or not cycle,
                "capture": rng.random() < 0.2,
            }
            north = {
                "weight_in": rng.choice([-(1 << (weight_bits - 1)), signed(rng, weight_bits)]),
                "chain_in": signed(rng, acc_bits),
                "shift_in": rng.random() < 0.4,
            }
            ctx.set(block.west, west)
            for name, value in north.items():
                ctx.set(getattr(block, name), value)
            await ctx.tick()
            east = ctx.get(block.east)
            assert {name: getattr(east, name) for name in west} == west
            assert ctx.get(block.weight_out) == north["weight_in"]
            assert ctx.get(block.shift_out) == north["shift_in"]
            if west["capture"]:  # the sum without this cycle's product, and before the chain
                chain = acc
            elif north["shift_in"]:
                chain = north["chain_in"]
            if west["valid"]:
                acc = (0 if west["first"] else acc) + west["act"] * north["weight_in"]
            if chain is not None:
                assert (ctx.get(block.chain_out) - chain) % wrap == 0

    simulate(block, testbench)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, 8, 32), "act_bits=1 is not allowed; it must be an integer of at least 2"),
        ((8, 1, 32), "weight_bits=1 is not allowed; it must be an integer of at least 2"),
        ((8, 8, 15), "acc_bits=15 is not allowed; it must be an integer of at least 16"),
    ],
)
def test_pe_construction_errors(arguments, text):
    with pytest.raises(ParameterError) as error:
        SystolicOsPe(*arguments)
    assert str(error.value) == text


class Tile:
    """Activations (R, K) and weights (K, C), and the cycle in which each element of K enters lane 0."""

    def __init__(self, acts, weights, cycles):
        self.acts, self.weights, self.cycles = acts, weights, cycles

    @property
    def end(self):
        return self.cycles[-1]


def operands(rng, config, k):
    def matrix(rows, columns, bits):
        values = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (rows, columns))
        corner = rng.choice([-(1 << (bits - 1)), (1 << (bits - 1)) - 1, 0, -1])
        return np.full_like(values, corner) if rng.random() < 0.3 else values

    return matrix(config.rows, k, config.act_bits), matrix(k, config.columns, config.weight_bits)


def schedule(config, sizes, rng, *, overlap, pause=0.0, closer=0):
    """Place tiles as closely as documented; ``closer`` more closely still, ``pause`` with idle cycles inside."""
    tiles, cycle = [], 1
    for k in sizes:
        if tiles:
            # The next tile's last element follows this one's by `rows` cycles at least.
            gap = max(config.rows - k, 0) if overlap else config.rows + config.columns - 2
            cycle = tiles[-1].end + 1 + max(gap - closer, 0)
        cycles = []
        for _ in range(k):
            while rng.random() < pause:
                cycle += 1
            cycles.append(cycle)
            cycle += 1
        tiles.append(Tile(*operands(rng, config, k), cycles))
    return tiles


def run(config, tiles, set_lanes, seed=0):
    """Drive the array's edges with the documented skews, noise where nothing is valid, and return the sums."""
    block = SystolicOsArray(config)
    rows, columns = config.rows, config.columns
    end = tiles[-1].end + 2 * rows + columns + 2
    rng = random.Random(seed)

    def idle():
        return {"act": signed(rng, config.act_bits), "valid": 0, "first": rng.getrandbits(1), "capture": 0}

    west = [[idle() for _ in range(rows)] for _ in range(end + rows)]
    weights = [[signed(rng, config.weight_bits) for _ in range(columns)] for _ in range(end + columns)]
    shift = [0] * (end + rows)
    for tile in tiles:
        for k, cycle in enumerate(tile.cycles):
            for row in range(rows):
                west[cycle + row][row] |= {"act": int(tile.acts[row, k]), "valid": 1, "first": k == 0}
            for column in range(columns):
                weights[cycle + column][column] = int(tile.weights[k, column])
        leaves = tile.end + 1 + rows  # the last row's sum stands at the south edge
        for row in range(rows):
            west[tile.end + 1 + row][row]["capture"] = 1
            for cycle in range(leaves, leaves + row):
                shift[cycle] |= 1 << row
    chain = []

    async def testbench(ctx):
        for cycle in range(end):
            set_lanes(ctx, block.west, west[cycle])
            set_lanes(ctx, block.weight, weights[cycle])
            ctx.set(block.shift, shift[cycle])
            chain.append([ctx.get(block.psum[column]) for column in range(columns)])
            await ctx.tick()

    simulate(block, testbench)
    return [
        [[chain[tile.end + 2 * rows - row + c][c] for c in range(columns)] for row in range(rows)]
        for tile in tiles
    ]


SHAPES = [(1, 1), (1, 5), (4, 1), (3, 2), (5, 7)]


@pytest.mark.parametrize("pause", [0.0, 0.5])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_array(rows, columns, overlap, pause, set_lanes):
    config = SystolicOsConfig(rows=rows, columns=columns, tile_overlap=overlap)
    rng = np.random.default_rng(rows * 10 + columns)
    # Every tile of a GEMM has the same K.
    for k in sorted({1, rows, rows + 1, max(rows - 1, 1), 2 * rows + 3, int(rng.integers(1, 9))}):
        tiles = schedule(config, [k] * 4, rng, overlap=overlap, pause=pause)
        if not pause:
            spacing = max(k, rows) if overlap else k + rows + columns - 2
            assert {int(step) for step in np.diff([tile.end for tile in tiles])} == {spacing}
        for tile, sums in zip(tiles, run(config, tiles, set_lanes), strict=True):
            assert sums == gemm(tile.acts, tile.weights).tolist(), k


@pytest.mark.parametrize(("act_bits", "weight_bits"), [(8, 8), (2, 3), (4, 2)])
@pytest.mark.parametrize("corner", ["lowest", "highest", "ones", "zeros"])
def test_corners(act_bits, weight_bits, corner, set_lanes):
    config = SystolicOsConfig(rows=2, columns=3, act_bits=act_bits, weight_bits=weight_bits)
    value = {"lowest": (-1, 0), "highest": (1, -1), "ones": (0, -1), "zeros": (0, 0)}[corner]
    act, weight = ((value[0] << (bits - 1)) + value[1] for bits in (act_bits, weight_bits))
    tiles = schedule(config, [7, 7], np.random.default_rng(0), overlap=True)
    for tile in tiles:
        tile.acts[:], tile.weights[:] = act, weight
    assert run(config, tiles, set_lanes) == [[[7 * act * weight] * 3] * 2] * 2


@pytest.mark.parametrize("sign", [1, -1])
def test_the_narrowest_accumulator_holds_k_max(sign, set_lanes):
    config = SystolicOsConfig(rows=2, columns=1, act_bits=2, weight_bits=2, acc_bits=8, k_max=31)
    tiles = schedule(config, [31], np.random.default_rng(0), overlap=False)
    tiles[0].acts[:], tiles[0].weights[:] = -2, -2 if sign > 0 else 1
    assert run(config, tiles, set_lanes) == [[[124 if sign > 0 else -62]] * 2]


def test_overlap_cannot_be_closer(set_lanes):
    # Guards the tests above: a cycle too early, and a capture comes upon a chain that still shifts.
    config = SystolicOsConfig(rows=5, columns=2, tile_overlap=True)
    tiles = schedule(config, [2] * 5, np.random.default_rng(2), overlap=True, closer=1)
    expected = [gemm(tile.acts, tile.weights).tolist() for tile in tiles]
    assert run(config, tiles, set_lanes) != expected
