"""Drift's packets: beats of whole operands, against a construction field by field."""

import re
from pathlib import Path

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_random import random_case, random_cases
from bitfabric.sim.drift_records import (
    act_beats,
    channel_beats,
    granule_channels,
    merge_order,
    output_of,
    stream_of,
    weight_beats,
)

CONFIGS = {
    "tiny-64": DriftConfig.preset("tiny"),
    "small-128": DriftConfig.preset("small"),
    "paper-256": DriftConfig.preset("paper"),
    "wide-512": DriftConfig.preset("paper", axis_data_bits=512),
}


class Bits:
    """Collect fields from bit 0 up, into beats."""

    def __init__(self, width):
        self.width, self.beats, self.at = width, [], width

    def put(self, value, bits):
        while bits:
            if self.at == self.width:
                self.beats.append(0)
                self.at = 0
            taken = min(bits, self.width - self.at)
            self.beats[-1] |= (value & (1 << taken) - 1) << self.at
            self.at, value, bits = self.at + taken, value >> taken, bits - taken

    def fill(self):
        self.at = self.width

    def raw(self):
        return b"".join(beat.to_bytes(self.width // 8, "little") for beat in self.beats)


def halves(case):
    """Return the channels of each half, cut into granules."""
    high = [c for c in range(case.n) if case.weight_bits[c] > 4]
    low = [c for c in range(case.n) if case.weight_bits[c] <= 4]
    return (
        [high[i : i + 2] for i in range(0, len(high), 2)],
        [low[i : i + 4] for i in range(0, len(low), 4)],
    )


def naive_stream(config, case):
    out = Bits(config.axis_data_bits)
    if not case.resident:
        for row in case.acts:
            for value in row:
                out.put(int(value), 8)
            out.fill()
    high, low = halves(case)
    for granule in [*high, *low]:
        for channel in granule:
            given = case.requantized
            out.put(int(case.bias[channel]) if given else 0, 32)
            out.put(int(case.multiplier[channel]) if given else 0, 31)
            out.put(0, 1)
            out.put(int(case.shift[channel]) if given else 0, 8)
            out.put(int(case.weight_clip[channel]), 4)
            out.put(int(case.weight_bits[channel]), 4)
        out.put(0, 80 * (4 - len(granule)))
        out.fill()
    i = j = 0
    while i < len(high) or j < len(low):
        if i < len(high) and (j == len(low) or (i + 1) * len(low) <= (j + 1) * len(high)):
            granule, bits, i = high[i], 8, i + 1
        else:
            granule, bits, j = low[j], 4, j + 1
        for row in case.weights:
            for lane in range(16 // bits):
                out.put(int(row[granule[lane]]) if lane < len(granule) else 0, bits)
        out.fill()
    return out.raw()


def naive_output(config, case):
    out, golden = Bits(config.axis_data_bits), case.golden()
    high, low = halves(case)
    order = [channel for granule in [*high, *low] for channel in granule]
    for row in golden:
        for plane in range(1 if case.requantized else 4):
            for channel in order:
                out.put(int(row[channel]) >> (8 * plane), 8)
            out.fill()
    return out.raw()


@pytest.mark.parametrize("name", CONFIGS)
def test_packets(name):
    config = CONFIGS[name]
    cases = random_cases(config, 3, 12)
    assert {case.requantized for case in cases} == {False, True}
    cases += [random_case(config, np.random.default_rng(5), 3, 37, 29, resident=True)]
    for case in cases:
        stream, output = stream_of(config, case), output_of(config, case)
        assert stream.dtype == output.dtype == np.uint8
        assert stream.shape[1] == output.shape[1] == config.beat_bytes
        assert stream.tobytes() == naive_stream(config, case), case.name
        assert output.tobytes() == naive_output(config, case), case.name


def test_a_packet_by_hand():
    config = CONFIGS["tiny-64"]
    weights = np.array([[1, -3, 7, 2], [-128, 127, -8, 0], [5, 4, 3, 1]])
    case = DriftCase(
        acts=np.array([[1, -1, 127]]),
        weights=weights,
        weight_bits=np.array([8, 8, 4, 2]),
        weight_clip=np.array([0, 0, 4, 3]),
        threshold=float("inf"),
    )
    assert act_beats(config, case.acts).tobytes() == bytes([1, 255, 127, 0, 0, 0, 0, 0])
    # Bytes 9 and 19 of the two granules' 40 hold precision and lc.
    channels = channel_beats(config, case).tobytes()
    assert len(channels) == 2 * config.params_beats * 8 == 80
    filled = {index: value for index, value in enumerate(channels) if value}
    assert filled == {9: 0x80, 19: 0x80, 49: 0x44, 59: 0x23}
    # High 1 of 1 is as due as low 1 of 1: it goes first.
    assert weight_beats(config, case).tobytes() == (
        bytes([1, 253, 0x80, 127, 5, 4, 0, 0]) + bytes([0x27, 0, 0x08, 0, 0x13, 0, 0, 0])
    )
    acc = case.acts @ weights << np.array([0, 0, 4, 3])
    np.testing.assert_array_equal(case.golden(), acc)
    planes = [bytes((acc[0] >> (8 * plane) & 255).tolist()) + bytes(4) for plane in range(4)]
    assert output_of(config, case).tobytes() == b"".join(planes)


def test_the_driver_guides_example():
    config = CONFIGS["tiny-64"]
    case = DriftCase(
        acts=np.array([[2, -3, 1], [90, -100, 127]]),
        weights=np.array([[1, -3, 7], [-128, 127, -8], [5, 4, 3]]),
        weight_bits=np.array([8, 8, 4]),
        weight_clip=np.array([0, 0, 4]),
        threshold=10.0,
        bias=np.array([100, -7, 0]),
        multiplier=np.full(3, 1 << 20),
        shift=np.full(3, 25),
    )
    text = Path(__file__).parents[2].joinpath("docs/drift_driver.md").read_text("utf-8")
    beats = re.findall(r"^\| (\*out\* )?`([0-9a-f]{16})` \|", text, re.MULTILINE)
    for out, found in (("", stream_of(config, case)), ("*out* ", output_of(config, case))):
        words = [f"{word:016x}" for word in found.view("<u8")[:, 0] if word]
        assert words == [beat for kind, beat in beats if kind == out]


def test_nothing_comes_out_of_what_is_kept():
    config = CONFIGS["small-128"]
    case = random_case(config, np.random.default_rng(0), 5, 9, 7, keep=True)
    assert output_of(config, case).shape == (0, 16)
    assert stream_of(config, case).tobytes() == naive_stream(config, case)


def test_merge_order():
    assert merge_order(2, 4).tolist() == [2, 0, 3, 4, 1, 5]
    assert merge_order(3, 0).tolist() == [0, 1, 2]
    assert merge_order(0, 2).tolist() == [0, 1]
    for high, low in ((5, 7), (13, 4), (1, 9)):
        order = merge_order(high, low)
        assert sorted(order) == list(range(high + low))
        sent = np.cumsum(order < high)
        # In proportion at every moment, to a granule.
        assert np.abs(sent - np.arange(1, high + low + 1) * high / (high + low)).max() <= 1


def test_granules():
    config = CONFIGS["tiny-64"]
    bits = np.array([4, 8, 3, 8, 1, 5, 2, 4])
    case = random_case(config, np.random.default_rng(1), 2, 3, 8, weight_bits=bits)
    high, low = granule_channels(case)
    assert high.tolist() == [[1, 3], [5, -1]]
    assert low.tolist() == [[0, 2, 4, 6], [7, -1, -1, -1]]
