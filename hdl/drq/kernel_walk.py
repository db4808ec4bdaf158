"""The walk of the kernel over the feature map, word by word."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drq.config import DIMENSION_BITS, KERNEL_BITS, DrqConfig
from bitfabric.hdl.drq.layer import layer_layout, plan_layout


def piece_layout(config: DrqConfig) -> data.StructLayout:
    """Return a piece of an output position's activations, what a word of a map row has of a kernel row.

    Fields: ``zero`` (it is padding; the next two do not matter), ``row`` and ``word`` (of the map and of the row),
    ``low`` and ``count`` (its first element in the word, and how many), ``last`` (it ends the position), ``tile_last``
    (and the tile), ``map_last`` (and the map), ``index`` (of the position in its tile).
    """
    return data.StructLayout(
        {
            "zero": 1,
            "row": address_bits(config.height_max),
            "word": config.map_bits,
            "low": ceil_log2(config.axis_bytes),
            "count": range(config.axis_bytes + 1),
            "last": 1,
            "tile_last": 1,
            "map_last": 1,
            "index": address_bits(config.rows),
        }
    )


class KernelWalk(Block):
    """Walk over the output positions in raster order, and over the rows of each one's kernel.

    A kernel row is one run of elements of a map row, since channels run fastest: so a piece may have several pixels.
    It is cut where the words of the map row are, on the map's sides too, which are words of zeros. A piece per
    cycle; and a cycle without one behind a position whose last piece is longer than what is left of its words.
    After the last position the walk begins anew, for the next N tile.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    layer, plan : In(layer_layout), In(plan_layout)
        The convolution; levels from ``start`` on.
    start : In(1)
        Strobe: go to the first position.
    go : In(1)
        Level: go on, also from tile to tile.
    en, piece : Out(1), Out(piece_layout)
        A piece. It does not depend on ``go``, ``en`` does.
    tile_first : Out(1)
        Level: the piece is its tile's first one.
    """

    def __init__(self, config: DrqConfig):
        self._config = config
        super().__init__(
            {
                "layer": In(layer_layout()),
                "plan": In(plan_layout(config)),
                "start": In(1),
                "go": In(1),
                "en": Out(1),
                "piece": Out(piece_layout(config)),
                "tile_first": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep the kernel's corner and the place in it, in elements and rows."""
        m = Module()
        config, layer, plan, piece = self._config, self.layer, self.plan, self.piece
        lanes = config.axis_bytes
        lane_bits = ceil_log2(lanes)
        running, pausing, tile_first = Signal(), Signal(), Signal(init=1)
        left = Signal(signed(DIMENSION_BITS + 2), reset_less=True)  # first element of the kernel's rows
        top = Signal(signed(DIMENSION_BITS + 2), reset_less=True)  # first row of the kernel
        place = Signal.like(left, reset_less=True)  # the piece's first element
        row = Signal.like(top, reset_less=True)  # its row
        kernel_row = Signal(KERNEL_BITS, reset_less=True)
        index = Signal(range(config.rows))
        remains = Signal(DIMENSION_BITS, reset_less=True)  # elements of the kernel row, the piece's included
        room = Signal(range(lanes + 1))
        word = Signal(signed(DIMENSION_BITS + 2 - lane_bits))
        row_last, right_last, bottom_last = Signal(), Signal(), Signal()
        depth_rest = Signal(range(lanes))  # elements of the last word, less one
        row_words = (plan.row + (lanes - 1)) >> lane_bits
        m.d.comb += [
            piece.low.eq(place[:lane_bits]),
            word.eq(place >> lane_bits),
            piece.word.eq(word),
            piece.row.eq(row),
            room.eq(lanes - piece.low),
            row_last.eq(remains <= room),
            piece.count.eq(Mux(row_last, remains, room)),
            piece.zero.eq((word < 0) | (word >= row_words) | (row < 0) | (row >= layer.height)),
            piece.last.eq(row_last & (kernel_row == layer.kernel_height - 1)),
            right_last.eq(left + plan.step + plan.segment > plan.row + plan.border),
            bottom_last.eq(top + layer.stride + layer.kernel_height > layer.height + layer.padding),
            piece.map_last.eq(piece.last & right_last & bottom_last),
            piece.tile_last.eq(piece.last & ((index == config.rows - 1) | (right_last & bottom_last))),
            piece.index.eq(index),
            depth_rest.eq((plan.depth - 1)[:lane_bits]),
            self.tile_first.eq(tile_first),
            self.en.eq(running & ~pausing & self.go),
        ]
        m.d.sync += pausing.eq(self.en & piece.last & (piece.count > depth_rest + 1))

        def corner(new_left: object, new_top: object) -> list[object]:
            """Go to the first piece of the kernel whose corner this is."""
            return [
                left.eq(new_left),
                top.eq(new_top),
                place.eq(new_left),
                row.eq(new_top),
                kernel_row.eq(0),
                remains.eq(plan.segment),
            ]

        with m.If(self.start):
            m.d.sync += [running.eq(1), *corner(-plan.border, -layer.padding)]
        with m.Elif(self.en):
            m.d.sync += tile_first.eq(piece.tile_last)
            with m.If(~row_last):
                m.d.sync += [place.eq((word + 1) << lane_bits), remains.eq(remains - room)]
            with m.Elif(~piece.last):
                m.d.sync += [
                    place.eq(left),
                    row.eq(row + 1),
                    kernel_row.eq(kernel_row + 1),
                    remains.eq(plan.segment),
                ]
            with m.Else():
                m.d.sync += index.eq(Mux(piece.tile_last, 0, index + 1))
                with m.If(~right_last):
                    m.d.sync += corner(left + plan.step, top)
                with m.Elif(~bottom_last):
                    m.d.sync += corner(-plan.border, top + layer.stride)
                with m.Else():
                    m.d.sync += corner(-plan.border, -layer.padding)
        return m
