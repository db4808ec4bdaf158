"""Cut integers into the 4-bit slices that a bit-slice accelerator multiplies, and join them again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import ParameterError, check_choice

# Four slices a side at most [ours]: the paper's machine has up to three, and a slice more would need
# products of weight 8^4 * 16^3, beyond what a 32-bit accumulator leaves for K.
MAX_SLICES = 4
WEIGHT_BITS = tuple(3 * n + 4 for n in range(MAX_SLICES))
ACT_BITS = tuple(4 * k + 4 for k in range(MAX_SLICES))
LOW_BITS = (4, 5, 6)


def signed_slices(w: ArrayLike, bits: int = 7) -> NDArray[np.int8]:
    """Cut signed weights into signed 4-bit slices of weight 8^i (SBR).

    ``lo = (w & 7) - 8*(w < 0)``, then ``w = (w >> 3) + (w < 0)``, n times; what remains is the
    high-order slice [paper]. Small magnitudes of either sign so get a high-order slice of 0.

    Parameters
    ----------
    w : integer array
        Any shape, values in ``[-2^(bits-1), 2^(bits-1)-1]``.
    bits : int
        3n+4: 4, 7, 10 or 13 (n+1 = 1 to 4 slices).

    Returns
    -------
    int8 array
        ``(n+1, *w.shape)``, least significant first, each in [-8, 7]; ``sum(8**i * s[i]) == w`` exactly.

    Raises
    ------
    ParameterError
        For a width that has no slices, or a value outside it (nothing saturates).
    """
    bits = int(check_choice("bits", bits, WEIGHT_BITS))
    rest = check_integers("w", w, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int16)
    count = (bits - 4) // 3 + 1
    slices = np.empty((count, *rest.shape), np.int8)
    for i in range(count - 1):
        sign = rest >> 15  # -1 or 0, in int16: a bool times 8 would be int64
        slices[i] = (rest & 7) + (sign << 3)
        rest = (rest >> 3) - sign
    slices[-1] = rest
    return slices


def join_signed(slices: ArrayLike) -> NDArray[np.int16]:
    """Return the weights of signed slices: ``sum(8**i * slices[i])``.

    Parameters
    ----------
    slices : integer array
        ``(n+1, ...)``, 1 to 4 slices, least significant first, values in [-8, 7].

    Returns
    -------
    int16 array
        The shape of one slice. Slices that ``signed_slices`` never makes are joined too.

    Raises
    ------
    ParameterError
        For another number of slices or a value outside the range.
    """
    parts = check_integers("slices", slices, -8, 7).astype(np.int16)
    _check_count(parts)
    return np.tensordot(_powers(8, len(parts)), parts, axes=1).astype(np.int16)


def unsigned_slices(x: ArrayLike, bits: int = 8, low_bits: int = 4) -> NDArray[np.uint8]:
    """Cut unsigned activations into unsigned 4-bit slices.

    With ``low_bits`` l = 4 slice i is bits 4i to 4i+3. With l = 5 or 6 (8-bit activations only: the DBS
    types) the high-order slice is ``x >> l`` and the low-order one ``(x mod 2^l) >> (l-4)``, so that the
    l-4 lowest bits are dropped, truncated towards zero [paper].

    Parameters
    ----------
    x : integer array
        Any shape, values in ``[0, 2^bits - 1]``.
    bits : int
        4k+4: 4, 8, 12 or 16 (k+1 = 1 to 4 slices).
    low_bits : int
        4, 5 or 6.

    Returns
    -------
    uint8 array
        ``(k+1, *x.shape)``, least significant first, each in [0, 15].

    Raises
    ------
    ParameterError
        For a width that has no slices, low_bits other than 4 at a width other than 8, or a value outside.
    """
    bits = int(check_choice("bits", bits, ACT_BITS))
    _check_low_bits(low_bits, bits // 4)
    acts = check_integers("x", x, 0, 2**bits - 1).astype(np.uint16)
    if low_bits != 4:
        high, low = acts >> low_bits, (acts & (2**low_bits - 1)) >> (low_bits - 4)
        return np.stack([low, high]).astype(np.uint8)
    slices = np.empty((bits // 4, *acts.shape), np.uint8)
    for i in range(bits // 4):
        slices[i] = (acts >> 4 * i) & 15
    return slices


def join_unsigned(slices: ArrayLike, low_bits: int = 4) -> NDArray[np.uint16]:
    """Return the activations of unsigned slices; the bits that ``low_bits`` 5 or 6 dropped are zero.

    Parameters
    ----------
    slices : integer array
        ``(k+1, ...)``, 1 to 4 slices, least significant first, values in [0, 15].
    low_bits : int
        4, or with two slices 5 or 6, as given to ``unsigned_slices``.

    Returns
    -------
    uint16 array
        The shape of one slice: ``sum(16**i * s[i])``, or ``(s[1] << l) + (s[0] << (l-4))``.

    Raises
    ------
    ParameterError
        For another number of slices, a value outside its range (a high-order slice has 8-l bits), or
        low_bits.
    """
    parts = check_integers("slices", slices, 0, 15).astype(np.uint16)
    _check_count(parts)
    _check_low_bits(low_bits, len(parts))
    if low_bits != 4:
        check_integers("slices", parts[1], 0, 2 ** (8 - low_bits) - 1)
        joined: NDArray[np.uint16] = (parts[1] << low_bits) + (parts[0] << (low_bits - 4))
        return joined
    return np.tensordot(_powers(16, len(parts)), parts, axes=1).astype(np.uint16)


def _powers(base: int, count: int) -> NDArray[np.int64]:
    return np.array([base**i for i in range(count)], np.int64)


def _check_count(parts: NDArray[Any]) -> None:
    if parts.ndim == 0 or not 1 <= len(parts) <= MAX_SLICES:
        raise ParameterError("slices", parts.shape, f"an array of 1 to {MAX_SLICES} slices along axis 0")


def _check_low_bits(low_bits: int, count: int) -> None:
    check_choice("low_bits", low_bits, LOW_BITS)
    if low_bits != 4 and count != 2:
        raise ParameterError("low_bits", low_bits, f"4 with {count} activation slices; 5 and 6 need 2")
