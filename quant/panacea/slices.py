"""Say how Panacea cuts its operands: widths, weights of the partial GEMMs, the slice that is skipped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitfabric.quant.errors import ParameterError, check_choice, check_range
from bitfabric.quant.slicing import LOW_BITS

# One to three slices a side: n, k = 0, 1, 2 are what the machine has run-time modes for [ours].
WEIGHT_BITS = (4, 7, 10)
ACT_BITS = (4, 8, 12)
VECTORS = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Slicing:
    """Hold the widths of one layer, checked.

    Members
    -------
    weight_bits : int
        3n+4: 4, 7 or 10, cut into n+1 signed slices (SBR) [paper, III-B].
    act_bits : int
        4k+4: 4, 8 or 12, cut into k+1 unsigned slices [paper, III-B].
    low_bits : int
        l, the width of the LO slice before its l-4 low bits are dropped: 4, or with 8-bit activations 5 or
        6 (DBS types 1, 2, 3) [paper, III-C].
    vector : int
        Length v of a slice-vector: 1, 2, 4 or 8; 4 is the paper's.

    Raises
    ------
    ParameterError
        For any other value.
    """

    weight_bits: int = 7
    act_bits: int = 8
    low_bits: int = 4
    vector: int = 4

    def __post_init__(self) -> None:
        check_choice("weight_bits", self.weight_bits, WEIGHT_BITS)
        check_choice("act_bits", self.act_bits, ACT_BITS)
        check_choice("low_bits", self.low_bits, LOW_BITS)
        check_choice("vector", self.vector, VECTORS)
        if self.low_bits != 4 and self.act_bits != 8:
            allowed = f"4 with {self.act_bits}-bit activations; 5 and 6 need 8 bits"
            raise ParameterError("low_bits", self.low_bits, allowed)

    @property
    def weight_slices(self) -> int:
        """Return n+1; with one slice there is no HO slice and nothing is compressed."""
        return (self.weight_bits - 1) // 3

    @property
    def act_slices(self) -> int:
        """Return k+1; with one slice there is no HO slice and nothing is compressed."""
        return self.act_bits // 4

    @property
    def ho_shift(self) -> int:
        """Return the weight of the activations' HO slice as a power of 2: l, or 8 for 12-bit activations."""
        return self.low_bits if self.act_slices == 2 else 4 * (self.act_slices - 1)

    def skipped(self, zero_point: int) -> int:
        """Return r, the HO slice of the zero point: ``zp >> l``, or ``zp >> 8`` for 12 bits [paper, III-B].

        0 for 4-bit activations, which have no HO slice: fold and compensation, both proportional to r, then
        vanish [derived].

        Raises
        ------
        ParameterError
            For a zero point outside ``[0, 2^act_bits - 1]``.
        """
        point = check_range("zero_point", zero_point, 0, 2**self.act_bits - 1)
        return point >> self.ho_shift if self.act_slices > 1 else 0

    def part_weights(self) -> NDArray[np.int64]:
        """Return what one unit of each partial GEMM is worth in acc: (n+1, k+1), powers of 2.

        ``8^i * 16^j``; with l = 5 or 6 ``8^i * 2^(l-4)`` and ``8^i * 2^l`` [derived].
        """
        low = self.low_bits - 4
        acts = [low + 4 * j for j in range(self.act_slices)]
        return np.array([[1 << (3 * i + j) for j in acts] for i in range(self.weight_slices)], np.int64)
