"""The im2col unit: an output position's activations, at their precisions, out of the feature memory."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.drq.config import ELEMENT_BITS, OPERAND_BITS, DrqConfig
from bitfabric.hdl.drq.intake import place_layout
from bitfabric.hdl.drq.kernel_walk import KernelWalk, piece_layout
from bitfabric.hdl.drq.layer import layer_layout, plan_layout
from bitfabric.hdl.drq.packer import Packer

BANKS = 2


def tile_tag(config: DrqConfig) -> data.StructLayout:
    """Return what goes with a tile of activations: ``m_valid``, its positions, and ``last_m``, it is the map's last."""
    return data.StructLayout({"m_valid": range(config.rows + 1), "last_m": 1})


class Im2col(Block):
    """Fill tiles of R output positions with their activations, a word of the feature memory per cycle.

    A word of S values and their flags is read; a value of a region that is not sensitive becomes
    ``clip((x + 8) >> 4, -8, 7)`` in the HO half; what a kernel row has of the word is packed behind what came before.
    Padding is 0, of 4 bits. A tile is begun when one of two banks is free, and the next one in the cycle after its last
    piece. A word is written ``LATENCY`` cycles after its last piece was taken up, a position's last one in the cycle
    after where it is not completed by the position's last piece but by what this leaves.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    layer, plan : In(layer_layout), In(plan_layout)
        The convolution; levels.
    start : In(1)
        Strobe: the map is there; pieces are taken up from the next cycle on.
    map_en, map_address, map_data; flag_en, flag_address, flag_data; row_en, row_address, row_place : In
        Write the memories, see ``Intake``.
    released : In(1)
        Strobe: a bank is free again.
    write_en, write_address, write_data : Out(R), Out, Out(S * 9)
        Write S elements of a position, of 8 bits each and above them whether they have 8 bits.
    write_done, write_tag : Out(1), Out(tile_tag)
        With the last word of a tile: what it is.
    """

    LATENCY: ClassVar[int] = 4

    def __init__(self, config: DrqConfig):
        self._config = config
        lanes = config.axis_bytes
        super().__init__(
            {
                "layer": In(layer_layout()),
                "plan": In(plan_layout(config)),
                "start": In(1),
                "map_en": In(1),
                "map_address": In(config.map_bits),
                "map_data": In(OPERAND_BITS * lanes),
                "flag_en": In(1),
                "flag_address": In(config.flag_bits),
                "flag_data": In(lanes),
                "row_en": In(1),
                "row_address": In(address_bits(config.height_max)),
                "row_place": In(place_layout(config)),
                "released": In(1),
                "write_en": Out(config.rows),
                "write_address": Out(address_bits(config.lines)),
                "write_data": Out(ELEMENT_BITS * lanes),
                "write_done": Out(1),
                "write_tag": Out(tile_tag(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk; read where rows stand, then words; convert, cut, pack."""
        m = Module()
        config = self._config
        walk = place(m, "walk", KernelWalk(config))
        free = Signal(range(BANKS + 1), init=BANKS)
        claims = Signal()
        m.d.comb += [
            walk.layer.eq(self.layer),
            walk.plan.eq(self.plan),
            walk.start.eq(self.start),
            walk.go.eq(~walk.tile_first | (free != 0)),
            claims.eq(walk.en & walk.tile_first),
        ]
        with m.If(claims & ~self.released):
            m.d.sync += free.eq(free - 1)
        with m.Elif(self.released & ~claims):
            m.d.sync += free.eq(free + 1)

        pieces = [walk.piece]
        valid = [walk.en]
        for stage in range(1, self.LATENCY + 1):
            pieces.append(Signal(piece_layout(config), name=f"piece{stage}", reset_less=True))
            valid.append(Signal(name=f"valid{stage}"))
            m.d.sync += [pieces[stage].eq(pieces[stage - 1]), valid[stage].eq(valid[stage - 1])]
        values, flags = self._read(m, valid, pieces)

        elements = Signal(len(self.write_data), reset_less=True)
        cut = Signal.like(elements, reset_less=True)
        m.d.sync += [elements.eq(_convert(values, flags)), cut.eq(_moved(elements, pieces[3].low))]
        packer = place(m, "packer", Packer(config.axis_bytes, ELEMENT_BITS))
        m.d.comb += [
            packer.en.eq(valid[4]),
            packer.data.eq(Mux(pieces[4].zero, 0, cut)),
            packer.count.eq(pieces[4].count),
            packer.last.eq(pieces[4].last),
            self.write_data.eq(packer.o_data),
        ]
        self._write(m, packer, valid[4], pieces[4])
        return m

    def _read(self, m: Module, valid: list[Signal], pieces: list[Signal]) -> tuple[Value, Value]:
        """Return the words of values and flags, two cycles behind the walk."""
        config = self._config
        rows = place(m, "rows", Ram(place_layout(config).size, config.height_max))
        values = place(m, "map", Ram(OPERAND_BITS * config.axis_bytes, config.map_words))
        flags = place(m, "flags", Ram(config.axis_bytes, config.flag_words))
        m.d.comb += [
            rows.write_en.eq(self.row_en),
            rows.write_addr.eq(self.row_address),
            rows.write_data.eq(self.row_place),
            rows.read_en.eq(valid[0] & ~pieces[0].zero),
            rows.read_addr.eq(pieces[0].row),
        ]
        at = data.View(place_layout(config), rows.read_data)
        for memory, name, base in ((values, "map", at.map), (flags, "flag", at.flags)):
            m.d.comb += [
                memory.write_en.eq(getattr(self, f"{name}_en")),
                memory.write_addr.eq(getattr(self, f"{name}_address")),
                memory.write_data.eq(getattr(self, f"{name}_data")),
                memory.read_en.eq(valid[1] & ~pieces[1].zero),
                memory.read_addr.eq(base + pieces[1].word),
            ]
        return values.read_data, flags.read_data

    def _write(self, m: Module, packer: Packer, came: Value, piece: Signal) -> None:
        """Place words in their position, and hand the tile over with its last one."""
        config = self._config
        kept = Signal(piece.shape(), reset_less=True)  # the piece that a word behind it belongs to
        with m.If(came):
            m.d.sync += kept.eq(piece)
        index, tile_last, map_last = (
            Mux(packer.flushing, kept[name], piece[name]) for name in ("index", "tile_last", "map_last")
        )
        word = Signal(range(config.lines))
        m.d.comb += [
            self.write_address.eq(word),
            self.write_en.eq(Cat(packer.o_en & (index == row) for row in range(config.rows))),
            self.write_done.eq(packer.o_last & tile_last),
            self.write_tag.m_valid.eq(index + 1),
            self.write_tag.last_m.eq(map_last),
        ]
        with m.If(packer.o_en):
            m.d.sync += word.eq(Mux(packer.o_last, 0, word + 1))


def _convert(values: Value, flags: Value) -> Value:
    """Return S elements at their precisions: 8 bits of value, and above them the flag."""
    elements = []
    for lane in range(len(flags)):
        value = values.word_select(lane, OPERAND_BITS)
        high, round_up = value[4:], value[3]
        low_value = Cat(Const(0, 4), Mux(high == 7, high, (high + round_up)[:4]))
        elements += [Mux(flags[lane], value, low_value), flags[lane]]
    return Cat(*elements)


def _moved(value: Value, low: Value) -> Value:
    """Return a word moved down by ``low`` elements."""
    for bit in range(len(low)):
        value = Mux(low[bit], value[ELEMENT_BITS << bit :], value)
    return value
