"""DRQ's predictor against the golden regions: flags packed as the map's rows are, to the cycle."""

import numpy as np
import pytest

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.packer import Packer
from bitfabric.hdl.drq.predictor import Predictor
from bitfabric.hdl.emit import emit
from bitfabric.quant.drq import NEVER, sensitive_regions, threshold_for_share
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles.drq_tiles import word_times
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

LATENCY = 4  # from a band's last word to the first word of its flags' row
# Height, width, channels, region.
MAPS = [
    ((1, 1, 1), (4, 16)),
    ((5, 7, 3), (2, 3)),
    ((6, 3, 9), (1, 2)),  # rows of flags every row, which the packing's last words delay
    ((4, 1, 5), (1, 1)),
    ((7, 5, 4), (3, 9)),
    ((3, 6, 1), (2, 1)),
    ((9, 1, 13), (4, 16)),  # a plain GEMM
]


def trace(config, rng, image, region, threshold, pause=0.0):
    """Return inputs and outputs of each cycle for a map."""
    lanes = config.axis_bytes
    height, width, channels = image.shape
    counts = [min(lanes, channels - c) for _ in range(width) for c in range(0, channels, lanes)]
    times, late = word_times(np.array(counts), lanes)
    flags = sensitive_regions(image, threshold, region)
    inputs, outputs = [], {}
    for y in range(height):
        band_last = y == height - 1 or y % region[0] == region[0] - 1
        for index in range(len(counts)):
            while rng.random() < pause:
                inputs.append((0, int(rng.integers(1 << 32))))
            x, c = divmod(index, -(-channels // lanes))
            values = rng.integers(-128, 128, lanes)  # what is beyond the channels does not matter
            part = image[y, x, c * lanes : (c + 1) * lanes]
            values[: len(part)] = part
            inputs.append((1, int.from_bytes(values.astype(np.int8).tobytes(), "little")))
        if band_last:
            start = len(inputs) - 1 + LATENCY
            row = flags[y // region[0]].repeat(region[1], axis=0)[:width].reshape(-1)
            row = np.pad(row, (0, -row.size % lanes)).reshape(-1, lanes)
            for time, word in zip(times, row, strict=True):
                outputs[start + time] = sum(int(flag) << lane for lane, flag in enumerate(word))
        if late:
            inputs.append((0, 0))
    inputs += [(0, 0)] * (len(counts) + LATENCY + 4)
    return inputs, outputs, flags


def job_of(config, rng, size, region, threshold, image):
    """Return the job of a map; levels are held, pieces pause now and then."""
    inputs, outputs, flags = trace(config, rng, image, region, threshold, pause=0.3 if threshold else 0)
    cycles = range(len(inputs))
    levels = {"height": size[0], "width": size[1], "channels": size[2], "threshold": threshold}
    levels |= {"region_height": region[0], "region_width": region[1]}
    enabled = [int(cycle in outputs) for cycle in cycles]
    return VectorJob(
        inputs={
            "en": [en for en, _ in inputs],
            "data": [data for _, data in inputs],
            **{name: [value] * len(inputs) for name, value in levels.items()},
        },
        expected={
            "flag_en": enabled,
            "flag_data": [outputs.get(cycle, 0) for cycle in cycles],
            "flags_done": [int(cycle == max(outputs)) for cycle in cycles],
            "sensitive_count": [int(flags.sum())] * len(inputs),
            "overrun": [0] * len(inputs),
        },
        mask={
            "flag_data": [(1 << config.axis_bytes) - 1 if en else 0 for en in enabled],
            "sensitive_count": [0] * (len(inputs) - 1) + [(1 << 32) - 1],
        },
    )


@pytest.mark.parametrize("axis_data_bits", [32, 64])
def test_flags(axis_data_bits, clearable, chain):
    config = DrqConfig.preset("tiny", axis_data_bits=axis_data_bits)
    rng = np.random.default_rng(axis_data_bits)
    jobs = []
    for size, region in MAPS:
        image = rng.integers(-128, 128, size) >> rng.integers(0, 8, size)
        image[:, :, 0] = -128  # the largest magnitude
        for threshold in (threshold_for_share(image, 0.5, region), 0, int(rng.integers(NEVER))):
            jobs.append(job_of(config, rng, size, region, threshold, image))
    emitted = emit(clearable(Predictor, config), "dut")
    assert run_vectors(emitted, chain(jobs, emitted.ports))["steps"][0]["problem"] is None


def test_sums_that_do_not_fit_are_told():
    config = DrqConfig.preset("tiny", sum_words=3)
    emitted = emit(Predictor(config), "drq_predictor")
    levels = {"height": 2, "width": 2, "channels": 7, "region_height": 2, "region_width": 1, "threshold": 0}
    job = VectorJob(
        inputs={"en": [1] * 4, "data": [0] * 4, **{name: [value] * 4 for name, value in levels.items()}},
        expected={"overrun": [0, 0, 0, 1], "row_last": [0, 0, 0, 1], "count": [4, 3, 4, 3]},
    )
    assert run_vectors(emitted, job)["steps"][0]["problem"] is None


@pytest.mark.parametrize(("lanes", "bits"), [(1, 3), (4, 1), (8, 9)])
def test_packer(lanes, bits):
    rng = np.random.default_rng(lanes)
    inputs, outputs = [], []
    rows = 0
    while rows < 40:
        counts = rng.integers(1, lanes + 1, rng.integers(1, 6))
        elements = rng.integers(1, 1 << bits, counts.sum()).tolist()
        times, late = word_times(np.array(counts), lanes)
        words = [elements[start : start + lanes] for start in range(0, len(elements), lanes)]
        taken = 0
        for index, count in enumerate(counts.tolist()):
            piece = [*elements[taken : taken + count], *rng.integers(1 << bits, size=lanes - count).tolist()]
            taken += count
            inputs.append((1, piece, count, int(index == len(counts) - 1)))
            outputs.append(words[times.index(index)] if index in times else None)
        if late:
            inputs.append((0, [1] * lanes, lanes, 1))
            outputs.append(words[-1])
        if rng.random() < 0.3:
            inputs.append((0, [0] * lanes, 1, 0))
            outputs.append(None)
        rows += 1

    def packed(values):
        return sum(value << bits * lane for lane, value in enumerate(values))

    en = [int(word is not None) for word in outputs]
    job = VectorJob(
        inputs={
            "en": [one[0] for one in inputs],
            "data": [packed(one[1]) for one in inputs],
            "count": [one[2] for one in inputs],
            "last": [one[3] for one in inputs],
        },
        expected={"o_en": en, "o_data": [packed(word or []) for word in outputs]},
        mask={"o_data": [((1 << lanes * bits) - 1) * valid for valid in en]},
    )
    assert run_vectors(emit(Packer(lanes, bits), "packer"), job)["steps"][0]["problem"] is None


def test_packer_refuses():
    with pytest.raises(ParameterError, match="lanes=3 is not allowed; it must be a power of two"):
        Packer(3, 8)
    with pytest.raises(ParameterError, match="bits=0 is not allowed"):
        Packer(4, 0)
