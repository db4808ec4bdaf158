"""The post-processing unit against the golden model, block by block."""

import math

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.ppu import FLAGS, PostProcessor
from bitfabric.quant.panacea import Slicing, activation_table, post_process
from bitfabric.quant.slicing import unsigned_slices
from bitfabric.sim.streams import run_streams

BLOCKS = 60


def make_blocks(rng, acc_bits):
    """Return blocks with every number of rows and columns, and accumulators and channels with corners."""
    bound = 1 << (acc_bits - 1)
    blocks = []
    for _ in range(BLOCKS):
        acc = rng.integers(-bound, bound, 16) >> rng.integers(0, acc_bits - 1, 16)
        acc = np.where(rng.random(16) < 0.1, rng.choice([-bound, bound - 1, 0, -1], 16), acc)
        bias = rng.integers(-(1 << 30), 1 << 30, 4) >> rng.integers(0, 30, 4)
        if acc_bits == 32:  # the golden model refuses a sum beyond 32 bits
            acc >>= 1
        blocks.append(
            {
                "acc": acc,
                "bias": bias,
                "multiplier": rng.choice([1, 2**31 - 1, int(rng.integers(1, 2**31))], 4),
                "shift": rng.choice([1, 30, 62, int(rng.integers(20, 45))], 4),
                "rows": int(rng.integers(1, 5)),
                "columns": int(rng.integers(1, 5)),
                "flags": {name: int(rng.integers(0, 2)) for name in FLAGS},
                "k_valid": int(rng.integers(1, 9)),
            }
        )
    return blocks


def payload(block):
    channels = [{name: int(block[name][row]) for name in ("bias", "multiplier", "shift")} for row in range(4)]
    sizes = {name: block[name] for name in ("rows", "columns", "k_valid")}
    return {"acc": [int(v) for v in block["acc"]], "channels": channels, **sizes, **block["flags"]}


def expected(block, table, slicing, skipped):
    channels = (block[name] for name in ("bias", "multiplier", "shift"))
    codes = post_process(block["acc"].reshape(4, 4), *channels, table, slicing.act_bits)
    slices = unsigned_slices(codes, slicing.act_bits, slicing.low_bits)
    rows, columns = block["rows"], block["columns"]
    absent = np.ones((4, 4), bool)
    absent[:rows, :columns] = False
    high = np.where(absent, skipped, slices[-1])
    dense = np.zeros((2, 4, 4), int)
    lower = slices if slicing.act_slices == 1 else slices[:-1]
    dense[: len(lower)] = np.where(absent, 0, lower)

    def vectors(nibbles):
        return [sum(int(v) << (4 * k) for k, v in enumerate(row)) for row in nibbles]

    keep = (high != skipped).any(axis=1) & (slicing.act_slices > 1)
    return {
        "dense": [vectors(part) for part in dense],
        "high": vectors(high) if slicing.act_slices > 1 else None,
        "keep": sum(int(bit) << row for row, bit in enumerate(keep)),
        **block["flags"],
        "k_valid": block["k_valid"],
    }


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize(
    ("slices", "drop", "acc_bits", "function"),
    [(1, 0, 32, "gelu"), (2, 0, 32, "gelu"), (2, 1, 20, "relu"), (2, 2, 32, "identity"), (3, 0, 32, "gelu")],
)
def test_blocks(slices, drop, acc_bits, function, stall):
    config = PanaceaConfig(tile_k=8, acc_bits=acc_bits, k_max=16 if acc_bits < 32 else 65535)
    unit = PostProcessor(config)
    slicing = Slicing(act_bits=4 * slices, low_bits=4 + drop)
    zero_point = (1 << 4 * slices) // 5
    skipped = slicing.skipped(zero_point)
    scale = 4 / 2048 * math.pi
    table = activation_table(function, scale, 6 / (1 << 4 * slices), zero_point, 4 * slices, config.segments)
    blocks = make_blocks(np.random.default_rng(slices + 10 * drop), acc_bits)

    async def setup(ctx):
        ctx.set(unit.slices, slices)
        ctx.set(unit.drop, drop)
        ctx.set(unit.skipped, skipped)
        for address, word in enumerate(table.words()):
            ctx.set(unit.table_en, 1)
            ctx.set(unit.table_addr, address)
            ctx.set(unit.table_data, word)
            await ctx.tick()
        ctx.set(unit.table_en, 0)

    result = run_streams(
        unit, {"i": [payload(b) for b in blocks]}, {"o": BLOCKS}, stall, stall, seed=slices, setup=setup
    )
    for got, block in zip(result["o"], blocks, strict=True):
        want = expected(block, table, slicing, skipped)
        if want["high"] is None:  # one slice has no HO vectors
            got["high"] = None
        assert got == want
    if not stall:
        latency = PostProcessor.LATENCY
        assert result.arrivals["o"] == [cycle + latency for cycle in result.arrivals["i"]]
        assert result.arrivals["i"] == list(range(BLOCKS))
