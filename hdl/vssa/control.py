"""The step control of a VSSA array: when a tile starts, how long its steps last, what is valid in them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bitfabric.hdl.block import Block
from bitfabric.hdl.vssa.descriptor import tile_layout
from bitfabric.hdl.vssa.feed import check_line_elements
from bitfabric.quant.errors import check_range


class VssaControl(Block):
    """Run one tile after the other through an array's steps.

    A tile that is announced in cycle w0 starts in T = max(w0 + 3, u + 2), the tile before having been taken in cycle
    u: its description is taken over and word 0 read in T - 2, element 0 enters lane 0 at the end of T - 1. Element e
    enters at the end of step e - 1; word j is read in the cycle in which the element before its first one enters.
    There are N = K + R' + C' - 2 steps of 2^floor cycles at least, and of four if the operands of any PE need them:
    phase 0 ends a step if ``floor`` is 0; what is seen in phase 0 is known in phase 1. The order of the phases and
    these cycles [ours]; the step as long as its slowest product [paper].

    The valid PEs are those of the diagonals r + c = s - e of step s, so one register per diagonal keeps
    that for all of them; at a tile's start it is cleared.

    Parameters
    ----------
    rows, columns, line_elements, words, tag_bits : int
        As in ``VssaArray``.

    Members
    -------
    tile_en : In(1)
        Latch ``tile``; not before the cycle after the one in which the tile before was ``released``.
    tile : In(tile_layout)
        What comes.
    take : In(1)
        The sums leave; only while ``full``.
    any_high : In(1)
        In a step: operands that are valid and both have 8 bits meet in a PE.
    start : Out(1)
        Strobe in T - 2: what was latched becomes ``running``.
    read_en, read_word, element : Out
        Read enable and address of the buffer, and the element of the word read before that enters next.
    released : Out(1)
        Strobe in the cycle of a tile's last read.
    advance, phase : Out(1), Out(2)
        The operands hop at the end of this cycle; the step's cycle.
    entering : Out(1)
        What enters lane 0 with ``advance`` is an element.
    diagonals : Out(rows + columns)
        Bit d: diagonal d holds an element. The last bit lies beyond the array.
    row_on, column_on : Out(rows), Out(columns)
        Lanes of the running tile, registered.
    running : Out(tile_layout)
        From T - 1 on, until the next tile's T - 2.
    tail : Out(range(max(2, rows + columns - 1)))
        R' + C' - 2, as long.
    first : Out(1)
        Strobe in cycle T.
    computing : Out(1)
        High in the cycles of steps.
    full : Out(1)
        From the cycle after the last step until the tile is taken, that cycle included.

    Raises
    ------
    ParameterError
        If a parameter is below 1 or ``line_elements`` no power of two.
    """

    def __init__(self, rows: int, columns: int, line_elements: int, words: int, tag_bits: int):
        self._rows = check_range("rows", rows, 1)
        self._columns = check_range("columns", columns, 1)
        self._line_elements = check_line_elements(line_elements)
        self._words = check_range("words", words, 1)
        self._element_bits = ceil_log2(self._line_elements)
        check_range("tag_bits", tag_bits, 1)
        self._tile = tile_layout(rows, columns, line_elements * words, tag_bits)
        super().__init__(
            {
                "tile_en": In(1),
                "tile": In(self._tile),
                "take": In(1),
                "any_high": In(1),
                "start": Out(1),
                "read_en": Out(1),
                "read_word": Out(max(1, ceil_log2(words))),
                "element": Out(max(1, self._element_bits)),
                "released": Out(1),
                "advance": Out(1),
                "phase": Out(2),
                "entering": Out(1),
                "diagonals": Out(rows + columns),
                "row_on": Out(rows),
                "column_on": Out(columns),
                "running": Out(self._tile),
                "tail": Out(range(max(2, rows + columns - 1))),
                "first": Out(1),
                "computing": Out(1),
                "full": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Start, count elements and then the tail's steps, end."""
        m = Module()
        pending: Any = Signal(self._tile, reset_less=True)
        running: Any = Signal(self._tile, reset_less=True)
        waiting, occupied, starting = Signal(), Signal(), Signal()
        m.d.comb += [
            self.start.eq(waiting & (~occupied | self.take)),
            self.running.eq(running),
        ]
        m.d.sync += [starting.eq(self.start), self.first.eq(starting)]
        with m.If(self.tile_en):
            m.d.sync += [pending.eq(self.tile), waiting.eq(1)]
        with m.Elif(self.start):
            m.d.sync += waiting.eq(0)
        with m.If(self.start):
            m.d.sync += [
                occupied.eq(1),
                running.eq(pending),
                self.tail.eq(pending.rows + pending.columns - 2),
                self.row_on.eq(Cat(pending.rows > row for row in range(self._rows))),
                self.column_on.eq(Cat(pending.columns > column for column in range(self._columns))),
            ]
        with m.Elif(self.take):
            m.d.sync += occupied.eq(0)
        end = self._steps(m, running.floor, starting)
        last_step = self._elements(m, pending)
        with m.If(starting):
            m.d.sync += self.computing.eq(1)
        with m.Elif(end & last_step):
            m.d.sync += [self.computing.eq(0), self.full.eq(1)]
        with m.If(self.take):
            m.d.sync += self.full.eq(0)
        return m

    def _steps(self, m: Module, floor: Value, starting: Value) -> Value:
        """Count phases; return whether a step ends."""
        end, seen_high = Signal(), Signal(reset_less=True)
        m.d.sync += seen_high.eq(self.any_high)  # of phase 0 in phase 1: the operands are the same
        ends = (floor == 0, ~(floor[1] | seen_high), 0, 1)
        with m.Switch(self.phase):
            for phase, value in enumerate(ends):
                with m.Case(phase):
                    m.d.comb += end.eq(self.computing & value)
        with m.If(self.computing):
            m.d.sync += self.phase.eq(Mux(end, 0, self.phase + 1))
        m.d.comb += self.advance.eq(starting | end)
        return end

    def _elements(self, m: Module, pending: Any) -> Value:
        """Count the elements that come after the one that enters next, then steps; return whether it is the last."""
        left = Signal(
            range(max(self._line_elements * self._words, self._rows + self._columns - 1)), reset_less=True
        )
        less = Signal(len(left))
        word_end = Signal()
        m.d.comb += less.eq(left - 1)
        if self._element_bits:
            m.d.comb += word_end.eq(self.element.all())
        else:
            m.d.comb += word_end.eq(1)
        next_word = self.advance & self.entering & word_end & (left != 0)
        # The word holds all that is left: its last element is `element_bits` from here.
        m.d.comb += [
            self.read_en.eq(self.start | next_word),
            self.released.eq(
                Mux(
                    self.start,
                    (pending.last >> self._element_bits) == 0,
                    next_word & ((less >> self._element_bits) == 0),
                )
            ),
        ]
        word = Signal(len(self.read_word), reset_less=True)
        m.d.comb += self.read_word.eq(Mux(self.start, 0, word))
        with m.If(self.start):
            m.d.sync += [word.eq(1), self.element.eq(0), left.eq(pending.last), self.entering.eq(1)]
        with m.Elif(self.advance):
            m.d.sync += [word.eq(word + next_word), self.element.eq(self.element + 1), left.eq(less)]
            with m.If(left == 0):
                m.d.sync += [left.eq(self.tail), self.entering.eq(0)]
        with m.If(self.start):
            m.d.sync += self.diagonals.eq(0)
        with m.Elif(self.advance):
            m.d.sync += self.diagonals.eq(Cat(self.entering, self.diagonals[:-1]))
        return ~self.entering & (left == 0)
