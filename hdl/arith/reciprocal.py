"""The reciprocal of an integer, as a mantissa and a power of two."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import check_range
from bitfabric.quant.softmax import RECIPROCAL_FRACTION, reciprocal_table

RECIPROCAL_BITS = RECIPROCAL_FRACTION + 1  # up to 2^17, included
FRACTION_BITS = 16
_REST_BITS = 9


class Reciprocal(Block):
    """Compute (r, e) with ``1/x`` about ``r * 2^(-17-e)``, equal to ``quant.softmax.reciprocal`` to the bit.

    The leading one is shifted to the top in two stages, the 16 bits below it are the place in 128 straight pieces
    of ``1/(1+f)``, ``r = base[s] - ((slope[s]*rest + 256) >> 9)`` [ours]: the multiplier is 10 x 9 bits. What lies below
    these 16 bits is cut off, the product rounds halves up. A free-running unit: latency ``LATENCY`` cycles, one
    integer per cycle.

    Parameters
    ----------
    x_bits : int
        Width of an integer, 2 to 47.

    Members
    -------
    x : In(x_bits)
        Integer, from 1; 0 gives anything.
    r : Out(18)
        65536 to 131072.
    e : Out(range(x_bits))
        ``floor(log2 x)``.
    fraction : Out(16)
        The bits below the leading one: ``((x << 16) >> e) - 65536``.

    Raises
    ------
    ParameterError
        If the width is out of its range.
    """

    LATENCY: ClassVar[int] = 5

    def __init__(self, *, x_bits: int = 24) -> None:
        self.x_bits = check_range("x_bits", x_bits, 2, 47)
        super().__init__(
            {
                "x": In(x_bits),
                "r": Out(RECIPROCAL_BITS),
                "e": Out(range(x_bits)),
                "fraction": Out(FRACTION_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Normalise in two stages, look up, multiply, subtract: a register each."""
        m = Module()
        steps = (self.x_bits - 1).bit_length()
        width = 1 << steps
        value: Value = Signal(width, name="padded")
        m.d.comb += value.eq(self.x)
        absent: Value = Const(0, 0)  # bit k: the leading one was brought up by 2^k
        for part, (high, low) in enumerate(((steps, steps // 2), (steps // 2, 0)), 1):
            for k in reversed(range(low, high)):
                up = Signal(name=f"up_{k}")
                stepped = Signal(width, name=f"stepped_{k}")
                m.d.comb += [
                    up.eq(~value[width - (1 << k) :].any()),
                    stepped.eq(Mux(up, value << (1 << k), value)),
                ]
                value, absent = stepped, Cat(up, absent)
            # Even where there is only one step, so that the latency is the same for every width.
            value_register = Signal(width, name=f"value_{part}", reset_less=True)
            absent_register = Signal(len(absent), name=f"absent_{part}", reset_less=True)
            m.d.sync += [value_register.eq(value), absent_register.eq(absent)]
            value, absent = value_register, absent_register

        fraction = Signal(FRACTION_BITS)
        below = width - 1
        m.d.comb += fraction.eq(
            value[below - FRACTION_BITS : below]
            if below >= FRACTION_BITS
            else Cat(Const(0, FRACTION_BITS - below), value[:below])
        )
        r, fraction_late = self._interpolated(m, fraction)
        # x was padded to 2^steps bits: the exponent is width - 1 less the steps up, which is their complement.
        e: Value = ~absent
        for stage in range(self.LATENCY - 2):
            register = Signal(steps, name=f"e_{stage}", reset_less=True)
            m.d.sync += register.eq(e)
            e = register
        m.d.comb += [self.r.eq(r), self.e.eq(e), self.fraction.eq(fraction_late)]
        return m

    def _interpolated(self, m: Module, fraction: Signal) -> tuple[Signal, Signal]:
        """Return ``2^17 / (1 + fraction)`` and the fraction, both three cycles later."""
        bases, slopes = (table.tolist() for table in reciprocal_table())
        slope_bits = max(slopes).bit_length()
        base_rom = Array(Const(base, RECIPROCAL_BITS) for base in bases[:-1])
        slope_rom = Array(Const(slope, slope_bits) for slope in slopes)
        fractions = [Signal(FRACTION_BITS, name=f"fraction_{i}", reset_less=True) for i in (1, 2, 3)]
        base_1, base_2 = (Signal(RECIPROCAL_BITS, name=f"base_{i}", reset_less=True) for i in (1, 2))
        slope = Signal(slope_bits, reset_less=True)
        fall = Signal(slope_bits, reset_less=True)
        r = Signal(RECIPROCAL_BITS, name="mantissa", reset_less=True)
        product = Signal(slope_bits + _REST_BITS)
        m.d.comb += product.eq(slope * fractions[0][:_REST_BITS])
        m.d.sync += [
            base_1.eq(base_rom[fraction[_REST_BITS:]]),
            slope.eq(slope_rom[fraction[_REST_BITS:]]),
            base_2.eq(base_1),
            fall.eq((product + (1 << (_REST_BITS - 1))) >> _REST_BITS),
            r.eq(base_2 - fall),
        ]
        for before, after in zip([fraction, *fractions], fractions, strict=False):
            m.d.sync += after.eq(before)
        return r, fractions[-1]
