"""Turn DRQ's cases into jobs: the driver's side of the machine."""

from __future__ import annotations

import numpy as np

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.registers import COUNTERS, ERRORS, PE_COUNTERS, drq_registers
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.drq_case import DrqCase
from bitfabric.sim.gemm_job import beats_of
from bitfabric.sim.job import Beats, Step, start_writes


def _tiles(total: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, total)) for start in range(0, total, step)]


def params_beats(config: DrqConfig, case: DrqCase, channels: slice) -> Beats:
    """Return an N tile's parameters: for every ``drain_lanes`` channels biases, multipliers, shifts, a beat of each."""
    given = [array for array in (case.bias, case.multiplier, case.shift) if array is not None]
    columns = np.stack([array[channels] for array in given]).astype(np.int64)
    padded = np.pad(columns, ((0, 0), (0, -columns.shape[1] % config.drain_lanes)))
    groups = padded.reshape(len(given), -1, config.drain_lanes).transpose(1, 0, 2).astype("<u4")
    return beats_of(groups.reshape(-1, config.drain_lanes), config.axis_bytes)


def stream_of(config: DrqConfig, case: DrqCase) -> Beats:
    """Return the packet that the machine takes: the map, then parameters and weights of one N tile after the other.

    Each pixel's channels, and each row of an N tile's weights, are filled up with zeros to whole beats.
    """
    pixels = case.image.astype(np.int8).reshape(-1, case.channels)
    weights = case.weights.astype(np.int8)
    parts = [beats_of(pixels, config.axis_bytes)]
    for tile in _tiles(case.n, config.columns):
        if case.requantized:
            parts.append(params_beats(config, case, tile))
        parts.append(beats_of(weights[:, tile], config.axis_bytes))
    return np.concatenate(parts)


def output_of(config: DrqConfig, case: DrqCase) -> Beats:
    """Return the packet that the machine sends: N tiles outermost, then rows, each filled up to whole beats.

    M tiles follow one another within an N tile, so that its rows are in the order of M.
    """
    golden = case.golden().astype(np.uint8 if case.requantized else "<u4")
    tiles = [beats_of(golden[:, tile], config.axis_bytes) for tile in _tiles(case.n, config.columns)]
    return np.concatenate(tiles)


def writes_of(config: DrqConfig, design: str, case: DrqCase) -> list[tuple[int, int]]:
    """Return the register writes that start the case; bounds and zero point stay where accumulators come out."""
    names = ("height", "width", "channels", "n", "stride", "padding", "threshold")
    values: dict[str, dict[str, int]] = {name: {"value": getattr(case, name)} for name in names}
    values["kernel"] = {"height": case.kernel_height, "width": case.kernel_width}
    values["region"] = {"height": case.region_height, "width": case.region_width}
    if case.requantized:
        values["clip"] = {"low": case.low, "high": case.high}
        values["zero_point"] = {"value": case.zero_point}
    values["status"] = {"done": 1, **{f"{name}_error": 1 for name in ERRORS}}
    values["control"] = {"start": 1, "requantize": int(case.requantized)}
    return start_writes(drq_registers(config, design), values)


def drq_step(config: DrqConfig, design: str, case: DrqCase, cycles: Cycles | None = None) -> Step:
    """Return the run of ``case`` on ``design``.

    ``cycles.breakdown`` holds the cycle counters under the registers' names without ``_cycles``, ``cycles.traffic``
    those of steps and PEs. Sensitive regions are the golden model's. Without ``cycles`` the other counters are read
    and not compared.

    Raises
    ------
    ParameterError
        If the machine cannot compute the case.
    """
    case.check(config)
    registers = drq_registers(config, design)
    names = ("status", *COUNTERS, *(PE_COUNTERS if config.pe_counters else ()))
    counters = {
        "status": registers.constants()["STATUS_DONE_MASK"],
        "sensitive": int(case.mixed.sensitive.sum()),
    }
    if cycles is not None:
        known = {f"{name}_cycles": value for name, value in cycles.breakdown.items()} | cycles.traffic
        known["total_cycles"] = cycles.total
        counters |= {name: known[name] for name in names if name not in counters}
    return Step(
        name=case.name,
        writes=writes_of(config, design, case),
        stream=stream_of(config, case),
        expected=output_of(config, case),
        reads={name: registers.offset(name) for name in names},
        counters=counters,
    )
