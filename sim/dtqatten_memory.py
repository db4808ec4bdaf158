"""What a host's memory holds for a DTQAtten block, what the machine asks for, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.sim.job import Beats

if TYPE_CHECKING:  # a case checks itself with this module
    from bitfabric.sim.dtqatten_case import AttentionCase

Descriptors = NDArray[np.int64]  # (count, 2): byte address and length
LIST_BYTES = 4  # of a token in a list that comes in
SCALE_BYTES = 8  # of a token's scales
NEXT_BYTES = 8  # of a token in the list that comes out


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Hold the byte addresses of a block's regions in the host's memory.

    One region follows the other from ``base`` of the case: list, scales, Q, K and V; results and next list stand at
    ``out_base``, behind the others by default. A token's vector takes a byte for each channel of all heads, at 4 bits
    the first half of it, and is ``gap`` bytes from the next one's. Nothing is aligned but to bytes.

    Members
    -------
    list_base, scale_base, q_base, k_base, v_base, out_base, next_base : int
    stride : int
        Bytes between the vectors of two tokens, and between their results.
    size : int
        Bytes from address 0 to the end of the inputs.
    end : int
        The first byte behind all of it.
    """

    list_base: int
    scale_base: int
    q_base: int
    k_base: int
    v_base: int
    out_base: int
    next_base: int
    stride: int
    size: int
    end: int


def layout_of(case: AttentionCase) -> Layout:
    """Return where a case's regions are."""
    stride = case.heads * case.head_size + case.gap
    vectors = stride * case.tokens
    scale_base = case.base + LIST_BYTES * case.listed.size
    q_base = scale_base + SCALE_BYTES * case.tokens
    size = q_base + 3 * vectors
    out_base = size if case.out_base is None else case.out_base
    next_base = out_base + vectors
    return Layout(
        list_base=case.base,
        scale_base=scale_base,
        q_base=q_base,
        k_base=q_base + vectors,
        v_base=q_base + 2 * vectors,
        out_base=out_base,
        next_base=next_base,
        stride=stride,
        size=size,
        end=next_base + NEXT_BYTES * case.kept,
    )


def list_bytes(case: AttentionCase) -> NDArray[np.uint8]:
    """Return the list: 4 bytes a token, id (16 bits), precision (8 bits), 0."""
    words = np.zeros((case.listed.size, 2), "<u2")
    words[:, 0], words[:, 1] = case.listed, case.bits[case.listed]
    return words.view(np.uint8).reshape(-1)


def scale_bytes(case: AttentionCase) -> NDArray[np.uint8]:
    """Return the scales by id: 8 bytes a token, of Q, K and V (16 bits each), 0; zeros without scales."""
    words = np.zeros((case.tokens, 4), "<u2")
    for column, scales in enumerate((case.sq, case.sk, case.sv)):
        if scales is not None:
            words[:, column] = scales
    return words.view(np.uint8).reshape(-1)


def vector_bytes(
    values: NDArray[np.integer[Any]], bits: NDArray[np.integer[Any]], stride: int
) -> NDArray[np.uint8]:
    """Return the vectors by id, (n, stride): heads one after the other, at 4 bits two channels a byte, low nibble first."""
    heads, tokens, size = values.shape
    region = np.full((tokens, stride), 0xA5, np.uint8)  # what nothing should ask for
    raw = values.astype(np.int8).view(np.uint8)
    high, low = np.flatnonzero(bits == 8), np.flatnonzero(bits == 4)
    region[high, : heads * size] = raw[:, high].transpose(1, 0, 2).reshape(high.size, heads * size)
    nibbles = np.pad(raw[:, low] & 15, ((0, 0), (0, 0), (0, size % 2)))
    packed = (nibbles[..., 0::2] | nibbles[..., 1::2] << 4).transpose(1, 0, 2)
    width = heads * packed.shape[2]
    region[low, :width] = packed.reshape(low.size, width)
    return region


def image_of(case: AttentionCase) -> NDArray[np.uint8]:
    """Return the memory from address 0 to the end of the inputs."""
    layout = layout_of(case)
    vectors = (
        vector_bytes(values, case.bits, layout.stride) for values in (case.queries, case.keys, case.values)
    )
    parts = [np.full(case.base, 0x5A, np.uint8), list_bytes(case), scale_bytes(case)]
    return np.concatenate([*parts, *(region.reshape(-1) for region in vectors)])


def reads_of(case: AttentionCase) -> Descriptors:
    """Return the descriptors of what the machine asks for, in its order.

    The list, unless it is in the machine; the scales of each position, if tokens have them; then for every head the
    vectors of K of each position, of Q, and of V.
    """
    layout, ids = layout_of(case), case.positions
    parts = []
    if not case.carry:
        parts.append(np.array([[layout.list_base, LIST_BYTES * case.listed.size]]))
    if case.per_token:
        addresses = layout.scale_base + SCALE_BYTES * ids
        parts.append(np.stack([addresses, np.full_like(ids, SCALE_BYTES)], axis=1))
    lengths = np.where(case.high, case.head_size, -(-case.head_size // 2))
    for head in range(case.heads):
        for base in (layout.k_base, layout.q_base, layout.v_base):
            parts.append(np.stack([base + layout.stride * ids + head * lengths, lengths], axis=1))
    return np.concatenate(parts)


def sent_positions(config: DtqattenConfig, case: AttentionCase) -> NDArray[np.int64]:
    """Return the positions in the order in which a head's results come out.

    Bands of ``columns`` positions, those with a token of 8 bits first.
    """
    starts = np.arange(0, case.kept, config.columns)
    low = ~np.maximum.reduceat(case.high, starts)
    order = np.argsort(low, kind="stable")
    bands = np.split(np.arange(case.kept), starts[1:])
    return np.concatenate([bands[band] for band in order])


def writes_of(config: DtqattenConfig, case: AttentionCase) -> Descriptors:
    """Return the descriptors of what comes out, in its order: results, then the next list."""
    layout, ids = layout_of(case), case.positions[sent_positions(config, case)]
    offsets = np.arange(case.heads)[:, np.newaxis] * case.head_size
    addresses = (layout.out_base + layout.stride * ids + offsets).reshape(-1)
    rows = np.stack([addresses, np.full_like(addresses, case.head_size)], axis=1)
    return np.concatenate([rows, [[layout.next_base, NEXT_BYTES * case.kept]]])


def next_list_bytes(case: AttentionCase) -> NDArray[np.uint8]:
    """Return the next list: 8 bytes a position, id (16 bits), precision (8 bits), 0, importance (32 bits)."""
    words = np.zeros((case.kept, 2), "<u4")
    words[:, 0] = case.positions | case.result.bits << 16
    words[:, 1] = case.result.importance
    return words.view(np.uint8).reshape(-1)


def output_of(config: DtqattenConfig, case: AttentionCase) -> Beats:
    """Return the beats that come out: a packet for each descriptor, filled up with zeros to whole beats."""
    outputs = case.result.outputs[:, sent_positions(config, case)].view(np.uint8)
    rows = outputs.reshape(-1, case.head_size)
    return np.concatenate([_beats(config, rows), _beats(config, next_list_bytes(case)[np.newaxis])])


def _beats(config: DtqattenConfig, packets: NDArray[np.uint8]) -> Beats:
    padding = -packets.shape[1] % config.axis_bytes
    return np.pad(packets, ((0, 0), (0, padding))).reshape(-1, config.axis_bytes)
