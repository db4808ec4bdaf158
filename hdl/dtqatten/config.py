"""Parameters of the DTQAtten machine, and the widths that follow from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.config import DesignConfig, param
from bitfabric.quant.errors import ParameterError

ADDRESS_BITS = 32  # of a descriptor's byte address
LENGTH_BITS = 16  # of a descriptor's length in bytes
SCALE_BITS = 16  # of a token's scale, and of the multipliers of scores and results
SCORE_BITS = 24  # of a score: 12 integer bits (log2 units, two's complement) and 12 fraction bits
VALUE_BITS = 32  # of a token's importance
NUMERATOR_MAX = 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class DtqattenConfig(DesignConfig):
    """Hold the parameters of a machine that computes the attention of a block, a head at a time."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "arrays": 2,
            "rows": 3,
            "columns": 3,
            "tokens_max": 16,
            "head_size_max": 16,
            "heads_max": 4,
            "line_elements": 4,
            "axis_data_bits": 64,
            "topk_lanes": 4,
            "outstanding": 4,
        },
        "small": {
            "arrays": 4,
            "rows": 8,
            "columns": 8,
            "tokens_max": 64,
            "head_size_max": 32,
            "heads_max": 8,
            "line_elements": 4,
            "axis_data_bits": 64,
            "topk_lanes": 8,
        },
        "medium": {
            "arrays": 6,
            "rows": 8,
            "columns": 8,
            "tokens_max": 128,
            "topk_lanes": 8,
        },
        "paper": {},
    }

    arrays: int = param(11, "variable-speed systolic arrays", unit="arrays", low=1, high=32)
    rows: int = param(
        16, "PEs in a column of an array, R: keys of a tile, or channels", unit="PEs", low=1, high=64
    )
    columns: int = param(18, "PEs in a row of an array, C: queries of a band", unit="PEs", low=1, high=64)
    tokens_max: int = param(128, "tokens of a sequence, most", unit="tokens", low=1, high=1024)
    head_size_max: int = param(64, "channels of a head, most", unit="channels", low=1, high=256)
    heads_max: int = param(16, "heads of a block, most", unit="heads", low=1, high=64)
    line_elements: int = param(
        8,
        "elements of the contraction in a word of the line buffers",
        unit="elements",
        choices=(1, 2, 4, 8, 16),
    )
    axis_data_bits: int = param(
        128, "width of the data streams' tdata", unit="bits", choices=(64, 128, 256, 512)
    )
    unload_ports: int = param(2, "arrays whose results leave at the same time", unit="arrays", choices=(1, 2))
    topk_lanes: int = param(
        16, "importance values that the top-k engines read in a cycle", unit="values", low=1, high=64
    )
    outstanding: int = param(
        16, "descriptors whose data has not come yet, most", unit="descriptors", low=1, high=64
    )
    pe_counters: bool = param(True, "count working and stalled PEs")

    def validate(self) -> None:
        """Check that a beat holds whole words of a line buffer."""
        if self.line_elements > self.axis_bytes:
            raise ParameterError(
                "line_elements", self.line_elements, f"at most {self.axis_bytes}, the bytes of a beat"
            )

    @property
    def axis_bytes(self) -> int:
        """Bytes of a beat, S."""
        return self.axis_data_bits // 8

    @property
    def bands_max(self) -> int:
        """Bands of C queries."""
        return -(-self.tokens_max // self.columns)

    @property
    def tiles_max(self) -> int:
        """Tiles of R keys."""
        return -(-self.tokens_max // self.rows)

    @property
    def channel_tiles_max(self) -> int:
        """Tiles of R channels."""
        return -(-self.head_size_max // self.rows)

    @property
    def head_groups_max(self) -> int:
        """Line-buffer words of a head's channels."""
        return -(-self.head_size_max // self.line_elements)

    @property
    def token_groups_max(self) -> int:
        """Line-buffer words of the tokens."""
        return -(-self.tokens_max // self.line_elements)

    @property
    def tile_words(self) -> int:
        """Words of an array's tile buffer: the longest contraction."""
        return max(self.head_groups_max, self.token_groups_max)

    @property
    def slots_max(self) -> int:
        """Scores of a query that an unload port keeps: whole tiles of R keys."""
        return -(-self.tiles_max // self.unload_ports) * self.rows

    @property
    def port_tiles_max(self) -> int:
        """Channel tiles of a band that an unload port keeps."""
        return -(-self.channel_tiles_max // self.unload_ports)

    @property
    def id_bits(self) -> int:
        """Width of a token id, and of a position."""
        return address_bits(self.tokens_max)

    @property
    def count_bits(self) -> int:
        """Width of a number of tokens."""
        return self.tokens_max.bit_length()

    @property
    def acc_bits(self) -> int:
        """Width of a PE's accumulator: 8x8-bit products over the channels, or numerators times values over the tokens."""
        scores = 128 * 128 * self.head_size_max
        results = NUMERATOR_MAX * 128 * self.tokens_max
        return max(scores, results).bit_length() + 1

    def derived(self) -> dict[str, int]:
        """Return what a host has to know and no field says."""
        return {
            "acc_bits": self.acc_bits,
            "bands_max": self.bands_max,
            "tiles_max": self.tiles_max,
            "channel_tiles_max": self.channel_tiles_max,
        }
