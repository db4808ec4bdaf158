"""The driver's side of Panacea: packets and writes, against a construction element by element."""

import struct

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.registers import ERRORS, panacea_registers
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import Slicing
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.designs import PANACEA, simulated
from bitfabric.sim.panacea_job import output_of, panacea_step, stream_of
from bitfabric.sim.panacea_random import random_case, random_chain
from bitfabric.sim.panacea_records import act_records, weight_records

CONFIGS = {
    "tiny-64": PanaceaConfig.preset("tiny"),
    "small-128": PanaceaConfig.preset("small", peas=16, tile_n=8),
    "paper-256": PanaceaConfig.preset("paper", peas=4, tile_k=16, tile_n=16),
    "wide-512": PanaceaConfig.preset("paper", peas=4, tile_k=8, tile_n=12, axis_data_bits=512),
}
CYCLES = Cycles(
    array_cycles=7,
    total=100,
    utilization=0.5,
    machine_utilization=0.1,
    breakdown={"load": 10, "compute": 20, "stalled": 30, "drain": 40, "ppu_stall": 3},
)


def padded(raw, beat):
    return raw.ljust(-(-len(raw) // beat) * beat, b"\0")


def starts(total, step):
    return range(0, total, step)


def expected_stream(config, case):
    """Follow the order of ``stream_of``; letters as in the machine, M for output channels."""
    beat, out = config.axis_data_bits // 8, b""
    m, k, n = case.n, case.k, case.m
    tile = config.m_step
    weights = weight_records(config, case.weights.T, case.slicing)
    acts = act_records(config, case.acts.T, case.slicing, case.zero_point)
    bias = case.folded_bias()
    for m0 in starts(m, 2 * tile if case.dtp else tile):
        tiles = [m0 // tile]
        if case.dtp and m0 + tile < m:
            tiles.append(m0 // tile + 1)
        for t in tiles:
            for pea in starts(min(tile, m - t * tile), 4):
                raw = b""
                for channel in range(t * tile + pea, t * tile + pea + 4):
                    if channel >= m:
                        raw += bytes(9)
                    elif case.codes:
                        raw += struct.pack(
                            "<iIB", bias[channel], case.multiplier[channel], case.shift[channel]
                        )
                    else:
                        raw += struct.pack("<iIB", bias[channel], 0, 0)
                assert len(raw) == 36
                out += padded(raw, beat)
        for n0 in starts(n, config.tile_n):
            for k0 in starts(k, config.tile_k):
                if n0 == 0 or case.stream_weights:
                    for t in tiles:
                        out += weights[t][k0 // config.tile_k].tobytes()
                if (m0 == 0 or not case.resident) and not case.from_omem:
                    out += acts[n0 // config.tile_n][k0 // config.tile_k].tobytes()
    return out


def expected_output(config, case):
    beat, out, golden = config.axis_data_bits // 8, b"", case.golden().T
    m, n = golden.shape
    if case.keep:
        return b""
    for m0 in starts(m, config.m_step * (2 if case.dtp else 1)):
        for n0 in starts(n, config.tile_n):
            # A's halves, then B's: output channels in their order.
            for h0 in range(m0, min(m0 + config.m_step * (2 if case.dtp else 1), m), config.tile_k):
                rows = range(h0, min(h0 + config.tile_k, m))
                columns = range(n0, min(n0 + config.tile_n, n))
                if case.codes:
                    slicing = Slicing(act_bits=case.next_bits, low_bits=case.next_low_bits)
                    part = golden[rows.start : rows.stop, columns.start : columns.stop]
                    out += act_records(config, part, slicing, case.next_zero_point)[0][0].tobytes()
                    continue
                for group in range(columns.start, columns.stop, 4):
                    for pea in range(rows.start, rows.stop, 4):
                        block = b"".join(
                            struct.pack("<i", golden[r, c] if r < m and c < n else 0)
                            for r in range(pea, pea + 4)
                            for c in range(group, group + 4)
                        )
                        out += padded(block, beat)
    return out


@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("dtp", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_packets(name, dtp, codes):
    config, rng = CONFIGS[name], np.random.default_rng(7)
    steps = set()
    for m, k, n in [(1, 1, 1), (9, 13, 17), (19, 10, 130), (30, 33, 41), (5, 32, 64)]:
        for resident, streamed in ((False, False), (True, False), (True, True), (False, True)):
            modes = {"dtp": dtp, "resident": resident, "stream_weights": streamed}
            case = random_case(config, rng, m, k, n, codes=codes, **modes)
            stream, output = stream_of(config, case), output_of(config, case)
            assert stream.dtype == output.dtype == np.uint8
            assert stream.shape[1] == output.shape[1] == config.axis_data_bits // 8
            assert stream.tobytes() == expected_stream(config, case)
            assert output.tobytes() == expected_output(config, case)
            steps.add(case.steps(config))
    assert len(steps) > 1


def test_packets_of_kept_outputs():
    config = CONFIGS["small-128"]
    first, second = random_chain(config, np.random.default_rng(2), 10, [20, 70, 9])
    assert output_of(config, first).shape == (0, 16)
    for case in (first, second):
        assert stream_of(config, case).tobytes() == expected_stream(config, case)
    assert output_of(config, second).tobytes() == expected_output(config, second)
    step = panacea_step(config, "panacea", first, CYCLES)
    registers = panacea_registers(config)
    assert step.wait == (registers.offset("status"), registers.constants()["STATUS_DONE_MASK"])
    assert panacea_step(config, "panacea", second, CYCLES).wait is None


def test_step():
    config = CONFIGS["tiny-64"]
    case = random_case(
        config,
        np.random.default_rng(3),
        9,
        7,
        5,
        codes=True,
        weight_bits=10,
        act_bits=8,
        low_bits=6,
        zero_point=200,
        dtp=True,
        resident=False,
        stream_weights=True,
        next_bits=12,
        next_low_bits=4,
        next_zero_point=3000,
    )
    step = panacea_step(config, "panacea", case, CYCLES)
    registers = panacea_registers(config)
    writes = dict(step.writes)
    # M and N change places.
    assert [writes[registers.offset(name)] for name in ("m", "k", "n")] == [5, 7, 9]
    assert writes[registers.offset("format")] == 3 | 2 << 2 | 2 << 4 | 200 << 8
    assert writes[registers.offset("next_format")] == 3 | 0 << 2 | 3000 << 8
    low, high = registers.offset("pwl_low"), registers.offset("pwl_write")
    table = [(offset, word) for offset, word in step.writes if offset in (low, high)]
    assert [offset for offset, _ in table] == [low, high] * config.segments
    for segment, word in enumerate(case.table.words()):
        assert table[2 * segment][1] | (table[2 * segment + 1][1] & 0xFFFF) << 32 == word
        assert table[2 * segment + 1][1] >> 16 == segment | 1 << 15
    assert step.writes[-2] == (registers.offset("status"), ((1 << len(ERRORS) + 1) - 1) << 1)
    assert step.writes[-1] == (registers.offset("control"), 0b101011)
    assert step.reads.keys() == step.counters.keys()
    assert all(step.reads[name] == registers.offset(name) for name in step.reads)
    assert step.counters == {
        "status": 0b10,
        "load_cycles": 10,
        "compute_cycles": 20,
        "stalled_cycles": 30,
        "drain_cycles": 40,
        "ppu_stall_cycles": 3,
        "total_cycles": 100,
        **case.counts(config),
    }


def test_accumulators_write_no_table():
    config = CONFIGS["tiny-64"]
    case = random_case(config, np.random.default_rng(0), 2, 3, 4, codes=False)
    offsets = [offset for offset, _ in panacea_step(config, "panacea", case, CYCLES).writes]
    assert panacea_registers(config).offset("pwl_write") not in offsets


def test_the_design_refuses_before_it_models():
    with pytest.raises(ParameterError, match=r"M=0 is not allowed; it must be an integer in \[1, 65535\]"):
        PANACEA.gemm_cycles(CONFIGS["tiny-64"], 0, 1, 1)
    with pytest.raises(ParameterError, match=r"act_sparsity=1.5 is not allowed; it must be in \[0, 1\]"):
        PANACEA.gemm_cycles(CONFIGS["tiny-64"], 1, 1, 1, act_sparsity=1.5)
    dense = simulated("systolic_ws")
    config = SystolicWsConfig.preset("tiny")
    with pytest.raises(ParameterError, match=r"weight_sparsity=0\.5 is not allowed; it must be left out"):
        dense.gemm_cycles(config, 1, 1, 1, weight_sparsity=0.5)
    assert dense.gemm_cycles(config, 1, 1, 1, weight_sparsity=None).array_cycles == 7
