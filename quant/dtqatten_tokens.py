"""Quantize the Q, K and V vectors of tokens at 8 and 4 bits, and derive the integers that the machine needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.dtqatten_checks import Ints, check_bits
from bitfabric.quant.dtqatten_parameters import AttentionParameters, attention_parameters
from bitfabric.quant.errors import ParameterError, check_choice

Floats = NDArray[np.float64]

SCALES = ("layer", "token")


@dataclass(frozen=True, eq=False)
class TokenVectors:
    """Hold one of Q, K, V as machine integers.

    Members
    -------
    values : int8 array, (heads, m, d)
        A 4-bit value stands in the high nibble: ``v4 * 16``. Zeros in 0-bit tokens.
    scale : float64 array
        Real value of 1, > 0: 0-dimensional for the layer, (m,) with one for each token.
    bits : int64 array, (m,)
        8, 4 or 0.
    """

    values: NDArray[np.int8]
    scale: Floats
    bits: Ints

    def dequantize(self) -> Floats:
        """Return the real values that the integers stand for, (heads, m, d)."""
        return self.values * (self.scale[:, np.newaxis] if self.scale.ndim else self.scale)

    def at(self, positions: ArrayLike) -> TokenVectors:
        """Return the tokens at ``positions``, in that order."""
        chosen = np.asarray(positions, np.int64)
        scale = self.scale[chosen] if self.scale.ndim else self.scale
        return TokenVectors(self.values[:, chosen], scale, self.bits[chosen])


@dataclass(frozen=True, eq=False)
class AttentionInputs:
    """Hold what one block's attention takes: ``attention(*inputs.vectors, bits=..., parameters=...)``.

    Members
    -------
    q, k, v : TokenVectors
    parameters : AttentionParameters
    out_scale : float
        Real value of 1 of the outputs.
    """

    q: TokenVectors
    k: TokenVectors
    v: TokenVectors
    parameters: AttentionParameters
    out_scale: float

    @property
    def vectors(self) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]:
        """Return the machine integers of Q, K and V."""
        return self.q.values, self.k.values, self.v.values


def quantize_tokens(
    x: ArrayLike, bits: ArrayLike, scales: str = "layer", scale: float | None = None
) -> TokenVectors:
    """Quantize each token's vector at its own precision, symmetrically, rounding half to even.

    With one scale for the layer ``x8 = clip(rint(x/scale), -127, 127)`` and ``v4 = clip(rint(x/(16*scale)),
    -8, 7)``, so that a shift of four joins the two [ours]. With a scale for each token, ``max|x|/127`` at 8
    bits and ``max|x|/7`` at 4 bits, over the token's whole vector, all heads [ours].

    Parameters
    ----------
    x : array, (heads, m, d)
        Real and finite.
    bits : integer array, (m,)
        8, 4 or 0; tokens of 0 bits are left out of the scale.
    scales : str
        "layer" or "token".
    scale : float, optional
        The layer's scale, known beforehand; by default ``max|x|/127``.

    Returns
    -------
    TokenVectors
        A scale that nothing determines (all zeros) is 1 for a layer; for a token, the smallest one beside it.

    Raises
    ------
    ParameterError
    """
    real = _checked("x", x)
    kept = check_bits("bits", bits, real.shape[1])
    check_choice("scales", scales, SCALES)
    largest = np.abs(real).max(axis=(0, 2)) * (kept > 0)
    found: Floats
    if scales == "layer":
        if scale is not None and not (math.isfinite(scale) and scale > 0):
            raise ParameterError("scale", scale, "finite and greater than 0")
        found = np.asarray(largest.max() / 127 if scale is None else scale)
    elif scale is not None:
        raise ParameterError("scale", scale, "left out with a scale for each token")
    else:
        found = largest / np.where(kept == 4, 7 * 16, 127)
    tiny = np.finfo(np.float64).tiny
    usable = found >= tiny
    found = np.where(usable, found, found[usable].min() if usable.any() else 1.0)
    steps = found[:, np.newaxis] if found.ndim else found
    with np.errstate(over="ignore"):
        high = np.clip(np.rint(real / steps), -127, 127)
        low = 16 * np.clip(np.rint(real / (16 * steps)), -8, 7)
    each = kept[:, np.newaxis]
    values = np.where(each == 8, high, np.where(each == 4, low, 0)).astype(np.int8)
    return TokenVectors(values, found, kept)


def quantize_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    bits: ArrayLike,
    scales: str = "layer",
    out_scale: float | None = None,
    score_scale: float | None = None,
) -> AttentionInputs:
    """Quantize a block's real Q, K and V for the machine.

    Parameters
    ----------
    q, k, v : array, (heads, m, d)
        Real and finite.
    bits, scales
        As in ``quantize_tokens``.
    out_scale : float, optional
        By default ``max|v|/127``: no output exceeds the largest V [derived].
    score_scale : float, optional
        Factor of the scores, > 0; by default ``1/sqrt(d)``.

    Raises
    ------
    ParameterError
    """
    query, key, value = (quantize_tokens(one, bits, scales) for one in (q, k, v))
    shapes = [one.values.shape for one in (query, key, value)]
    if len(set(shapes)) != 1:
        raise ParameterError("q, k, v", shapes, "of one shape (heads, m, d)")
    if out_scale is None:
        kept = value.bits > 0
        top = float(np.abs(np.asarray(v)[:, kept]).max()) / 127 if kept.any() else 0.0
        out_scale = top if top >= np.finfo(np.float64).tiny else 1.0
    factor = 1 / math.sqrt(shapes[0][2]) if score_scale is None else score_scale
    parameters = attention_parameters(query.scale, key.scale, value.scale, factor, out_scale)
    return AttentionInputs(query, key, value, parameters, out_scale)


def _checked(name: str, x: ArrayLike) -> Floats:
    real = np.asarray(x)
    if real.dtype.kind not in "fiu" or real.ndim != 3 or real.size == 0:
        raise ParameterError(name, f"{real.dtype.name} {real.shape}", "real numbers of shape (heads, m, d)")
    if not np.isfinite(real).all():
        raise ParameterError(name, "NaN or infinite values", "finite")
    return real.astype(np.float64)
