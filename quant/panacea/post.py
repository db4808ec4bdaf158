"""Post-process accumulators into the next layer's activations, as the post-processing unit (PPU) does."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_broadcast
from bitfabric.quant.errors import ParameterError, check_choice
from bitfabric.quant.panacea.slices import ACT_BITS
from bitfabric.quant.pwl import Function, PwlFormat, PwlTable, evaluate, fit, real_codes, rounded_codes
from bitfabric.quant.requant import requantize

# Codes in and out of the piecewise-linear function: as wide as the widest activation [ours].
CODE_BITS = 12


def post_process(
    acc: ArrayLike, bias: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, table: PwlTable, bits: int
) -> NDArray[np.int32]:
    """Return ``clip(f(requantize(acc + bias)), 0, 2^bits - 1)`` with the table's function f.

    The requantizer gives signed 12-bit codes, zero point 0: halves round towards plus infinity, what is out of
    range saturates. f rounds and saturates as ``quant.pwl.evaluate`` does and has the next layer's zero
    point in it [ours].

    Parameters
    ----------
    acc : integer array, (M, N)
        The GEMM's result less its fold: ``AqsResult.acc - AqsResult.fold``.
    bias : integer array, (M,)
        As ``fold_bias`` gives it.
    multiplier, shift : integer array, (M,)
        As ``quant.requant.requant_parameters`` gives them for ``weight scale * activation scale / input scale``.
    table : PwlTable
        12 bits in, 12 unsigned bits out; any number of segments.
    bits : int
        Width of the next layer's activations: 4, 8 or 12.

    Returns
    -------
    int32 array, (M, N)

    Raises
    ------
    ParameterError
        For a table of other widths, shapes that do not fit or a value out of range.
    """
    check_choice("bits", bits, ACT_BITS)
    if (table.in_bits, table.out_bits, table.out_signed) != (CODE_BITS, CODE_BITS, False):
        found = f"in_bits={table.in_bits}, out_bits={table.out_bits}, out_signed={table.out_signed}"
        raise ParameterError("table", found, f"of {CODE_BITS} bits in and {CODE_BITS} unsigned bits out")
    shape = np.shape(acc)
    if len(shape) != 2:
        raise ParameterError("acc", shape, "a matrix")
    columns = []
    for name, channel in (("bias", bias), ("multiplier", multiplier), ("shift", shift)):
        check_broadcast(name, np.shape(channel), shape[:1])
        columns.append(np.asarray(channel).reshape(-1, 1))
    half = 1 << (CODE_BITS - 1)
    codes = requantize(acc, columns[1], columns[2], low=-half, high=half - 1, bias=columns[0])
    return np.minimum(evaluate(table, codes), (1 << bits) - 1)


def activation_table(
    function: str | Function,
    input_scale: float,
    output_scale: float,
    output_zero_point: int,
    bits: int,
    segments: int = 32,
) -> PwlTable:
    """Return the table of an activation function whose codes are clipped to ``bits`` behind it.

    Where the output is narrower than the table's 12 bits, a segment may rise far beyond it; its line then
    follows the function only where the clip lets something through, if that is closer [ours].
    GELU, ReLU and identity come within 1 LSB of the rounded 8-bit function with 32 segments, where the
    codes of input and output are used.

    Parameters
    ----------
    function : str or callable
        As in ``quant.pwl.fit``.
    input_scale, output_scale : float
        Real value of a 12-bit input code, and of one of the next layer's codes.
    output_zero_point : int
        The next layer's.
    bits : int
        Its width: 4, 8 or 12.
    segments : int
        16, 32 or 64 in hardware.

    Raises
    ------
    ParameterError
        As ``quant.pwl.fit``.
    """
    check_choice("bits", bits, ACT_BITS)
    narrow, wide = (
        PwlFormat(in_bits=CODE_BITS, out_bits=width, out_signed=False, segments=segments)
        for width in (bits, CODE_BITS)
    )
    values = real_codes(function, wide, input_scale, output_scale, output_zero_point=output_zero_point)
    wanted = rounded_codes(values, narrow)
    tables, errors = [], []
    for fmt in (narrow, wide):
        table = fit(function, input_scale, output_scale, output_zero_point=output_zero_point, fmt=fmt)
        # Slopes and offsets have the same fraction bits in both.
        table = _widened(table, wide, table.slopes, table.offsets)
        got = np.minimum(evaluate(table, wide.codes()), narrow.high)
        tables.append(table)
        errors.append(np.abs(got - wanted).reshape(segments, -1).max(axis=1))
    best = (errors[1] < errors[0]).astype(int)
    return _widened(
        wide,
        wide,
        tuple(tables[which].slopes[segment] for segment, which in enumerate(best)),
        tuple(tables[which].offsets[segment] for segment, which in enumerate(best)),
    )


def _widened(
    narrow: PwlFormat, wide: PwlFormat, slopes: tuple[int, ...], offsets: tuple[int, ...]
) -> PwlTable:
    assert narrow.shift == wide.shift
    fields = {name: getattr(wide, name) for name in PwlFormat.__dataclass_fields__}
    return PwlTable(**fields, slopes=slopes, offsets=offsets)
