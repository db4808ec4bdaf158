"""The Drift machine between its streams: intake, core, drain and read-out, one layer after the other."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.drift.config import CHANNELS, DIMENSION_BITS, DriftConfig
from bitfabric.hdl.drift.core import DriftCore
from bitfabric.hdl.drift.drain import Drain
from bitfabric.hdl.drift.feed import Feed
from bitfabric.hdl.drift.intake import Intake
from bitfabric.hdl.drift.job import GEMM, INTAKE, POOLING
from bitfabric.hdl.drift.readout import Readout
from bitfabric.hdl.drift.row_count import RowCount
from bitfabric.hdl.drift.slot_count import SlotCount
from bitfabric.hdl.drift.weight_loader import WeightLoader

ERROR_PORTS = (
    "bad_counts_error",
    "bad_index_error",
    "framing_error",
    "staging_overflow_error",
    "act_overflow_error",
    "weight_overflow_error",
    "bad_split_error",
    "out_overflow_error",
)


class DriftMachine(Block):
    """Take a layer's packet, and give its results or write them back as activations.

    A reset brings every part to its beginning; what memories hold stays.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        Begin; the ports up to ``pooling`` are stable from now on.
    resident, keep, pool : In(1)
        Activations are there; results are written back; results are pooled.
    act_job, next_job : In(INTAKE)
        Activations of the stream, and those written back.
    gemm, pooling : In
        The layer.
    counted, rows_high, rows_low : In
        Rows of either precision; a level once they are known.
    split_valid, split_impossible, columns_left, rows_left, rows_right : In
        The split; a level once it is known; that there is none.
    table_en, table_addr, table_data : In
        Write port of the non-linear unit's table, see ``PiecewiseLinear``.
    selection_index, selection_low, selection_clip : In, Out
        What was chosen for a sub-tensor, a cycle later.
    i, o : In, Out(stream of beat_layout)
        Packets.
    selected : Out(1)
        Strobe: activations are in the buffer.
    written_back : Out(1)
        With it: they were written back, and the layer is done.
    new_high, new_low, saturated : Out
        With it: rows of either precision; activations saturated, of the last that came.
    active : Out(4)
        Arrays that load or compute.
    waiting : Out(1)
        Nothing but the split is missing.
    *_error : Out(1)
        See ``ERROR_PORTS``.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        split, fmt = range(config.rows + 1), config.pwl
        beats = beat_layout(config.axis_data_bits)
        super().__init__(
            {
                "start": In(1),
                "resident": In(1),
                "keep": In(1),
                "pool": In(1),
                "act_job": In(INTAKE),
                "next_job": In(INTAKE),
                "gemm": In(GEMM),
                "pooling": In(POOLING),
                "counted": In(1),
                "rows_high": In(DIMENSION_BITS),
                "rows_low": In(DIMENSION_BITS),
                "split_valid": In(1),
                "split_impossible": In(1),
                "columns_left": In(range(config.columns + 1)),
                "rows_left": In(split),
                "rows_right": In(split),
                "table_en": In(1),
                "table_addr": In((fmt.segments - 1).bit_length()),
                "table_data": In(fmt.slope_bits + fmt.offset_bits),
                "selection_index": In(address_bits(config.m_max)),
                "selection_low": Out(1),
                "selection_clip": Out(4),
                "i": In(stream.Signature(beats)),
                "o": Out(stream.Signature(beats)),
                "selected": Out(1),
                "written_back": Out(1),
                "new_high": Out(DIMENSION_BITS),
                "new_low": Out(DIMENSION_BITS),
                "saturated": Out(32),
                "active": Out(4),
                "waiting": Out(1),
                **{name: Out(1) for name in ERROR_PORTS},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the parts; begin each when the one before has done."""
        m = Module()
        config = self._config
        feed = place(m, "feed", Feed(config))
        intake = place(m, "intake", Intake(config))
        loader = place(m, "loader", WeightLoader(config))
        core = place(m, "core", DriftCore(config))
        drain = place(m, "drain", Drain(config))
        readout = place(m, "readout", Readout(config))
        connect_stream(m, self.i, feed.i)
        connect_stream(m, feed.rest, loader.i)

        back = Signal()  # results are being written back
        self._intake(m, feed, intake, readout, back)
        run = self._run(m, loader, core)
        m.d.comb += [
            core.high_en.eq(intake.high_en),
            core.high_address.eq(intake.high_address),
            core.low_en.eq(intake.low_en),
            core.low_address.eq(intake.low_address),
            core.act_data.eq(intake.act_data),
            intake.index_rank.eq(drain.index_rank),
            intake.index_low.eq(drain.index_low),
            drain.index_token.eq(intake.index_token),
            drain.index_shift.eq(intake.index_shift),
        ]
        self._load(m, feed, loader, core, drain, run)
        self._drain(m, core, drain)

        running, reading = Signal(), Signal()
        finish = Signal()
        m.d.comb += [
            finish.eq(running & core.done & loader.done & ~drain.busy),
            readout.start.eq(finish),
            readout.gemm.eq(self.gemm.as_value()),
            readout.pooling.eq(self.pooling.as_value()),
            self.active.eq(core.active),
            self.waiting.eq(self.counted & ~self.split_valid & loader.params_done),
        ]
        with m.If(run):
            m.d.sync += running.eq(1)
        with m.If(finish):
            m.d.sync += [running.eq(0), reading.eq(1), back.eq(self.keep)]
        m.d.comb += [
            readout.read_data.eq(drain.read_data),
            drain.out_read_en.eq(readout.read_en),
            drain.out_read_address.eq(readout.read_address),
        ]
        self._errors(m, feed, intake, loader, drain, readout, reading & back)
        return m

    def _intake(self, m: Module, feed: Feed, intake: Intake, readout: Readout, back: Signal) -> None:
        """Let activations in from the stream, or results from the read-out."""
        beats = self.act_job.beats
        begin_back = Signal()
        m.d.comb += [
            feed.start.eq(self.start),
            feed.skip.eq(self.resident),
            feed.m.eq(self.act_job.m),
            feed.beats.eq(beats),
            begin_back.eq(readout.start & self.keep),
            intake.start.eq((self.start & ~self.resident) | begin_back),
            intake.job.eq(Mux(back | begin_back, self.next_job.as_value(), self.act_job.as_value())),
            intake.table_addr.eq(self.selection_index),
            self.selection_low.eq(intake.table_data.low),
            self.selection_clip.eq(intake.table_data.clip),
            self.selected.eq(intake.done),
            self.written_back.eq(intake.done & back),
            self.new_high.eq(intake.rows_high),
            self.new_low.eq(intake.rows_low),
            self.saturated.eq(intake.saturated),
        ]
        m.d.comb += [
            intake.i.payload.eq(Mux(back, readout.o.payload.data, feed.acts.payload)),
            intake.i.valid.eq(Mux(back, readout.o.valid, feed.acts.valid)),
            feed.acts.ready.eq(intake.i.ready & ~back),
            self.o.payload.eq(readout.o.payload.as_value()),
            self.o.valid.eq(readout.o.valid & ~back),
            readout.o.ready.eq(Mux(back, intake.i.ready, self.o.ready)),
        ]

    def _run(self, m: Module, loader: WeightLoader, core: DriftCore) -> Signal:
        """Begin with the arrays when split and slots are known; return the strobe."""
        size = place(m, "slot_count", SlotCount(self._config))
        begun, known = Signal(), Signal()
        run = Signal()
        # The directions of the fabric follow the split through registers.
        m.d.sync += known.eq(self.split_valid & self.counted & size.valid & ~self.split_impossible)
        m.d.comb += [
            run.eq(known & ~begun),
            core.start.eq(run),
            core.gemm.eq(self.gemm.as_value()),
            size.start.eq(self.start),
            size.k.eq(self.gemm.k),
            *(target.eq(size.slots) for target in (core.slots, loader.slots)),
            *(target.eq(size.words) for target in (core.slot_words, loader.slot_words)),
            self.weight_overflow_error.eq(size.overflow),
            self.bad_split_error.eq(self.split_valid & self.counted & size.valid & self.split_impossible),
        ]
        for name in ("rows_high", "rows_low", "columns_left", "rows_left", "rows_right"):
            m.d.comb += getattr(core, name).eq(getattr(self, name))
        with m.If(run):
            m.d.sync += begun.eq(1)
        return run

    def _load(
        self, m: Module, feed: Feed, loader: WeightLoader, core: DriftCore, drain: Drain, run: Signal
    ) -> None:
        """Lead weights to the columns and parameters to the drain."""
        m.d.comb += [
            loader.params_start.eq(feed.passed),
            loader.start.eq(run),
            loader.granules_high.eq(self.gemm.granules_high),
            loader.granules_low.eq(self.gemm.granules_low),
            loader.columns_left.eq(self.columns_left),
            core.weight_en.eq(loader.write_en),
            core.weight_address.eq(loader.write_address),
            core.weight_data.eq(loader.write_data),
            core.ready_left.eq(loader.ready_left),
            core.ready_right.eq(loader.ready_right),
            *(loader.consumed[index].eq(core.consumed[index]) for index in range(4)),
            drain.params_en.eq(loader.params_en),
            drain.params_granule.eq(loader.params_granule),
            drain.params_low.eq(loader.params_low),
            drain.params_data.eq(loader.params_data),
        ]

    def _drain(self, m: Module, core: DriftCore, drain: Drain) -> None:
        """Let the drain read accumulators and the index buffer."""
        m.d.comb += [
            drain.gemm.eq(self.gemm.as_value()),
            drain.full.eq(core.full),
            core.take.eq(drain.take),
            core.freed.eq(drain.freed),
            core.read_en.eq(drain.read_en),
            core.read_region.eq(drain.read_region),
            core.read_bank.eq(drain.read_bank),
            core.read_row.eq(drain.read_row),
            drain.table_en.eq(self.table_en),
            drain.table_addr.eq(self.table_addr),
            drain.table_data.eq(self.table_data),
        ]
        for index in range(4):
            m.d.comb += [
                Value.cast(drain.info[index]).eq(Value.cast(core.info[index])),
                drain.bank[index].eq(core.full_bank[index]),
            ]
        for index in range(CHANNELS * self._config.columns):
            m.d.comb += [
                drain.north_data[index].eq(core.north_data[index]),
                drain.south_data[index].eq(core.south_data[index]),
            ]

    def _errors(
        self,
        m: Module,
        feed: Feed,
        intake: Intake,
        loader: WeightLoader,
        drain: Drain,
        readout: Readout,
        writing_back: Value,
    ) -> None:
        """Name what went wrong; written-back rows must be as many as the next layer's job says."""
        check = place(m, "row_count", RowCount())
        m.d.comb += [
            check.m.eq(self.next_job.m),
            check.beats.eq(self.next_job.beats),
            check.taken.eq(writing_back & intake.i.valid & intake.i.ready),
            check.last.eq(readout.o.payload.last),
            self.bad_counts_error.eq(check.wrong),
            self.bad_index_error.eq(drain.bad_index),
            self.framing_error.eq(feed.framing_error | loader.framing_error),
            self.staging_overflow_error.eq(intake.staging_error),
            self.act_overflow_error.eq(intake.store_error),
            self.out_overflow_error.eq(drain.output_error),
        ]
