"""The DTQAtten machine between its streams: one block, a head after the other."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.fifo import StreamFifo
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.dtqatten.arrays import Arrays
from bitfabric.hdl.dtqatten.band_order import BandOrder
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.dealer import Dealer
from bitfabric.hdl.dtqatten.descriptor import DESCRIPTOR
from bitfabric.hdl.dtqatten.fetcher import Fetcher
from bitfabric.hdl.dtqatten.job import job_layout
from bitfabric.hdl.dtqatten.operands import Operands
from bitfabric.hdl.dtqatten.progress import Progress
from bitfabric.hdl.dtqatten.registers import RUNNING_ERRORS
from bitfabric.hdl.dtqatten.results import FACTOR_INPUTS, Results
from bitfabric.hdl.dtqatten.scan import Scan
from bitfabric.hdl.dtqatten.selection import Selection
from bitfabric.hdl.dtqatten.sender import Sender
from bitfabric.hdl.dtqatten.softmax_unit import SoftmaxUnit
from bitfabric.hdl.dtqatten.tile import TILE_DEPTH, tile_layout
from bitfabric.hdl.dtqatten.tile_list import TileList
from bitfabric.hdl.dtqatten.token_table import TokenTable
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
        config, job = self._config, self.job
        table = place(m, "table", TokenTable(config))
        fetcher = place(m, "fetcher", Fetcher(config))
        scan = place(m, "scan", Scan(config))
        operands = place(m, "operands", Operands(config))
        dealer = place(m, "dealer", Dealer(config))
        arrays = place(m, "arrays", Arrays(config))
        results = place(m, "results", Results(config))
        softmax = place(m, "softmax", SoftmaxUnit(config))
        selection = place(m, "selection", Selection(config))
        sender = place(m, "sender", Sender(config))
        score_order = place(m, "score_order", BandOrder(config))
        result_order = place(m, "result_order", BandOrder(config))
        progress = place(m, "progress", Progress(config))

        self._fetch(m, table, fetcher, scan, operands)
        tiles = self._deal(m, fetcher, scan, dealer, softmax, sender, operands)
        self._compute(m, dealer, operands, arrays, results)
        self._score(m, fetcher, scan, results, softmax, operands, score_order, progress)
        self._select(m, table, fetcher, softmax, selection, sender, progress)
        self._send(m, table, scan, results, sender, result_order, tiles, progress)
        m.d.comb += [
            progress.heads.eq(job.heads),
            progress.retired.eq(dealer.retire),
            progress.dealt.eq(dealer.dealt_pv),
            progress.left.eq(results.results_done),
            progress.scores_finished.eq(score_order.finished),
            progress.results_finished.eq(result_order.finished),
            self.selecting.eq(progress.selecting),
            self.pv_left.eq(progress.pv_left),
            *(getattr(self, name).eq(getattr(results, name)) for name in TILE_PORTS),
            self.qk_arrays.eq(arrays.qk),
            self.pv_arrays.eq(arrays.pv),
            *(getattr(self, f"{name}_error").eq(getattr(fetcher, name)) for name in RUNNING_ERRORS[:-1]),
            self.framing_error.eq(fetcher.framing_error),
        ]
        return m

    def _fetch(self, m: Module, table: TokenTable, fetcher: Fetcher, scan: Scan, operands: Operands) -> None:
        """Fill table and line buffers; read the table once when it is full."""
        job = self.job
        connect_stream(m, self.i, fetcher.s)
        connect_stream(m, fetcher.desc, self.desc)
        levels = (
            "carry",
            "per_token",
            "reorder",
            "entries",
            "tokens",
            "kept",
            "kept_high",
            "head_size",
            "heads",
        )
        bases = ("list_base", "scale_base", "q_base", "k_base", "v_base")
        m.d.comb += [
            fetcher.start.eq(self.start),
            *(getattr(fetcher, name).eq(job[name]) for name in (*levels, *bases)),
            fetcher.stride.eq(job.stride_input),
            table.bank.eq(self.bank),
            table.fetch_en.eq(fetcher.table_read_en),
            table.fetch_position.eq(fetcher.table_read_position),
            fetcher.table_read_id.eq(table.fetch_id),
            fetcher.table_read_high.eq(table.fetch_high),
            *(
                getattr(table, f"list_{name}").eq(getattr(fetcher, f"table_{name}"))
                for name in ("en", "position", "id", "high")
            ),
            scan.start.eq(fetcher.list_done | (self.start & job.carry)),
            scan.kept.eq(job.kept),
            table.scan_en.eq(scan.read_en),
            table.scan_position.eq(scan.read_position),
            scan.read_high.eq(table.scan_high),
            operands.scan_en.eq(scan.en),
            operands.scan_high.eq(table.scan_high),
            *(
                getattr(operands, f"scan_{name}").eq(getattr(scan, name))
                for name in ("tile", "lane", "band", "band_lane", "group", "slot")
            ),
            *(
                getattr(operands, f"kq_{name}").eq(getattr(fetcher, f"kq_{name}"))
                for name in ("en", "bank", "tile", "lane", "band", "band_lane", "word", "data")
            ),
            *(
                getattr(operands, f"v_{name}").eq(getattr(fetcher, f"v_{name}"))
                for name in ("en", "bank", "tile", "position", "data")
            ),
        ]

    def _deal(
        self,
        m: Module,
        fetcher: Fetcher,
        scan: Scan,
        dealer: Dealer,
        softmax: SoftmaxUnit,
        sender: Sender,
        operands: Operands,
    ) -> TileList:
        """List the tiles and deal them when their operands are there."""
        config, job = self._config, self.job
        tiles = place(m, "tiles", TileList(config))
        ahead = place(m, "ahead", StreamFifo(tile_layout(config), TILE_DEPTH))
        connect_stream(m, tiles.o, ahead.i)
        connect_stream(m, ahead.o, dealer.i)
        m.d.comb += [
            tiles.start.eq(scan.done),
            *(getattr(tiles, name).eq(job[name]) for name in ("kept", "head_size", "heads")),
            *(getattr(tiles, name).eq(getattr(scan, name)) for name in ("bands", "tile_high", "band_high")),
            dealer.kept.eq(job.kept),
            dealer.head_size.eq(job.head_size),
            dealer.qk_loaded.eq(fetcher.qk_loaded),
            dealer.v_loaded.eq(fetcher.v_loaded),
            dealer.numerators_done.eq(softmax.numerators_done),
            dealer.numerators_band.eq(softmax.numerators_band),
            dealer.band_sent.eq(sender.band_sent),
            dealer.band_sent_band.eq(sender.band_sent_band),
            fetcher.retire.eq(dealer.retire),
            *(
                getattr(operands, f"read_{name}").eq(getattr(dealer, f"read_{name}"))
                for name in ("en", "pv", "bank", "tile", "band", "group")
            ),
        ]
        return tiles

    def _compute(
        self, m: Module, dealer: Dealer, operands: Operands, arrays: Arrays, results: Results
    ) -> None:
        """Lead words to the arrays and their results away."""
        m.d.comb += [
            *(
                getattr(arrays, name).eq(getattr(dealer, name))
                for name in ("write_en", "write_address", "first", "length", "tag")
            ),
            *(
                getattr(arrays, name).eq(getattr(operands, name))
                for name in ("row_data", "row_high", "column_data", "column_high")
            ),
            dealer.released.eq(arrays.released),
            arrays.take.eq(results.take),
            *(
                getattr(results, name).eq(getattr(arrays, name))
                for name in ("full", "tags", "data", "working", "stalled")
            ),
        ]

    def _score(
        self,
        m: Module,
        fetcher: Fetcher,
        scan: Scan,
        results: Results,
        softmax: SoftmaxUnit,
        operands: Operands,
        order: BandOrder,
        progress: Progress,
    ) -> None:
        """Pass bands whose scores are complete to the softmax unit, and its numerators and factors on."""
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
            *(
                getattr(results, f"scale_{name}").eq(getattr(fetcher, f"scale_{name}"))
                for name in ("en", "position", "band", "lane", "q", "k")
            ),
            results.per_token.eq(job.per_token),
            results.causal.eq(job.causal),
            results.multiplier.eq(job.score_multiplier),
            results.shift.eq(job.score_shift),
            *(
                getattr(results, name).eq(getattr(softmax, name))
                for name in ("max_en", "max_band", "read_en", "read_band", "read_slot", *FACTOR_INPUTS)
            ),
            *(
                getattr(softmax, name).eq(getattr(results, name))
                for name in ("max_data", "max_valid", "read_data")
            ),
            results.factors_done.eq(softmax.factors_done),
            results.factors_band.eq(softmax.factors_band),
            *(
                getattr(operands, f"a_{name}").eq(getattr(softmax, f"a_{name}"))
                for name in ("en", "band", "position", "data")
            ),
        ]

    def _select(
        self,
        m: Module,
        table: TokenTable,
        fetcher: Fetcher,
        softmax: SoftmaxUnit,
        selection: Selection,
        sender: Sender,
        progress: Progress,
    ) -> None:
        """Add up importance, and choose the next block's tokens when it is complete."""
        job = self.job
        m.d.comb += [
            selection.bank.eq(self.bank),
            selection.init_en.eq(fetcher.table_en),
            selection.init_position.eq(fetcher.table_position),
            selection.init_id.eq(fetcher.table_id),
            *(
                getattr(selection, f"add_{name}").eq(getattr(softmax, f"add_{name}"))
                for name in ("en", "position", "value")
            ),
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
            *(
                getattr(sender, f"list_{name}").eq(getattr(selection, f"list_{name}"))
                for name in ("valid", "position", "id", "bits", "value")
            ),
        ]

    def _send(
        self,
        m: Module,
        table: TokenTable,
        scan: Scan,
        results: Results,
        sender: Sender,
        order: BandOrder,
        tiles: TileList,
        progress: Progress,
    ) -> None:
        """Send bands whose results are complete, then the list."""
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
