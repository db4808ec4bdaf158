"""A host's memory for DTQAtten: read as the machine reads it, and written as it writes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.sim.dtqatten_case import AttentionCase
from bitfabric.sim.dtqatten_memory import (
    image_of,
    layout_of,
    output_of,
    reads_of,
    sent_positions,
    writes_of,
)
from bitfabric.sim.dtqatten_random import random_cases

TINY = DtqattenConfig.preset("tiny")
CASES = random_cases(TINY, 5, 60)


def case_of(**fields: Any) -> AttentionCase:
    """Return two heads of three channels of four tokens: of 8, 4, 0 and 4 bits."""
    values = np.arange(24).reshape(2, 4, 3)
    values[:, [1, 3]] %= 8
    defaults: dict[str, Any] = {
        "queries": values,
        "keys": -values,
        "values": 1 - values // 4,
        "bits": np.array([8, 4, 0, 4]),
        "order": np.array([3, 2, 0, 1]),
        "next_kept": 2,
        "next_high": 1,
        "score_shift": 4,
        "out_multiplier": 40000,
        "out_shift": 17,
    }
    return AttentionCase(**{**defaults, **fields})


def elements(packet: bytes, size: int, bits: int) -> list[int]:
    """Return what a packet of a token's channels holds."""
    if bits == 8:
        return [byte - 256 if byte > 127 else byte for byte in packet]
    nibbles = [nibble for byte in packet for nibble in (byte & 15, byte >> 4)]
    assert not any(nibbles[size:])
    return [nibble - 16 if nibble > 7 else nibble for nibble in nibbles[:size]]


def test_an_image_byte_by_byte() -> None:
    case = case_of(base=2, gap=1, sq=np.array([1, 2, 3, 0x1234]), sk=np.array([4, 5, 6, 7]), sv=np.full(4, 9))
    image = image_of(case)
    assert len(image) == layout_of(case).size == 2 + 4 * 4 + 4 * 8 + 3 * 4 * 7
    assert image[2:18].tolist() == [3, 0, 4, 0, 2, 0, 0, 0, 0, 0, 8, 0, 1, 0, 4, 0]
    assert image[42:50].tolist() == [0x34, 0x12, 7, 0, 9, 0, 0, 0]
    # Token 0: both heads' bytes; token 1: a nibble a channel, 3 4 5 of the first head and 7 0 1 of the other.
    queries = image[50:78].reshape(4, 7)
    assert queries[0, :6].tolist() == [0, 1, 2, 12, 13, 14]
    assert queries[1, :4].tolist() == [0x43, 0x05, 0x07, 0x01]
    keys = image[78:106].reshape(4, 7)
    assert keys[0, :6].tolist() == [0, 255, 254, 244, 243, 242]
    assert keys[1, :4].tolist() == [0xCD, 0x0B, 0x09, 0x0F]


def test_descriptors_one_by_one() -> None:
    case = case_of(gap=1)
    at = {"q": 48, "k": 76, "v": 104}  # behind list and scales; seven bytes a token
    assert case.positions.tolist() == [3, 1, 0]
    expected = [[0, 16]]
    for head in (0, 1):
        for name in "kqv":
            expected += [
                [at[name] + 21 + 2 * head, 2],
                [at[name] + 7 + 2 * head, 2],
                [at[name] + 3 * head, 3],
            ]
    assert reads_of(case).tolist() == expected
    rows = [[132 + 7 * token + 3 * head, 3] for head in (0, 1) for token in (3, 1, 0)]
    assert writes_of(TINY, case).tolist() == [*rows, [160, 24]]
    scales = {name: np.full(4, 7) for name in ("sq", "sk", "sv")}
    assert reads_of(case_of(gap=1, **scales)).tolist() == [
        [0, 16],
        [16 + 24, 8],
        [16 + 8, 8],
        [16, 8],
        *expected[1:],
    ]
    carried = case_of(gap=1, carry=True)
    assert carried.positions.tolist() == [3, 0, 1]
    assert reads_of(carried)[:3].tolist() == [[97, 2], [76, 3], [83, 2]]


def test_bands_with_a_token_of_8_bits_are_sent_first() -> None:
    bits = np.full(11, 4)
    bits[[5, 10]] = 8
    vectors = dict.fromkeys(("queries", "keys", "values"), np.ones((1, 11, 2), int))
    case = case_of(**vectors, bits=bits, order=None, reorder=False)
    assert sent_positions(TINY, case).tolist() == [3, 4, 5, 9, 10, 0, 1, 2, 6, 7, 8]
    assert sent_positions(TINY, dataclasses.replace(case, reorder=True)).tolist() == [9, 10, *range(9)]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_what_is_read_is_the_case(case: AttentionCase) -> None:
    image = image_of(case).tobytes()
    packets = [image[address : address + length] for address, length in reads_of(case).tolist()]
    assert all(len(packet) == length for packet, length in zip(packets, reads_of(case)[:, 1], strict=True))
    if not case.carry:
        entries = np.frombuffer(packets.pop(0), "<u2").reshape(-1, 2)
        assert entries[:, 0].tolist() == case.listed.tolist()
        assert entries[:, 1].tolist() == case.bits[case.listed].tolist()
    if case.sq is not None and case.sk is not None and case.sv is not None:
        for token in case.positions:
            words = np.frombuffer(packets.pop(0), "<u2").tolist()
            assert words == [case.sq[token], case.sk[token], case.sv[token], 0]
    for head in range(case.heads):
        for vectors in (case.keys, case.queries, case.values):
            for token in case.positions:
                read = elements(packets.pop(0), case.head_size, int(case.bits[token]))
                assert read == vectors[head, token].tolist()
    assert not packets


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_what_is_written_is_the_result(case: AttentionCase) -> None:
    layout, result = layout_of(case), case.result
    beats, written = output_of(TINY, case).tobytes(), {}
    for address, length in writes_of(TINY, case).tolist():
        size = -(-length // TINY.axis_bytes) * TINY.axis_bytes
        packet, beats = beats[:size], beats[size:]
        assert not any(packet[length:])
        written.update(dict(enumerate(packet[:length], address)))
    assert not beats
    assert len(written) == case.kept * (case.heads * case.head_size + 8)  # nothing is written twice
    assert max(written) < layout.end <= 1 << 32
    assert min(written) >= layout.size
    for position, token in enumerate(case.positions.tolist()):
        start = layout.out_base + token * layout.stride
        row = bytes(written[start + i] for i in range(case.heads * case.head_size))
        assert np.array_equal(np.frombuffer(row, np.int8), result.outputs[:, position].reshape(-1))
        entry = bytes(written[layout.next_base + 8 * position + i] for i in range(8))
        assert int.from_bytes(entry[:2], "little") == token
        assert entry[2] == result.bits[position]
        assert entry[3] == 0
        assert int.from_bytes(entry[4:], "little") == result.importance[position]


def test_the_inputs_do_not_overlap() -> None:
    for case in CASES:
        layout, size = layout_of(case), case.tokens * layout_of(case).stride
        starts = [layout.list_base, layout.scale_base, layout.q_base, layout.k_base, layout.v_base]
        sizes = [4 * case.listed.size, 8 * case.tokens, size, size, size]
        ends = [start + length for start, length in zip(starts, sizes, strict=True)]
        assert starts[0] == case.base
        assert ends == [*starts[1:], layout.size]
