"""Parameters of the Panacea machine, and the widths that follow from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from bitfabric.hdl.config import DesignConfig, param
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.quant.panacea import Slicing
from bitfabric.quant.pwl import PwlFormat

DIMENSION_BITS = 16  # of the M, K and N registers
VECTOR = 4  # slices of a slice-vector [paper]
VECTOR_BITS = 4 * VECTOR
INDEX_BITS = 4  # of a run-length index [paper]
ENTRY_BITS = VECTOR_BITS + INDEX_BITS  # a stored HO vector: its value below, its index above
CODE_BITS = 12  # of the piecewise-linear function's input and output codes, the widest activation
CHANNEL_BITS = 72  # bias (32), multiplier (32), shift (8) of an output channel
SHIFT_BITS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class PanaceaConfig(DesignConfig):
    """Hold the parameters of a machine that computes ``W (M, K) x X (K, N)`` from bit slices.

    M are output channels and N tokens here, as in the paper: elsewhere in bitfabric the letters change places.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "peas": 2,
            "dynamic_operators": 2,
            "static_operators": 4,
            "tile_k": 8,
            "tile_n": 8,
            "act_slots": 2,
            "wmem_words": 256,
            "amem_words": 128,
            "omem_words": 128,
            "omem_records": 16,
            "axis_data_bits": 64,
        },
        "small": {
            "peas": 8,
            "tile_n": 16,
            "wmem_words": 1024,
            "amem_words": 512,
            "omem_words": 512,
            "axis_data_bits": 128,
        },
        "medium": {"peas": 8, "tile_n": 32, "wmem_words": 2048, "amem_words": 1024},
        "paper": {},
    }

    peas: int = param(
        16,
        "processing element arrays, of v output channels each; a multiple of tile_k / v",
        tag="paper",
        low=1,
        high=64,
    )
    dynamic_operators: int = param(
        4, "operators of a PEA for products with an HO slice, D", tag="paper", low=1, high=16
    )
    static_operators: int = param(
        8, "operators of a PEA for products of two dense slices, S", tag="paper", low=1, high=16
    )
    flexible: bool = param(
        False,
        "all operators take either kind of work, and those left over start the next sub-tile; needs dtp=false",
    )
    dtp: bool = param(True, "buffers for double-tile processing are there", tag="paper")
    tile_k: int = param(32, "K positions of a sub-tile, T_K", choices=(4, 8, 16, 32))
    tile_n: int = param(64, "tokens of an activation tile, T_N; a multiple of v", low=4, high=128)
    act_slots: int = param(
        6, "activation sub-tiles in the global activation buffer, which the PEAs may be apart", low=2, high=8
    )
    max_weight_bits: int = param(10, "widest weights", unit="bits", tag="paper", choices=(4, 7, 10))
    max_act_bits: int = param(12, "widest activations", unit="bits", tag="paper", choices=(4, 8, 12))
    acc_bits: int = param(32, "width of a psum", unit="bits", low=16, high=32)
    k_max: int = param(
        65535,
        "largest K of a layer; wider operands than 7 x 8 bits have a lower limit where psums are too narrow",
        unit="elements",
        low=1,
        high=65535,
    )
    wmem_words: int = param(3840, "words of axis_data_bits in WMEM (120 KB)", low=8, high=1 << 20)
    amem_words: int = param(1792, "words of axis_data_bits in AMEM (56 KB)", low=8, high=1 << 20)
    omem_words: int = param(512, "words of axis_data_bits in OMEM's two halves (16 KB)", low=8, high=1 << 20)
    omem_records: int = param(64, "activation tiles that a half of OMEM can keep", low=1, high=4096)
    segments: int = param(32, "segments of the piecewise-linear function", choices=(16, 32, 64))
    axis_data_bits: int = param(
        256, "width of s_axis, m_axis and the memories", unit="bits", tag="paper", choices=(64, 128, 256, 512)
    )

    def validate(self) -> None:
        """Refuse what does not fit together."""
        if self.tile_n % VECTOR:
            raise ParameterError("tile_n", self.tile_n, f"a multiple of {VECTOR}")
        if self.m_step % self.tile_k:
            allowed = (
                f"a multiple of tile_k/{VECTOR}={self.tile_k // VECTOR}, so that outputs are whole sub-tiles"
            )
            raise ParameterError("peas", self.peas, allowed)
        for name, count in (("peas", self.peas), ("tile_n", self.groups)):
            if count * self.count_bits > self.axis_data_bits:
                allowed = f"so that {count} counts of {self.count_bits} bits fit axis_data_bits={self.axis_data_bits}"
                raise ParameterError(name, getattr(self, name), allowed)
        if self.flexible and self.dtp:
            raise ParameterError("dtp", self.dtp, "false with flexible: the operators are shared already")
        narrowest = min(self.max_weight_bits, 7) + min(self.max_act_bits, 8) + (self.k_max - 1).bit_length()
        if self.acc_bits < narrowest:
            raise ParameterError("acc_bits", self.acc_bits, f"at least {narrowest} for k_max={self.k_max}")
        if self.omem_words % 2:
            raise ParameterError("omem_words", self.omem_words, "even")

    @property
    def m_step(self) -> int:
        """Output channels of a tile, T_M."""
        return self.peas * VECTOR

    @property
    def groups(self) -> int:
        """Sub-tiles (groups of v tokens) of an activation tile."""
        return self.tile_n // VECTOR

    @property
    def halves(self) -> int:
        """Activation sub-tiles of the next layer that an output tile's channels make."""
        return self.m_step // self.tile_k

    @property
    def count_bits(self) -> int:
        """Width of a sub-tile's count of stored HO vectors."""
        return self.tile_k.bit_length()

    @property
    def lanes(self) -> int:
        """Vectors of a dense slice in a memory word."""
        return min(self.axis_data_bits // VECTOR_BITS, self.tile_k)

    @property
    def quad(self) -> int:
        """Stored HO vectors that are read in a cycle."""
        return min(4, self.axis_data_bits // ENTRY_BITS)

    @property
    def quads(self) -> int:
        """Quads in a memory word."""
        return self.axis_data_bits // (ENTRY_BITS * self.quad)

    @property
    def params_beats(self) -> int:
        """Beats of the parameters of a PEA's channels."""
        return -(-VECTOR * CHANNEL_BITS // self.axis_data_bits)

    @property
    def weight_dense(self) -> int:
        """Most weight slices that are not compressed."""
        return max((self.max_weight_bits - 4) // 3, 1)

    @property
    def act_dense(self) -> int:
        """Most activation slices that are not compressed."""
        return max(self.max_act_bits // 4 - 1, 1)

    @property
    def operators(self) -> int:
        """Operators of a PEA."""
        return self.dynamic_operators + self.static_operators

    @property
    def multipliers(self) -> int:
        """4-bit multipliers of the core."""
        return self.peas * self.operators * VECTOR * VECTOR

    @property
    def pwl(self) -> PwlFormat:
        """Widths of the post-processing unit's piecewise-linear function."""
        return PwlFormat(in_bits=CODE_BITS, out_bits=CODE_BITS, out_signed=False, segments=self.segments)

    def check_layer(self, m: int, k: int, n: int, slicing: Slicing) -> None:
        """Refuse a layer that registers, slices or psums cannot hold.

        Raises
        ------
        ParameterError
            Naming what is out of range.
        """
        high = (1 << DIMENSION_BITS) - 1
        check_range("M", m, 1, high)
        check_range("K", k, 1, self.k_max)
        check_range("N", n, 1, high)
        for name, bits, most in (
            ("weight_bits", slicing.weight_bits, self.max_weight_bits),
            ("act_bits", slicing.act_bits, self.max_act_bits),
        ):
            if bits > most:
                raise ParameterError(name, bits, f"at most {most} in this configuration")
        if slicing.vector != VECTOR:
            raise ParameterError("vector", slicing.vector, f"{VECTOR}: the machine's")
        needed = slicing.weight_bits + slicing.act_bits + (k - 1).bit_length()
        if needed > self.acc_bits:
            allowed = f"such that weight_bits + act_bits + ceil(log2 K) = {needed} is at most acc_bits={self.acc_bits}"
            raise ParameterError("K", k, allowed)

    def derived(self) -> dict[str, int]:
        """Return what fixes the order of the streams."""
        return {
            "m_step": self.m_step,
            "tile_k": self.tile_k,
            "tile_n": self.tile_n,
            "lanes": self.lanes,
            "quad": self.quad,
            "quads": self.quads,
            "params_beats": self.params_beats,
            "multipliers": self.multipliers,
            "slope_bits": self.pwl.slope_bits,
            "offset_bits": self.pwl.offset_bits,
        }
