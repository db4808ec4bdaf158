"""The read-out: results leave the output memory as they are or pooled."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.fifo import StreamFifo
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.drain_lanes import delay
from bitfabric.hdl.drift.job import GEMM, POOLING
from bitfabric.hdl.drift.pooling import PoolingUnit
from bitfabric.hdl.drift.readout_walk import ReadoutWalk

# A beat's place is taken with the last read for it and free again ``Readout.LATENCY`` + 1 cycles later.
BEATS = 8


class Readout(Block):
    """Stream the rows of results in the order of their tokens, or those of the pooled images.

    A row has ``ceil(N / B)`` beats of B bytes, as accumulators four times as many, byte 0 of all channels first; what
    is beyond N in a last beat is 0. With pooling a beat takes a cycle for each element of the kernel, padding
    included; the bytes' maximum or average leaves, see ``PoolingUnit``. The first word is read in the cycle after
    ``start``, one per cycle is; a beat is offered ``LATENCY`` cycles after the last read for it. Reading waits while
    ``BEATS`` beats are on their way, so that ``o.ready`` reaches flip-flops and memory enables only.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    gemm, pooling : In
        The layer; constant from ``ReadoutWalk.CONSTANT`` cycles before ``start`` on. The rows are those of
        ``gemm.m``; with pooling, images of ``height x width`` of them, and results are bytes.
    start : In(1)
        Begin. A write to the memory must not come later than this.
    read_en, read_address, read_data
        Read port of the memory, latency 1.
    o : Out(stream of beat_layout)
        Beats, ``last`` with the very last one.
    busy : Out(1)
        From the cycle after ``start`` to that of the last beat.
    done : Out(1)
        The last beat is taken.
    """

    LATENCY: ClassVar[int] = 1 + PoolingUnit.LATENCY + 2  # memory, pooling, FIFO

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "gemm": In(GEMM),
                "pooling": In(POOLING),
                "start": In(1),
                "read_en": Out(1),
                "read_address": Out(address_bits(config.out_words)),
                "read_data": In(config.axis_data_bits),
                "o": Out(stream.Signature(beat_layout(config.axis_data_bits))),
                "busy": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk while there is room; mask, pool and buffer what was read."""
        m = Module()
        config = self._config
        walk = place(m, "walk", ReadoutWalk(config))
        unit = place(m, "unit", PoolingUnit(config))
        fifo = place(m, "fifo", StreamFifo(beat_layout(config.axis_data_bits), BEATS))
        reading, busy = Signal(), Signal()
        room = Signal(range(BEATS + 1), init=BEATS)
        step, beat, taken = Signal(), Signal(), Signal()
        m.d.comb += [
            walk.gemm.eq(self.gemm.as_value()),
            walk.pooling.eq(self.pooling.as_value()),
            walk.start.eq(self.start),
            step.eq(reading & (room != 0)),
            walk.step.eq(step),
            beat.eq(step & walk.last),
            taken.eq(self.o.valid & self.o.ready),
            self.read_en.eq(step & walk.within_image),
            self.read_address.eq(walk.address),
            self.busy.eq(busy),
            self.done.eq(taken & self.o.payload.last),
        ]
        m.d.sync += room.eq(room - beat + taken)
        with m.If(self.start):
            m.d.sync += [reading.eq(1), busy.eq(1)]
        with m.Elif(self.done):
            m.d.sync += busy.eq(0)
        with m.If(step & walk.ends):
            m.d.sync += reading.eq(0)

        tail = Signal(config.beat_bytes, reset_less=True)  # bytes of a row's last word that are channels
        count = (self.gemm.n_high + self.gemm.n_low)[: config.beat_bytes.bit_length() - 1]
        m.d.sync += tail.eq(Cat((count > i) | (count == 0) for i in range(config.beat_bytes)))
        masked = delay(m, "masked", walk.row_ends, 1)
        kept = Signal(config.beat_bytes)
        m.d.comb += [
            kept.eq(tail | (~masked).replicate(config.beat_bytes)),
            unit.average.eq(self.pooling.average & self.pooling.enabled),
            unit.elements.eq(walk.elements),
            unit.reciprocal.eq(self.pooling.reciprocal),
            unit.valid.eq(delay(m, "valid", step, 1, reset_less=False)),
            unit.first.eq(delay(m, "first", walk.first, 1)),
            unit.last.eq(delay(m, "last", walk.last, 1)),
            unit.within_image.eq(delay(m, "within_image", walk.within_image, 1)),
            unit.word.eq(
                Cat(Mux(kept[i], self.read_data[8 * i : 8 * i + 8], 0) for i in range(config.beat_bytes))
            ),
            fifo.i.valid.eq(unit.out_valid),
            fifo.i.payload.data.eq(unit.out),
            fifo.i.payload.last.eq(delay(m, "ends", walk.ends, 1 + PoolingUnit.LATENCY)),
        ]
        connect_stream(m, fifo.o, self.o)
        return m
