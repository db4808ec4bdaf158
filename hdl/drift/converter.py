"""The converter: reads decided sub-tensors from the staging memory and brings them to their precision."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.config import ACT_BITS, DIMENSION_BITS, DriftConfig
from bitfabric.hdl.drift.index_buffer import ENTRY
from bitfabric.hdl.drift.job import INTAKE
from bitfabric.hdl.drift.packer import PACKING
from bitfabric.hdl.drift.selector import DECISION
from bitfabric.hdl.drift.staging import RowWalk


class Converter(Block):
    """Drop the ``lc`` low bits and the high bits of low-precision rows; say where every row goes.

    ``y = (q + h) >> lc``, h = 2^(lc-1) rounding half up [ours], 0 truncating [paper], saturated to lp bits, as
    ``quant.drift.convert``. Only rounding up at the top leaves the range, by one: ``|q| < 2^(lp-1+lc)`` by eq. (5)
    [derived]. High-precision rows pass as they are. A beat per cycle, and with bit alignment one cycle more for
    a row whose last beat completes a word and leaves a rest. A beat is read from the staging memory in cycle t
    and is at ``beat`` in cycle t + ``LATENCY``; a row's index entry is written in the cycle in which its last beat is read.

    Parameters
    ----------
    config : DriftConfig
        Gives width and alignment.

    Members
    -------
    job : In(INTAKE)
        Stable from ``start`` on.
    start : In(1)
        Begin with the first row.
    decision : In(stream of DECISION)
        Of the sub-tensors in their order; their beats have been written.
    read_en, read_data : Out, In
        Read the oldest beat of the staging memory.
    index_en, index_low, index_rank, index_entry : Out
        Write port of the index buffer.
    rows_high, rows_low : Out(16)
        Rows of either precision so far.
    valid, beat, packing : Out
        Converted beat for the packer.
    """

    LATENCY: ClassVar[int] = 2

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(INTAKE),
                "start": In(1),
                "decision": In(stream.Signature(DECISION)),
                "read_en": Out(1),
                "read_data": In(config.axis_data_bits),
                "index_en": Out(1),
                "index_low": Out(1),
                "index_rank": Out(DIMENSION_BITS),
                "index_entry": Out(ENTRY),
                "rows_high": Out(DIMENSION_BITS),
                "rows_low": Out(DIMENSION_BITS),
                "valid": Out(1),
                "beat": Out(config.axis_data_bits),
                "packing": Out(PACKING),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk over the rows, then convert what the walk has read."""
        m = Module()
        walk = place(m, "walk", RowWalk())
        m.d.comb += [
            walk.start.eq(self.start),
            walk.m.eq(self.job.m),
            walk.beats.eq(self.job.beats),
            walk.subtensor_rows.eq(self.job.subtensor_rows),
        ]
        packing, flushing = Signal(PACKING), Signal()
        issue = self._issue(m, walk, packing, flushing)
        self._index(m, walk, issue)

        decision = self.decision.payload
        valid, reading = Signal(), Signal(PACKING, reset_less=True)
        clip = Signal(3, reset_less=True)
        m.d.sync += [
            valid.eq(issue | flushing),
            reading.eq(packing),
            clip.eq(Mux(decision.low, decision.clip, 0)),
            self.valid.eq(valid),
        ]
        behind = Signal(PACKING, reset_less=True)
        m.d.sync += behind.eq(reading)
        m.d.comb += self.packing.eq(behind)
        self._convert(m, clip, reading.low)
        return m

    def _issue(self, m: Module, walk: RowWalk, packing: Signal, flushing: Signal) -> Signal:
        """Read a beat of a decided sub-tensor in every cycle, but for the rests of rows."""
        decision = self.decision.payload
        issue = Signal()
        stored = [Signal(4, name=f"stored_{name}") for name in ("high", "low")]
        for width, bits in zip(stored, (self.job.high_bits, self.job.low_bits), strict=True):
            m.d.sync += width.eq(bits if self._config.alignment == "bit" else Mux(bits <= 4, 4, 8))
        fill, reach = Signal(3), Signal(4)
        over = Signal()
        m.d.comb += [
            issue.eq(self.decision.valid & ~flushing),
            self.decision.ready.eq(walk.subtensor_end & ~flushing),
            self.read_en.eq(issue),
            walk.step.eq(issue),
            packing.bits.eq(Mux(decision.low, stored[1], stored[0])),
            packing.fill.eq(fill),
            reach.eq(fill + packing.bits),
            # With nibble alignment two beats fill a word or each does.
            over.eq(walk.row_end & reach[3] & (reach[:3] != 0) if self._config.alignment == "bit" else 0),
        ]
        low_before, end_before = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(flushing):
            m.d.comb += [
                packing.write.eq(1),
                packing.flush.eq(1),
                packing.low.eq(low_before),
                packing.end.eq(end_before),
            ]
        with m.Else():
            m.d.comb += [
                packing.write.eq(reach[3] | walk.row_end),
                packing.low.eq(decision.low),
                packing.end.eq(walk.end & ~over),
            ]
        m.d.sync += flushing.eq(issue & over)
        with m.If(issue):
            m.d.sync += [low_before.eq(decision.low), end_before.eq(walk.end), fill.eq(reach)]
            with m.If(walk.row_end & ~over):
                m.d.sync += fill.eq(0)
        with m.If(flushing):
            m.d.sync += fill.eq(0)
        return issue

    def _index(self, m: Module, walk: RowWalk, issue: Signal) -> None:
        """Count the rows of either precision and enter each in its list."""
        low, clip = self.decision.payload.low, self.decision.payload.clip
        row = Signal()
        m.d.comb += [
            row.eq(issue & walk.row_end),
            self.index_en.eq(row),
            self.index_low.eq(low),
            self.index_rank.eq(Mux(low, self.rows_low, self.rows_high)),
            self.index_entry.token.eq(walk.row),
            self.index_entry.shift.eq(Mux(low, clip, 0)),
        ]
        with m.If(self.start):
            m.d.sync += [self.rows_high.eq(0), self.rows_low.eq(0)]
        with m.Elif(row & low):
            m.d.sync += self.rows_low.eq(self.rows_low + 1)
        with m.Elif(row):
            m.d.sync += self.rows_high.eq(self.rows_high + 1)

    def _convert(self, m: Module, clip: Signal, low: Value) -> None:
        """Round, shift and saturate the bytes of the beat that was read."""
        bits = Signal(4)
        m.d.comb += bits.eq(Mux(low, self.job.low_bits, self.job.high_bits))
        below, top = Signal(ACT_BITS), Signal(ACT_BITS)  # bits below the sign, and the lowest that equals it
        m.d.comb += [below[i].eq(bits > i + 1) for i in range(ACT_BITS)]
        m.d.comb += [top[i].eq(bits == i + 1) for i in range(ACT_BITS)]
        for index in range(self._config.beat_bytes):
            part = slice(ACT_BITS * index, ACT_BITS * (index + 1))
            # (q + 2^(lc-1)) >> lc is ((2q >> lc) + 1) >> 1, which is q for lc = 0: no shifted rounding constant.
            shifted: Value = Cat(Const(0, 1), self.read_data[part]).as_signed()
            for bit in range(len(clip)):
                shifted = Mux(clip[bit], shifted >> (1 << bit), shifted)
            rounded = Signal(ACT_BITS + 1, name=f"rounded_{index}")
            sign, over = Signal(name=f"sign_{index}"), Signal(name=f"over_{index}")
            byte = Signal(ACT_BITS, name=f"byte_{index}", reset_less=True)
            m.d.comb += [
                rounded.eq((shifted + ~self.job.truncate) >> 1),
                sign.eq(rounded[-1]),
                over.eq(~sign & (rounded[:ACT_BITS] & top).any()),
            ]
            m.d.sync += byte.eq(
                Mux(
                    sign,
                    rounded[:ACT_BITS] | ~below,
                    (rounded[:ACT_BITS] | over.replicate(ACT_BITS)) & below,
                )
            )
            m.d.comb += self.beat[part].eq(byte)
