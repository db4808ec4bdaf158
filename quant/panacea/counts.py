"""Count the work of Table I: multiplications, additions and 4-bit external memory words."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.errors import ParameterError, check_choice, check_range
from bitfabric.quant.panacea.slices import VECTORS

Number = TypeVar("Number", int, float)


class Operations(NamedTuple, Generic[Number]):
    """Hold one column of Table I.

    Members
    -------
    multiplications
        Of 4 by 4 bits, or in the compensation of r by a sum of weights.
    additions
        Accumulations: one for each product, or for each weight a compensator takes in.
    memory_words
        4-bit words from external memory, each slice-vector once (sufficient on-chip memory is assumed);
        indices and forced vectors are not among them, see ``Storage``.
    """

    multiplications: Number
    additions: Number
    memory_words: Number


class TableOne(NamedTuple, Generic[Number]):
    """Hold Table I for one GEMM.

    Members
    -------
    panacea : Operations
        The bit-slice GEMMs without compensation.
    compensation_5, compensation_6 : Operations
        By eq. (5), over the skipped activation vectors, whose weights every output block has to load; by
        eq. (6), over the kept ones, whose weights are there already. Either multiplies r into every output.
    compensation_rtl : Operations
        Eq. (6) as our RTL does it: r times a sum of weights is taken once for each row of an output block
        and subtracted from all v columns, so that v multiplications do for the paper's v^2 [ours].
    sibia : Operations
        The same patterns where only one operand's are skipped, the one that leaves less work, and both
        operands are loaded whole.
    dense : Operations
        Nothing skipped.
    """

    panacea: Operations[Number]
    compensation_5: Operations[Number]
    compensation_6: Operations[Number]
    compensation_rtl: Operations[Number]
    sibia: Operations[Number]
    dense: Operations[Number]


def outer_products(
    weight_keep: ArrayLike, act_keep: ArrayLike, weight_slices: int = 2, act_slices: int = 2
) -> NDArray[np.int64]:
    """Count the outer products of every partial GEMM: (n+1, k+1), least significant slices first.

    A vector of a top slice takes part only if it is kept; every vector of a lower slice does, and so does
    every vector of an operand's only slice. Groups are counted whole (ceil), K as it is.

    Parameters
    ----------
    weight_keep : bool array, (ceil(M/v), K)
        Of the HO slice.
    act_keep : bool array, (K, ceil(N/v))
        Of the HO slice.
    weight_slices, act_slices : int
        n+1 and k+1, at least 1.

    Raises
    ------
    ParameterError
        For patterns that are not boolean matrices of one K, or numbers of slices below 1.
    """
    weights, acts = _present(weight_keep, act_keep, weight_slices, act_slices)
    return np.asarray(weights @ acts.T)


def count_operations(
    weight_keep: ArrayLike,
    act_keep: ArrayLike,
    weight_slices: int = 2,
    act_slices: int = 2,
    vector: int = 4,
) -> TableOne[int]:
    """Count Table I from actual patterns.

    Sibia's column takes the patterns given, as the table does; for its own operands (SBR on both, r = 0) give
    their patterns. r = 0 saves no compensation: the hardware does not look [ours].

    Parameters
    ----------
    weight_keep, act_keep, weight_slices, act_slices
        As in ``outer_products``.
    vector : int
        1, 2, 4 or 8.

    Returns
    -------
    TableOne of int

    Raises
    ------
    ParameterError
        If an argument is out of range.
    """
    area = check_choice("vector", vector, VECTORS) ** 2
    weights, acts = _present(weight_keep, act_keep, weight_slices, act_slices)
    (rows, depth), columns = np.shape(weight_keep), np.shape(act_keep)[1]
    products = weights @ acts.T
    work = area * int(products.sum())
    stored_weights, stored_acts = int(weights.sum()), int(acts.sum())
    # What the compensators see: with an activation HO slice, W_i[k] at every output block, for all i.
    blocks = rows * columns if act_slices > 1 else 0
    kept = vector * int(products[:, -1].sum()) if act_slices > 1 else 0
    left = vector * columns * stored_weights - kept if act_slices > 1 else 0
    one_sided = area * min(columns * act_slices * stored_weights, rows * weight_slices * stored_acts)
    everything = vector * depth * (rows * weight_slices + columns * act_slices)
    whole = area * rows * columns * depth * weight_slices * act_slices
    return TableOne(
        panacea=Operations(work, work, vector * (stored_weights + stored_acts)),
        compensation_5=Operations(area * blocks, left, left),
        compensation_6=Operations(area * blocks, kept, 0),
        compensation_rtl=Operations(vector * blocks, kept, 0),
        sibia=Operations(one_sided, one_sided, everything),
        dense=Operations(whole, whole, everything),
    )


def expected_operations(
    m: int,
    k: int,
    n: int,
    weight_sparsity: float,
    act_sparsity: float,
    weight_slices: int = 2,
    act_slices: int = 2,
    vector: int = 4,
) -> TableOne[float]:
    """Return Table I in closed form [derived]: the mean of ``count_operations`` for independent sparsities.

    With two slices, v = 4 and m = n = 4: Panacea ``16K(2-ρw)(2-ρx)`` and ``4K(4-ρw-ρx)`` words; compensation
    16 and ``4K(2-ρw)ρx`` by eq. (5), ``4K(2-ρw)(1-ρx)`` by eq. (6); Sibia ``32K(2-max(ρw,ρx))`` and 16K words;
    dense 64K and 16K words. (Sibia's count of actual patterns takes the lesser side after the draw, and so
    is slightly below this where the two are close.)

    Parameters
    ----------
    m, k, n : int
        W is (m, k), x is (k, n); any sizes, groups of v counted whole.
    weight_sparsity, act_sparsity : float
        Share of HO vectors that are skipped, ρw and ρx, in [0, 1]; of no effect on an operand of one slice.
    weight_slices, act_slices, vector : int
        As in ``count_operations``.

    Returns
    -------
    TableOne of float

    Raises
    ------
    ParameterError
        If an argument is out of range.
    """
    vector = check_choice("vector", vector, VECTORS)
    rows, columns = (-(-check_range(name, size, 0) // vector) for name, size in (("m", m), ("n", n)))
    depth = check_range("k", k, 0)
    weights = _slices_left("weight", weight_slices, weight_sparsity)
    acts = _slices_left("act", act_slices, act_sparsity)
    top = acts - (act_slices - 1) if act_slices > 1 else 0.0
    compensated = float(rows * columns) if act_slices > 1 else 0.0
    every = float(vector * vector * rows * columns * depth)
    taken = vector * compensated * depth * weights
    words = vector * depth * float(rows * weight_slices + columns * act_slices)
    work, sibia = every * weights * acts, every * min(weights * act_slices, weight_slices * acts)
    whole = every * weight_slices * act_slices
    left = taken * (1 - top)
    return TableOne(
        panacea=Operations(work, work, vector * depth * (rows * weights + columns * acts)),
        compensation_5=Operations(vector**2 * compensated, left, left),
        compensation_6=Operations(vector**2 * compensated, taken * top, 0.0),
        compensation_rtl=Operations(vector * compensated, taken * top, 0.0),
        sibia=Operations(sibia, sibia, words),
        dense=Operations(whole, whole, words),
    )


def _present(
    weight_keep: ArrayLike, act_keep: ArrayLike, weight_slices: int, act_slices: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many vectors of each slice take part at each k: (n+1, K) and (k+1, K)."""
    weights, acts = np.asarray(weight_keep), np.asarray(act_keep)
    for name, keep in (("weight_keep", weights), ("act_keep", acts)):
        if keep.dtype != np.bool_ or keep.ndim != 2:
            raise ParameterError(name, (keep.shape, keep.dtype.name), "a matrix of bool")
    if weights.shape[1] != acts.shape[0]:
        allowed = f"of shape ({weights.shape[1]}, groups), to follow weight_keep of shape {weights.shape}"
        raise ParameterError("act_keep", acts.shape, allowed)
    return (
        _by_slice("weight_slices", weight_slices, weights, 0),
        _by_slice("act_slices", act_slices, acts, 1),
    )


def _by_slice(name: str, slices: int, keep: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    present = np.full((check_range(name, slices, 1), keep.shape[1 - axis]), keep.shape[axis], np.int64)
    if slices > 1:
        present[-1] = np.count_nonzero(keep, axis=axis)
    return present


def _slices_left(operand: str, slices: int, sparsity: float) -> float:
    if not 0 <= sparsity <= 1:
        raise ParameterError(f"{operand}_sparsity", sparsity, "in [0, 1]")
    return check_range(f"{operand}_slices", slices, 1) - (sparsity if slices > 1 else 0.0)
