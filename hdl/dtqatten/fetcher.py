"""The fetcher: asks the host's memory for the tokens that stay, and only for them, and hands on what comes."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.dtqatten.config import ADDRESS_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.descriptor import DESCRIPTOR, STRIDE_BITS
from bitfabric.hdl.dtqatten.fetch_list import ListReader, list_outputs
from bitfabric.hdl.dtqatten.fetch_receive import Receiver, receiver_outputs
from bitfabric.hdl.dtqatten.fetch_values import ValueWriter, value_outputs
from bitfabric.hdl.dtqatten.fetch_walk import IssueWalker


class Fetcher(Block):
    """Fetch a block's list, its tokens' scales, and K, Q, V of every head; at most two heads ahead of ``retire``.

    Packets are asked for on ``desc`` and come back on ``s`` in that order. First the list (unless ``carry``); behind it, one
    cycle after ``list_done`` at the earliest (or after ``start``), with ``per_token`` the scales of each position; then per head
    K, Q and V of each position. Of a pruned token nothing is asked for. The first descriptor is offered 4 cycles
    after ``start``; ``sim/cycles/dtqatten_fetch.py`` has all times. With an error nothing more is asked for until reset.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        Strobe, once after reset; the levels hold from here on.
    carry, per_token, reorder : In(1)
        Levels: the table holds the list already; tokens have scales; cluster the list by precision.
    entries, tokens, kept, kept_high, head_size, heads : In
        Levels, at least 1 (``kept_high`` at least 0): entries of the list, tokens of the sequence, those that stay (m), those
        of 8 bits, channels of a head (d), heads.
    list_base, scale_base, q_base, k_base, v_base, stride : In
        Levels: byte addresses; bytes from a token's vector to the next one's.
    retire : In(1)
        Strobe: a head leaves the line buffers.
    s : In(stream.Signature(beat_layout(axis_data_bits)))
        Packets.
    desc : Out(stream.Signature(DESCRIPTOR))
        Descriptors.
    table_read_en, table_read_position, table_read_id, table_read_high : Out, Out, In, In
        Port of the token table.
    table_en, table_position, table_id, table_high : Out
        See ``ListReader``.
    list_done : Out(1)
        Strobe: the table holds the list; not with ``carry``.
    scale_en, scale_position, scale_band, scale_lane, scale_q, scale_k, scale_v : Out
        A token's scales.
    kq_en, kq_bank, kq_tile, kq_lane, kq_band, kq_band_lane, kq_word, kq_data : Out
        A word of S elements of K (bit 0) or Q (bit 1), see ``Receiver``.
    v_en, v_bank, v_position, v_tile, v_data : Out
        A word of R channels of V, see ``ValueWriter``.
    qk_loaded, v_loaded : Out(1)
        Strobes: in the cycle before, a head's last word of Q, of V, was written.
    bad_index, bad_precision, bad_counts, framing_error : Out(1)
        Errors, see ``ListReader``; they stay.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        count = config.count_bits
        super().__init__(
            {
                **dict.fromkeys(("start", "carry", "per_token", "reorder", "retire"), In(1)),
                **dict.fromkeys(("entries", "tokens", "kept", "kept_high"), In(count)),
                "head_size": In(config.head_size_max.bit_length()),
                "heads": In(config.heads_max.bit_length()),
                **dict.fromkeys(("list_base", "scale_base", "q_base", "k_base", "v_base"), In(ADDRESS_BITS)),
                "stride": In(STRIDE_BITS),
                "s": In(stream.Signature(beat_layout(config.axis_data_bits))),
                "desc": Out(stream.Signature(DESCRIPTOR)),
                "table_read_en": Out(1),
                "table_read_position": Out(config.id_bits),
                "table_read_id": In(config.id_bits),
                "table_read_high": In(1),
                "list_done": Out(1),
                "framing_error": Out(1),
                **list_outputs(config),
                **receiver_outputs(config),
                **value_outputs(config),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the parts; beats go to the list reader until the list is there."""
        m = Module()
        config = self._config
        lister = place(m, "list", ListReader(config))
        walker = place(m, "walker", IssueWalker(config))
        receiver = place(m, "receiver", Receiver(config))
        values = place(m, "values", ValueWriter(config))
        bases = ("list_base", "scale_base", "q_base", "k_base", "v_base")
        levels = {
            lister: ("reorder", "entries", "tokens", "kept", "kept_high"),
            walker: ("per_token", "entries", "kept", "head_size", "heads", "stride", "retire", *bases),
            receiver: ("per_token", "kept", "head_size"),
            values: ("kept",),
        }
        for part, names in levels.items():
            m.d.comb += [getattr(part, name).eq(getattr(self, name)) for name in names]
        for part, ports in (
            (lister, list_outputs(config)),
            (receiver, receiver_outputs(config)),
            (values, value_outputs(config)),
        ):
            m.d.comb += [getattr(self, name).eq(getattr(part, name)) for name in ports]

        listing, begin, failed = Signal(), Signal(), Signal()
        m.d.comb += [
            begin.eq((self.start & self.carry) | lister.done),
            lister.start.eq(self.start & ~self.carry),
            walker.list_start.eq(lister.start),
            walker.start.eq(begin),
            receiver.start.eq(begin),
            self.list_done.eq(lister.done),
            self.framing_error.eq(lister.framing_error | receiver.framing_error),
            failed.eq(self.bad_index | self.bad_precision | self.bad_counts | self.framing_error),
            walker.stop.eq(failed),
        ]
        with m.If(lister.start):
            m.d.sync += listing.eq(1)
        with m.Elif(begin):
            m.d.sync += listing.eq(0)
        m.d.comb += [
            walker.consumed.eq(receiver.consumed),
            self.table_read_en.eq(walker.read_en),
            self.table_read_position.eq(walker.read_position),
            walker.read_id.eq(self.table_read_id),
            walker.read_high.eq(self.table_read_high),
            receiver.push.eq(walker.push),
            receiver.push_high.eq(walker.push_high),
            lister.i.payload.eq(self.s.payload),
            lister.i.valid.eq(self.s.valid & listing),
            receiver.i.payload.eq(self.s.payload),
            receiver.i.valid.eq(self.s.valid & ~listing),
            self.s.ready.eq((lister.i.ready & listing) | (receiver.i.ready & ~listing)),
        ]
        connect_stream(m, walker.desc, self.desc)
        connect_stream(m, receiver.values, values.i)
        return m
