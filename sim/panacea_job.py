"""Turn Panacea's cases into jobs: the driver's side of the machine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.panacea.config import CHANNEL_BITS, VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.registers import COUNTERS, ERRORS, EVENTS, panacea_registers
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.job import Beats, Step, start_writes
from bitfabric.sim.panacea_case import PanaceaCase
from bitfabric.sim.panacea_records import case_tiles


def _channel_words(config: PanaceaConfig, case: PanaceaCase) -> NDArray[np.uint8]:
    """Return the parameters of each group of v output channels: (groups, beats, bytes)."""
    words = np.zeros((-(-case.n // VECTOR) * VECTOR, CHANNEL_BITS // 8), np.uint8)
    words[: case.n, :4] = case.folded_bias().astype("<i4")[:, None].view(np.uint8)
    if case.multiplier is not None and case.shift is not None:
        words[: case.n, 4:8] = case.multiplier.astype("<u4")[:, None].view(np.uint8)
        words[: case.n, 8] = case.shift
    raw = words.reshape(-1, VECTOR * CHANNEL_BITS // 8)
    beat = config.axis_data_bits // 8
    return np.pad(raw, ((0, 0), (0, config.params_beats * beat - raw.shape[1]))).reshape(
        len(raw), config.params_beats, beat
    )


def _row_tiles(config: PanaceaConfig, case: PanaceaCase) -> Iterator[tuple[int, list[int]]]:
    """Yield each M step's number and its weight tiles: A, or A and B."""
    tiles, together = -(-case.n // config.m_step), 2 if case.dtp else 1
    for step, first in enumerate(range(0, tiles, together)):
        yield step, list(range(first, min(first + together, tiles)))


def stream_of(config: PanaceaConfig, case: PanaceaCase) -> Beats:
    """Return the packet that the machine takes.

    For every M step (a weight tile A, or with DTP A and B):

    1. The parameters of A's PEAs, then of B's. For each PEA that has output channels ``params_beats`` beats, little
       endian: for each of v channels from bit 0 up bias with fold (32), multiplier (32), shift (8); absent channels 0.
    2. For every N tile, for every K tile:

       a. under the first N tile, or if weights are streamed, the weight record of A, then B's if there is one,
       b. under the first M step, or if activations are not resident, the activation record; none from OMEM.

    B is there only where A leaves output channels for it.
    """
    weights, acts, _ = case_tiles(config, case)
    channels = _channel_words(config, case)
    parts: list[Beats] = []
    for step, tiles in _row_tiles(config, case):
        present = channels[tiles[0] * config.peas : (tiles[-1] + 1) * config.peas]
        parts.append(present.reshape(-1, present.shape[-1]))
        for n_tile, row in enumerate(acts):
            for k_tile, act in enumerate(row):
                if n_tile == 0 or case.stream_weights:
                    parts += [weights[tile][k_tile] for tile in tiles]
                if not case.from_omem and (step == 0 or not case.resident):
                    parts.append(act)
    return np.concatenate(parts)


def output_of(config: PanaceaConfig, case: PanaceaCase) -> Beats:
    """Return the packet that the machine sends for the golden result.

    For every M step, N tile, weight tile (A, then B) and half of it (``tile_k`` output channels):

    accumulators
        For every group of v tokens, for every PEA of the half: v x v words of 32 bits, little endian, row (output
        channel) by row, 0 where a row or column is absent; ``512 / axis_data_bits`` beats.
    codes
        The half's record: a tile of the next layer's activations. Nothing if OMEM keeps them.
    """
    beat = config.axis_data_bits // 8
    parts: list[Beats] = [np.zeros((0, beat), np.uint8)]
    if case.keep:
        return parts[0]
    outputs = case_tiles(config, case).outputs
    # Whole groups, then (groups of channels, groups of tokens, channel, token).
    blocks = np.pad(case.outputs, [(0, -size % VECTOR) for size in case.outputs.shape])
    rows, columns = (size // VECTOR for size in blocks.shape)
    blocks = blocks.reshape(rows, VECTOR, columns, VECTOR).transpose(0, 2, 1, 3)
    half_rows = config.tile_k // VECTOR
    for _, tiles in _row_tiles(config, case):
        for n_tile in range(-(-case.m // config.tile_n)):
            groups = slice(n_tile * config.groups, (n_tile + 1) * config.groups)
            for half in range(tiles[0] * config.halves, (tiles[-1] + 1) * config.halves):
                present = blocks[half * half_rows : (half + 1) * half_rows, groups]
                if not len(present):
                    continue
                if case.codes:
                    parts.append(outputs[n_tile][half])
                else:
                    ordered = np.ascontiguousarray(present.swapaxes(0, 1)).astype("<i4")
                    parts.append(ordered.view(np.uint8).reshape(-1, beat))
    return np.concatenate(parts)


def writes_of(config: PanaceaConfig, design: str, case: PanaceaCase) -> list[tuple[int, int]]:
    """Return the register writes that start the case."""
    registers = panacea_registers(config, design)
    writes = start_writes(
        registers,
        {
            "m": {"value": case.n},
            "k": {"value": case.k},
            "n": {"value": case.m},
            "format": {
                "weight_slices": case.slicing.weight_slices,
                "act_slices": case.slicing.act_slices,
                "drop": case.low_bits - 4,
                "zero_point": case.zero_point,
            },
            "next_format": {
                "slices": case.next_slicing.act_slices,
                "drop": case.next_low_bits - 4,
                "zero_point": case.next_zero_point,
            },
        },
    )
    if case.table is not None:
        for segment, word in enumerate(case.table.words()):
            writes += start_writes(
                registers,
                {
                    "pwl_low": {"value": word & 0xFFFFFFFF},
                    "pwl_write": {"high": word >> 32, "segment": segment, "write": 1},
                },
            )
    modes = {
        name: int(getattr(case, name))
        for name in ("dtp", "resident", "stream_weights", "from_omem", "codes", "keep")
    }
    status = {"done": 1, **{f"{name}_error": 1 for name in ERRORS}}
    return writes + start_writes(registers, {"status": status, "control": {"start": 1, **modes}})


def panacea_step(config: PanaceaConfig, design: str, case: PanaceaCase, cycles: Cycles) -> Step:
    """Return the run of ``case`` on ``design``.

    The machine's M are output channels and its N tokens: N and M of the case.

    Raises
    ------
    ParameterError
        If the machine cannot compute the case.
    """
    case.check(config)
    registers = panacea_registers(config, design)
    status, done = registers.offset("status"), registers.constants()["STATUS_DONE_MASK"]
    # Stalls change the cycles, never the status (done, no error) and what has been multiplied and read.
    counters = {"status": done, **case.counts(config)}
    counters |= {f"{name}_cycles": cycles.breakdown[name] for name in COUNTERS if name != "total"}
    counters["total_cycles"] = cycles.total
    names = (*(f"{name}_cycles" for name in COUNTERS), *EVENTS)
    return Step(
        name=case.name,
        writes=writes_of(config, design, case),
        stream=stream_of(config, case),
        expected=output_of(config, case),
        reads={"status": status, **{name: registers.offset(name) for name in names}},
        counters=counters,
        wait=(status, done) if case.keep else None,
    )
