"""Parameters of the Drift machine, and the widths that follow from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from amaranth.hdl import signed
from amaranth.lib import data

from bitfabric.hdl.arith.bitgroup import ALIGNMENTS, COLUMNS, ROWS, BitGroupConfig
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.config import DesignConfig, param
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.quant.pwl import PwlFormat

DIMENSION_BITS = 16  # of the M, K and N registers
ACT_BITS = 8  # activations as they come and as they are written back
NIBBLES_BITS = DIMENSION_BITS + 2  # of a row's activation string: 65535 x 8 bits are 131070 nibbles
GRANULE_BITS = DIMENSION_BITS - 1  # of a count of granules: 65535 channels of 8 bits
N_MAX = (1 << DIMENSION_BITS) - 2  # an odd channel more would be a granule more than GRANULE_BITS counts
CHANNELS = 4  # records of a granule; the last two are without meaning where weights are 8-bit
BUFFERINGS = ("single", "double", "transit")
SCHEDULERS = ("scan", "greedy")
WEIGHT_SLOTS = 8  # most N tiles of weights that a column keeps


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftConfig(DesignConfig):
    """Hold the parameters of a machine that computes ``acts (M, K) x weights (K, N)`` at two precisions each.

    A *granule* is what a column of groups holds of the weights: two channels of 8 bits or four of 4 bits, 16 bits
    for each k.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "rows": 4,
            "columns": 3,
            "acc_depth": 8,
            "m_max": 64,
            "staging_beats": 32,
            "high_words": 256,
            "low_words": 128,
            "weight_words": 32,
            "granules_max": 64,
            "out_words": 256,
            "lanes": 4,
            "axis_data_bits": 64,
        },
        "small": {
            "rows": 8,
            "columns": 8,
            "acc_depth": 32,
            "m_max": 256,
            "staging_beats": 128,
            "high_words": 1024,
            "low_words": 512,
            "weight_words": 128,
            "granules_max": 256,
            "out_words": 1024,
            "lanes": 8,
            "axis_data_bits": 128,
        },
        "medium": {"rows": 12, "columns": 12, "acc_depth": 64, "m_max": 512, "lanes": 8},
        "paper": {},
    }

    rows: int = param(22, "groups in a column of the fabric, R", unit="groups", low=1, high=64)
    columns: int = param(36, "groups in a row of the fabric, C", unit="groups", low=1, high=64)
    alignment: str = param(
        "nibble",
        "how activation bits meet the rows: 4 or 8 bits, or any width without gaps",
        choices=ALIGNMENTS,
    )
    weight_buffering: str = param(
        "double",
        "weight registers of a group: one, two, or three with a transit register",
        choices=BUFFERINGS,
    )
    scheduler: str = param("scan", "how the split is chosen", choices=SCHEDULERS)
    acc_depth: int = param(128, "activation rows of a bank of accumulators", unit="rows", low=1, high=4096)
    acc_bits: int = param(32, "width of an accumulator", unit="bits", low=16, high=32)
    k_max: int = param(65535, "largest K of a GEMM", unit="elements", low=1, high=65535)
    m_max: int = param(1024, "activation rows that the index buffer holds", unit="rows", low=1, high=65535)
    staging_beats: int = param(
        512, "words of axis_data_bits in which a sub-tensor waits for its precision", low=2, high=1 << 16
    )
    high_words: int = param(
        12288,
        "words of axis_data_bits of the global buffer for high-precision activations",
        low=4,
        high=1 << 20,
    )
    low_words: int = param(
        6144,
        "words of axis_data_bits of the global buffer for low-precision activations",
        low=4,
        high=1 << 20,
    )
    weight_words: int = param(
        384, "words of axis_data_bits of the weight buffer, per column of groups", low=1, high=1 << 16
    )
    granules_max: int = param(
        2048, "granules whose channel parameters the machine holds", low=1, high=(1 << GRANULE_BITS) - 1
    )
    out_words: int = param(
        4096, "words of axis_data_bits of the global buffer for results", low=2, high=1 << 20
    )
    lanes: int = param(16, "requantizers: accumulators drained per cycle", choices=(4, 8, 16, 32))
    segments: int = param(32, "segments of the piecewise-linear function", choices=(16, 32, 64))
    axis_data_bits: int = param(
        256, "width of s_axis, m_axis and the memories", unit="bits", choices=(64, 128, 256, 512)
    )

    def validate(self) -> None:
        """Refuse what does not fit together."""
        if self.rows > 2 * self.beat_bytes:
            raise ParameterError(
                "rows",
                self.rows,
                f"at most {2 * self.beat_bytes}: a word of axis_data_bits holds a row's nibbles",
            )
        if self.lanes > self.beat_bytes:
            raise ParameterError("lanes", self.lanes, f"at most {self.beat_bytes}, a word's bytes")
        for name in ("high_words", "low_words", "out_words"):
            if getattr(self, name) % 2:
                raise ParameterError(name, getattr(self, name), "even")
        needed = 2 * ACT_BITS + (self.k_max - 1).bit_length()
        if self.acc_bits < needed:
            raise ParameterError("acc_bits", self.acc_bits, f"at least {needed} for k_max={self.k_max}")

    @property
    def group(self) -> BitGroupConfig:
        """Parameters of a group's multipliers."""
        return BitGroupConfig(alignment=self.alignment, rows=self.rows)

    @property
    def stationary(self) -> data.StructLayout:
        """Layout of what moves along a load chain: a group's, less ``wide``, which is that of its half."""
        members = {name: field.shape for name, field in self.group.stationary if name != "wide"}
        return data.StructLayout(members)

    @property
    def psum(self) -> data.ArrayLayout:
        """Layout of the psums that leave a group: one per nibble column."""
        return data.ArrayLayout(signed(self.group.psum_bits), COLUMNS)

    @property
    def beat_bytes(self) -> int:
        """Bytes of a word of axis_data_bits."""
        return self.axis_data_bits // 8

    @property
    def word_nibbles(self) -> int:
        """Nibbles of a word of axis_data_bits."""
        return self.axis_data_bits // 4

    @property
    def word_weights(self) -> int:
        """K positions of a granule in a word of the weight buffer."""
        return self.axis_data_bits // 16

    @property
    def weight_address_bits(self) -> int:
        """Width of a word address of the weight buffer."""
        return address_bits(self.weight_words)

    @property
    def word_granules(self) -> int:
        """Granules that are drained per cycle."""
        return self.lanes // CHANNELS

    @property
    def params_beats(self) -> int:
        """Beats of a granule's channel parameters."""
        return -(-CHANNELS * CHANNEL_BITS // self.axis_data_bits)

    @property
    def groups(self) -> int:
        """Groups of the fabric."""
        return self.rows * self.columns

    @property
    def multipliers(self) -> int:
        """4 x 4-bit multipliers that the fabric equals."""
        return self.groups * ROWS * COLUMNS // 4

    @property
    def pwl(self) -> PwlFormat:
        """Widths of the non-linear unit."""
        return PwlFormat(in_bits=ACT_BITS, out_bits=ACT_BITS, out_signed=True, segments=self.segments)

    def stored_bits(self, bits: int) -> int:
        """Return the width at which ``bits``-bit activations are stored and computed."""
        return bits if self.alignment == "bit" else (4 if bits <= 4 else 8)

    def check_gemm(self, m: int, k: int, n: int) -> None:
        """Refuse a GEMM that registers, index buffer or accumulators cannot hold.

        Raises
        ------
        ParameterError
            Naming what is out of range.
        """
        check_range("M", m, 1, self.m_max)
        check_range("K", k, 1, self.k_max)
        check_range("N", n, 1, N_MAX)

    def derived(self) -> dict[str, int]:
        """Return what fixes the order of the streams."""
        return {
            "beat_bytes": self.beat_bytes,
            "word_weights": self.word_weights,
            "word_granules": self.word_granules,
            "params_beats": self.params_beats,
            "multipliers": self.multipliers,
            "slope_bits": self.pwl.slope_bits,
            "offset_bits": self.pwl.offset_bits,
        }


# A channel's record, 80 bits: bias, multiplier, shift, then the bits that its weights were shifted right by (lc) and
# their precision, 5 to 8 for a high one and 1 to 4 for a low one.
CHANNEL = data.StructLayout(
    {"bias": signed(32), "multiplier": 31, "unused": 1, "shift": 8, "clip": 4, "bits": 4}
)
CHANNEL_BITS = CHANNEL.size
