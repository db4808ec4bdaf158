"""Cycle models: closed forms, SCALE-Sim's table, and a shortcut over N that changes nothing."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles import gemm, systolic_os, systolic_ws

TABLE = json.loads((Path(__file__).parent / "data" / "scalesim_3_0_0.json").read_text())["cases"]
WIDTHS = st.sampled_from([32, 64, 128, 256, 512])
SIZES = st.integers(1, 40)


def steps(total, step):
    return [min(step, total - start) for start in range(0, total, step)]


@st.composite
def ws_configs(draw):
    acc_depth = draw(st.integers(1, 50))
    return SystolicWsConfig(
        rows=draw(st.integers(1, 12)),
        columns=draw(st.integers(1, 12)),
        acc_depth=acc_depth,
        act_depth=acc_depth + draw(st.sampled_from([0, 1, 7, 100])),
        axis_data_bits=draw(WIDTHS),
        weight_buffering=draw(st.sampled_from(["single", "double"])),
    )


@st.composite
def os_configs(draw):
    rows = draw(st.integers(1, 12))
    weight_depth = rows + draw(st.integers(0, 30))
    return SystolicOsConfig(
        rows=rows,
        columns=draw(st.integers(1, 12)),
        weight_depth=weight_depth,
        act_depth=weight_depth + draw(st.sampled_from([0, 1, 7, 100])),
        axis_data_bits=draw(WIDTHS),
        tile_overlap=draw(st.booleans()),
    )


def model(config):
    return systolic_ws if isinstance(config, SystolicWsConfig) else systolic_os


def check_figures(config, cycles, m, k, n):
    parts = cycles.breakdown
    assert parts.keys() == {"load", "compute", "stalled", "drain"}
    assert sum(parts.values()) == cycles.total
    assert all(value >= 0 for value in parts.values())
    assert parts["compute"] == cycles.array_cycles
    assert cycles.utilization == m * k * n / (config.rows * config.columns * cycles.array_cycles)
    assert 0 < cycles.utilization <= 1


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ws_configs(), SIZES, SIZES, SIZES, st.booleans())
def test_ws_closed_forms(config, m, k, n, requantize):
    cycles = systolic_ws.gemm_cycles(config, m, k, n, requantize=requantize)
    check_figures(config, cycles, m, k, n)
    rows, columns = config.rows, config.columns
    tiles = -(-k // rows) * -(-n // columns)
    chunks = steps(m, config.acc_depth)
    if config.weight_buffering == "single":
        expected = sum((2 * rows + chunk + columns - 2) * tiles for chunk in chunks)
    else:
        spacings = [max(chunk, rows) for chunk in chunks for _ in range(tiles)]
        expected = rows + sum(spacings[:-1]) + chunks[-1] + rows + columns - 2
        if len(chunks) == 1:
            assert expected == rows + (tiles - 1) * max(m, rows) + m + rows + columns - 2
    assert cycles.array_cycles == expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(os_configs(), SIZES, st.integers(1, 80), SIZES, st.booleans())
def test_os_closed_forms(config, m, k, n, requantize):
    cycles = systolic_os.gemm_cycles(config, m, k, n, requantize=requantize)
    check_figures(config, cycles, m, k, n)
    rows, columns = config.rows, config.columns
    tiles = -(-m // rows) * -(-n // columns)
    if config.tile_overlap:
        expected = (tiles - 1) * max(k, rows) + k + rows + columns - 2
    else:
        expected = tiles * (rows + columns + k - 2)
    assert cycles.array_cycles == expected


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.one_of(ws_configs(), os_configs()), SIZES, st.integers(1, 60), st.integers(1, 700), st.booleans())
def test_extrapolation_over_n_changes_nothing(config, m, k, n, requantize):
    assume(n > 3 * config.columns)
    gemm_cycles = model(config).gemm_cycles
    gemm.compute_cycles.cache_clear()
    fast = gemm_cycles(config, m, k, n, requantize=requantize)
    unique = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gemm.Times, "relative", lambda self: (next(unique),))  # no state comes twice
        gemm.compute_cycles.cache_clear()
        plain = gemm_cycles(config, m, k, n, requantize=requantize)
    assert fast == plain


@pytest.mark.parametrize("requantize", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        SystolicWsConfig(),
        SystolicWsConfig(weight_buffering="double"),
        SystolicWsConfig.preset("tiny"),
        SystolicOsConfig(),
        SystolicOsConfig(tile_overlap=True),
        SystolicOsConfig.preset("tiny"),
    ],
    ids=["ws", "double", "ws-tiny", "os", "overlap", "os-tiny"],
)
def test_extrapolation_saves_nearly_all_tiles(config, requantize, monkeypatch):
    gemm_cycles = model(config).gemm_cycles
    gemm.compute_cycles.cache_clear()
    passes = []
    plain = gemm._n_tile
    monkeypatch.setattr(gemm, "_n_tile", lambda *args: passes.append(args) or plain(*args))
    gemm_cycles(config, 64, 96, 1000 * config.columns, requantize=requantize)
    assert len(passes) < 50 * -(-64 // config.m_step)


@pytest.mark.parametrize("case", TABLE, ids=lambda c: "-".join(str(c[key]) for key in c))
def test_scalesim(case):
    m, k, n = case["m"], case["k"], case["n"]
    size = {"rows": case["rows"], "columns": case["columns"]}
    if case["dataflow"] == "ws":
        config = SystolicWsConfig(**size, acc_depth=m, act_depth=max(m, 1024))
    else:
        config = SystolicOsConfig(**size)
    cycles = model(config).gemm_cycles(config, m, k, n)
    assert cycles.array_cycles - 1 == case["cycles"]  # it counts from 0


def test_plain_data():
    cycles = systolic_ws.gemm_cycles(SystolicWsConfig.preset("tiny"), 1, 1, 1)
    assert cycles.array_cycles == 2 * 3 + 1 + 2 - 2
    assert json.loads(json.dumps(cycles.to_dict())) == {
        "array_cycles": 7,
        "total": cycles.total,
        "utilization": pytest.approx(1 / 42),
        "machine_utilization": pytest.approx(1 / (6 * cycles.total)),
        "breakdown": cycles.breakdown,
        "traffic": {},
    }


@pytest.mark.parametrize("config", [SystolicWsConfig.preset("tiny"), SystolicOsConfig.preset("tiny")])
@pytest.mark.parametrize(
    ("dimensions", "text"),
    [
        ((0, 1, 1), "M=0 is not allowed; it must be an integer in [1, 65535]"),
        ((1, 65536, 1), "K=65536 is not allowed; it must be an integer in [1, 65535]"),
        ((1, 1, -1), "N=-1 is not allowed; it must be an integer in [1, 65535]"),
    ],
)
def test_refused(config, dimensions, text):
    with pytest.raises(ParameterError) as error:
        model(config).gemm_cycles(config, *dimensions)
    assert str(error.value) == text
