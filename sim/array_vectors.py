"""Vectors for the bare systolic arrays: what stands at every edge in every cycle, worked out from their docstrings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.gemm.config import GemmConfig
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.gemm import gemm
from bitfabric.sim.case import GemmCase
from bitfabric.sim.vectors import VectorJob, Words, pack_lanes

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Tile:
    acts: Ints  # (M, K), zero padded
    weights: Ints  # (K, N), zero padded

    @property
    def result(self) -> Ints:
        return gemm(self.acts.astype(np.int8), self.weights.astype(np.int8)).astype(np.int64)


def _tiles(config: GemmConfig, case: GemmCase, m_step: int, k_step: int) -> list[_Tile]:
    """Cut a case into tiles in the machine's order: M, then N, then K innermost."""
    ws = isinstance(config, SystolicWsConfig)
    tiles = []
    for m in range(0, case.m, m_step):
        for n in range(0, case.n, config.columns):
            for k in range(0, case.k, k_step):
                acts = case.acts[m : m + m_step, k : k + k_step].astype(np.int64)
                weights = case.weights[k : k + k_step, n : n + config.columns].astype(np.int64)
                # The array knows no tails: K is padded where it is a dimension of the array, else M; N always.
                m_pad = 0 if ws else config.rows - acts.shape[0]
                k_pad = config.rows - acts.shape[1] if ws else 0
                acts = np.pad(acts, ((0, m_pad), (0, k_pad)))
                n_pad = config.columns - weights.shape[1]
                tiles.append(_Tile(acts, np.pad(weights, ((0, k_pad), (0, n_pad)))))
    return tiles


def skew(lanes: NDArray[Any]) -> NDArray[Any]:
    """Return (cycles, lanes) with lane i delayed by i cycles; the start is filled with what the first row holds."""
    skewed = np.empty_like(lanes)
    for lane in range(lanes.shape[1]):
        skewed[lane:, lane] = lanes[: len(lanes) - lane, lane]
        skewed[:lane, lane] = lanes[0, lane]
    return skewed


def _noise(rng: np.random.Generator, cycles: int, lanes: int, bits: int) -> Ints:
    bound = 1 << (bits - 1)
    return rng.integers(-bound, bound, (cycles, lanes))


def _psum_mask(valid: NDArray[np.bool_], columns: int, bits: int) -> Words:
    return pack_lanes(skew(np.repeat(-valid.astype(np.int64)[:, None], columns, axis=1)), bits)


def array_vectors(config: GemmConfig, case: GemmCase, *, seed: int = 0) -> VectorJob:
    """Return what the bare array of ``config`` is fed for ``case``, and its psums.

    The tiles follow each other as closely as the machine's sequencer lets them: see the config. Where nothing
    is fed the edges carry noise, so that a result that depends on it shows; psums are compared where one is due.

    Parameters
    ----------
    config : SystolicWsConfig or SystolicOsConfig
        The array.
    case : GemmCase
        The operands; a requantization has no part in it.
    seed : int
        Of the noise.

    Raises
    ------
    ParameterError
        If the array cannot compute the case.
    """
    case.check(config)
    rng = np.random.default_rng(seed)
    if isinstance(config, SystolicWsConfig):
        return _ws_vectors(config, case, rng)
    if isinstance(config, SystolicOsConfig):
        return _os_vectors(config, case, rng)
    raise ParameterError("config", type(config).__name__, "that of systolic_ws or systolic_os")


def _ws_vectors(config: SystolicWsConfig, case: GemmCase, rng: np.random.Generator) -> VectorJob:
    rows, columns = config.rows, config.columns
    double = config.weight_buffering == "double"
    tiles = _tiles(config, case, config.m_step, rows)
    loads: list[int] = []
    feeds: list[int] = []
    for number in range(len(tiles)):
        if number == 0:
            load = 0
        elif double:
            load = feeds[-1]  # behind the swap
        else:
            load = feeds[-1] + len(tiles[number - 1].acts) + rows + columns - 2  # when the last psum has left
        feed = load + rows
        if number:
            feed = max(feed, feeds[-1] + len(tiles[number - 1].acts))
        loads.append(load)
        feeds.append(feed)
    cycles = feeds[-1] + len(tiles[-1].acts) + rows + columns + 2

    # As column 0 and row 0 see it; the skews come last.
    act = _noise(rng, cycles, rows, config.act_bits)
    weight = _noise(rng, cycles, columns, config.weight_bits)
    load_enable, swap = np.zeros((cycles, rows), np.int64), np.zeros((cycles, rows), np.int64)
    psum, valid = np.zeros((cycles, columns), np.int64), np.zeros(cycles, np.bool_)
    for tile, load, feed in zip(tiles, loads, feeds, strict=True):
        weight[load : load + rows] = tile.weights[::-1]
        if double:
            for row in range(rows):
                load_enable[load + row : load + rows - 1, row] = 1
            weight[load + rows - 1 : feed] = tile.weights[0]
            swap[feed - 1] = 1
        else:
            load_enable[load : load + rows] = 1
        m = len(tile.acts)
        act[feed : feed + m] = tile.acts
        psum[feed + rows : feed + rows + m] = tile.result
        valid[feed + rows : feed + rows + m] = True
    inputs = {
        "act": pack_lanes(skew(act), config.act_bits),
        "weight": pack_lanes(skew(weight), config.weight_bits),
        "load": pack_lanes(load_enable, 1),
    }
    if double:
        inputs["swap"] = pack_lanes(skew(swap), 1)
    return VectorJob(
        name=case.name,
        inputs=inputs,
        expected={"psum": pack_lanes(skew(psum), config.psum_bits)},
        mask={"psum": _psum_mask(valid, columns, config.psum_bits)},
    )


def _os_vectors(config: SystolicOsConfig, case: GemmCase, rng: np.random.Generator) -> VectorJob:
    rows, columns = config.rows, config.columns
    tiles = _tiles(config, case, rows, case.k)
    k = case.k
    period = max(k, rows) if config.tile_overlap else k + rows + columns - 2
    feeds = [number * period for number in range(len(tiles))]
    cycles = feeds[-1] + k + 2 * rows + columns + 2

    act = _noise(rng, cycles, rows, config.act_bits)
    weight = _noise(rng, cycles, columns, config.weight_bits)
    control = np.zeros((cycles, rows), np.int64)  # valid, first, capture: bits 0 to 2
    shift = np.zeros((cycles, rows), np.int64)
    psum, valid = np.zeros((cycles, columns), np.int64), np.zeros(cycles, np.bool_)
    for tile, feed in zip(tiles, feeds, strict=True):
        act[feed : feed + k] = tile.acts.T
        weight[feed : feed + k] = tile.weights
        control[feed : feed + k] |= 1
        control[feed] |= 2
        control[feed + k] |= 4
        south = feed + k + rows  # the last row's sums stand at the edge
        for row in range(rows):
            shift[south : south + row, row] = 1
        psum[south : south + rows] = tile.result[::-1]
        valid[south : south + rows] = True
    lane_mask = (1 << config.act_bits) - 1
    west = (act & lane_mask) | (control << config.act_bits)
    # Noise is no activation, but its control must say so from the first cycle on.
    skewed = skew(west)
    for row in range(rows):
        skewed[:row, row] &= lane_mask
    return VectorJob(
        name=case.name,
        inputs={
            "west": pack_lanes(skewed, config.act_bits + 3),
            "weight": pack_lanes(skew(weight), config.weight_bits),
            "shift": pack_lanes(shift, 1),
        },
        expected={"psum": pack_lanes(skew(psum), config.acc_bits)},
        mask={"psum": _psum_mask(valid, columns, config.acc_bits)},
    )
