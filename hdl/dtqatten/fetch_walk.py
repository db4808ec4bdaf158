"""The issue walker: asks for the vectors of the tokens that stay, head by head."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.dtqatten.config import ADDRESS_BITS, LENGTH_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.descriptor import DESCRIPTOR, STRIDE_BITS

SCALE_BYTES = 8  # of a token's scales
BUFFERED_HEADS = 2
# What a packet brings, in the order of a block's first packets.
SCALE, KEY, QUERY, VALUE = range(4)


class IssueWalker(Block):
    """Issue the descriptors of a block: the list, the tokens' scales, and for every head K, Q, V of every position.

    A packet enters in cycle i, when the table is read; its descriptor is offered in i + 3: address
    ``base + id·stride + head·length``, with 1 or 1/2 byte per channel, rounded up to bytes [ours: layout]. One enters
    every cycle while fewer than ``outstanding`` are under way, and a head's first one while fewer than two heads are in
    the buffers. A descriptor that is not taken holds the others.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    list_start, start : In(1)
        Strobes: ask for the list, or for all the rest; the first packet enters a cycle later.
    stop : In(1)
        Level: nothing more enters.
    per_token, entries, kept, head_size, heads : In
        Levels.
    list_base, scale_base, q_base, k_base, v_base, stride : In
        Levels: byte addresses, and bytes from a token's vector to the next one's.
    retire : In(1)
        Strobe: a head leaves the buffers.
    consumed : In(1)
        Strobe: a packet (not the list) has been taken to its end.
    read_en, read_position, read_id, read_high : Out, Out, In, In
        The token table; an answer comes a cycle later and stays.
    push, push_high : Out
        A packet was entered, and its precision, before its descriptor is offered.
    desc : Out(stream.Signature(DESCRIPTOR))
        Descriptors.
    """

    LATENCY: ClassVar[int] = 3

    def __init__(self, config: DtqattenConfig):
        self._config = config
        super().__init__(
            {
                "list_start": In(1),
                "start": In(1),
                "stop": In(1),
                "per_token": In(1),
                "entries": In(config.count_bits),
                "kept": In(config.count_bits),
                "head_size": In(config.head_size_max.bit_length()),
                "heads": In(config.heads_max.bit_length()),
                "list_base": In(ADDRESS_BITS),
                "scale_base": In(ADDRESS_BITS),
                "q_base": In(ADDRESS_BITS),
                "k_base": In(ADDRESS_BITS),
                "v_base": In(ADDRESS_BITS),
                "stride": In(STRIDE_BITS),
                "retire": In(1),
                "consumed": In(1),
                "read_en": Out(1),
                "read_position": Out(config.id_bits),
                "read_id": In(config.id_bits),
                "read_high": In(1),
                "push": Out(1),
                "push_high": Out(1),
                "desc": Out(stream.Signature(DESCRIPTOR)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Enter packets; make their addresses behind the table."""
        m = Module()
        config = self._config
        move = Signal()  # all stages
        listing, walking = Signal(), Signal()
        kind, position, head = Signal(2), Signal(config.id_bits), Signal(range(config.heads_max))
        first, last = Signal(), Signal()  # of the head's positions
        enter = Signal()
        under_way = Signal(range(config.outstanding + 1))
        buffered = Signal(range(BUFFERED_HEADS + 1))
        opens = Signal()  # it would be the head's first packet
        m.d.comb += [
            first.eq(position == 0),
            last.eq(position == self.kept - 1),
            opens.eq((kind == KEY) & first),
            enter.eq(
                walking
                & move
                & ~self.stop
                & (under_way != config.outstanding)
                & (~opens | (buffered != BUFFERED_HEADS))
            ),
            self.read_en.eq(enter),
            self.read_position.eq(position),
        ]
        m.d.sync += [
            under_way.eq(under_way + enter - self.consumed),
            buffered.eq(buffered + (enter & opens) - self.retire),
        ]
        with m.If(self.list_start):
            m.d.sync += listing.eq(1)
        with m.Elif(move):
            m.d.sync += listing.eq(0)
        low_size = Signal(config.head_size_max.bit_length())
        m.d.comb += low_size.eq((self.head_size + 1) >> 1)
        offset_high = Signal(range(config.heads_max * config.head_size_max + 1))
        offset_low = Signal.like(offset_high)
        with m.If(self.start):
            m.d.sync += [walking.eq(1), kind.eq(Mux(self.per_token, SCALE, KEY))]
        with m.If(enter):
            m.d.sync += position.eq(position + 1)
            with m.If(last):
                m.d.sync += [position.eq(0), kind.eq(kind + 1)]
                with m.If(kind == VALUE):
                    m.d.sync += [
                        kind.eq(KEY),
                        head.eq(head + 1),
                        offset_high.eq(offset_high + self.head_size),
                        offset_low.eq(offset_low + low_size),
                    ]
                    with m.If(head == self.heads - 1):
                        m.d.sync += walking.eq(0)
        self._address(m, move, Cat(enter, listing), kind, low_size, offset_high, offset_low)
        return m

    def _address(
        self,
        m: Module,
        move: Signal,
        entering: Cat,
        kind: Signal,
        low_size: Signal,
        offset_high: Signal,
        offset_low: Signal,
    ) -> None:
        """Make a descriptor in three stages: beside the table, product, sum."""
        valid1, list1, valid2, valid3 = Signal(), Signal(), Signal(), Signal()
        scale1 = Signal(reset_less=True)
        base1, base2 = Signal(ADDRESS_BITS, reset_less=True), Signal(ADDRESS_BITS, reset_less=True)
        high1, low1 = Signal.like(offset_high, reset_less=True), Signal.like(offset_low, reset_less=True)
        product2 = Signal(len(self.read_id) + STRIDE_BITS, reset_less=True)
        length2 = Signal(LENGTH_BITS, reset_less=True)
        out = Signal(DESCRIPTOR, reset_less=True)
        m.d.comb += [
            move.eq(~valid3 | self.desc.ready),
            self.push.eq(move & valid1),
            self.push_high.eq(self.read_high),
            self.desc.valid.eq(valid3),
            self.desc.payload.eq(out),
        ]
        bases = [self.scale_base, self.k_base, self.q_base, self.v_base]
        whole = Signal()  # no head's part
        m.d.comb += whole.eq(list1 | scale1)
        with m.If(move):
            m.d.sync += [
                Cat(valid1, list1).eq(entering),
                scale1.eq(kind == SCALE),
                base1.eq(Mux(entering[1], self.list_base, choose(bases, kind))),
                high1.eq(offset_high),
                low1.eq(offset_low),
                valid2.eq(valid1 | list1),
                product2.eq(self.read_id * Mux(scale1, SCALE_BYTES, self.stride)),
                base2.eq(base1 + Mux(self.read_high, high1, low1)),
                length2.eq(Mux(self.read_high, self.head_size, low_size)),
                valid3.eq(valid2),
                out.address.eq(base2 + product2),
                out.length.eq(length2),
            ]
            with m.If(whole):
                m.d.sync += [base2.eq(base1), length2.eq(SCALE_BYTES)]
            with m.If(list1):
                m.d.sync += [product2.eq(0), length2.eq(self.entries << 2)]
