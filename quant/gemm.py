"""Multiply integer matrices exactly, through BLAS wherever its floats are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers, largest_magnitude
from bitfabric.quant.errors import ParameterError, check_range

# Integers up to here, and so every partial sum in whatever order BLAS adds, are exact in these floats.
FLOAT32_EXACT = 2**24
FLOAT64_EXACT = 2**53


def gemm(a: ArrayLike, b: ArrayLike, acc_bits: int = 32) -> NDArray[np.int32] | NDArray[np.int64]:
    """Return ``a @ b`` as exact integers.

    Runs in float32 while ``max|a| * max|b| * K`` stays below 2^24, in float64 below 2^53, in int64 (some
    thirty times slower) below 2^63 [derived]. The operands' dtypes need not agree (uint8 by int8).

    Parameters
    ----------
    a : integer array, (..., M, K)
    b : integer array, (..., K, N)
        Leading axes broadcast, as in ``np.matmul``.
    acc_bits : int
        Width of the two's complement accumulator, 1 to 64. Only the results are held to it: partial sums
        that wrap on the way to a result that fits come out right in hardware too.

    Returns
    -------
    int32 array, or int64 when ``acc_bits`` is over 32; (..., M, N)

    Raises
    ------
    ParameterError
        For operands that are not integer matrices of matching shapes, a result that does not fit
        ``acc_bits``, or operands whose sums could overflow int64.
    """
    acc_bits = check_range("acc_bits", acc_bits, 1, 64)
    left, right = check_integers("a", a), check_integers("b", b)
    shape = _result_shape(left, right)
    bound = largest_magnitude(left) * largest_magnitude(right) * left.shape[-1]
    if bound >= 2**63:
        raise ParameterError("max|a|*max|b|*K", bound, "below 2^63, or int64 could overflow")
    kind: type[np.float32 | np.float64 | np.int64] = np.int64
    if bound < FLOAT64_EXACT:
        kind = np.float32 if bound < FLOAT32_EXACT else np.float64
    product = np.matmul(left.astype(kind, copy=False), right.astype(kind, copy=False))
    limit = 2 ** (acc_bits - 1)
    # The bound settles it for nearly every call; looking at the results is the slow way.
    if bound >= limit and product.size and not -limit <= int(product.min()) <= int(product.max()) < limit:
        needed = max((-1 - int(product.min())).bit_length(), int(product.max()).bit_length()) + 1
        raise ParameterError("acc_bits", acc_bits, f"at least {needed} for the results of this {shape} GEMM")
    result: NDArray[np.int32] | NDArray[np.int64] = product.astype(
        np.int32 if acc_bits <= 32 else np.int64, copy=False
    )
    return result


def acc_bits_needed(
    k: int, act_bits: int, weight_bits: int, *, act_signed: bool = True, weight_signed: bool = True
) -> int:
    """Return the least two's complement width that holds every sum of ``k`` products.

    Sized by the integers' full ranges, the most negative one included: -128 * -128 counts. For signed
    operands this is ``act_bits + weight_bits + ceil(log2 k)`` less at most one [derived].

    Parameters
    ----------
    k : int
        Products added, at least 1.
    act_bits, weight_bits : int
        1 to 32 each.
    act_signed, weight_signed : bool
        Two's complement or unsigned.

    Returns
    -------
    int
        Bits, the sign among them (also when no product can be negative).

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    k = check_range("k", k, 1)
    act = _limits(check_range("act_bits", act_bits, 1, 32), act_signed)
    weight = _limits(check_range("weight_bits", weight_bits, 1, 32), weight_signed)
    products = [x * w for x in act for w in weight]
    # The sum of negative ones needs the bits of its complement: -128 fits 8 bits, 128 does not.
    lowest, highest = k * min(*products, 0), k * max(*products, 0)
    return max((-1 - lowest).bit_length() if lowest else 0, highest.bit_length()) + 1


def _limits(bits: int, signed: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _result_shape(a: NDArray[np.integer[Any]], b: NDArray[np.integer[Any]]) -> tuple[int, ...]:
    for name, matrix in (("a", a), ("b", b)):
        if matrix.ndim < 2:
            raise ParameterError(name, matrix.shape, "a matrix, or matrices along leading axes")
    if a.shape[-1] != b.shape[-2]:
        raise ParameterError("b", b.shape, f"of shape ({a.shape[-1]}, N), to follow a of shape {a.shape}")
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        allowed = f"of leading axes that broadcast with a of shape {a.shape}"
        raise ParameterError("b", b.shape, allowed) from None
    return (*batch, a.shape[-2], b.shape[-1])
