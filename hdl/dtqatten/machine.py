"""The DTQAtten machine between its streams: one block, a head after the other."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.copies import copies
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.dtqatten.band_order import BandOrder
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.descriptor import DESCRIPTOR
from bitfabric.hdl.dtqatten.job import job_layout
from bitfabric.hdl.dtqatten.parts import Parts, place_parts
from bitfabric.hdl.dtqatten.registers import RUNNING_ERRORS
from bitfabric.hdl.dtqatten.results import FACTOR_INPUTS
from bitfabric.hdl.dtqatten.scan import Scan
from bitfabric.hdl.vssa.counters import COUNTER_BITS

# What the counters are told of tiles that leave the arrays, of each port.
TILE_PORTS = {"tile_en": 1, "tile_pv": 1, "tile_floor": 2, "tile_working": COUNTER_BITS, "tile_stalled": COUNTER_BITS}  # fmt: skip


class DtqattenMachine(Block):
    """Fetch a block's tokens, attend, send the results and the next block's tokens.

    A reset brings every part to its beginning; what memories hold stays.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        Begin; the following are stable from now on.
    job : In(job_layout)
        The block.
    bank : In(1)
        Where its list is, or is to be; the next block's goes to the other bank.
    i, o : In, Out(stream of beat_layout)
        Packets.
    desc, wdesc : Out(stream of DESCRIPTOR)
        What the packets in are to be, and where those that come out belong.
    done : Out(1)
        Strobe: everything has been sent.
    qk_arrays, pv_arrays, selecting, pv_left, tile_* : Out
        See ``Counters``.
    *_error : Out(1)
        See ``RUNNING_ERRORS``.
    """

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        beats = beat_layout(config.axis_data_bits)
        super().__init__(
            {
                "start": In(1),
                "job": In(job_layout(config)),
                "bank": In(1),
                "i": In(stream.Signature(beats)),
                "o": Out(stream.Signature(beats)),
                "desc": Out(stream.Signature(DESCRIPTOR)),
                "wdesc": Out(stream.Signature(DESCRIPTOR)),
                "done": Out(1),
                "qk_arrays": Out(config.arrays),
                "pv_arrays": Out(config.arrays),
                "selecting": Out(1),
                "pv_left": Out(1),
                **{name: Out(width * config.unload_ports) for name, width in TILE_PORTS.items()},
                **{f"{name}_error": Out(1) for name in RUNNING_ERRORS},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the parts and connect them along the way of the data."""
        m = Module()
        parts = place_parts(m, self._config)
        self._fetch(m, parts)
        self._deal(m, parts)
        self._compute(m, parts)
        self._score(m, parts)
        self._select(m, parts)
        self._send(m, parts)
        arrays, results, progress = parts.arrays, parts.results, parts.progress
        m.d.comb += [
            progress.heads.eq(self.job.heads),
            progress.retired.eq(parts.dealer.retire),
            progress.dealt.eq(parts.dealer.dealt_pv),
            progress.left.eq(results.results_done),
            progress.scores_finished.eq(parts.score_order.finished),
            progress.results_finished.eq(parts.result_order.finished),
            self.selecting.eq(progress.selecting),
            self.pv_left.eq(progress.pv_left),
            *copies(self, results, TILE_PORTS),
            self.qk_arrays.eq(arrays.qk),
            self.pv_arrays.eq(arrays.pv),
            *(
                getattr(self, f"{name}_error").eq(getattr(parts.fetcher, name))
                for name in RUNNING_ERRORS
                if name != "framing"
            ),
            self.framing_error.eq(parts.fetcher.framing_error),
        ]
        return m

    def _fetch(self, m: Module, parts: Parts) -> None:
        """Fill table and line buffers; read the table once when it is full."""
        table, fetcher, scan = parts.table, parts.fetcher, parts.scan
        operands = parts.operands
        job = self.job
        connect_stream(m, self.i, fetcher.s)
        connect_stream(m, fetcher.desc, self.desc)
        levels = ("carry", "per_token", "reorder", "entries", "tokens", "kept", "kept_high")
        bases = ("list_base", "scale_base", "q_base", "k_base", "v_base")
        m.d.comb += [
            fetcher.start.eq(self.start),
            *(getattr(fetcher, name).eq(job[name]) for name in (*levels, "head_size", "heads", *bases)),
            fetcher.stride.eq(job.stride_input),
            table.bank.eq(self.bank),
            table.fetch_en.eq(fetcher.table_read_en),
            table.fetch_position.eq(fetcher.table_read_position),
            fetcher.table_read_id.eq(table.fetch_id),
            fetcher.table_read_high.eq(table.fetch_high),
            *copies(table, fetcher, ("en", "position", "id", "high"), "list_", "table_"),
            scan.start.eq(fetcher.list_done | (self.start & job.carry)),
            scan.kept.eq(job.kept),
            table.scan_en.eq(scan.read_en),
            table.scan_position.eq(scan.read_position),
            scan.read_high.eq(table.scan_high),
            operands.scan_en.eq(scan.en),
            operands.scan_high.eq(table.scan_high),
            *copies(operands, scan, ("tile", "lane", "band", "band_lane", "group", "slot"), "scan_"),
            *copies(
                operands,
                fetcher,
                ("en", "bank", "tile", "lane", "band", "band_lane", "word", "data"),
                "kq_",
                "kq_",
            ),
            *copies(operands, fetcher, ("en", "bank", "tile", "position", "data"), "v_", "v_"),
        ]

    def _deal(self, m: Module, parts: Parts) -> None:
        """List the tiles and deal them when their operands are there."""
        fetcher, scan, operands = parts.fetcher, parts.scan, parts.operands
        tiles, ahead, dealer = parts.tiles, parts.ahead, parts.dealer
        softmax, sender = parts.softmax, parts.sender
        job = self.job
        connect_stream(m, tiles.o, ahead.i)
        connect_stream(m, ahead.o, dealer.i)
        m.d.comb += [
            tiles.start.eq(scan.done),
            *(getattr(tiles, name).eq(job[name]) for name in ("kept", "head_size", "heads")),
            *copies(tiles, scan, ("bands", "tile_high", "band_high")),
            dealer.kept.eq(job.kept),
            dealer.head_size.eq(job.head_size),
            dealer.qk_loaded.eq(fetcher.qk_loaded),
            dealer.v_loaded.eq(fetcher.v_loaded),
            dealer.numerators_done.eq(softmax.numerators_done),
            dealer.numerators_band.eq(softmax.numerators_band),
            dealer.band_sent.eq(sender.band_sent),
            dealer.band_sent_band.eq(sender.band_sent_band),
            fetcher.retire.eq(dealer.retire),
            *copies(operands, dealer, ("en", "pv", "bank", "tile", "band", "group"), "read_", "read_"),
        ]

    def _compute(self, m: Module, parts: Parts) -> None:
        """Lead words to the arrays and their results away."""
        operands, dealer, arrays = parts.operands, parts.dealer, parts.arrays
        results = parts.results
        m.d.comb += [
            *copies(arrays, dealer, ("write_en", "write_address", "first", "length", "tag")),
            *copies(arrays, operands, ("row_data", "row_high", "column_data", "column_high")),
            dealer.released.eq(arrays.released),
            arrays.take.eq(results.take),
            *copies(results, arrays, ("full", "tags", "data", "working", "stalled")),
        ]

    def _score(self, m: Module, parts: Parts) -> None:
        """Pass bands whose scores are complete to the softmax unit, and its numerators and factors on."""
        fetcher, scan, operands = parts.fetcher, parts.scan, parts.operands
        results, order, softmax = parts.results, parts.score_order, parts.softmax
        progress = parts.progress
        job = self.job
        self._order(m, order, scan)
        m.d.comb += [
            order.tiles.eq(scan.tiles),
            order.open.eq(~progress.in_arrays),
            order.done.eq(results.scores_done),
            order.done_band.eq(results.scores_band),
            softmax.band_valid.eq(order.valid),
            softmax.band.eq(order.band),
            softmax.band_columns.eq(order.columns),
            order.ready.eq(softmax.band_ready),
            progress.band_taken.eq(order.valid & order.ready),
            results.band_taken.eq(order.valid & order.ready),
            results.taken_band.eq(order.band),
            softmax.positions.eq(job.kept),
            softmax.per_token.eq(job.per_token),
            softmax.out_multiplier.eq(job.result_multiplier),
            softmax.out_shift.eq(job.result_shift),
            softmax.scale_en.eq(fetcher.scale_en),
            softmax.scale_position.eq(fetcher.scale_position),
            softmax.scale_v.eq(fetcher.scale_v),
            *copies(results, fetcher, ("en", "position", "band", "lane", "q", "k"), "scale_", "scale_"),
            results.per_token.eq(job.per_token),
            results.causal.eq(job.causal),
            results.multiplier.eq(job.score_multiplier),
            results.shift.eq(job.score_shift),
            *copies(
                results, softmax, ("max_en", "max_band", "read_en", "read_band", "read_slot", *FACTOR_INPUTS)
            ),
            *copies(softmax, results, ("max_data", "max_valid", "read_data")),
            results.factors_done.eq(softmax.factors_done),
            results.factors_band.eq(softmax.factors_band),
            *copies(operands, softmax, ("en", "band", "position", "data"), "a_", "a_"),
        ]

    def _select(self, m: Module, parts: Parts) -> None:
        """Add up importance, and choose the next block's tokens when it is complete."""
        table, fetcher, softmax = parts.table, parts.fetcher, parts.softmax
        selection, sender, progress = parts.selection, parts.sender, parts.progress
        job = self.job
        m.d.comb += [
            selection.bank.eq(self.bank),
            selection.init_en.eq(fetcher.table_en),
            selection.init_position.eq(fetcher.table_position),
            selection.init_id.eq(fetcher.table_id),
            *copies(selection, softmax, ("en", "position", "value"), "add_", "add_"),
            progress.importance_done.eq(softmax.importance_done),
            selection.start.eq(progress.select),
            selection.positions.eq(job.kept),
            selection.keep.eq(job.next_kept),
            selection.high.eq(job.next_high),
            selection.reorder.eq(job.reorder),
            selection.accumulate.eq(job.accumulate),
            progress.ids_done.eq(selection.ids_done),
            table.next_en.eq(selection.list_valid & selection.list_kept),
            table.next_position.eq(selection.list_new_position),
            table.next_id.eq(selection.list_id),
            table.next_high.eq(selection.list_bits == 2),
            *copies(sender, selection, ("valid", "position", "id", "bits", "value"), "list_", "list_"),
        ]

    def _send(self, m: Module, parts: Parts) -> None:
        """Send bands whose results are complete, then the list."""
        table, scan, tiles = parts.table, parts.scan, parts.tiles
        results, order, sender = parts.results, parts.result_order, parts.sender
        progress = parts.progress
        job = self.job
        self._order(m, order, scan)
        connect_stream(m, sender.o, self.o)
        connect_stream(m, sender.desc, self.wdesc)
        m.d.comb += [
            results.scan_en.eq(scan.en),
            results.scan_position.eq(scan.position),
            results.scan_band.eq(scan.band),
            results.scan_lane.eq(scan.band_lane),
            results.scan_id.eq(table.scan_id),
            order.tiles.eq(tiles.channel_tiles),
            order.open.eq(1),
            order.done.eq(results.results_done),
            order.done_band.eq(results.results_band),
            sender.band_valid.eq(order.valid),
            sender.band.eq(order.band),
            sender.band_columns.eq(order.columns),
            sender.first_position.eq(order.first),
            order.ready.eq(sender.band_ready),
            sender.head_size.eq(job.head_size),
            sender.kept.eq(job.kept),
            sender.out_base.eq(job.out_base),
            sender.out_stride.eq(job.stride_output),
            sender.list_base.eq(job.next_base),
            table.send_en.eq(sender.table_read_en),
            table.send_position.eq(sender.table_read_position),
            sender.table_read_id.eq(table.send_id),
            results.out_read_en.eq(sender.read_en),
            results.out_band.eq(sender.read_band),
            results.out_tile.eq(sender.read_tile),
            results.out_lane.eq(sender.read_lane),
            results.out_advance.eq(sender.read_advance),
            sender.read_data.eq(results.out_data),
            sender.finish.eq(progress.finish),
            self.done.eq(sender.done),
        ]

    def _order(self, m: Module, order: BandOrder, scan: Scan) -> None:
        job = self.job
        m.d.comb += [
            order.start.eq(scan.done),
            order.kept.eq(job.kept),
            order.heads.eq(job.heads),
            order.bands.eq(scan.bands),
            order.band_high.eq(scan.band_high),
        ]
