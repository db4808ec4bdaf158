"""DRQ's im2col unit against the golden rows: values, precisions, places and cycles."""

import numpy as np
import pytest
from amaranth.lib import data

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.im2col import Im2col, tile_tag
from bitfabric.hdl.drq.layer import layer_layout, plan_layout
from bitfabric.hdl.emit import emit
from bitfabric.quant.drq import Convolution, low_values
from bitfabric.sim.cycles.drq_tiles import Layer, fill_cycles, word_times
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

BAND = 2  # rows with the same flags
PASSES = 2  # over the map, as for two N tiles
NAMES = ("height", "width", "channels", "kernel_height", "kernel_width", "stride", "padding")
LAYERS = [
    (1, 1, 1, 1, 1, 1, 0),
    (5, 6, 3, 3, 3, 1, 1),
    (6, 5, 4, 3, 2, 2, 1),
    (7, 7, 2, 5, 5, 3, 2),
    (4, 4, 9, 1, 1, 2, 0),
    (9, 1, 11, 1, 1, 1, 0),  # a plain GEMM
    (3, 2, 5, 2, 1, 1, 3),  # windows that are all padding
    (4, 9, 1, 3, 7, 1, 3),
]


def packed(values, bits):
    """Return values as an integer, the first one lowest."""
    return sum((int(value) & ((1 << bits) - 1)) << bits * lane for lane, value in enumerate(values))


def words_of(rows, lanes):
    """Return the words of rows, each filled up with zeros."""
    flat = rows.reshape(len(rows), -1)
    return np.pad(flat, ((0, 0), (0, -flat.shape[1] % lanes))).reshape(len(rows), -1, lanes)


def memories(config, image, flags):
    """Return the words of a map, those of its flags, a row for each band, and where rows stand."""
    lanes = config.axis_bytes
    values, bands = words_of(image, lanes), words_of(flags[::BAND], lanes)
    words = values.shape[1]
    places = [row * words | (row // BAND * words) << config.map_bits for row in range(len(image))]
    return {
        "map": [packed(word, 8) for word in values.reshape(-1, lanes)],
        "flag": [packed(word, 1) for word in bands.reshape(-1, lanes)],
        "row": places,
    }


def pieces(layer, position, lanes):
    """Return the elements that each word of the map's rows gives to a position."""
    left = (position % layer.positions[1] * layer.stride - layer.padding) * layer.channels
    right = left + layer.kernel_width * layer.channels
    cuts = [left, *range((left // lanes + 1) * lanes, right, lanes), right]
    return np.tile(np.diff(cuts), layer.kernel_height)


def golden(config, rng, layer, image, flags, begin):
    """Return what is written in which cycle, each tile's end, and when banks are released."""
    lanes = config.axis_bytes
    shape = Convolution(
        kernel=(layer.kernel_height, layer.kernel_width),
        stride=(layer.stride,) * 2,
        padding=(layer.padding,) * 2,
    )
    values = shape.rows(np.where(flags, image, low_values(image)).astype(np.int64)) & 0xFF
    lines = words_of(values | shape.rows(flags).astype(np.int64) << 8, lanes)
    fills, starts = fill_cycles(config, layer)
    writes, ends, released = {}, {}, []
    at = begin + 1
    for tile in range(PASSES * len(starts)):
        index = tile % len(starts)
        if tile > 1:  # sooner or later than im2col needs it
            released.append(max([list(ends)[tile - 2], *released[-1:]]) + int(rng.integers(1, 30)))
            at = max(at, released[-1] + 1)
        first, begun = int(starts[index]), at
        positions = range(first, min(first + config.rows, layer.m))
        for row, position in enumerate(positions):
            counts = pieces(layer, position, lanes)
            times, late = word_times(counts, lanes)
            for word, time in enumerate(times):
                writes[at + time + Im2col.LATENCY] = row, word, packed(lines[position, word], 9)
            at += len(counts) + late
        assert at - begun == fills[index]  # as the cycle model has it
        ends[max(writes)] = len(positions) | int(positions[-1] == layer.m - 1) << config.rows.bit_length()
    return writes, ends, released


def job_of(config, rng, layer):
    """Return the job of a layer: write its map, walk over it."""
    size = layer.height, layer.width, layer.channels
    image = rng.integers(-128, 128, size)
    bands = rng.random((-(-size[0] // BAND), *size[1:])) < 0.5
    flags = bands.repeat(BAND, axis=0)[: size[0]]
    memory = memories(config, image, flags)
    begin = max(map(len, memory.values()))
    writes, ends, released = golden(config, rng, layer, image, flags, begin)
    cycles = range(max(writes) + 1)
    plan = {
        "segment": layer.kernel_width * layer.channels,
        "row": layer.width * layer.channels,
        "step": layer.stride * layer.channels,
        "border": layer.padding * layer.channels,
        "depth": layer.k,
    }
    sizes = {name: getattr(layer, name) for name in NAMES}
    inputs = {
        "start": [int(cycle == begin) for cycle in cycles],
        "released": [int(cycle in released) for cycle in cycles],
        "layer": [layer_layout().const(sizes).as_bits()] * len(cycles),
        "plan": [plan_layout(config).const(plan).as_bits()] * len(cycles),
    }
    for (name, words), what in zip(memory.items(), ("data", "data", "place"), strict=True):
        inputs[f"{name}_en"] = [int(cycle < len(words)) for cycle in cycles]
        inputs[f"{name}_address"] = [min(cycle, len(words) - 1) for cycle in cycles]
        inputs[f"{name}_{what}"] = [words[min(cycle, len(words) - 1)] for cycle in cycles]
    written = [writes.get(cycle) for cycle in cycles]
    lines = max(1, (config.lines - 1).bit_length())
    widths = {"write_address": lines, "write_data": 9 * config.axis_bytes}
    tag = data.Layout.cast(tile_tag(config)).size
    return VectorJob(
        inputs=inputs,
        expected={
            "write_en": [1 << one[0] if one else 0 for one in written],
            "write_address": [one[1] if one else 0 for one in written],
            "write_data": [one[2] if one else 0 for one in written],
            "write_done": [int(cycle in ends) for cycle in cycles],
            "write_tag": [ends.get(cycle, 0) for cycle in cycles],
        },
        mask={
            **{name: [(1 << bits) - 1 if one else 0 for one in written] for name, bits in widths.items()},
            "write_tag": [(1 << tag) - 1 if cycle in ends else 0 for cycle in cycles],
        },
    )


@pytest.mark.parametrize("options", [{}, {"rows": 2, "axis_data_bits": 64}, {"rows": 1}], ids=str)
def test_rows(options, clearable, chain):
    config = DrqConfig.preset("tiny", **options)
    rng = np.random.default_rng(list(options.values()))
    layers = [Layer(**dict(zip(NAMES, sizes, strict=True)), n=1) for sizes in LAYERS]
    jobs = [job_of(config, rng, layer) for layer in layers]
    emitted = emit(clearable(Im2col, config), "dut")
    assert run_vectors(emitted, chain(jobs, emitted.ports))["steps"][0]["problem"] is None
