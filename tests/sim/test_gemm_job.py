"""The driver's side of the GEMM machines: streams and results, against a byte-by-byte construction."""

import struct

import numpy as np
import pytest

from bitfabric.hdl.gemm.registers import gemm_registers
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.case import GemmCase, random_case
from bitfabric.sim.cycles import systolic_ws
from bitfabric.sim.gemm_job import beats_of, gemm_step, output_of, stream_of

CONFIGS = {
    "ws-32": SystolicWsConfig.preset("tiny"),
    "ws-64": SystolicWsConfig.preset("tiny", rows=5, columns=9, acc_depth=3, act_depth=6, axis_data_bits=64),
    "ws-512": SystolicWsConfig.preset("tiny", columns=17, axis_data_bits=512),
    "os-32": SystolicOsConfig.preset("tiny"),
    "os-128": SystolicOsConfig.preset("tiny", rows=5, columns=6, axis_data_bits=128),
}


def padded(raw, beat):
    return raw.ljust(-(-len(raw) // beat) * beat, b"\0")


def signed_bytes(values):
    return b"".join(struct.pack("<b", int(v)) for v in values)


def expected_stream(config, case):
    """Follow ``Loader``'s description one element at a time."""
    beat, lanes, out = config.axis_data_bits // 8, config.axis_data_bits // 32, b""
    output_stationary = isinstance(config, SystolicOsConfig)
    m_step, k_step = (
        (config.rows, config.weight_depth) if output_stationary else (config.acc_depth, config.rows)
    )
    words = case.k if output_stationary else min(case.m, m_step) * -(-case.k // k_step)
    for m0 in range(0, case.m, m_step):
        rows = range(m0, min(m0 + m_step, case.m))
        for n0 in range(0, case.n, config.columns):
            columns = range(n0, min(n0 + config.columns, case.n))
            for k0 in range(0, case.k, k_step):
                depth = range(k0, min(k0 + k_step, case.k))
                if case.requantized and k0 == 0:
                    for first in range(0, len(columns), lanes):
                        group = columns[first : first + lanes]
                        out += padded(b"".join(struct.pack("<i", case.bias[c]) for c in group), beat)
                        out += padded(b"".join(struct.pack("<I", case.multiplier[c]) for c in group), beat)
                        out += padded(b"".join(struct.pack("<I", case.shift[c]) for c in group), beat)
                for k in depth:
                    out += padded(signed_bytes(case.weights[k, c] for c in columns), beat)
                if n0 == 0 or words > config.act_depth:
                    if output_stationary:
                        for k in depth:
                            out += padded(signed_bytes(case.acts[m, k] for m in rows), beat)
                    else:
                        for m in rows:
                            out += padded(signed_bytes(case.acts[m, k] for k in depth), beat)
    return out


def expected_output(config, case):
    beat, out, golden = config.axis_data_bits // 8, b"", case.golden()
    m_step = config.rows if isinstance(config, SystolicOsConfig) else config.acc_depth
    for m0 in range(0, case.m, m_step):
        for n0 in range(0, case.n, config.columns):
            for m in range(m0, min(m0 + m_step, case.m)):
                row = [int(golden[m, c]) for c in range(n0, min(n0 + config.columns, case.n))]
                if case.requantized:
                    out += padded(bytes(v & 0xFF for v in row), beat)
                else:
                    out += padded(b"".join(struct.pack("<i", v) for v in row), beat)
    return out


@pytest.mark.parametrize("requantized", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_stream_and_output(name, requantized):
    config = CONFIGS[name]
    rng = np.random.default_rng(4)
    kinds = set()
    for m, k, n in [(1, 1, 1), (4, 7, 5), (9, 13, 19), (17, 10, 18), (3, 31, 2)]:
        case = random_case(config, rng, m, k, n, requantized=requantized)
        stream, output = stream_of(config, case), output_of(config, case)
        assert stream.dtype == output.dtype == np.uint8
        assert stream.shape[1] == output.shape[1] == config.axis_data_bits // 8
        assert stream.tobytes() == expected_stream(config, case)
        assert output.tobytes() == expected_output(config, case)
        kinds.add(config.resident(m, k))
    assert kinds == {True, False}


@pytest.mark.parametrize(
    ("columns", "beat", "beats"), [(1, 4, 1), (4, 4, 1), (5, 4, 2), (3, 64, 1), (9, 8, 2)]
)
def test_rows_start_on_a_beat(columns, beat, beats):
    words = np.arange(1, 3 * columns + 1, dtype=np.uint8).reshape(3, columns)
    rows = beats_of(words, beat).reshape(3, beats * beat)
    np.testing.assert_array_equal(rows[:, :columns], words)
    assert not rows[:, columns:].any()
    # Little endian, and of operands that are a part of something larger.
    wide = np.arange(24, dtype="<u4").reshape(4, 6)[:, ::2] + 0x01020304
    assert beats_of(wide, 4).tobytes() == b"".join(struct.pack("<I", v) for v in wide.ravel())


def test_step():
    config = CONFIGS["ws-32"]
    case = GemmCase(
        name="mine",
        acts=np.ones((9, 4), np.int8),
        weights=np.ones((4, 3), np.int8),
        bias=np.zeros(3, int),
        multiplier=np.ones(3, int),
        shift=np.ones(3, int),
        low=-100,
        high=55,
        zero_point=-3,
    )
    cycles = systolic_ws.gemm_cycles(config, 9, 4, 3, requantize=True)
    step = gemm_step(config, "systolic_ws", case, cycles)
    registers = gemm_registers(config, "systolic_ws")
    writes = dict(step.writes)
    assert step.name == "mine"
    assert [writes[registers.offset(name)] for name in ("m", "k", "n")] == [9, 4, 3]
    assert writes[registers.offset("clip")] == (-100 & 0x1FF) | 55 << 16
    assert writes[registers.offset("zero_point")] == -3 & 0x1FF
    assert step.writes[-1] == (
        registers.offset("control"),
        0b111,
    )  # start, requantize, resident; the last one
    assert step.counters.keys() == step.reads.keys()
    assert step.counters["total_cycles"] == cycles.total
    assert step.counters["status"] == 0b10  # done, and no error
    for name in ("load", "compute", "stalled", "drain"):
        assert step.counters[f"{name}_cycles"] == cycles.breakdown[name]
        assert step.reads[f"{name}_cycles"] == registers.offset(f"{name}_cycles")


def test_a_case_that_does_not_fit_is_refused():
    config = SystolicWsConfig.preset("tiny", k_max=3)
    case = GemmCase(acts=np.ones((1, 4), np.int8), weights=np.ones((4, 1), np.int8))
    cycles = systolic_ws.gemm_cycles(config, 1, 3, 1)
    with pytest.raises(ParameterError) as error:
        gemm_step(config, "systolic_ws", case, cycles)
    assert str(error.value) == "K=4 is not allowed; it must be an integer in [1, 3]"
