"""The rows of results: each query's channels of a head, word by word, and where they go in the host's memory."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Member, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.common.gearbox import packet_layout
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import ADDRESS_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.descriptor import DESCRIPTOR
from bitfabric.hdl.dtqatten.output_port import OutputPort

STRIDE_BITS = 16  # of the bytes between two tokens' results


def band_members(config: DtqattenConfig) -> dict[str, Member]:
    """Return what ``RowSender`` and ``Sender`` have in common: the block, bands, token table and read ports."""
    band = address_bits(config.bands_max)
    return {
        "head_size": In(config.head_size_max.bit_length()),
        "kept": In(config.count_bits),
        "out_base": In(ADDRESS_BITS),
        "out_stride": In(STRIDE_BITS),
        "band_valid": In(1),
        "band": In(band),
        "band_columns": In(config.columns.bit_length()),
        "first_position": In(config.id_bits),
        "band_ready": Out(1),
        "band_sent": Out(1),
        "band_sent_band": Out(band),
        "table_read_en": Out(1),
        "table_read_position": Out(config.id_bits),
        "table_read_id": In(config.id_bits),
        "read_en": Out(config.unload_ports),
        "read_band": Out(band),
        "read_tile": Out(address_bits(config.port_tiles_max)),
        "read_lane": Out(address_bits(config.columns)),
        "read_advance": Out(1),
        "read_data": In(config.unload_ports * 8 * config.rows),
    }


class RowSender(Block):
    """Walk over the queries of bands and read the words of their results.

    A query is a packet of ``head_size`` bytes in words of R: one is read per cycle, in the order of its channel
    tiles; it is offered on ``o`` ``LATENCY`` cycles later. The query's descriptor ``out_base + head * head_size +
    id * out_stride`` is offered on ``desc`` from the cycle after its first word was taken. Bands come in heads of
    ``kept`` queries each: their sum tells where a head ends [ours]. What is under way stands still while ``o`` is
    stalled, or a first word whose predecessor's descriptor still waits.

    A band accepted in cycle a has its first word on ``o`` in a + 1 + ``LATENCY``; the next band is accepted from the
    cycle after its last read on.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    head_size, kept : In
        d from 1, and the tokens of the block; constant.
    out_base, out_stride : In
        Byte address of the results, bytes from a token's to the next one's; constant.
    band_valid, band, band_columns, first_position, band_ready : In, In, In, In, Out
        A band, its queries (from 1), and the position of the first one.
    table_read_en, table_read_position, table_read_id : Out, Out, In
        Read the token at a position: a cycle later, kept until the next read.
    read_en : Out(P)
        Read ports of the ``OutputPort``s, one bit each; what follows is theirs together.
    read_band, read_tile, read_lane, read_advance, read_data : Out, Out, Out, Out, In(P * 8 * R)
        See there; the words are side by side.
    o : Out(stream of packet_layout(R))
        Words.
    desc : Out(stream of DESCRIPTOR)
        Descriptors.
    band_sent, band_sent_band : Out
        Strobe in the cycle after a band's last word was taken, and the band: its memory may be written again.
    busy : Out(1)
        A band, a word or a descriptor is under way.
    """

    LATENCY: ClassVar[int] = OutputPort.READ_LATENCY

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        super().__init__(
            {
                **band_members(config),
                "o": Out(stream.Signature(packet_layout(config.rows))),
                "desc": Out(stream.Signature(DESCRIPTOR)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk, follow what is read through the ports' pipeline, and hand it over."""
        m = Module()
        rows = self._config.rows
        word, advance = self._walk(m)
        # What a word is travels beside the ports' pipeline.
        stages = []
        for stage in range(1, self.LATENCY + 1):
            moved = {
                name: Signal(len(value), name=f"{name}_{stage}", reset_less=name != "valid")
                for name, value in word.items()
            }
            with m.If(advance):
                m.d.sync += [moved[name].eq(word[name]) for name in word]
            stages.append(moved)
            word = moved
        offset = self._head_offset(m, word)
        product = Signal(len(self.table_read_id) + STRIDE_BITS, reset_less=True)
        with m.If(advance & stages[0]["first"]):
            m.d.sync += product.eq(self.table_read_id * self.out_stride)

        waiting, address = Signal(), Signal(ADDRESS_BITS, reset_less=True)
        blocked = Signal()
        m.d.comb += [
            blocked.eq(word["first"] & waiting & ~self.desc.ready),
            self.o.valid.eq(word["valid"] & ~blocked),
            self.o.payload.data.eq(
                choose(
                    [self.read_data[8 * rows * p : 8 * rows * (p + 1)] for p in range(len(self.read_en))],
                    word["port"],
                )
            ),
            self.o.payload.count.eq(word["count"]),
            self.o.payload.last.eq(word["last"]),
            advance.eq(~word["valid"] | (self.o.ready & ~blocked)),
            self.desc.valid.eq(waiting),
            self.desc.payload.address.eq(address),
            self.desc.payload.length.eq(self.head_size),
            self.busy.eq(Cat(~self.band_ready, waiting, *(stage["valid"] for stage in stages)).any()),
        ]
        taken = Signal()
        m.d.comb += taken.eq(self.o.valid & self.o.ready)
        with m.If(taken & word["first"]):
            m.d.sync += [waiting.eq(1), address.eq(self.out_base + product + offset)]
        with m.Elif(self.desc.ready):
            m.d.sync += waiting.eq(0)
        sent, sent_band = Signal(), Signal(len(self.band), reset_less=True)
        m.d.sync += [sent.eq(taken & word["ends"]), sent_band.eq(word["band"])]
        m.d.comb += [self.band_sent.eq(sent), self.band_sent_band.eq(sent_band)]
        return m

    def _walk(self, m: Module) -> tuple[dict[str, Value], Signal]:
        """Return the word that is read, and the signal that lets it go on."""
        config = self._config
        active, advance, step = Signal(), Signal(), Signal()
        band = Signal(len(self.band), reset_less=True)
        left = Signal(len(self.band_columns), reset_less=True)  # queries, this one included
        lane, position = (Signal(len(s), reset_less=True) for s in (self.read_lane, self.first_position))
        tile = Signal(len(self.read_tile), reset_less=True)
        port = Signal(address_bits(config.unload_ports), reset_less=True)
        bytes_left = Signal(len(self.head_size), reset_less=True)
        first, last, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            step.eq(active & advance),
            last.eq(bytes_left <= config.rows),
            ends.eq(last & (left == 1)),
            self.band_ready.eq(~active),
            self.read_band.eq(band),
            self.read_tile.eq(tile),
            self.read_lane.eq(lane),
            self.read_advance.eq(advance),
            self.read_en.eq(Cat(active & (port == p) for p in range(config.unload_ports))),
            first.eq((tile == 0) & (port == 0)),
            self.table_read_en.eq(step & first),
            self.table_read_position.eq(position),
        ]
        with m.If(~active & self.band_valid):
            m.d.sync += [
                *(active.eq(1), band.eq(self.band), left.eq(self.band_columns), lane.eq(0)),
                *(position.eq(self.first_position), tile.eq(0), port.eq(0), bytes_left.eq(self.head_size)),
            ]
        with m.Elif(step & last):
            m.d.sync += [
                *(active.eq(~ends), left.eq(left - 1), lane.eq(lane + 1), position.eq(position + 1)),
                *(tile.eq(0), port.eq(0), bytes_left.eq(self.head_size)),
            ]
        with m.Elif(step):
            m.d.sync += bytes_left.eq(bytes_left - config.rows)
            with m.If(port == config.unload_ports - 1):
                m.d.sync += [port.eq(0), tile.eq(tile + 1)]
            with m.Else():
                m.d.sync += port.eq(port + 1)
        count = Signal(range(config.rows + 1))
        m.d.comb += count.eq(Mux(last, bytes_left, config.rows))
        word = {
            **{"valid": active, "first": first, "last": last, "ends": ends},
            **{"count": count, "port": port, "band": band},
        }
        return word, advance

    def _head_offset(self, m: Module, word: dict[str, Value]) -> Signal:
        """Return head * head_size for the word that is offered."""
        config = self._config
        offset = Signal(range(config.heads_max * config.head_size_max + 1))
        queries, after = Signal(config.count_bits), Signal(config.count_bits)
        m.d.comb += after.eq(queries + 1)
        with m.If(self.o.valid & self.o.ready & word["last"]):
            m.d.sync += queries.eq(after)
            with m.If(after == self.kept):
                m.d.sync += [queries.eq(0), offset.eq(offset + self.head_size)]
        return offset
