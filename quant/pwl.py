"""Piecewise-linear activation functions on integers: fit a table, evaluate it as the hardware does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.errors import ParameterError, check_choice, check_range

Function = Callable[[NDArray[np.floating]], NDArray[np.floating]]

# Slopes are kept to 2^-(local_bits + 4) output codes per input code, so that rounding a slope moves the far
# end of its segment by at most 1/32 LSB [derived].
GUARD_BITS = 4
SEGMENTS = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class PwlFormat:
    """Hold the widths of a piecewise-linear unit; hardware and golden model both read them here.

    The input codes are cut into equal segments, so that the upper bits of a code name its segment and the lower
    ``local_bits`` are its distance from the segment's first code. Slope and offset are as wide as any useful
    segment needs [derived]: one that rises by more than twice the output's range is a step anyway.

    Parameters
    ----------
    in_bits : int
        Width of the signed input codes, 8 to 16.
    out_bits : int
        Width of the output codes, 4 to 16.
    out_signed : bool
        Whether the output codes are signed.
    segments : int
        Number of segments: a power of two, 16 to 1024, at most ``2^(in_bits-1)``.

    Raises
    ------
    ParameterError
        If a parameter is out of its range.
    """

    in_bits: int = 8
    out_bits: int = 8
    out_signed: bool = True
    segments: int = 32

    def __post_init__(self) -> None:
        check_range("in_bits", self.in_bits, 8, 16)
        check_range("out_bits", self.out_bits, 4, 16)
        check_choice("out_signed", self.out_signed, (True, False))
        check_choice("segments", self.segments, tuple(n for n in SEGMENTS if n < 2**self.in_bits))

    @property
    def local_bits(self) -> int:
        """Return log2 of the input codes per segment."""
        return self.in_bits - (self.segments.bit_length() - 1)

    @property
    def shift(self) -> int:
        """Return the number of fraction bits of slopes and offsets."""
        return self.local_bits + GUARD_BITS

    @property
    def slope_bits(self) -> int:
        """Return the width of a signed slope: a rise of twice the output's range over one segment."""
        return self.out_bits + GUARD_BITS + 2

    @property
    def offset_bits(self) -> int:
        """Return the width of a signed offset: four times the output's range either way."""
        return self.out_bits + 3 + self.shift

    @property
    def low(self) -> int:
        """Return the least output code."""
        return -(2 ** (self.out_bits - 1)) if self.out_signed else 0

    @property
    def high(self) -> int:
        """Return the greatest output code."""
        return self.low + 2**self.out_bits - 1

    def codes(self) -> NDArray[np.int64]:
        """Return every input code, ascending."""
        return np.arange(-(2 ** (self.in_bits - 1)), 2 ** (self.in_bits - 1))


@dataclass(frozen=True, kw_only=True)
class PwlTable(PwlFormat):
    """Hold one function's segments in ascending order of input codes.

    Parameters
    ----------
    slopes, offsets : tuple of int
        Per segment, with ``shift`` fraction bits: ``y = (offset + slope * distance) >> shift``. The offset is
        the value at the segment's first code and has the rounding half in it already.

    Raises
    ------
    ParameterError
        If a parameter is out of its range or does not fit its width.
    """

    slopes: tuple[int, ...]
    offsets: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, bits in (("slopes", self.slope_bits), ("offsets", self.offset_bits)):
            values = getattr(self, name)
            if len(values) != self.segments:
                raise ParameterError(name, values, f"{self.segments} integers")
            for value in values:
                check_range(name, value, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def words(self) -> list[int]:
        """Return what is written to the hardware's table, address 0 first: offset below, slope above."""
        offset_mask, slope_mask = 2**self.offset_bits - 1, 2**self.slope_bits - 1
        return [
            (slope & slope_mask) << self.offset_bits | (offset & offset_mask)
            for slope, offset in zip(self.slopes, self.offsets, strict=True)
        ]


def evaluate(table: PwlTable, x: ArrayLike) -> NDArray[np.int32]:
    """Return the table's function of integer codes, exactly as the hardware computes it.

    Rounds to nearest, halves towards plus infinity, and saturates to the output codes [ours]; nothing wraps.

    Raises
    ------
    ParameterError
        If ``x`` is not of integers of ``in_bits`` signed bits.
    """
    codes = np.asarray(x)
    half = 2 ** (table.in_bits - 1)
    if codes.dtype.kind not in "iu":
        raise ParameterError("x", codes.dtype.name, "an integer or an array of integers")
    if codes.size and (codes.min() < -half or codes.max() >= half):
        outside = codes.max() if codes.max() >= half else codes.min()
        raise ParameterError("x", int(outside), f"in [{-half}, {half - 1}]")
    position = codes.astype(np.int64) + half
    segment, distance = position >> table.local_bits, position & (2**table.local_bits - 1)
    line = np.array(table.offsets)[segment] + np.array(table.slopes)[segment] * distance
    return np.clip(line >> table.shift, table.low, table.high).astype(np.int32)


def _gelu(x: NDArray[np.floating]) -> NDArray[np.floating]:
    erf = np.array([math.erf(v) for v in (x / math.sqrt(2)).flat]).reshape(x.shape)
    return 0.5 * x * (1 + erf)


FUNCTIONS: Mapping[str, Function] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": _gelu,
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(x / 2)),
    "tanh": np.tanh,
    "exp": np.exp,
}


def real_codes(
    function: str | Function,
    fmt: PwlFormat,
    input_scale: float,
    output_scale: float,
    *,
    input_zero_point: int = 0,
    output_zero_point: int = 0,
) -> NDArray[np.float64]:
    """Return the function of every input code, ascending, in output codes, neither rounded nor saturated.

    Raises
    ------
    ParameterError
        If the function is unknown or not a number somewhere, or a scale is not positive and finite.
    """
    for name, scale in (("input_scale", input_scale), ("output_scale", output_scale)):
        if not (math.isfinite(scale) and scale > 0):
            raise ParameterError(name, scale, "positive and finite")
    if isinstance(function, str):
        function = FUNCTIONS[check_choice("function", function, tuple(FUNCTIONS))]
    with np.errstate(over="ignore"):
        real = function((fmt.codes() - input_zero_point) * input_scale)
        values = np.asarray(real, dtype=np.float64) / output_scale + output_zero_point
    if np.isnan(values).any():
        raise ParameterError("function", function, "a number for every input")
    return values


def rounded_codes(values: ArrayLike, fmt: PwlFormat) -> NDArray[np.int32]:
    """Return real output codes rounded half up and saturated: the function that a table approximates."""
    return np.clip(np.floor(np.asarray(values) + 0.5), fmt.low, fmt.high).astype(np.int32)


def fit(
    function: str | Function,
    input_scale: float,
    output_scale: float,
    *,
    input_zero_point: int = 0,
    output_zero_point: int = 0,
    fmt: PwlFormat | None = None,
) -> PwlTable:
    """Return the table of a function between quantized tensors: per segment the minimax line [ours].

    GELU is within 1 LSB of the rounded 8-bit function for input ranges from +-0.5 to +-128 with 32 or more
    segments, at output scales that use the codes; with 16 segments unsigned outputs come to 2
    LSB at some ranges from +-10 to +-20.

    Parameters
    ----------
    function : str or callable
        A name in ``FUNCTIONS``, or a vectorised function of float64.
    input_scale, output_scale : float
        Real value per code.
    input_zero_point, output_zero_point : int
        The codes of real zero.
    fmt : PwlFormat
        Widths and number of segments.

    Raises
    ------
    ParameterError
        As ``real_codes``.
    """
    fmt = fmt or PwlFormat()
    values = real_codes(
        function,
        fmt,
        input_scale,
        output_scale,
        input_zero_point=input_zero_point,
        output_zero_point=output_zero_point,
    )
    lines = [_minimax(part, fmt) for part in values.reshape(fmt.segments, -1)]
    return PwlTable(
        **{name: getattr(fmt, name) for name in PwlFormat.__dataclass_fields__},
        slopes=tuple(slope for slope, _ in lines),
        offsets=tuple(offset for _, offset in lines),
    )


def _minimax(values: NDArray[np.float64], fmt: PwlFormat) -> tuple[int, int]:
    """Return integer slope and offset of the line of least largest error through one segment's values."""
    # Where the output saturates, the line need not follow the function: only the codes next to those in range
    # are kept, and what is far outside counts as just outside.
    near = (values >= fmt.low - 1) & (values <= fmt.high + 1)
    near |= np.append(near[1:], False) | np.append(False, near[:-1])
    if not near.any():
        near[:] = True
    distance = np.flatnonzero(near)
    reach = 2**fmt.out_bits
    target = np.clip(values[near], fmt.low - reach, fmt.high + reach) * 2**fmt.shift

    def spread(slope: int) -> float:
        rest = target - slope * distance
        return float(rest.max() - rest.min())

    # The spread of what a line leaves is convex in its slope.
    low, high = -(2 ** (fmt.slope_bits - 1)), 2 ** (fmt.slope_bits - 1) - 1
    if len(distance) == 1:
        low = high = 0
    while low < high:
        middle = (low + high) // 2
        if spread(middle) <= spread(middle + 1):
            high = middle
        else:
            low = middle + 1
    rest = target - low * distance
    offset = round(float(rest.max() + rest.min()) / 2) + 2 ** (fmt.shift - 1)
    limit = 2 ** (fmt.offset_bits - 1)
    return low, min(max(offset, -limit), limit - 1)
