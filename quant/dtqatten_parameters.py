"""Derive the integers of an attention layer from its scales."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.dtqatten_checks import Ints
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.quant.softmax import SCORE_FRACTION

MULTIPLIER_MAX = 2**16 - 1
SCORE_SHIFT_MAX = 47
OUT_SHIFT_MAX = 63


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionParameters:
    """Hold the integers of one attention layer beside its vectors.

    Members
    -------
    score_shift : int
        1 to 47.
    out_multiplier, out_shift : int
        1 to 65535 and 1 to 63.
    score_multiplier : int
        1 to 65535; not used with a scale for each token.
    sq, sk, sv : int64 array, (m,), or None
        Scales of each token's Q, K and V, 1 to 65535, by position; None: one scale for the layer.

    Raises
    ------
    ParameterError
        For anything out of range, or for some of sq, sk, sv without the others.
    """

    score_shift: int
    out_multiplier: int
    out_shift: int
    score_multiplier: int = 1
    sq: Ints | None = None
    sk: Ints | None = None
    sv: Ints | None = None

    def __post_init__(self) -> None:
        check_range("score_shift", self.score_shift, 1, SCORE_SHIFT_MAX)
        check_range("score_multiplier", self.score_multiplier, 1, MULTIPLIER_MAX)
        check_range("out_multiplier", self.out_multiplier, 1, MULTIPLIER_MAX)
        check_range("out_shift", self.out_shift, 1, OUT_SHIFT_MAX)
        given = {name: getattr(self, name) for name in ("sq", "sk", "sv")}
        if all(one is None for one in given.values()):
            return
        for name, one in given.items():
            if one is None:
                raise ParameterError(name, None, "given, as the other scales of tokens are")
            checked = check_integers(name, one, 1, MULTIPLIER_MAX).astype(np.int64)
            if checked.ndim != 1 or checked.shape != np.shape(given["sq"]):
                raise ParameterError(name, checked.shape, "of shape (m,), the same for sq, sk and sv")
            object.__setattr__(self, name, checked)

    @property
    def per_token(self) -> bool:
        """Tell whether each token has its own scales."""
        return self.sq is not None

    def at(self, positions: ArrayLike) -> AttentionParameters:
        """Return the parameters of the tokens at ``positions``, in that order."""
        if self.sq is None or self.sk is None or self.sv is None:
            return self
        chosen = np.asarray(positions, np.int64)
        return replace(self, sq=self.sq[chosen], sk=self.sk[chosen], sv=self.sv[chosen])


def attention_parameters(
    q_scale: ArrayLike, k_scale: ArrayLike, v_scale: ArrayLike, score_scale: float, out_scale: float
) -> AttentionParameters:
    """Derive a layer's integer parameters from its scales [derived].

    One scale: ``score_multiplier * 2^-score_shift`` is ``s_q*s_k*score_scale*log2(e)*4096`` (scores in log2
    units, 12 fraction bits) and ``out_multiplier * 2^-(out_shift-1)`` is ``s_v/out_scale``.

    A scale for each token: ``sk = s_k*65535/max s_k``; ``sq`` takes in what is constant, so that
    ``sq*sk*2^-16*2^-score_shift`` is what the multiplier is above. ``sv = s_v/u``, ``u = max s_v/65535``. With
    ``f = E*sv/2^22``, ``a = 255*f/mx`` and S the sum of E, the output is ``u*sum(E*sv*v)/S =
    (u*65536/255)*(2^6*mx/S)*sum(a*v)``, and ``ro*2^-eo`` is ``2^6*mx/S``, so ``out_multiplier*2^-(16+out_shift)`` is
    ``u*65536/(255*out_scale)``.

    Parameters
    ----------
    q_scale, k_scale, v_scale : float or array (m,)
        Real value of 1 of each machine integer, > 0: of the layer, or of each token.
    score_scale : float
        Factor of the scores, > 0: ``1/sqrt(d)`` in a transformer.
    out_scale : float
        Real value of 1 of the outputs, > 0.

    Raises
    ------
    ParameterError
        For scales of different shapes, or ones that no multiplier and shift in range give.
    """
    q, k, v = (np.asarray(one, np.float64) for one in (q_scale, k_scale, v_scale))
    if q.ndim > 1 or q.size == 0 or not q.shape == k.shape == v.shape:
        allowed = "three numbers, or three arrays of one shape (m,)"
        raise ParameterError("scales", [q.shape, k.shape, v.shape], allowed)
    named = {"q_scale": q, "k_scale": k, "v_scale": v, "score_scale": score_scale, "out_scale": out_scale}
    for name, value in named.items():
        given = np.asarray(value, np.float64)
        if not (np.isfinite(given).all() and (given > 0).all()):
            raise ParameterError(name, value, "finite and greater than 0")
    top_q, top_k, top_v = (float(one.max()) for one in (q, k, v))
    scores = top_q * top_k * score_scale * math.log2(math.e) * 2**SCORE_FRACTION
    if not q.ndim:
        multiplier, shift = _fixed_point("score", scores, 1, SCORE_SHIFT_MAX)
        # Its power of two is out_shift - 1.
        out_multiplier, out_shift = _fixed_point("out", top_v / out_scale, 0, OUT_SHIFT_MAX - 1)
        return AttentionParameters(
            score_multiplier=multiplier,
            score_shift=shift,
            out_multiplier=out_multiplier,
            out_shift=out_shift + 1,
        )
    # The largest sk is 65535, not 65536: sq makes up for it.
    top_sq, shift = _fixed_point("score", scores * 65536 / 65535, 1, SCORE_SHIFT_MAX)
    unit = top_v / 65535
    out_multiplier, out_shift = _fixed_point("out", unit * 65536 / (255 * out_scale), 17, OUT_SHIFT_MAX + 16)
    return AttentionParameters(
        score_shift=shift,
        out_multiplier=out_multiplier,
        out_shift=out_shift - 16,
        sq=_steps(q * (top_sq / top_q)),
        sk=_steps(k * (65535 / top_k)),
        sv=_steps(v / unit),
    )


def _fixed_point(name: str, factor: float, low: int, high: int) -> tuple[int, int]:
    """Return the multiplier below 2^16 and the shift in ``[low, high]`` that come nearest to ``factor``."""
    # Most precise at the largest shift whose multiplier still fits; a rounding up to 65536 takes one less.
    shift = min(high, 16 - math.frexp(factor)[1])
    if round(math.ldexp(factor, shift)) > MULTIPLIER_MAX:
        shift -= 1
    multiplier = round(math.ldexp(factor, shift)) if shift >= low else 0
    if not 1 <= multiplier <= MULTIPLIER_MAX:
        allowed = f"between 2^-{high} and 65535*2^-{low}, from the scales"
        raise ParameterError(f"{name} factor", factor, allowed)
    return multiplier, shift


def _steps(scales: NDArray[np.float64]) -> Ints:
    return np.clip(np.rint(scales), 1, MULTIPLIER_MAX).astype(np.int64)
