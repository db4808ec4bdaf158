"""The intake: activations to their precision and into the global buffer, as rows come."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.fifo import StreamFifo
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.drift.config import DIMENSION_BITS, DriftConfig
from bitfabric.hdl.drift.converter import Converter
from bitfabric.hdl.drift.index_buffer import IndexBuffer
from bitfabric.hdl.drift.job import INTAKE
from bitfabric.hdl.drift.packer import Packer
from bitfabric.hdl.drift.selector import DECISION, PrecisionSelector, SelectionTable
from bitfabric.hdl.drift.staging import RowWalk, Staging
from bitfabric.hdl.drift.statistics import SATURATED_BITS, Statistics

FIFO_LATENCY = 2


class Intake(Block):
    """Select and store ``m`` rows: statistics, staging memory, selector, converter, index buffer [paper, section 4].

    A beat per cycle; a beat waits only while ``staging_beats`` beats are in the staging memory, and a row costs
    a cycle more where the packer needs it (see ``Converter``). A sub-tensor is read from the staging memory from
    ``TO_DECISION`` cycles after its last beat was taken, and its word is written ``TO_STORE`` cycles after a beat was
    read; ``done`` is the cycle after the last one. See ``sim.cycles.drift_intake``.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    job : In(INTAKE)
        The activations; stable from ``start`` to ``done``.
    start : In(1)
        Begin. Beats are taken from the next cycle on.
    i : In(stream of axis_data_bits)
        ``m`` rows of ``beats`` beats of int8, element 0 in the lowest byte. ``ready`` depends on flip-flops only.
    high_en, high_address, low_en, low_address, act_data : Out
        Write ports of the two activation stores.
    index_rank, index_low : In
        Row of the index buffer to read, every cycle.
    index_token, index_shift : Out
        Its token and lc (0 at high precision), a cycle later.
    table_addr : In
        Sub-tensor whose decision is read.
    table_data : Out(DECISION)
        ``low``, and ``clip``, the lc of low precision whether it was chosen or not, a cycle later.
    done : Out(1)
        Strobe: all rows are in the stores and in the index buffer.
    rows_high, rows_low : Out(16)
        Rows of either precision; kept from ``done`` to the next ``start``.
    saturated : Out(32)
        Elements that were -2^(hp-1) or outside ±(2^(hp-1)-1); kept likewise.
    staging_error : Out(1)
        A sub-tensor has more beats than the staging memory: nothing is taken any more. Stays until reset.
    store_error : Out(1)
        A store is full and words were dropped. Stays until reset.
    """

    TO_DECISION: ClassVar[int] = Statistics.LATENCY + PrecisionSelector.LATENCY + FIFO_LATENCY
    TO_STORE: ClassVar[int] = Converter.LATENCY + Packer.LATENCY

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(INTAKE),
                "start": In(1),
                "i": In(stream.Signature(config.axis_data_bits)),
                "high_en": Out(1),
                "high_address": Out(address_bits(config.high_words)),
                "low_en": Out(1),
                "low_address": Out(address_bits(config.low_words)),
                "act_data": Out(config.axis_data_bits),
                "index_rank": In(DIMENSION_BITS),
                "index_low": In(1),
                "index_token": Out(DIMENSION_BITS),
                "index_shift": Out(4),
                "table_addr": In(address_bits(config.m_max)),
                "table_data": Out(DECISION),
                "done": Out(1),
                "rows_high": Out(DIMENSION_BITS),
                "rows_low": Out(DIMENSION_BITS),
                "saturated": Out(SATURATED_BITS),
                "staging_error": Out(1),
                "store_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the stages one behind the other."""
        m = Module()
        config, job = self._config, self.job
        statistics = place(m, "statistics", Statistics(config))
        staging = place(m, "staging", Staging(config))
        selector = place(m, "selector", PrecisionSelector(config))
        self._take(m, statistics, staging)
        m.d.comb += [
            statistics.start.eq(self.start),
            statistics.high_bits.eq(job.high_bits),
            statistics.tail_bytes.eq(job.k),  # K mod a beat's bytes
            self.saturated.eq(statistics.saturated),
            staging.write_en.eq(statistics.staged_valid),
            staging.write_data.eq(statistics.staged),
            selector.valid.eq(statistics.done),
        ]
        for name in ("high_bits", "low_bits", "threshold", "threshold_tail"):
            m.d.comb += getattr(selector, name).eq(job[name])
        for name in ("maximum", "total", "is_tail"):
            m.d.comb += getattr(selector, name).eq(getattr(statistics, name))

        # A sub-tensor that waits has a beat in the staging memory and a row of its own: the queue is never full.
        depth = max(3, min(config.staging_beats, config.m_max))
        decisions = place(m, "decisions", StreamFifo(DECISION, depth))
        table = place(m, "table", SelectionTable(config))
        m.d.comb += [
            decisions.i.valid.eq(selector.o_valid),
            decisions.i.payload.eq(selector.decision.as_value()),
            table.start.eq(self.start),
            table.write_en.eq(selector.o_valid),
            table.decision.eq(selector.decision.as_value()),
            table.address.eq(self.table_addr),
            self.table_data.eq(table.read_data.as_value()),
        ]
        self._store(m, staging, decisions)
        return m

    def _take(self, m: Module, statistics: Statistics, staging: Staging) -> None:
        """Take beats until all rows are there, and see whether a sub-tensor outgrows the staging memory."""
        job, depth = self.job, self._config.staging_beats
        walk = place(m, "walk", RowWalk())
        taking, taken = Signal(), Signal()
        count = Signal(range(depth + 1))  # of the sub-tensor
        m.d.comb += [
            walk.start.eq(self.start),
            walk.m.eq(job.m),
            walk.beats.eq(job.beats),
            walk.subtensor_rows.eq(job.subtensor_rows),
            self.i.ready.eq(taking & staging.ready),
            taken.eq(self.i.valid & self.i.ready),
            walk.step.eq(taken),
            staging.take.eq(taken),
            statistics.valid.eq(taken),
            statistics.beat.eq(self.i.payload),
            statistics.row_end.eq(walk.row_end),
            statistics.subtensor_end.eq(walk.subtensor_end),
            statistics.tail.eq(walk.tail),
        ]
        with m.If(taken):
            m.d.sync += count.eq(count + 1)
            with m.If(walk.subtensor_end):
                m.d.sync += count.eq(0)
            with m.Elif(count == depth - 1):
                m.d.sync += [self.staging_error.eq(1), taking.eq(0)]
            with m.If(walk.end):
                m.d.sync += taking.eq(0)
        with m.If(self.start):
            m.d.sync += [taking.eq(1), count.eq(0)]

    def _store(self, m: Module, staging: Staging, decisions: StreamFifo) -> None:
        """Convert, pack and index what has been decided."""
        converter = place(m, "converter", Converter(self._config))
        packer = place(m, "packer", Packer(self._config))
        index = place(m, "index", IndexBuffer(self._config))
        connect_stream(m, decisions.o, converter.decision)
        m.d.comb += [
            converter.job.eq(self.job.as_value()),
            converter.start.eq(self.start),
            staging.read_en.eq(converter.read_en),
            converter.read_data.eq(staging.read_data),
            index.write_en.eq(converter.index_en),
            index.write_low.eq(converter.index_low),
            index.write_rank.eq(converter.index_rank),
            index.write_entry.eq(converter.index_entry.as_value()),
            index.rank.eq(self.index_rank),
            index.low.eq(self.index_low),
            self.index_token.eq(index.entry.token),
            self.index_shift.eq(index.entry.shift),
            self.rows_high.eq(converter.rows_high),
            self.rows_low.eq(converter.rows_low),
            packer.start.eq(self.start),
            packer.valid.eq(converter.valid),
            packer.beat.eq(converter.beat),
            packer.packing.eq(converter.packing.as_value()),
            self.act_data.eq(packer.word),
            self.done.eq(packer.done),
            self.store_error.eq(packer.store_error),
        ]
        for name in ("high_en", "high_address", "low_en", "low_address"):
            m.d.comb += getattr(self, name).eq(getattr(packer, name))
