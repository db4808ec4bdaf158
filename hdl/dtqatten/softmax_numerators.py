"""A lane of the softmax unit's second pass: a query's probabilities and its 8-bit numerators."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.exponent import EXPONENT_BITS
from bitfabric.hdl.arith.reciprocal import RECIPROCAL_BITS
from bitfabric.hdl.block import Block
from bitfabric.hdl.dtqatten.config import NUMERATOR_MAX, SCALE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.softmax_exponents import scaled_exponent
from bitfabric.hdl.dtqatten.softmax_taps import numerator_sum_bits, sum_octave_bits
from bitfabric.quant.softmax import EXPONENT_FRACTION, PROBABILITY_MAX

NUMERATOR_BITS = NUMERATOR_MAX.bit_length()
PROBABILITY_BITS = PROBABILITY_MAX.bit_length()
LARGEST_OCTAVE_BITS = 4  # floor(log2 mx) is up to 15
_RATIO_BITS = SCALE_BITS + 1  # of f/mx with 16 fraction bits, up to 65538


class NumeratorLane(Block):
    """Compute ``p = E/S`` with 16 fraction bits, ``a = 255*f/mx``, and A, the sum of a, a key a cycle.

    With one scale for the layer, g is E itself, which passes the multiplier by; with a scale for each token it is ``f*r``, r
    the reciprocal of mx, and is brought up to E's 22 fraction bits, so that ``a = (255*g + 2^21) >> 22`` is one circuit for
    both. a needs no clip: ``f*r`` is at most ``mx*r``, and its 16 bits so at most 65538, as is tried for every mx by the
    tests [derived]. Free-running: of an E in cycle s stand p in s + 2, a in s + 4, A including it in s + 4. The reciprocals
    wait in registers of the lane until the band before them is through; ``load`` moves each to where it is used.

    Parameters
    ----------
    config : DtqattenConfig
        Gives the widths of sums.

    Members
    -------
    per_token : In(1)
        A scale for each token's value; constant while there are keys inside.
    result_en, sum_reciprocal, sum_octave, largest_reciprocal, largest_octave : In
        Write the reciprocals of S and mx: r, and e; of S, e - 22. Those of mx mean nothing
        where there are no scales.
    load : In(3)
        Bit 0, in the cycle before the first E: use what was written; bits 1 and 2 are the same one and two cycles later.
        All is written before bit 0, and again from bit 2 on, in its cycle at the earliest.
    exponent, value_scale : In
        E, and sv of its key.
    first : In(1)
        The row's first, three cycles after its E.
    probability : Out(16)
        p, 0 to 65535.
    numerator : Out(8)
        a, 0 to 255.
    total : Out
        A so far.
    """

    PROBABILITY_LATENCY: ClassVar[int] = 2
    LATENCY: ClassVar[int] = 4

    def __init__(self, config: DtqattenConfig) -> None:
        self._octave_bits = sum_octave_bits(config)
        super().__init__(
            {
                "per_token": In(1),
                "result_en": In(1),
                "sum_reciprocal": In(RECIPROCAL_BITS),
                "sum_octave": In(self._octave_bits),
                "largest_reciprocal": In(RECIPROCAL_BITS),
                "largest_octave": In(LARGEST_OCTAVE_BITS),
                "load": In(3),
                "exponent": In(EXPONENT_BITS),
                "value_scale": In(SCALE_BITS),
                "first": In(1),
                "probability": Out(PROBABILITY_BITS),
                "numerator": Out(NUMERATOR_BITS),
                "total": Out(numerator_sum_bits(config)),
            }
        )

    def _divisor(self, m: Module, port: Signal, load: Value) -> Signal:
        """Return what was written to ``port`` before ``load``."""
        written = Signal.like(port, name=f"{port.name}_written", reset_less=True)
        used = Signal.like(port, name=f"{port.name}_used", reset_less=True)
        with m.If(self.result_en):
            m.d.sync += written.eq(port)
        with m.If(load):
            m.d.sync += used.eq(written)
        return used

    def elaborate(self, platform: object) -> Module:
        """Multiply by the two reciprocals, shift and round; a register each."""
        m = Module()
        sum_reciprocal = self._divisor(m, self.sum_reciprocal, self.load[0])
        sum_octave = self._divisor(m, self.sum_octave, self.load[1])
        largest_reciprocal = self._divisor(m, self.largest_reciprocal, self.load[1])
        largest_octave = self._divisor(m, self.largest_octave, self.load[2])

        # p = (E*r + (1 << e)) >> (1 + e) == (((E*r) >> e) + 1) >> 1, and e is at least 22.
        product = Signal(EXPONENT_BITS + RECIPROCAL_BITS)
        kept = Signal(len(product) - EXPONENT_FRACTION, reset_less=True)
        rounded = Signal(len(kept))
        m.d.comb += [
            product.eq(self.exponent * sum_reciprocal),
            rounded.eq(((kept >> sum_octave) + 1) >> 1),
        ]
        probability = Signal(PROBABILITY_BITS, reset_less=True)
        m.d.sync += [
            kept.eq(product[EXPONENT_FRACTION:]),
            probability.eq(Mux(rounded > PROBABILITY_MAX, PROBABILITY_MAX, rounded[:PROBABILITY_BITS])),
        ]
        m.d.comb += self.probability.eq(probability)

        f = Signal(EXPONENT_BITS, reset_less=True)
        passed = Signal(EXPONENT_BITS, reset_less=True)
        scaled = Signal(SCALE_BITS + RECIPROCAL_BITS, reset_less=True)
        ratio = Signal(_RATIO_BITS)
        g = Signal(EXPONENT_BITS, reset_less=True)
        m.d.comb += ratio.eq((self._shifted(m, scaled, largest_octave) + 1) >> 1)
        m.d.sync += [
            f.eq(Mux(self.per_token, scaled_exponent(self.exponent, self.value_scale), self.exponent)),
            passed.eq(f),
            scaled.eq(f[:SCALE_BITS] * largest_reciprocal),
            g.eq(Mux(self.per_token, ratio << (EXPONENT_FRACTION - SCALE_BITS), passed)),
        ]
        numerator = Signal(NUMERATOR_BITS)
        shown = Signal(NUMERATOR_BITS, reset_less=True)
        total = Signal.like(self.total, reset_less=True)
        m.d.comb += [
            numerator.eq(((g << 8) - g + (1 << (EXPONENT_FRACTION - 1))) >> EXPONENT_FRACTION),
            self.numerator.eq(shown),
            self.total.eq(total),
        ]
        m.d.sync += [shown.eq(numerator), total.eq(Mux(self.first, 0, total) + numerator)]
        return m

    def _shifted(self, m: Module, value: Value, octave: Signal) -> Value:
        """Return ``value >> octave``, which has one bit more than the ratio: twice that is below 2^18.

        The largest step comes first; after it only the bits are kept that the remaining steps, one less in sum than
        the step, can bring into the result.
        """
        for k in reversed(range(LARGEST_OCTAVE_BITS)):
            stepped = Signal(min(len(value), _RATIO_BITS + (1 << k)), name=f"shifted_{k}")
            m.d.comb += stepped.eq(Mux(octave[k], value >> (1 << k), value)[: len(stepped)])
            value = stepped
        return value
