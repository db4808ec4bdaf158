"""The sender: results and the block's list leave for the host's memory, each packet with its descriptor."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.gearbox import Gearbox, gearbox_limit
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.descriptor import DESCRIPTOR
from bitfabric.hdl.dtqatten.sender_list import ListSender, list_members
from bitfabric.hdl.dtqatten.sender_rows import RowSender, band_members


class Sender(Block):
    """Send bands of results as they are offered, a packet per query, and the list when told so.

    A query's packet has ``head_size`` bytes, cut from the ports' words of R bytes into beats of S by a ``Gearbox``;
    bytes beyond it are 0. Its descriptor is offered no later than its first beat; the next query's first word waits
    until it was taken. While neither stream stalls a query takes ``max(ceil(d / R), ceil(d / S))`` cycles, one more at
    most and only where R < S [derived], and a band pauses the reads for a cycle; a band accepted in cycle a has its
    first word in the gearbox after a + 1 + ``RowSender.LATENCY``. ``sim/cycles/dtqatten_output.py`` has the exact
    times. The list follows from the second cycle on after the last beat, or after ``finish`` if that is later.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    head_size, kept, out_base, out_stride, list_base : In
        The block; constant.
    band_valid, band, band_columns, first_position, band_ready, band_sent, band_sent_band
        Bands; see ``RowSender``. A band is sent when its memory is free, its last beats may still be on their way.
    table_read_en, table_read_position, table_read_id
        Token table.
    read_en, read_band, read_tile, read_lane, read_advance, read_data
        Read side of the ``OutputPort``s.
    list_valid, list_position, list_id, list_bits, list_value : In
        Write an entry of the list; see ``ListSender``.
    finish : In(1)
        Strobe: send the list. Not before the last band is accepted and the last entry written.
    o : Out(stream of beat_layout)
        Packets.
    desc : Out(stream of DESCRIPTOR)
        Their descriptors, in the same order.
    done : Out(1)
        Strobe in the cycle after the list's last beat, and its descriptor, have been taken.
    """

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        super().__init__(
            {
                **band_members(config),
                **list_members(config),
                "finish": In(1),
                "o": Out(stream.Signature(beat_layout(config.axis_data_bits))),
                "desc": Out(stream.Signature(DESCRIPTOR)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Send rows through the gearbox, and the list once they are through."""
        m = Module()
        config = self._config
        rows = place(m, "rows", RowSender(config))
        entries = place(m, "list", ListSender(config))
        gearbox = place(m, "gearbox", Gearbox(config.rows, config.axis_bytes))
        connect_stream(m, rows.o, gearbox.i)
        for part, members in ((rows, band_members(config)), (entries, list_members(config))):
            for name, member in members.items():
                inner, outer = getattr(part, name), getattr(self, name)
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)

        limit = gearbox_limit(config.rows, config.axis_bytes)
        # A packet in the gearbox has a word of its own there.
        packets = Signal(range(-(-(limit + config.rows) // config.axis_bytes) + 1))
        enters, leaves = Signal(), Signal()
        pending, start = Signal(), Signal()
        m.d.comb += [
            entries.kept.eq(self.kept),
            enters.eq(gearbox.i.valid & gearbox.i.ready & gearbox.i.payload.last),
            leaves.eq(gearbox.o.valid & gearbox.o.ready & gearbox.o.payload.last),
            start.eq(pending & ~rows.busy & (packets == 0)),
            entries.start.eq(start),
        ]
        m.d.sync += [packets.eq(packets + enters - leaves), pending.eq((pending | self.finish) & ~start)]
        # The list begins when no row is left: one of the two is silent.
        for sink, row, entry in ((self.o, gearbox.o, entries.o), (self.desc, rows.desc, entries.desc)):
            m.d.comb += [
                sink.valid.eq(row.valid | entry.valid),
                Value.cast(sink.payload).eq(
                    Mux(entry.valid, Value.cast(entry.payload), Value.cast(row.payload))
                ),
                row.ready.eq(sink.ready),
                entry.ready.eq(sink.ready),
            ]
        return m
