"""The dealer: tiles of activations and weights, word by word, to the array."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drq.config import DIMENSION_BITS, ELEMENT_BITS, OPERAND_BITS, DrqConfig
from bitfabric.hdl.drq.im2col import tile_tag
from bitfabric.hdl.gemm.accumulator import drain_layout


def result_tag(config: DrqConfig) -> data.StructLayout:
    """Return what goes with a tile of results: what the drain needs, and ``last_m``, it is the N tile's last."""
    return data.StructLayout({**drain_layout(config.rows, config.columns).members, "last_m": 1})


class Dealer(Block):
    """Deal the tiles, N outermost, M innermost: a word of E elements of all lanes per cycle.

    A tile is dealt when its activations and weights are there and the array's buffer is free; its first word is written
    ``LATENCY`` cycles later, one behind the reads. The array needs two cycles at least for an element, so that
    it never waits for a word but for its tile.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    start, n, depth : In
        Strobe, output channels and contraction, levels from then on.
    acts_full, acts_tag, acts_data : In
        Read side of the activations: a row's S elements, see ``Im2col``, row 0 lowest.
    acts_en, acts_address, acts_done : Out
        The same.
    weights_full : In
        Read side of the weights, whose words go to the array as they are.
    weights_en, weights_address, weights_done : Out
        The same.
    released : In(1)
        The array's.
    write_en, write_address, row_data, row_high, tile_en, tile_rows, tile_columns, tile_tag : Out
        The array's; the tag is a ``result_tag``.
    """

    LATENCY: ClassVar[int] = 1

    def __init__(self, config: DrqConfig):
        self._config = config
        rows, elements = config.rows, config.line_elements
        super().__init__(
            {
                "start": In(1),
                "n": In(DIMENSION_BITS),
                "depth": In(config.k_max.bit_length()),
                "acts_full": In(1),
                "acts_tag": In(tile_tag(config)),
                "acts_data": In(rows * config.axis_bytes * ELEMENT_BITS),
                "acts_en": Out(1),
                "acts_address": Out(address_bits(config.lines)),
                "acts_done": Out(1),
                "weights_full": In(1),
                "weights_en": Out(1),
                "weights_address": Out(address_bits(config.tile_words)),
                "weights_done": Out(1),
                "released": In(1),
                "write_en": Out(1),
                "write_address": Out(address_bits(config.tile_words)),
                "row_data": Out(rows * elements * OPERAND_BITS),
                "row_high": Out(rows * elements),
                "tile_en": Out(1),
                "tile_rows": Out(range(rows + 1)),
                "tile_columns": Out(range(config.columns + 1)),
                "tile_tag": Out(result_tag(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count words; a cycle later write what was read."""
        m = Module()
        config = self._config
        parts = config.axis_bytes // config.line_elements  # words of the array in a line
        part_bits = parts.bit_length() - 1
        free, dealing = Signal(init=1), Signal()
        word = Signal(range(config.tile_words))
        final = Signal(range(config.tile_words))
        n_left = Signal(DIMENSION_BITS, reset_less=True)
        begins, issues, ends, last_n = (Signal() for _ in range(4))
        m.d.comb += [
            final.eq((self.depth - 1) >> (config.line_elements.bit_length() - 1)),
            last_n.eq(n_left <= config.columns),
            begins.eq(~dealing & free & self.acts_full & self.weights_full),
            issues.eq(begins | dealing),
            ends.eq(issues & (word == final)),
            self.acts_en.eq(issues),
            self.acts_address.eq(word >> part_bits),
            self.acts_done.eq(ends),
            self.weights_en.eq(issues),
            self.weights_address.eq(word),
            self.weights_done.eq(ends & self.acts_tag.last_m),
        ]
        with m.If(issues):
            m.d.sync += [word.eq(Mux(ends, 0, word + 1)), dealing.eq(~ends)]
        with m.If(begins):
            m.d.sync += free.eq(0)
        with m.Elif(self.released):
            m.d.sync += free.eq(1)
        with m.If(self.start):
            m.d.sync += n_left.eq(self.n)
        with m.Elif(self.weights_done):
            m.d.sync += n_left.eq(n_left - config.columns)

        m.d.sync += [self.write_en.eq(issues), self.write_address.eq(word), self.tile_en.eq(begins)]
        with m.If(begins):
            m.d.sync += [
                self.tile_tag.m_valid.eq(self.acts_tag.m_valid),
                self.tile_tag.n_valid.eq(Mux(last_n, n_left, config.columns)),
                self.tile_tag.last.eq(self.acts_tag.last_m & last_n),
                self.tile_tag.last_m.eq(self.acts_tag.last_m),
            ]
        m.d.comb += [
            self.tile_rows.eq(self.tile_tag.m_valid),
            self.tile_columns.eq(self.tile_tag.n_valid),
        ]
        self._lanes(m, [self._line(row, parts) for row in range(config.rows)])
        return m

    def _line(self, row: int, parts: int) -> list[Value]:
        """Return the parts of a row's line, each of E elements."""
        bits = self._config.line_elements * ELEMENT_BITS
        return [self.acts_data.word_select(row * parts + part, bits) for part in range(parts)]

    def _lanes(self, m: Module, lines: list[list[Value]]) -> None:
        """Write a part of all lines, the elements of all lanes beside each other."""
        rows, elements = self._config.rows, self._config.line_elements
        part = Signal(range(max(2, len(lines[0]))))
        m.d.comb += part.eq(self.write_address)
        chosen = [choose(line, part) for line in lines]
        for element in range(elements):
            for row in range(rows):
                value = chosen[row].word_select(element, ELEMENT_BITS)
                lane = element * rows + row
                m.d.comb += [
                    self.row_data.word_select(lane, OPERAND_BITS).eq(value[:OPERAND_BITS]),
                    self.row_high[lane].eq(value[OPERAND_BITS]),
                ]
