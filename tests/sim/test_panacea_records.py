"""Compressed tiles: the words of whole operands, against a construction bit by bit, one tile at a time."""

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.quant.panacea import Slicing
from bitfabric.sim.panacea_records import act_records, dense_count, weight_records

CONFIGS = {
    "tiny-64": PanaceaConfig.preset("tiny"),
    "small-128": PanaceaConfig.preset("small"),
    "paper-256": PanaceaConfig.preset("paper", peas=8, tile_n=12),
    "wide-512": PanaceaConfig.preset("paper", peas=4, tile_n=16, tile_k=16, axis_data_bits=512),
    "narrow-lanes": PanaceaConfig.preset("tiny", tile_k=4, axis_data_bits=256),
}


def weight_slices(value, bits):
    slices = []
    while bits > 4:
        slices.append((value & 7) - 8 * (value < 0))
        value, bits = (value >> 3) + (value < 0), bits - 3
    return [*slices, value]


def act_slices(value, bits, low_bits):
    if low_bits > 4:
        return [(value % 2**low_bits) >> (low_bits - 4), value >> low_bits]
    return [value >> 4 * i & 15 for i in range(bits // 4)]


class Bits:
    """Collect fields from bit 0 up, into words."""

    def __init__(self, width):
        self.width, self.words, self.at = width, [], width

    def open(self):
        self.words.append(0)
        self.at = 0

    def put(self, value, bits):
        assert self.at + bits <= self.width
        self.words[-1] |= (value & (1 << bits) - 1) << self.at
        self.at += bits


def naive_tile(config, groups, skipped, compressed):
    """Return a record's words; ``groups[g][k]`` lists the four rows' slices."""
    words = Bits(config.axis_data_bits)
    entries = []
    for group in groups:
        stored, run = [], 0
        for vector in group if compressed else []:
            high = [slices[-1] for slices in vector]
            if all(value == skipped for value in high):
                run += 1
                continue
            while run > 15:
                stored.append((15, [skipped] * 4))
                run -= 16
            stored.append((run, high))
            run = 0
        entries.append(stored)
    words.open()
    for stored in entries:
        words.put(len(stored), config.count_bits)
    for group in groups:
        for index in range(max(len(group[0][0]) - 1, 1)):
            for k, vector in enumerate(group):
                if k % config.lanes == 0:
                    words.open()
                for slices in vector:
                    words.put(slices[index], 4)
    quads = []
    for stored in entries:
        padded = stored + [(0, [0] * 4)] * (-len(stored) % config.quad)
        quads += [padded[i : i + config.quad] for i in range(0, len(padded), config.quad)]
    for number, quad in enumerate(quads):
        if number % config.quads == 0:
            words.open()
        for index, values in quad:
            for value in values:
                words.put(value, 4)
            words.put(index, 4)
    return words.words


def naive(config, columns, depth, absent, skipped, compressed, tile_rows):
    """Return the records of ``columns[row][k]`` lists of slices."""
    columns = columns + [[absent] * depth] * (-len(columns) % 4)
    result = []
    for first in range(0, len(columns), tile_rows):
        tile = columns[first : first + tile_rows]
        row = []
        for k0 in range(0, depth, config.tile_k):
            ks = range(k0, min(k0 + config.tile_k, depth))
            groups = [[[tile[g + i][k] for i in range(4)] for k in ks] for g in range(0, len(tile), 4)]
            row.append(naive_tile(config, groups, skipped, compressed))
        result.append(row)
    return result


def as_integers(records):
    return [
        [[int.from_bytes(word.tobytes(), "little") for word in record] for record in row] for row in records
    ]


def sparse(rng, shape, low, high, near, sparsity):
    """Return (rows, K) values of which whole groups of four rows are near."""
    keep = np.repeat(rng.random((-(-shape[0] // 4), shape[1])) >= sparsity, 4, axis=0)[: shape[0]]
    return np.where(keep, rng.integers(low, high, shape), rng.integers(*near, shape))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("name", CONFIGS)
def test_weights(name, sparsity):
    config, rng = CONFIGS[name], np.random.default_rng(3)
    for bits, near in ((4, 1), (7, 8), (10, 64)):
        for m, k in ((1, 1), (config.m_step, config.tile_k), (config.m_step + 6, 2 * config.tile_k + 3)):
            w = sparse(rng, (m, k), -(2 ** (bits - 1)), 2 ** (bits - 1), (-near, near), sparsity)
            records = weight_records(config, w, Slicing(weight_bits=bits))
            columns = [[weight_slices(int(v), bits) for v in row] for row in w]
            absent = [0] * len(columns[0][0])
            expected = naive(config, columns, k, absent, 0, bits > 4, config.m_step)
            assert as_integers(records) == expected
            assert records[0][0].dtype == np.uint8
            assert records[0][0].shape[1] == config.axis_data_bits // 8


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("name", CONFIGS)
def test_acts(name, sparsity):
    config, rng = CONFIGS[name], np.random.default_rng(4)
    for bits, low_bits, point in ((4, 4, 9), (8, 4, 128), (8, 5, 255), (8, 6, 70), (12, 4, 3000)):
        slicing = Slicing(act_bits=bits, low_bits=low_bits)
        r, size = slicing.skipped(point), 1 << slicing.ho_shift
        for n, k in ((1, 1), (config.tile_n, config.tile_k), (config.tile_n + 5, config.tile_k + 3)):
            x = sparse(rng, (n, k), 0, 2**bits, (r * size, (r + 1) * size), sparsity).T
            columns = [[act_slices(int(v), bits, low_bits) for v in column] for column in x.T]
            # An absent token has the slice that is skipped, and 0 below it.
            absent = [0] * (len(columns[0][0]) - 1) + [r]
            expected = naive(config, columns, k, absent, r, bits > 4, config.tile_n)
            assert as_integers(act_records(config, x, slicing, point)) == expected


def test_sizes():
    config = PanaceaConfig()
    # Header; 16 groups of 2 words; nothing kept.
    record = weight_records(config, np.zeros((64, 32), int), Slicing())[0][0]
    assert len(record) == 1 + 32
    assert dense_count(config, 64, 32, 1) == 32
    assert dense_count(config, 61, 17, 2) == 64
    assert dense_count(config, 1, 16, 2) == 2
    # All kept: 8 quads a group, three to a word.
    record = weight_records(config, np.full((64, 32), 63), Slicing())[0][0]
    assert len(record) == 1 + 32 + -(-16 * 8 // 3)
