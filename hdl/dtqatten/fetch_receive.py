"""The receiver: packets of scales and vectors, cut into words of elements that know where they belong."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Member, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.gearbox import packet_layout
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import SCALE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.fetch_walk import KEY, QUERY, SCALE, VALUE

NIBBLE_BITS = 4


def receiver_outputs(config: DtqattenConfig) -> dict[str, Member]:
    """Return the ports that write scales, K and Q; see ``Receiver``."""
    words = -(-config.head_size_max // config.axis_bytes)
    return {
        "scale_en": Out(1),
        "scale_position": Out(config.id_bits),
        "scale_band": Out(address_bits(config.bands_max)),
        "scale_lane": Out(address_bits(config.columns)),
        "scale_q": Out(SCALE_BITS),
        "scale_k": Out(SCALE_BITS),
        "scale_v": Out(SCALE_BITS),
        "kq_en": Out(2),
        "kq_bank": Out(1),
        "kq_word": Out(address_bits(words)),
        "kq_data": Out(config.axis_data_bits),
        "kq_tile": Out(address_bits(config.tiles_max)),
        "kq_lane": Out(address_bits(config.rows)),
        "kq_band": Out(address_bits(config.bands_max)),
        "kq_band_lane": Out(address_bits(config.columns)),
        "qk_loaded": Out(1),
    }


class Receiver(Block):
    """Take packets in the order in which they were asked for; a word of S elements a cycle.

    A beat of 8-bit elements is a word. A beat of 4-bit elements is two, each element in the HO nibble of a byte, and stays
    at ``i`` for both; the second one falls away where the vector has ended. What is taken in cycle c is written in
    c + 1 (K, Q, scales), or offered on ``values`` in c and taken when that is.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        Strobe: packets are to come.
    per_token, kept, head_size : In
        Levels.
    push, push_high : In
        A packet was asked for, and its precision.
    i : In(stream.Signature(beat_layout(axis_data_bits)))
        Beats.
    consumed : Out(1)
        Strobe: a packet's last word is taken.
    scale_en, scale_q, scale_k, scale_v : Out
        A token's scales.
    scale_position, scale_band, scale_lane : Out
        Its position, its band of C queries and lane there.
    kq_en, kq_bank, kq_word, kq_data : Out
        A word of K (bit 0) or Q (bit 1), for the head's parity, and which word of the vector it is.
    kq_tile, kq_lane, kq_band, kq_band_lane : Out
        The token's tile of R keys and lane there, its band of C queries and lane there.
    values : Out(stream.Signature(packet_layout(S)))
        V: a packet a position.
    qk_loaded : Out(1)
        Strobe: a head's last word of Q was written in the cycle before.
    framing_error : Out(1)
        ``last`` is not where a packet ends; stays.
    """

    LATENCY: ClassVar[int] = 1
    LOADED_LATENCY: ClassVar[int] = 2

    def __init__(self, config: DtqattenConfig):
        self._config = config
        size = config.axis_bytes
        super().__init__(
            {
                "start": In(1),
                "per_token": In(1),
                "kept": In(config.count_bits),
                "head_size": In(config.head_size_max.bit_length()),
                "push": In(1),
                "push_high": In(1),
                "i": In(stream.Signature(beat_layout(config.axis_data_bits))),
                "consumed": Out(1),
                **receiver_outputs(config),
                "values": Out(stream.Signature(packet_layout(size))),
                "framing_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Step through kinds, positions and words."""
        m = Module()
        config = self._config
        kind, bank = Signal(2), Signal()
        with m.If(self.start):
            m.d.sync += kind.eq(Mux(self.per_token, SCALE, KEY))
        known, high = self._precisions(m)
        word, last_word = Signal.like(self.kq_word), Signal.like(self.kq_word, name="last_word")
        place_bits = config.axis_bytes.bit_length() - 1
        before = Signal(config.head_size_max.bit_length())  # channels before the vector's last one
        taken, ends, beat_ends = Signal(), Signal(), Signal()
        m.d.comb += [
            before.eq(self.head_size - 1),
            last_word.eq(before >> place_bits),
            ends.eq((kind == SCALE) | (word == last_word)),
            beat_ends.eq(high | word[0] | ends),
            taken.eq(self.i.valid & known & ((kind != VALUE) | self.values.ready)),
            self.i.ready.eq(known & beat_ends & ((kind != VALUE) | self.values.ready)),
            self.consumed.eq(taken & ends),
        ]
        with m.If(taken):
            m.d.sync += word.eq(Mux(ends, 0, word + 1))
        with m.If(taken & beat_ends & (self.i.payload.last != ends)):
            m.d.sync += self.framing_error.eq(1)

        position, coordinates, last_position = self._position(m)
        with m.If(self.consumed & last_position):
            m.d.sync += kind.eq(kind + 1)
            with m.If(kind == VALUE):
                m.d.sync += [kind.eq(KEY), bank.eq(~bank)]

        elements = Signal(config.axis_data_bits)
        beat = self.i.payload.data
        half = config.axis_data_bits // 2
        m.d.comb += elements.eq(Mux(high, beat, Mux(word[0], _widened(beat[half:]), _widened(beat[:half]))))
        m.d.comb += [
            self.values.valid.eq(self.i.valid & known & (kind == VALUE)),
            self.values.payload.data.eq(elements),
            self.values.payload.count.eq(before[:place_bits] + 1),
            self.values.payload.last.eq(ends),
        ]
        self._write(m, taken, kind, bank, word, elements, Cat(position, coordinates))
        loaded = Signal()
        m.d.sync += [
            loaded.eq(self.consumed & last_position & (kind == QUERY)),
            self.qk_loaded.eq(loaded),
        ]
        return m

    def _precisions(self, m: Module) -> tuple[Signal, Signal]:
        """Keep the precisions of the packets asked for; return whether there is one, and the oldest one's."""
        depth = self._config.outstanding
        flags, count = Signal(depth), Signal(range(depth + 1))
        left, shifted = Signal.like(count), Signal.like(flags)
        known = Signal(name="known")
        m.d.comb += [
            known.eq(count != 0),
            left.eq(count - self.consumed),
            shifted.eq(Mux(self.consumed, flags >> 1, flags)),
        ]
        m.d.sync += count.eq(left + self.push)
        for index in range(depth):
            with m.If(self.push & (left == index)):
                m.d.sync += flags[index].eq(self.push_high)
            with m.Else():
                m.d.sync += flags[index].eq(shifted[index])
        return known, flags[0]

    def _position(self, m: Module) -> tuple[Signal, Value, Signal]:
        """Count the positions of a kind, and what they are called elsewhere."""
        config = self._config
        position, last = Signal(config.id_bits), Signal(name="last_position")
        m.d.comb += last.eq(position == self.kept - 1)
        with m.If(self.consumed):
            m.d.sync += position.eq(Mux(last, 0, position + 1))
        parts = []
        for name, outer_port, inner_port, size in (
            ("key", self.kq_tile, self.kq_lane, config.rows),
            ("query", self.kq_band, self.kq_band_lane, config.columns),
        ):
            outer = Signal(len(outer_port), name=f"{name}_outer")
            inner = Signal(len(inner_port), name=f"{name}_inner")
            with m.If(self.consumed):
                with m.If(last):
                    m.d.sync += [inner.eq(0), outer.eq(0)]
                with m.Elif(inner == size - 1):
                    m.d.sync += [inner.eq(0), outer.eq(outer + 1)]
                with m.Else():
                    m.d.sync += inner.eq(inner + 1)
            parts += [outer, inner]
        return position, Cat(*parts), last

    def _write(
        self,
        m: Module,
        taken: Signal,
        kind: Signal,
        bank: Signal,
        word: Signal,
        elements: Signal,
        where: Value,
    ) -> None:
        """Register what is written."""
        scales = taken & (kind == SCALE)
        held = Signal(len(where), reset_less=True)
        data = Signal.like(self.kq_data, reset_less=True)
        m.d.comb += [
            Cat(self.scale_position, self.kq_tile, self.kq_lane, self.kq_band, self.kq_band_lane).eq(held),
            self.scale_band.eq(self.kq_band),
            self.scale_lane.eq(self.kq_band_lane),
            self.kq_data.eq(data),
            # The beat of scales passes as it is: two words of the host's memory.
            Cat(self.scale_q, self.scale_k, self.scale_v).eq(data[: 3 * SCALE_BITS]),
        ]
        m.d.sync += [
            self.scale_en.eq(scales),
            self.kq_en.eq(Cat(taken & (kind == KEY), taken & (kind == QUERY))),
        ]
        with m.If(taken):
            m.d.sync += [
                held.eq(where),
                self.kq_bank.eq(bank),
                self.kq_word.eq(word),
                data.eq(Mux(kind == SCALE, self.i.payload.data, elements)),
            ]


def _widened(packed: Value) -> Value:
    """Return 4-bit elements as bytes: a nibble, the low one first, above zeros."""
    starts = range(0, len(packed), NIBBLE_BITS)
    return Cat(part for at in starts for part in (Const(0, NIBBLE_BITS), packed[at : at + NIBBLE_BITS]))
