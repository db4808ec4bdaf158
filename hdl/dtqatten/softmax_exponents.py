"""A lane of the softmax unit's first pass: a query's exponents, their sum, and the largest scaled one."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.exponent import EXPONENT_BITS, Exponent
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.dtqatten.config import SCALE_BITS, SCORE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.softmax_taps import exponent_sum_bits
from bitfabric.quant.softmax import EXPONENT_FRACTION, MASKED


def scaled_exponent(exponent: Signal, scale: Signal) -> Signal:
    """Return ``f = (E*sv + 2^21) >> 22``: 0 to 65535, as ``sv`` is below 65536 and E at most 2^22."""
    return ((exponent * scale + (1 << (EXPONENT_FRACTION - 1))) >> EXPONENT_FRACTION)[:SCALE_BITS]


class ExponentLane(Block):
    """Compute ``E = 2^(score - maximum)``, S the sum of E, and mx the largest ``f = E*sv/2^22``, a key a cycle.

    Free-running: a score of cycle s gives E in s + ``LATENCY``; S includes it a cycle later, mx two cycles later.

    Parameters
    ----------
    config : DtqattenConfig
        Gives the width of S.

    Members
    -------
    maximum : In(signed(24))
        The row's largest score; stands from a row's first score to its last.
    score : In(signed(24))
        Score of a key; -2^23 is masked and gives 0.
    value_scale : In(16)
        sv of the key whose E stands at ``exponent``.
    first, first_scaled : In(1)
        That E is its row's first; the same a cycle later.
    exponent : Out(23)
        E.
    total : Out
        S so far.
    largest : Out(16)
        mx so far; means nothing where there are no scales.
    """

    LATENCY: ClassVar[int] = Exponent.LATENCY + 1

    def __init__(self, config: DtqattenConfig) -> None:
        super().__init__(
            {
                "maximum": In(signed(SCORE_BITS)),
                "score": In(signed(SCORE_BITS)),
                "value_scale": In(SCALE_BITS),
                "first": In(1),
                "first_scaled": In(1),
                "exponent": Out(EXPONENT_BITS),
                "total": Out(exponent_sum_bits(config)),
                "largest": Out(SCALE_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Subtract, take the exponent, add, compare."""
        m = Module()
        exponent = place(m, "power", Exponent(x_bits=SCORE_BITS))
        below = Signal(SCORE_BITS, reset_less=True)
        masked = Signal(reset_less=True)
        difference = Signal(signed(SCORE_BITS + 1))
        total = Signal.like(self.total, reset_less=True)
        scaled = Signal(SCALE_BITS, reset_less=True)
        largest = Signal(SCALE_BITS, reset_less=True)
        m.d.comb += [
            # Not negative where it counts: the maximum is one of the scores.
            difference.eq(self.maximum - self.score),
            exponent.x.eq(below),
            exponent.zero.eq(masked),
            self.exponent.eq(exponent.out),
            self.total.eq(total),
            self.largest.eq(largest),
        ]
        m.d.sync += [
            below.eq(difference[:SCORE_BITS]),
            masked.eq(self.score == MASKED),
            total.eq(Mux(self.first, 0, total) + exponent.out),
            scaled.eq(scaled_exponent(exponent.out, self.value_scale)),
        ]
        with m.If(self.first_scaled | (scaled > largest)):
            m.d.sync += largest.eq(scaled)
        return m
