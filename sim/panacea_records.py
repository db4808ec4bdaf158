"""Compressed tiles as words: what ``hdl.panacea.records`` describes, made from whole operands at once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.panacea.config import ENTRY_BITS, INDEX_BITS, VECTOR, VECTOR_BITS, PanaceaConfig
from bitfabric.quant.panacea import Compressed, Slicing, compress_acts, compress_weights
from bitfabric.quant.slicing import signed_slices, unsigned_slices
from bitfabric.sim.job import Beats

if TYPE_CHECKING:  # a case checks its sizes with this module
    from bitfabric.sim.panacea_case import PanaceaCase

Records = list[list[Beats]]  # by tile of rows or tokens, then by tile of K


def weight_records(config: PanaceaConfig, w: NDArray[np.integer[Any]], slicing: Slicing) -> Records:
    """Return the words of each weight tile, (words, axis_data_bits/8) bytes, by rows and then by K.

    Parameters
    ----------
    config : PanaceaConfig
        Tile sizes and word width.
    w : integer array, (M, K)
        Weights of M output channels.
    slicing : Slicing
        Widths.
    """
    slices = signed_slices(w, slicing.weight_bits)
    stored = None
    if slicing.weight_slices > 1:
        stored = compress_weights(slices[-1], VECTOR, config.tile_k, INDEX_BITS)
        slices = slices[:-1]
    return _records(config, slices.view(np.uint8) & np.uint8(15), stored, config.peas)


def act_records(
    config: PanaceaConfig, x: NDArray[np.integer[Any]], slicing: Slicing, zero_point: int
) -> Records:
    """Return the words of each activation tile, (words, axis_data_bits/8) bytes, by tokens and then by K.

    Parameters
    ----------
    config : PanaceaConfig
        Tile sizes and word width.
    x : integer array, (K, N)
        Activations of N tokens.
    slicing : Slicing
        Widths and DBS type.
    zero_point : int
        Sets the slice that is skipped, r.
    """
    slices = unsigned_slices(x, slicing.act_bits, slicing.low_bits)
    stored = None
    if slicing.act_slices > 1:
        stored = compress_acts(slices[-1], slicing.skipped(zero_point), VECTOR, config.tile_k, INDEX_BITS)
        slices = slices[:-1]
    return _records(config, slices.transpose(0, 2, 1), stored, config.groups)


def dense_count(config: PanaceaConfig, rows: int, k_valid: int, slices: int) -> int:
    """Return the dense words of a tile of ``rows`` rows or tokens with ``slices`` dense slices."""
    return -(-rows // VECTOR) * slices * -(-k_valid // config.lanes)


class Tiles(NamedTuple):
    """Hold a case's compressed tiles: ``weights[row tile][K tile]``, ``acts`` and ``outputs[token tile][K tile]``.

    ``outputs`` are the next layer's activations, empty where accumulators come out.
    """

    weights: Records
    acts: Records
    outputs: Records


@lru_cache(maxsize=4)
def case_tiles(config: PanaceaConfig, case: PanaceaCase) -> Tiles:
    """Return the records of a case; the check, the stream and the cycle model all want them."""
    outputs: Records = []
    if case.codes:
        outputs = act_records(config, case.outputs, case.next_slicing, case.next_zero_point)
    return Tiles(
        weight_records(config, case.weights.T, case.slicing),
        act_records(config, case.acts.T, case.slicing, case.zero_point),
        outputs,
    )


def _records(
    config: PanaceaConfig, dense: NDArray[np.uint8], stored: Compressed | None, tile_groups: int
) -> Records:
    """Join headers, dense words and HO words of nibbles (slices, rows, K); ``tile_groups`` groups to a tile."""
    _, rows, depth = dense.shape
    groups, k_tiles = -(-rows // VECTOR), -(-depth // config.tile_k)
    tiles = -(-groups // tile_groups)
    counts = np.zeros((tiles * tile_groups, k_tiles), np.int64)
    if stored is not None:
        counts[:groups] = stored.counts
    counts = counts.reshape(tiles, tile_groups, k_tiles)
    headers = _headers(config, counts)
    high = None if stored is None else _high_words(config, stored, counts)
    vectors = _dense_words(config, dense, groups, k_tiles)
    result = []
    for tile in range(tiles):
        present = vectors[tile * tile_groups : (tile + 1) * tile_groups]
        row = []
        for k_tile in range(k_tiles):
            chunks = -(-min(depth - k_tile * config.tile_k, config.tile_k) // config.lanes)
            words = present[:, k_tile, :, :chunks]
            parts = [headers[tile, k_tile][None], words.reshape(-1, words.shape[-1])]
            if high is not None:
                parts.append(high[tile * k_tiles + k_tile])
            row.append(np.concatenate(parts))
        result.append(row)
    return result


def _headers(config: PanaceaConfig, counts: NDArray[np.int64]) -> Beats:
    """Return a word for each tile: (tiles, K tiles, bytes)."""
    tiles, groups, k_tiles = counts.shape
    bits = counts.transpose(0, 2, 1)[..., None] >> np.arange(config.count_bits) & 1
    flat = bits.reshape(tiles, k_tiles, groups * config.count_bits).astype(np.uint8)
    padding = config.axis_data_bits - flat.shape[-1]
    return np.packbits(np.pad(flat, ((0, 0), (0, 0), (0, padding))), axis=-1, bitorder="little")


def _dense_words(config: PanaceaConfig, dense: NDArray[np.uint8], groups: int, k_tiles: int) -> Beats:
    """Return the words of all tiles as if K were whole: (groups, K tiles, slices, words, bytes)."""
    count, rows, depth = dense.shape
    padded = np.zeros((count, groups * VECTOR, k_tiles * config.tile_k), np.uint16)
    padded[:, :rows, :depth] = dense
    nibbles = padded.reshape(count, groups, VECTOR, -1)
    vectors = sum((nibbles[:, :, row] << (4 * row) for row in range(1, VECTOR)), nibbles[:, :, 0])
    ordered = vectors.reshape(count, groups, k_tiles, -1, config.lanes).transpose(1, 2, 0, 3, 4)
    raw = np.ascontiguousarray(ordered).astype("<u2", copy=False).view(np.uint8)
    padding = (config.axis_data_bits - config.lanes * VECTOR_BITS) // 8
    return np.pad(raw, ((0, 0),) * 4 + ((0, padding),))


def _high_words(config: PanaceaConfig, stored: Compressed, counts: NDArray[np.int64]) -> list[Beats]:
    """Return the words of stored HO vectors of each tile, by tile and then by K tile."""
    tiles, _, k_tiles = counts.shape
    quads = -(-counts // config.quad)
    words = -(-quads.sum(axis=1) // config.quads)  # (tiles, K tiles)
    ends = np.cumsum(words.reshape(-1))
    starts = (ends - words.reshape(-1)).reshape(tiles, 1, k_tiles)
    # The first quad of each group and K tile, counted over all words; entries lie group by group, then along K.
    first = (starts * config.quads + np.cumsum(quads, axis=1) - quads).reshape(-1)
    flat = counts.reshape(-1)
    owner = np.repeat(np.arange(flat.size), flat)
    rank = np.arange(owner.size) - (np.cumsum(flat) - flat)[owner]
    values = stored.vectors.view(np.uint8).astype(np.uint32) & 15
    entries = stored.indices.astype(np.uint32) << VECTOR_BITS
    for row in range(VECTOR):
        entries |= values[:, row] << (4 * row)
    slots = np.zeros((int(ends[-1]) * config.quads, config.quad), np.uint32)
    slots[first[owner] + rank // config.quad, rank % config.quad] = entries
    bits = (slots[..., None] >> np.arange(ENTRY_BITS, dtype=np.uint32) & 1).astype(np.uint8)
    raw = np.packbits(bits.reshape(int(ends[-1]), config.quads * config.quad * ENTRY_BITS), 1, "little")
    whole = np.pad(raw, ((0, 0), (0, config.axis_data_bits // 8 - raw.shape[1])))
    return np.split(whole, ends[:-1])
