"""OMEM's directory: where the record of each tile lies that a layer kept for the next one."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.panacea.config import DIMENSION_BITS, PanaceaConfig
from bitfabric.hdl.panacea.job import JOB
from bitfabric.hdl.panacea.loop import PanaceaLoop
from bitfabric.hdl.panacea.omem_reader import record_layout


class Directory(Block):
    """Remember records as one layer makes them, and recall them in the order in which the next one reads them.

    A layer makes them by M step, then N tile, then K tile of the next layer, of which an M step has ``halves``, or
    twice as many with DTP. The next layer reads them by N tile, then K tile, once for each of its M steps, or
    once if they stay resident. So the record of (n tile, k tile) has the place ``n tile * K tiles + k tile``, and
    reading is counting. Each half of OMEM has its own places; they survive a reset.

    A record is offered 2 cycles after ``source_start``, and 2 cycles after the one before was taken.

    Parameters
    ----------
    config : PanaceaConfig
        Gives the number of records and the form of one.

    Members
    -------
    job : In(JOB)
        The layer.
    start, source_start : In(1)
        Begin to remember; begin to recall.
    half : In(1)
        The half that is read; the other one is written.
    write, entry : In(1), In(record_layout)
        Remember a record.
    overflow : Out(1)
        There is no place for it.
    record : Out(stream of record_layout)
        Records recalled.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        record = record_layout(config)
        super().__init__(
            {
                "job": In(JOB),
                "start": In(1),
                "source_start": In(1),
                "half": In(1),
                "write": In(1),
                "entry": In(record),
                "overflow": Out(1),
                "record": Out(stream.Signature(record)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the memory between the two orders."""
        m = Module()
        records = self._config.omem_records
        bits = address_bits(records)
        store = place(m, "store", Ram(len(Value.cast(self.entry)), 2 << bits))
        index = self._index(m)
        m.d.comb += [
            self.overflow.eq(self.write & (index >= records)),
            store.write_en.eq(self.write & (index < records)),
            store.write_addr.eq(Cat(index[:bits], ~self.half)),
            store.write_data.eq(self.entry),
        ]

        loop = place(m, "loop", PanaceaLoop(self._config))
        place_of_record = Signal(bits, reset_less=True)
        running, offered, taken, pass_ends = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            loop.job.eq(self.job),
            loop.start.eq(self.source_start),
            loop.step.eq(taken),
            pass_ends.eq(loop.tile.last_n & loop.tile.last_k),
            store.read_en.eq(running & ~offered),
            store.read_addr.eq(Cat(place_of_record, self.half)),
            self.record.valid.eq(offered),
            Value.cast(self.record.payload).eq(store.read_data),
            taken.eq(offered & self.record.ready),
        ]
        with m.If(self.source_start):
            m.d.sync += [running.eq(1), place_of_record.eq(0)]
        with m.Elif(taken):
            m.d.sync += [
                offered.eq(0),
                place_of_record.eq(Mux(pass_ends, 0, place_of_record + 1)),
                running.eq(~(pass_ends & (loop.tile.last_m | self.job.resident))),
            ]
        with m.Elif(running):
            m.d.sync += offered.eq(1)
        return m

    def _index(self, m: Module) -> Signal:
        """Return the place of the record that is made; a row of places is an N tile."""
        config, job = self._config, self.job
        step = config.halves
        shift = config.tile_k.bit_length() - 1
        bits = DIMENSION_BITS - shift + 1  # of a number of K tiles
        # Beyond `records` nothing is told apart any more, as the machine stops: a row's start has room for one row.
        row = Signal(max(bits, config.omem_records.bit_length()) + 1)
        index = Signal(len(row) + 1)
        first, tile, total, behind = (
            Signal(bits, name=name) for name in ("first_k", "k_tile", "k_tiles", "behind")
        )
        n_left = Signal(DIMENSION_BITS, reset_less=True)
        step_ends, last_n = Signal(), Signal()
        m.d.comb += [
            total.eq((job.m + config.tile_k - 1) >> shift),
            behind.eq(first + (Mux(job.dtp, 2 * step, step) if config.dtp else step)),
            step_ends.eq((tile + 1 == behind) | (tile + 1 == total)),
            last_n.eq(n_left <= config.tile_n),
            index.eq(row + tile),
        ]
        with m.If(self.start):
            m.d.sync += n_left.eq(job.n)
        with m.Elif(self.write):
            m.d.sync += tile.eq(tile + 1)
            with m.If(step_ends):
                m.d.sync += [tile.eq(first), row.eq(row + total), n_left.eq(n_left - config.tile_n)]
                with m.If(last_n):
                    m.d.sync += [tile.eq(behind), first.eq(behind), row.eq(0), n_left.eq(job.n)]
        return index
