"""Cycle model of Drift, equal to the RTL: of cases, and of GEMMs from shares of low precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.quant.drift import MixedOperand
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.drift_array import gemm_work, region_cycles
from bitfabric.sim.cycles.drift_layer import Intake, Layer, layer_cycles
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_limits import check_dimensions, check_results, check_rows, check_weights
from bitfabric.sim.drift_options import Precision


def case_cycles(config: DriftConfig, case: DriftCase) -> Cycles:
    """Return the cycles of a case."""
    counts, size = case.counts, case.pool_size
    return layer_cycles(
        config,
        Layer(
            m=case.m,
            k=case.k,
            n_high=counts.n_high,
            n_low=counts.n_low,
            acts=_intake(case.rows, case.precision),
            resident=case.resident,
            accumulators=not case.requantized,
            pooled=None if size is None else (size.rows, size.kernel_height, size.kernel_width),
            kept=_intake(case.next_rows, case.next_precision) if case.keep else None,
        ),
    )


def _intake(rows: MixedOperand, precision: Precision) -> Intake:
    return Intake(
        low=rows.low[:: precision.subtensor_rows],
        subtensor_rows=precision.subtensor_rows,
        bits=(precision.high_bits, precision.low_bits),
    )


def remarks(config: DriftConfig, case: DriftCase, cycles: Cycles) -> dict[str, float | str]:
    """Return split, shares of low precision, and the speed-up of the arrays over INT8 on the same groups.

    INT8 runs on the whole fabric as one array: with the machine's own buffering, and with the single-buffered timing of
    BitFusion (eq. 7).
    """
    counts = case.counts
    word = cycles.traffic["split"]
    work = gemm_work(config, case.m, 0, case.k, case.n, 0)
    int8 = {
        mode: int(
            region_cycles(
                mode, config.acc_depth, case.m, work.q_high, work.g_high, config.rows, config.columns
            )
        )
        for mode in ("single", config.weight_buffering)
    }
    return {
        "columns of 8-bit weights": f"{word & 0xFF} of {config.columns}",
        "upper rows": f"{word >> 8 & 0xFF} and {word >> 16} of {config.rows}",
        "low rows": counts.m_low / case.m,
        "low channels": counts.n_low / case.n,
        "speed-up over INT8": int8[config.weight_buffering] / cycles.array_cycles,
        "over INT8 with eq. 7": int8["single"] / cycles.array_cycles,
    }


def gemm_cycles(
    config: DriftConfig,
    m: int,
    k: int,
    n: int,
    *,
    requantize: bool = False,
    act_low: float = 0.0,
    weight_low: float = 0.0,
) -> Cycles:
    """Return the cycles of a GEMM at 8 and 4 bits.

    Rows that index buffer or global buffer cannot hold at once are done in several parts of equal size, for each of
    which the weights cross again. Channels that the memories for results and parameters cannot hold at once are done in several
    layers on the same activations; the splits of all but the first are prepared under the layer before.

    Parameters
    ----------
    config : DriftConfig
        The machine.
    m, k, n : int
        Dimensions.
    requantize : bool
        Bytes come out, not accumulators.
    act_low, weight_low : float
        Shares of rows and of channels at low precision, rounded to whole ones and spread evenly.

    Raises
    ------
    ParameterError
        If activations, or the weights of a channel, do not fit.
    """
    check_dimensions(config, m, k, n)
    check_weights(config, k)
    n_low = round(weight_low * n)
    layers = [
        layer_cycles(
            config,
            Layer(
                m=len(low),
                k=k,
                n_high=high,
                n_low=low_channels,
                acts=Intake(low=low, subtensor_rows=1, bits=(8, 4)),
                resident=number > 0,
                prepared=number > 0,
                accumulators=not requantize,
            ),
        )
        for low in _row_parts(config, k, _spread(m, act_low))
        for number, (high, low_channels) in enumerate(
            _parts(config, len(low), n - n_low, n_low, not requantize)
        )
    ]
    return layers[0] if len(layers) == 1 else _sum(layers)


def _row_parts(config: DriftConfig, k: int, low: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the rows of the fewest parts that index buffer and global buffer allow."""
    for count in range(-(-len(low) // config.m_max), len(low) + 1):
        parts = np.array_split(low, count)
        try:
            for part in parts:
                m_low = int(part.sum())
                rows = {"high": len(part) - m_low, "low": m_low}
                check_rows(config, k, rows, {"high": 8, "low": 4}, "the activations")
        except ParameterError:
            if count == len(low):
                raise
            continue
        return parts
    raise AssertionError("one row per part is the end")


def _spread(count: int, share: float) -> NDArray[np.bool_]:
    """Return ``count`` flags of which a share is set, evenly spread."""
    reached = (np.arange(count + 1) * round(share * count)) // count
    return np.diff(reached) > 0


def _parts(config: DriftConfig, m: int, n_high: int, n_low: int, accumulators: bool) -> list[tuple[int, int]]:
    """Return the channels of the fewest layers that the memories allow."""
    n = n_high + n_low
    for count in range(1, n + 1):
        cuts = [[total * i // count for i in range(count + 1)] for total in (n_high, n_low)]
        parts = [(cuts[0][i + 1] - cuts[0][i], cuts[1][i + 1] - cuts[1][i]) for i in range(count)]
        try:
            for part in parts:
                check_results(config, m, *part, accumulators=accumulators)
        except ParameterError:
            if count == n:
                raise
            continue
        return [part for part in parts if sum(part)]
    raise AssertionError("one channel per layer is the end")


def _sum(layers: list[Cycles]) -> Cycles:
    """Return the cycles of layers that run one after the other."""
    array, total = (sum(getattr(each, name) for each in layers) for name in ("array_cycles", "total"))
    names = [name for name in layers[0].traffic if name != "split"]
    traffic = {name: sum(each.traffic[name] for each in layers) for name in names}
    traffic["split"] = layers[-1].traffic["split"]
    return Cycles(
        array_cycles=array,
        total=total,
        utilization=traffic["bound"] / array,
        machine_utilization=traffic["bound"] / total,
        breakdown={name: sum(each.breakdown[name] for each in layers) for name in layers[0].breakdown},
        traffic=traffic,
    )
