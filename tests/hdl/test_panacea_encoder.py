"""The record encoder against the records that are made from whole operands."""

import random

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.encoder import RecordEncoder, record_words
from bitfabric.quant.panacea import Slicing, act_keep
from bitfabric.quant.slicing import unsigned_slices
from bitfabric.sim.panacea_records import act_records
from bitfabric.sim.streams import simulate


def make_config(axis_data_bits=64, **changes):
    return PanaceaConfig(axis_data_bits=axis_data_bits, **{"peas": 8, "tile_k": 32, "tile_n": 16, **changes})


def blocks_of(config, x, slicing, r):
    """Yield the blocks of activations (K, N), record by record: N tile, then K tile."""
    k, n = x.shape
    slices = unsigned_slices(x, slicing.act_bits, slicing.low_bits)
    padded = np.zeros((3, k + 3, n + 3), int)
    lower = len(slices) - (len(slices) > 1)
    padded[:lower, :k, :n] = slices[:lower]
    padded[2] = r
    padded[2, :k, :n] = slices[-1]
    keep = act_keep(slices[-1], r)
    for n0 in range(0, n, config.tile_n):
        for k0 in range(0, k, config.tile_k):
            last_k, last_n = min(k0 + config.tile_k, k), min(n0 + config.tile_n, n)
            for g in range(n0, last_n, 4):
                for row in range(k0, last_k, 4):
                    nibbles = padded[:, row : row + 4, g : g + 4]
                    vectors = (nibbles << 4 * np.arange(4)).sum(axis=2)
                    flags = keep[row : min(row + 4, last_k), g // 4] * (slicing.act_slices > 1)
                    ends = row + 4 >= last_k
                    record_ends = ends and g + 4 >= last_n
                    yield {
                        "dense": vectors[:2].tolist(),
                        "high": vectors[2].tolist(),
                        "keep": sum(int(bit) << index for index, bit in enumerate(flags)),
                        "first_of_group": row == k0,
                        "last_of_group": ends,
                        "last_of_record": record_ends,
                        "last": record_ends and last_k == k and last_n == n,
                        "k_valid": last_k - k0,
                    }


def encode(config, x, slicing, zero_point, stall=0.0, seed=0):
    """Return the records' words, and the cycles in which blocks were taken."""
    unit, rng = RecordEncoder(config), random.Random(seed)
    r = slicing.skipped(zero_point)
    blocks = list(blocks_of(config, x, slicing, r))
    records, taken = [], []

    async def testbench(ctx):
        ctx.set(unit.slices, slicing.act_slices)
        ctx.set(unit.skipped, r)
        index, offering, cycle, memory, begun = 0, False, 0, {}, 0
        ports = (unit.dense_en, unit.dense_offset, unit.dense_data, unit.ho_en, unit.ho_offset, unit.ho_data)
        while cycle < 5000 and not (records and records[-1][1]):
            if not offering and index < len(blocks) and rng.random() >= stall:
                offering = True
                ctx.set(unit.i.payload, blocks[index])
            ctx.set(unit.i.valid, offering)
            free = rng.random() >= stall
            ctx.set(unit.free, free)
            others = (unit.i.ready, unit.begin, unit.complete, unit.size)
            _, _, *values = await ctx.tick().sample(*ports, *others)
            dense_en, dense_at, dense, ho_en, ho_at, ho, ready, begin, complete, size = values
            for enable, key, word in ((dense_en, ("dense", dense_at), dense), (ho_en, ("ho", ho_at), ho)):
                if enable:
                    assert key not in memory, "no word is written twice"
                    memory[key] = word
            if complete:
                keys = [("ho", 0), *(("dense", a) for a in range(size.dense_words))]
                keys += [("ho", a) for a in range(1, size.ho_words)]
                records.append(([memory[key] for key in keys], size.last))
                assert len(memory) == len(keys)
                memory = {}
            if begin:
                begun += 1
                assert free
                assert begun == len(records) + 1
            if offering and ready:
                offering, index = False, index + 1
                taken.append(cycle)
            cycle += 1
        assert index == len(blocks), f"seed {seed}"

    simulate(unit, testbench)
    assert [last for _, last in records] == [0] * (len(records) - 1) + [1]
    return [words for words, _ in records], taken


def make_acts(rng, k, n, slicing, zero_point, sparsity):
    x = rng.integers(0, 1 << slicing.act_bits, (k, n))
    if slicing.act_slices == 1:
        return x
    skip = np.repeat(rng.random((k, -(-n // 4))) < sparsity, 4, axis=1)[:, :n]
    shift = slicing.ho_shift
    return np.where(skip, (slicing.skipped(zero_point) << shift) + x % (1 << shift), x)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.93, 1.0])
@pytest.mark.parametrize(
    ("axis_data_bits", "changes", "k", "n", "act_bits", "low_bits"),
    [
        (64, {}, 70, 19, 8, 4),
        (64, {"tile_k": 4}, 11, 21, 12, 4),
        (128, {}, 67, 17, 8, 5),
        (128, {"tile_k": 8}, 17, 33, 12, 4),
        (256, {}, 97, 31, 8, 6),
        (256, {"tile_k": 16}, 30, 18, 12, 4),
        (256, {"tile_k": 8}, 17, 18, 4, 4),
        (512, {"tile_n": 64}, 64, 65, 8, 4),
    ],
)
def test_records(axis_data_bits, changes, k, n, act_bits, low_bits, sparsity, stall):
    config = make_config(axis_data_bits, **changes)
    rng = np.random.default_rng(k + int(100 * sparsity))
    slicing = Slicing(act_bits=act_bits, low_bits=low_bits)
    zero_point = int(rng.integers(0, 1 << act_bits))
    x = make_acts(rng, k, n, slicing, zero_point, sparsity)
    got, _ = encode(config, x, slicing, zero_point, stall, seed=k)
    tiles = act_records(config, x, slicing, zero_point)
    want = [[int.from_bytes(w.tobytes(), "little") for w in tile] for row in tiles for tile in row]
    assert got == want


@pytest.mark.parametrize("gap", range(32))
def test_every_gap(gap):
    # The second vector kept comes after `gap` skipped ones, if there is room, after a first one or none.
    config, slicing = make_config(128, tile_n=4), Slicing()
    x = np.full((64, 4), 0x50)
    x[gap, 1] = 0xA0
    x[32], x[33 + gap if gap < 31 else 63] = 0xF0, 0x30
    got, _ = encode(config, x, slicing, 0x55)
    want = [
        [int.from_bytes(w.tobytes(), "little") for w in tile]
        for tile in act_records(config, x, slicing, 0x55)[0]
    ]
    assert got == want


@pytest.mark.parametrize(("axis_data_bits", "act_bits", "cycles"), [(128, 8, 1), (256, 8, 1), (512, 8, 1)])
def test_one_block_a_cycle(axis_data_bits, act_bits, cycles):
    config, slicing = make_config(axis_data_bits), Slicing(act_bits=act_bits)
    x = np.full((32, 16), 0xFF)
    _, taken = encode(config, x, slicing, 0)
    assert np.diff(taken).tolist() == [cycles] * (len(taken) - 1)


def test_most_words():
    for axis_data_bits in (64, 128, 256, 512):
        config = make_config(axis_data_bits)
        x = np.full((32, 16), 0xFFF)
        (words,), _ = encode(config, x, Slicing(act_bits=12), 0)
        assert len(words) == sum(record_words(config))
