"""The precision selector: each sub-tensor's precision and clips from its statistics, and the table of them."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.statistics import MAGNITUDE_BITS, total_bits

THRESHOLD_BITS = 64
CLIP_BITS = 3  # of hc and lc, 0 to hp - lp <= 7

# What is chosen for a sub-tensor: whether it goes to lp bits, and lc, which holds if it does.
DECISION = data.StructLayout({"low": 1, "clip": 4})


class PrecisionSelector(Block):
    """Choose a precision from ``max|q|`` and ``Σ|q|``, exactly as ``quant.drift.select_integer``.

    hc is the largest integer in [0, hp-lp] with ``max|q|·2^hc <= 2^(hp-1)-1`` (eq. 5), lc = hp-lp-hc (eq. 2) [paper].
    Since ``max|q|`` has b bits exactly where hc <= hp-1-b, lc = max(0, b+1-lp) [derived]. Low where
    ``(Σ|q|)²·2^hc >= T``, which is eq. (6) in integers [derived], or where all is zero [ours]. The left side is at most
    ``(n·max|q|·2^hc)² <= (127·n)²``: it is no wider than the square, and for n up to the staging memory's
    2^22 bytes never reaches a T of all ones, "never" [derived]. Latency ``LATENCY`` cycles, a sub-tensor per cycle.

    Parameters
    ----------
    config : DriftConfig
        Gives the width of the sum.

    Members
    -------
    high_bits, low_bits : In(4)
        hp in [2, 8], lp in [1, hp]; constant while there are sub-tensors inside.
    threshold, threshold_tail : In(64)
        T of a sub-tensor, and of one that is ``is_tail``; constant likewise.
    valid, maximum, total, is_tail : In
        Statistics; the sum is that of elements no larger than the maximum, as many as the staging memory holds.
    o_valid : Out(1)
        A decision is there.
    decision : Out(DECISION)
        The decision.
    """

    LATENCY: ClassVar[int] = 3

    def __init__(self, config: DriftConfig) -> None:
        self._total_bits = total_bits(config)
        super().__init__(
            {
                "high_bits": In(4),
                "low_bits": In(4),
                "threshold": In(THRESHOLD_BITS),
                "threshold_tail": In(THRESHOLD_BITS),
                "valid": In(1),
                "maximum": In(MAGNITUDE_BITS),
                "total": In(self._total_bits),
                "is_tail": In(1),
                "o_valid": Out(1),
                "decision": Out(DECISION),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Square, shift, compare: a stage each."""
        m = Module()
        bits = Signal(range(1, MAGNITUDE_BITS + 2))  # b + 1
        clip, high_clip = Signal(CLIP_BITS), Signal(CLIP_BITS)
        m.d.comb += bits.eq(1)
        for place_value in range(MAGNITUDE_BITS):
            with m.If(self.maximum[place_value]):
                m.d.comb += bits.eq(place_value + 2)
        m.d.comb += [
            clip.eq(Mux(bits > self.low_bits, bits - self.low_bits, 0)),
            high_clip.eq(self.high_bits - self.low_bits - clip),
        ]
        valid_1, valid_2 = Signal(), Signal()
        square = Signal(2 * self._total_bits, reset_less=True)
        reach = Signal(2 * self._total_bits, reset_less=True)
        high_clip_1 = Signal(CLIP_BITS, reset_less=True)
        m.d.sync += [
            valid_1.eq(self.valid),
            square.eq(self.total * self.total),
            high_clip_1.eq(high_clip),
            valid_2.eq(valid_1),
            reach.eq(_shift_left(square, high_clip_1)),
            self.o_valid.eq(valid_2),
        ]
        clip_2, zero_2, short_2 = (
            self._delay(m, name, value, 2)
            for name, value in (("clip", clip), ("zero", self.total == 0), ("is_tail", self.is_tail))
        )
        limit = Signal(THRESHOLD_BITS)
        m.d.comb += limit.eq(Mux(short_2, self.threshold_tail, self.threshold))
        decision = Signal(DECISION, reset_less=True)
        m.d.sync += [
            decision.low.eq(zero_2 | (reach >= limit)),
            decision.clip.eq(clip_2),
        ]
        m.d.comb += self.decision.eq(decision.as_value())
        return m

    @staticmethod
    def _delay(m: Module, name: str, value: Value, stages: int) -> Value:
        for stage in range(1, stages + 1):
            later = Signal(len(value), name=f"{name}_{stage}", reset_less=True)
            m.d.sync += later.eq(value)
            value = later
        return value


def _shift_left(value: Value, amount: Signal) -> Value:
    for bit in range(len(amount)):
        value = Mux(amount[bit], value << (1 << bit), value)
    return value


class SelectionTable(Block):
    """Keep the decisions of a layer's sub-tensors in the order in which they come, for the host.

    Parameters
    ----------
    config : DriftConfig
        Gives ``m_max`` entries: a sub-tensor has a row at least.

    Members
    -------
    start : In(1)
        Write from entry 0 on; what older layers left is overwritten one by one.
    write_en, decision : In
        Append.
    address : In
        Sub-tensor.
    read_data : Out(DECISION)
        Its decision, a cycle later; without meaning for one that has not been decided.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._entries = config.m_max
        super().__init__(
            {
                "start": In(1),
                "write_en": In(1),
                "decision": In(DECISION),
                "address": In(address_bits(config.m_max)),
                "read_data": Out(DECISION),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the memory."""
        m = Module()
        ram = place(m, "ram", Ram(DECISION.size, self._entries))
        entry = Signal(ram.address_bits)
        m.d.comb += [
            ram.write_en.eq(self.write_en),
            ram.write_addr.eq(entry),
            ram.write_data.eq(self.decision.as_value()),
            ram.read_en.eq(1),
            ram.read_addr.eq(self.address),
            self.read_data.eq(ram.read_data),
        ]
        with m.If(self.start):
            m.d.sync += entry.eq(0)
        with m.Elif(self.write_en):
            m.d.sync += entry.eq(entry + 1)
        return m
