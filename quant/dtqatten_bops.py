"""Count the bit operations of attention whose tokens are at 8, 4 and 0 bits: eq. (2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bitfabric.quant.errors import ParameterError, check_range

# Numerators of the attention probabilities enter the array at 8 bits, whatever the token.
NUMERATOR_BITS = 8


@dataclass(frozen=True)
class Shares:
    """Hold the shares of a layer's tokens at each precision, of the original token count.

    Members
    -------
    pruned, low, high : float
        At 0, 4 and 8 bits; each in [0, 1], their sum 1.

    Raises
    ------
    ParameterError
        For other shares.
    """

    pruned: float
    low: float
    high: float

    def __post_init__(self) -> None:
        for name, value in (("pruned", self.pruned), ("low", self.low), ("high", self.high)):
            if not 0 <= value <= 1:
                raise ParameterError(name, value, "in [0, 1]")
        total = self.pruned + self.low + self.high
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ParameterError("pruned + low + high", total, "1")

    @property
    def keep(self) -> float:
        """Return the share that is not pruned, as ``quant.dtqatten.counts`` takes it."""
        return self.low + self.high

    @property
    def mean_bits(self) -> float:
        """Return the mean bits of a token, the pruned ones included."""
        return 4 * self.low + 8 * self.high


@dataclass(frozen=True)
class LayerSize:
    """Hold what an attention layer's operations depend on.

    Members
    -------
    tokens, heads, head_size : int
        n of the original sequence, heads, and d of one head; at least 1.

    Raises
    ------
    ParameterError
    """

    tokens: int
    heads: int
    head_size: int

    def __post_init__(self) -> None:
        for name in ("tokens", "heads", "head_size"):
            check_range(name, getattr(self, name), 1)

    @property
    def flops(self) -> int:
        """Return the operations of Q·Kᵀ and prob·V in the original model, two for each multiplication."""
        return 4 * self.heads * self.tokens**2 * self.head_size


def layer_bops(shares: Shares, size: LayerSize) -> float:
    """Return the bit operations of one layer: each operation times the bits of both its operands.

    ``2*H*d*n²*(b² + 8*keep*b)`` with b the mean bits of a token: each query meets each key at the product
    of their bits, and each query that is kept its 8-bit numerator with each value [derived from 17's BOPs,
    which the paper names without writing them out].

    Parameters
    ----------
    shares : Shares
    size : LayerSize

    Returns
    -------
    float
        64 for each of ``size.flops`` when all tokens are at 8 bits.
    """
    bits = shares.mean_bits
    return size.flops / 2 * (bits * bits + NUMERATOR_BITS * shares.keep * bits)


def mean_bops(shares: Sequence[Shares], sizes: Sequence[LayerSize]) -> float:
    """Return L_ops of eq. (2), bit operations for each operation of the original model [paper].

    Parameters
    ----------
    shares : sequence of Shares
        One for each layer.
    sizes : sequence of LayerSize
        As many.

    Returns
    -------
    float
        0 to 64: 64 at 8 bits throughout, 24 at 4 bits (the numerators stay at 8).

    Raises
    ------
    ParameterError
        For no layer, or numbers of layers that differ.
    """
    if not sizes or len(shares) != len(sizes):
        raise ParameterError(
            "shares", f"{len(shares)} layers", f"one for each of {len(sizes)} layers, at least one"
        )
    bops = sum(layer_bops(one, size) for one, size in zip(shares, sizes, strict=True))
    return bops / sum(size.flops for size in sizes)
