"""The exponent: one lane that turns a distance from the row's maximum into a power of two."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import check_range
from bitfabric.quant.softmax import OCTAVES, ONE, SCORE_FRACTION, exponent_table

EXPONENT_BITS = ONE.bit_length()
_REST_BITS = 6
_SEGMENT_BITS = SCORE_FRACTION - _REST_BITS


class Exponent(Block):
    """Compute ``2^(-x/4096)`` with 22 fraction bits, equal to ``quant.softmax.exponent`` to the bit.

    An octave is 64 straight pieces, ``y = (base[s] << 6) - slope[s]*rest``, which is exact, and the octaves are a shift,
    ``(y + half) >> octave`` [ours], which rounds halves up: the multiplier is 10 x 6 bits. A free-running lane:
    latency ``LATENCY`` cycles, one distance per cycle.

    Parameters
    ----------
    x_bits : int
        Width of a distance, 17 to 32; 24 for the difference of two 24-bit scores.

    Members
    -------
    x : In(x_bits)
        Distance, 12 fraction bits.
    zero : In(1)
        Give 0 whatever the distance, as for a masked score.
    out : Out(23)
        0 to 2^22.

    Raises
    ------
    ParameterError
        If the width is out of its range.
    """

    LATENCY: ClassVar[int] = 4

    def __init__(self, *, x_bits: int = 24) -> None:
        self.x_bits = check_range("x_bits", x_bits, SCORE_FRACTION + OCTAVES.bit_length(), 32)
        super().__init__({"x": In(x_bits), "zero": In(1), "out": Out(EXPONENT_BITS)})

    def elaborate(self, platform: object) -> Module:
        """Look up, multiply, subtract, shift: a register each."""
        m = Module()
        bases, slopes = (table.tolist() for table in exponent_table())
        slope_bits = max(slopes).bit_length()
        base_bits = max(bases).bit_length()
        # The last base, 2^15, only gives the last slope.
        base_rom = Array(Const(base, base_bits) for base in bases[:-1])
        slope_rom = Array(Const(slope, slope_bits) for slope in slopes)
        segment = Signal(_SEGMENT_BITS)
        octave = Signal(range(OCTAVES))
        nothing = Signal()
        m.d.comb += [
            segment.eq(self.x[_REST_BITS:SCORE_FRACTION]),
            octave.eq(self.x[SCORE_FRACTION:]),
            nothing.eq(self.zero | (self.x[SCORE_FRACTION:] >= OCTAVES)),
        ]

        base_1, base_2 = (Signal(base_bits, name=f"base_{i}", reset_less=True) for i in (1, 2))
        slope = Signal(slope_bits, reset_less=True)
        rest = Signal(_REST_BITS, reset_less=True)
        fall = Signal(slope_bits + _REST_BITS, reset_less=True)
        y = Signal(EXPONENT_BITS, reset_less=True)
        octaves = [Signal.like(octave, name=f"octave_{i}", reset_less=True) for i in (1, 2, 3)]
        nothings = [Signal(name=f"nothing_{i}", reset_less=True) for i in (1, 2, 3)]
        m.d.sync += [
            base_1.eq(base_rom[segment]),
            slope.eq(slope_rom[segment]),
            rest.eq(self.x[:_REST_BITS]),
            base_2.eq(base_1),
            fall.eq(slope * rest),
            y.eq((base_2 << _REST_BITS) - fall),
        ]
        for before, after in zip([octave, *octaves], octaves, strict=False):
            m.d.sync += after.eq(before)
        for before, after in zip([nothing, *nothings], nothings, strict=False):
            m.d.sync += after.eq(before)

        # (y + half) >> s == ((2y >> s) + 1) >> 1: no shifted half, and s = 0 gives y.
        doubled = Signal(EXPONENT_BITS + 1)
        m.d.comb += doubled.eq((y << 1) >> octaves[-1])
        m.d.sync += self.out.eq(Mux(nothings[-1], 0, (doubled + 1) >> 1))
        return m
