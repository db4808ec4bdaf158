"""One query's scores: a key's product scaled to log2 units, or masked."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.dtqatten.config import SCALE_BITS, SCORE_BITS
from bitfabric.quant.errors import check_range
from bitfabric.quant.softmax import MASKED, SCORE_LIMIT

SHIFT_BITS = 6


class ScoreLane(Block):
    """Compute ``(acc * m + (1 << (shift-1))) >> shift``, saturated, a score a cycle; ``LATENCY`` cycles later it is there.

    m is ``multiplier``, or the product of the two tokens' scales in units of 2^16, halves up [ours].

    Parameters
    ----------
    acc_bits : int
        Width of a product of query and key, 8 to 32.
    id_bits : int
        Width of a token id, at least 1.

    Members
    -------
    acc : In(signed(acc_bits))
        Product of a query and a key.
    scale_q, scale_k : In(16)
        Their scales, with ``acc``.
    id_q, id_k : In(id_bits)
        Their ids, with ``acc``.
    per_token, causal : In(1)
        Levels: use the scales; mask keys that come after the query.
    multiplier, shift : In(16), In(6)
        Levels; ``shift`` is at least 1.
    score : Out(signed(24))
        The score, 12 fraction bits, within ``SCORE_LIMIT``; ``MASKED`` where masked.

    Raises
    ------
    ParameterError
        If a width is out of its range.
    """

    LATENCY: ClassVar[int] = 1 + Requantizer.LATENCY

    def __init__(self, acc_bits: int, id_bits: int):
        self._acc_bits = check_range("acc_bits", acc_bits, 8, 32)
        check_range("id_bits", id_bits, 1)
        super().__init__(
            {
                "acc": In(signed(acc_bits)),
                "scale_q": In(SCALE_BITS),
                "scale_k": In(SCALE_BITS),
                "id_q": In(id_bits),
                "id_k": In(id_bits),
                "per_token": In(1),
                "causal": In(1),
                "multiplier": In(SCALE_BITS),
                "shift": In(SHIFT_BITS),
                "score": Out(signed(SCORE_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Fold the scales in a stage of their own, then requantize."""
        m = Module()
        folded = Signal(2 * SCALE_BITS)
        acc = Signal(signed(self._acc_bits), reset_less=True)
        factor = Signal(SCALE_BITS, reset_less=True)
        # Never carries out: (2^16 - 1)^2 + 2^15 < 2^32.
        m.d.comb += folded.eq(self.scale_q * self.scale_k + (1 << (SCALE_BITS - 1)))
        m.d.sync += [acc.eq(self.acc), factor.eq(Mux(self.per_token, folded[SCALE_BITS:], self.multiplier))]
        requantizer = place(
            m,
            "requantizer",
            Requantizer(acc_bits=self._acc_bits, out_bits=SCORE_BITS, multiplier_bits=SCALE_BITS),
        )
        m.d.comb += [
            requantizer.en.eq(1),
            requantizer.acc.eq(acc),
            requantizer.multiplier.eq(factor),
            requantizer.shift.eq(self.shift),
            requantizer.low.eq(-SCORE_LIMIT),
            requantizer.high.eq(SCORE_LIMIT),
        ]
        masked: Value = self.causal & (self.id_k > self.id_q)
        for stage in range(1, self.LATENCY + 1):
            later = Signal(name=f"masked_{stage}", reset_less=True)
            m.d.sync += later.eq(masked)
            masked = later
        m.d.comb += self.score.eq(
            Mux(masked, Const(MASKED, signed(SCORE_BITS)), requantizer.out[:SCORE_BITS].as_signed())
        )
        return m
