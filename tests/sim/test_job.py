"""Jobs: what is saved is what is loaded, and register writes put every field in its place."""

import struct

import numpy as np
import pytest

from bitfabric.hdl.common.register_map import Field, Register, RegisterMap
from bitfabric.sim.job import Job, Step, descriptor_rows, start_writes


def make_job():
    rng = np.random.default_rng(0)
    return Job(
        steps=[
            Step(
                name=f"step {number}",
                writes=[(4, 17), (8, 0xFFFFFFFF)],
                stream=rng.integers(0, 256, (3 + number, 4), dtype=np.uint8),
                expected=rng.integers(0, 256, (number + 1, 4), dtype=np.uint8),
                reads={"status": 8, "total_cycles": 40},
                counters={"status": 2, "total_cycles": 1234 + number},
                wait=(12, 6) if number else None,
                memory=rng.integers(0, 256, 21, dtype=np.uint8) if number else None,
                latency=8 + number,
            )
            for number in range(2)
        ],
        seed=7,
        stall=0.25,
        timeout=99,
    )


def test_round_trip(tmp_path):
    job = make_job()
    job.save(tmp_path / "job.npz")
    again = Job.load(tmp_path / "job.npz")
    assert (again.seed, again.stall, again.timeout) == (7, 0.25, 99)
    assert len(again.steps) == 2
    for step, other in zip(job.steps, again.steps, strict=True):
        for name in ("name", "writes", "reads", "counters", "wait", "latency"):
            assert getattr(other, name) == getattr(step, name)
        for name in ("stream", "expected", "memory"):
            if getattr(step, name) is None:
                assert getattr(other, name) is None
                continue
            assert getattr(other, name).dtype == np.uint8
            np.testing.assert_array_equal(getattr(other, name), getattr(step, name))


def test_binary(tmp_path):
    job = make_job()
    job.save_binary(tmp_path / "job.bin")
    raw = (tmp_path / "job.bin").read_bytes()
    assert raw[:8] == b"BFJOB4\n\0"
    assert struct.unpack_from("<4Q", raw, 8) == (2, 7, 1 << 30, 99)
    offset = 8 + 4 * 8
    for step in job.steps:
        sizes = (len(step.stream), 4, len(step.expected), 4, 2, 2)
        assert struct.unpack_from("<8Q", raw, offset) == (*sizes, *(step.wait or (0, 0)))
        offset += 8 * 8
        memory = np.zeros(0, np.uint8) if step.memory is None else step.memory
        assert struct.unpack_from("<2Q", raw, offset) == (len(memory), step.latency)
        offset += 2 * 8
        assert struct.unpack_from("<6Q", raw, offset) == (4, 17, 8, 0xFFFFFFFF, 8, 40)
        offset += 6 * 8
        for beats in (step.stream, step.expected, memory):
            assert raw[offset : offset + beats.size] == beats.tobytes()
            offset += beats.size
    assert offset == len(raw)


def test_descriptor_rows():
    rows = descriptor_rows(np.array([[0x12345, 9]]), np.array([[7, 17], [0xFFFFFFF0, 1]]), 16)
    assert rows.shape == (3, 16)
    assert [struct.unpack_from("<IHH", row.tobytes()) for row in rows] == [
        (0x12345, 9, 0),
        (7, 17, 2),
        (0xFFFFFFF0, 1, 1),
    ]
    assert not rows[:, 8:].any()
    assert descriptor_rows(np.zeros((0, 2), int), np.zeros((0, 2), int), 8).shape == (0, 8)


def test_start_writes():
    registers = RegisterMap(
        "test",
        [
            Register.value("m", "rw", "", width=16),
            Register("clip", "", [Field("low", 9, "rw", ""), Field("high", 9, "rw", "", lsb=16)]),
            Register("control", "", [Field("start", 1, "pulse", ""), Field("mode", 3, "rw", "", lsb=5)]),
        ],
    )
    values = {"clip": {"low": -200, "high": 255}, "m": {"value": 300}, "control": {"mode": 5, "start": 1}}
    # In the order given, negative values cut to their field.
    assert start_writes(registers, values) == [
        (registers.offset("clip"), (-200 & 0x1FF) | 255 << 16),
        (registers.offset("m"), 300),
        (registers.offset("control"), 5 << 5 | 1),
    ]
    with pytest.raises(KeyError):
        start_writes(registers, {"control": {"stop": 1}})
