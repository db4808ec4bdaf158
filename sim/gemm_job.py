"""Turn GEMM cases into jobs: the driver's side of the GEMM machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.gemm.config import GemmConfig
from bitfabric.hdl.gemm.registers import COUNTERS, gemm_registers
from bitfabric.sim.case import GemmCase
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.job import Beats, Step, start_writes


def beats_of(words: NDArray[Any], beat_bytes: int) -> Beats:
    """Return rows of elements as whole beats, each row padded with zeros."""
    raw = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
    padding = -raw.shape[1] % beat_bytes
    return np.pad(raw, ((0, 0), (0, padding))).reshape(-1, beat_bytes)


def _ranges(total: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, total)) for start in range(0, total, step)]


def _params(config: GemmConfig, case: GemmCase, n_range: slice) -> Beats:
    """Return biases, multipliers and shifts, ``drain_lanes`` channels to a beat."""
    lanes = config.drain_lanes
    columns = np.stack([column[n_range] for column in case.channel_parameters()]).astype(np.int64)
    padded = np.pad(columns, ((0, 0), (0, -columns.shape[1] % lanes)))
    ordered = padded.reshape(3, -1, lanes).transpose(1, 0, 2).astype("<u4")
    return beats_of(ordered.reshape(-1, lanes), config.axis_data_bits // 8)


def stream_of(config: GemmConfig, case: GemmCase) -> Beats:
    """Return what ``Loader`` takes, in its order."""
    beat = config.axis_data_bits // 8
    acts, weights = case.acts.astype(np.int8), case.weights.astype(np.int8)
    resident = config.resident(case.m, case.k)
    k_ranges, n_ranges = _ranges(case.k, config.k_step), _ranges(case.n, config.columns)
    weight_beats = {(n.start, k.start): beats_of(weights[k, n], beat) for n in n_ranges for k in k_ranges}
    parts: list[Beats] = []
    for m_range in _ranges(case.m, config.m_step):
        tiles = [acts[m_range, k] if config.m_innermost else acts[m_range, k].T for k in k_ranges]
        act_beats = [beats_of(tile, beat) for tile in tiles]
        for number, n_range in enumerate(n_ranges):
            if case.requantized:
                parts.append(_params(config, case, n_range))
            for k_range, act in zip(k_ranges, act_beats, strict=True):
                parts.append(weight_beats[n_range.start, k_range.start])
                if number == 0 or not resident:
                    parts.append(act)
    return np.concatenate(parts)


def output_of(config: GemmConfig, case: GemmCase) -> Beats:
    """Return what ``Drain`` sends for the golden result."""
    golden = case.golden()
    kind = np.uint8 if case.requantized else "<u4"
    tiles: Iterator[Beats] = (
        beats_of(golden[m, n].astype(np.int64).astype(kind), config.axis_data_bits // 8)
        for m in _ranges(case.m, config.m_step)
        for n in _ranges(case.n, config.columns)
    )
    return np.concatenate(list(tiles))


def gemm_step(config: GemmConfig, design: str, case: GemmCase, cycles: Cycles) -> Step:
    """Return the run of ``case`` on ``design``.

    Raises
    ------
    ParameterError
        If the machine cannot compute the case.
    """
    case.check(config)
    registers = gemm_registers(config, design)
    writes = start_writes(
        registers,
        {
            "m": {"value": case.m},
            "k": {"value": case.k},
            "n": {"value": case.n},
            "clip": {"low": case.low, "high": case.high},
            "zero_point": {"value": case.zero_point},
            "status": {"done": 1, "framing_error": 1, "bad_dimension": 1},
            "control": {
                "requantize": case.requantized,
                "resident": config.resident(case.m, case.k),
                "start": 1,
            },
        },
    )
    reads = {f"{name}_cycles": registers.offset(f"{name}_cycles") for name in COUNTERS}
    counters = {f"{name}_cycles": cycles.breakdown[name] for name in COUNTERS if name != "total"}
    counters["total_cycles"] = cycles.total
    # Stalls change the counters, never the status: done, not busy, no framing error, no bad dimension.
    return Step(
        name=case.name,
        writes=writes,
        stream=stream_of(config, case),
        expected=output_of(config, case),
        reads={"status": registers.offset("status"), **reads},
        counters={"status": registers.constants()["STATUS_DONE_MASK"], **counters},
    )
