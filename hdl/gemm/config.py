"""Parameters that every GEMM machine shares, and the tiling that follows from them."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from bitfabric.hdl.config import DesignConfig, param
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.quant.gemm import acc_bits_needed

DIMENSION_BITS = 16  # of the M, K and N registers


class OutputShape(Protocol):
    """Know how results leave: what the drain and the requantization parameters need of a machine's parameters."""

    @property
    def columns(self) -> int:
        """Output channels of a tile."""

    @property
    def acc_bits(self) -> int:
        """Width of an accumulator."""

    @property
    def axis_data_bits(self) -> int:
        """Width of the output stream."""

    @property
    def drain_lanes(self) -> int:
        """Outputs that leave the accumulators per cycle: one 32-bit word per lane fills a beat."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GemmConfig(DesignConfig):
    """Hold the parameters of a machine that computes ``acts (M, K) x weights (K, N)``.

    The machine takes M in steps of ``m_step``, then N in steps of ``columns``, then K in steps of ``k_step``
    (innermost). Subclasses set the steps.
    """

    rows: int = param(8, "rows of PEs", unit="PEs", low=1, high=256)
    columns: int = param(8, "columns of PEs", unit="PEs", low=1, high=256)
    act_bits: int = param(8, "width of an activation, two's complement", unit="bits", low=2, high=8)
    weight_bits: int = param(8, "width of a weight, two's complement", unit="bits", low=2, high=8)
    acc_bits: int = param(32, "width of an accumulator", unit="bits", low=8, high=32)
    k_max: int = param(65535, "largest K that a GEMM may have", unit="elements", low=1, high=65535)
    act_depth: int = param(
        1024, "words of `rows` activations in each bank of the act buffer", low=1, high=1 << 20
    )
    axis_data_bits: int = param(
        64, "width of s_axis and m_axis", unit="bits", tag="ours", choices=(32, 64, 128, 256, 512)
    )

    def validate(self) -> None:
        """Refuse an accumulator that K products can overflow."""
        needed = acc_bits_needed(self.k_max, self.act_bits, self.weight_bits)
        if self.acc_bits < needed:
            raise ParameterError("acc_bits", self.acc_bits, f"at least {needed} for k_max={self.k_max}")

    @property
    def m_step(self) -> int:
        """Activation rows of one tile."""
        raise NotImplementedError

    @property
    def k_step(self) -> int:
        """Elements of K of one tile."""
        raise NotImplementedError

    @property
    def m_innermost(self) -> bool:
        """True if a word of the act buffer holds one activation row (its lanes run along K)."""
        raise NotImplementedError

    @property
    def drain_lanes(self) -> int:
        """Outputs that leave the accumulators per cycle: one 32-bit word per lane fills a beat."""
        return self.axis_data_bits // 32

    def derived(self) -> dict[str, int]:
        """Return the steps of the loops and the lanes of the drain, which fix the order of the streams."""
        return {"m_step": self.m_step, "k_step": self.k_step, "drain_lanes": self.drain_lanes}

    def check_gemm(self, m: int, k: int, n: int) -> None:
        """Refuse dimensions that the machine's registers or accumulators cannot hold.

        Raises
        ------
        ParameterError
            Naming M, K or N.
        """
        high = (1 << DIMENSION_BITS) - 1
        check_range("M", m, 1, high)
        check_range("K", k, 1, self.k_max)
        check_range("N", n, 1, high)

    def act_words(self, m_valid: int, k_valid: int) -> int:
        """Return the act-buffer words of a tile with ``m_valid`` rows and ``k_valid`` elements of K."""
        return m_valid if self.m_innermost else k_valid

    def resident(self, m: int, k: int) -> bool:
        """Return True if the activations of an M step fit the act buffer whole.

        They are then sent once per M step; otherwise they are sent again for every N tile.
        """
        m_valid = min(m, self.m_step)
        words = m_valid * -(-k // self.k_step) if self.m_innermost else k
        return words <= self.act_depth
