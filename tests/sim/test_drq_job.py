"""The driver's side of DRQ: register writes, the two packets, and what the registers must hold at the end."""

import dataclasses

import numpy as np
import pytest

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.registers import COUNTERS, ERRORS, PE_COUNTERS, drq_registers
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.drq_case import DrqCase
from bitfabric.sim.drq_job import drq_step
from bitfabric.sim.drq_random import random_convolution

TINY = DrqConfig.preset("tiny")  # 3 columns, 4 bytes a beat
WIDE = DrqConfig.preset("small")  # 8 columns, 8 bytes a beat, 2 channels' parameters
REGISTERS = drq_registers(TINY)
CYCLES = Cycles(
    array_cycles=7,
    total=100,
    utilization=0.5,
    machine_utilization=0.1,
    breakdown={"load": 10, "compute": 20, "stalled": 30, "drain": 40},
    traffic={"steps_2": 3, "steps_4": 4, "pe_working": 5, "pe_stalled": 6},
)
# 2 x 2 pixels of 5 channels, a 1x2 kernel: K = 10; 4 output channels are 2 N tiles of tiny.
IMAGE = np.arange(-10, 10).reshape(2, 2, 5)
WEIGHTS = np.arange(40).reshape(10, 4) - 20
POST = {
    "bias": np.array([1, -2, 3, -4]),
    "multiplier": np.array([5, 6, 7, 8]),
    "shift": np.array([9, 8, 7, 6]),
}


def case_of(**fields):
    return DrqCase(**{"image": IMAGE, "weights": WEIGHTS, "kernel_width": 2, "padding": 0, **fields})


def written(step):
    """Return the written words by register and field; nothing is written twice."""
    names = {offset: register for register, offset in REGISTERS.placed()}
    found = {}
    for offset, word in step.writes:
        register = names[offset]
        assert register.name not in found
        values = {field.name: word >> lsb & (1 << field.width) - 1 for field, lsb in register.placed()}
        found[register.name] = values["value"] if list(values) == ["value"] else values
    return found


def rows(values, columns, beat, kind):
    """Return rows as whole beats, element by element."""
    found = []
    for row in values:
        raw = b"".join(int(v).to_bytes(kind, "little", signed=True) for v in row[columns])
        raw += bytes(-len(raw) % beat)
        found += [list(raw[i : i + beat]) for i in range(0, len(raw), beat)]
    return found


def test_writes_of_accumulators():
    case = random_convolution(
        TINY, np.random.default_rng(0), (5, 7, 3), 2,
        kernel_height=3, kernel_width=2, stride=2, padding=1, threshold=513,
        region_height=4, region_width=6, requantized=False,
    )  # fmt: skip
    step = drq_step(TINY, "drq", case, CYCLES)
    writes = written(step)
    assert list(writes)[-1] == "control"
    assert writes.pop("control") == {"start": 1, "requantize": 0, "stop": 0}
    status = writes.pop("status")
    assert all(status[f"{name}_error"] for name in ERRORS)
    assert status["done"]
    # Neither bounds nor zero point: those are left alone.
    assert writes == {
        "height": 5,
        "width": 7,
        "channels": 3,
        "n": 2,
        "kernel": {"height": 3, "width": 2},
        "stride": 2,
        "padding": 1,
        "threshold": 513,
        "region": {"height": 4, "width": 6},
    }


def test_writes_of_bytes():
    step = drq_step(TINY, "drq", case_of(**POST, low=-100, high=27, zero_point=-3), CYCLES)
    writes = written(step)
    assert writes["control"] == {"start": 1, "requantize": 1, "stop": 0}
    assert writes["clip"] == {"low": 512 - 100, "high": 27}
    assert writes["zero_point"] == 512 - 3


def test_packets_of_accumulators():
    case = case_of()
    step = drq_step(TINY, "drq", case, CYCLES)
    tiles = slice(0, 3), slice(3, 4)
    pixels = rows(IMAGE.reshape(4, 5), slice(None), 4, 1)
    assert len(pixels) == 4 * 2
    expected = pixels + [beat for tile in tiles for beat in rows(WEIGHTS, tile, 4, 1)]
    assert step.stream.tolist() == expected
    # 2 positions; a beat is an accumulator, N tile by N tile.
    golden = case.golden()
    assert golden.shape == (2, 4)
    assert step.expected.tolist() == [beat for tile in tiles for beat in rows(golden, tile, 4, 4)]


def test_packets_of_bytes():
    case = case_of(**POST)
    step = drq_step(TINY, "drq", case, CYCLES)
    expected = rows(IMAGE.reshape(4, 5), slice(None), 4, 1)
    for tile in (slice(0, 3), slice(3, 4)):
        for channel in range(tile.start, tile.stop):
            expected += [rows([[POST[name][channel]]], slice(None), 4, 4)[0] for name in POST]
        expected += rows(WEIGHTS, tile, 4, 1)
    assert step.stream.tolist() == expected
    assert step.expected.tolist() == [
        beat for tile in (slice(0, 3), slice(3, 4)) for beat in rows(case.golden(), tile, 4, 1)
    ]


def test_parameters_of_channels_that_drain_together():
    case = case_of(**{name: array[:3] for name, array in POST.items()}, weights=WEIGHTS[:, :3])
    step = drq_step(WIDE, "drq", case, CYCLES)
    # After 4 pixels of a beat each: two channels' biases, multipliers and shifts, then the third's with zeros.
    words = np.ascontiguousarray(step.stream[4:10]).view("<i4").tolist()
    assert words == [[1, -2], [5, 6], [9, 8], [3, 0], [7, 0], [7, 0]]
    assert len(step.stream) == 4 + 6 + 10


def test_unsigned_bytes():
    case = case_of(**POST, zero_point=128)
    assert case.golden().max() > 127
    sent = drq_step(WIDE, "drq", case, CYCLES).expected[:, :4]
    np.testing.assert_array_equal(sent, case.golden())


@pytest.mark.parametrize("pe_counters", [True, False])
def test_what_registers_hold_at_the_end(pe_counters):
    config = dataclasses.replace(TINY, pe_counters=pe_counters)
    case = case_of(threshold=5 << 8, region_height=1, region_width=1)
    step = drq_step(config, "drq", case, CYCLES)
    registers = drq_registers(config)
    names = {"status", *COUNTERS, *(PE_COUNTERS if pe_counters else ())}
    assert step.reads == {name: registers.offset(name) for name in names}
    sensitive = int((np.abs(IMAGE) > 5).sum())
    assert 0 < sensitive < 20
    expected = {
        "status": registers.constants()["STATUS_DONE_MASK"],
        "load_cycles": 10,
        "compute_cycles": 20,
        "stalled_cycles": 30,
        "drain_cycles": 40,
        "total_cycles": 100,
        "steps_2": 3,
        "steps_4": 4,
        "sensitive": sensitive,
        "pe_working": 5,
        "pe_stalled": 6,
    }
    assert step.counters == {name: value for name, value in expected.items() if name in names}
    assert drq_step(config, "drq", case).counters == {
        name: expected[name] for name in ("status", "sensitive")
    }


def test_what_the_machine_cannot_compute():
    with pytest.raises(ParameterError, match=r"K=10 is not allowed; it must be an integer in \[1, 9\]"):
        drq_step(DrqConfig.preset("tiny", k_max=9), "drq", case_of(), CYCLES)
