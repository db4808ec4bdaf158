"""Choose a precision for each sub-tensor: eqs. (5) and (6), in integers as the hardware does and in floats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from bitfabric.quant.drift.decision import Selection, select_statistics
from bitfabric.quant.drift.statistics import axis_block, block_statistics, full_block, saturate
from bitfabric.quant.drift.thresholds import check_scale, check_threshold, check_widths
from bitfabric.quant.errors import ParameterError, check_range


def select(
    q: ArrayLike,
    scale: ArrayLike,
    threshold: ArrayLike,
    axis: int | Sequence[int] = -1,
    high_bits: int = 8,
    low_bits: int = 4,
) -> Selection:
    """Choose the precision of each sub-tensor along ``axis`` (section 3.3), in integers [derived].

    Parameters
    ----------
    q : integer array
        Quantized at hp bits with zero point 0; what is outside ``±(2^(hp-1)-1)`` counts as saturated.
    scale : float or array
        Δ of the tensor, or of each sub-tensor; ``Quantized.scale`` fits as it is.
    threshold : float or array
        δ, at least 0, of the tensor or of each sub-tensor.
    axis : int or sequence of int
        The axes that belong to one sub-tensor, over which statistics are taken: -1 of (tokens, features)
        is per token, 0 of (K, N) weights is per output channel.
    high_bits, low_bits : int
        hp in [2, 8], lp in [1, hp].

    Returns
    -------
    Selection
        Of the shape of ``q`` without ``axis``.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    return select_blocks(q, axis_block(axis, np.ndim(q)), scale, threshold, high_bits, low_bits)


def select_rows(
    q: ArrayLike,
    scale: ArrayLike,
    threshold: ArrayLike,
    rows_per_subtensor: int = 1,
    high_bits: int = 8,
    low_bits: int = 4,
) -> Selection:
    """Choose the precision of each ``rows_per_subtensor`` consecutive rows of (M, K), as the machine does [ours].

    The last sub-tensor may have fewer rows: it has its own n and T. Other parameters as in ``select``.

    Raises
    ------
    ParameterError
        If ``q`` is no matrix or a parameter is out of range.
    """
    if np.ndim(q) != 2:
        raise ParameterError("q", np.shape(q), "a matrix (rows, K)")
    rows = check_range("rows_per_subtensor", rows_per_subtensor, 1)
    return select_blocks(q, (rows, None), scale, threshold, high_bits, low_bits)


def select_blocks(
    q: ArrayLike,
    block: Sequence[int | None],
    scale: ArrayLike,
    threshold: ArrayLike,
    high_bits: int = 8,
    low_bits: int = 4,
) -> Selection:
    """Choose the precision of blocks side by side: regions or patches of an image, tails included.

    Parameters
    ----------
    q : integer array
        As in ``select``; an image is (H, W, C).
    block : sequence of int or None
        Size along each axis, None for a whole one; axes behind those given are whole: (bh, bw) of (H, W, C) takes
        every channel. The last block along an axis may be smaller: it has its own n and T.
    scale, threshold, high_bits, low_bits
        As in ``select``.

    Returns
    -------
    Selection
        With an axis for each size that is not None: (ceil(H/bh), ceil(W/bw)) for an image.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    sizes = full_block(block, np.ndim(q))
    values, _ = saturate(q, check_widths(high_bits, low_bits)[0])
    return select_statistics(block_statistics(values, sizes), sizes, scale, threshold, high_bits, low_bits)


def select_float(
    q: ArrayLike,
    scale: float,
    threshold: float,
    axis: int | Sequence[int] = -1,
    high_bits: int = 8,
    low_bits: int = 4,
) -> Selection:
    """Choose precisions by eqs. (5) and (6) in float64 [paper].

    A factor Δ is cancelled in each [ours]: nothing but the result can overflow or lose precision at an extreme scale.
    Agrees with ``select`` unless the two sides of eq. (6) are equal or differ by less than float64 resolves (some 4
    units in the last place); there the integer form decides. An all-zero sub-tensor is low [ours].

    Parameters
    ----------
    As in ``select``; one scale and one threshold.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    high_bits, low_bits = check_widths(high_bits, low_bits)
    scale, threshold = check_scale(scale), check_threshold(threshold)
    sizes = axis_block(axis, np.ndim(q))
    found = block_statistics(saturate(q, high_bits)[0], sizes)
    zero = found.maximum == 0
    room = (2 ** (high_bits - 1) - 1) / np.where(zero, 1, found.maximum)
    # An all-zero sub-tensor may be clipped as far as one likes.
    clip = np.where(zero, high_bits - low_bits, np.floor(np.log2(room)).astype(np.int64))
    clip = np.clip(clip, 0, high_bits - low_bits)
    low_clip = high_bits - low_bits - clip
    with np.errstate(over="ignore", under="ignore"):
        ratio = 2 * np.square(found.total / found.elements) / 2.0**low_clip * scale
    low = (ratio >= threshold) & (threshold < np.inf) | zero
    return Selection(np.asarray(low), clip, low_clip, high_bits, low_bits, sizes)
