"""PE-cycles of a tile in a VSSA array: at work, and waiting for a slower product elsewhere."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import check_range

COUNTER_BITS = 32


class VssaCounters(Block):
    """Count a tile's PE-cycles from the rows' counts and the valid diagonals.

    The PEs with valid operands need no adder tree: w(s), those in row 0 in step s, changes by the element that
    enters and the one that leaves column C' - 1, and n(s), those of all rows, by w(s) - w(s - R'), row r being r
    steps behind row 0 [ours].

    Parameters
    ----------
    rows, columns, elements : int
        R, C and the largest K.

    Members
    -------
    start, first, advance, entering, diagonals, row_on, column_on, tail : In
        See ``VssaControl``.
    at_work : In(range(rows * columns + 1))
        PEs at work two cycles before.
    working, stalled : Out(32)
        PE-cycles of the tile with valid operands and the MAC at work, and idle. Complete three cycles after the
        tile's last one, until the next tile's first one, that cycle included.

    Raises
    ------
    ParameterError
        If a parameter is below 1, or the counts could exceed 32 bits.
    """

    def __init__(self, rows: int, columns: int, elements: int):
        self._rows = check_range("rows", rows, 1)
        self._columns = check_range("columns", columns, 1)
        # An operand pair is in a PE for one step, of four cycles at most.
        self._most = 4 * rows * columns * check_range("elements", elements, 1)
        check_range("rows * columns * elements", self._most // 4, 1, 2 ** (COUNTER_BITS - 2) - 1)
        super().__init__(
            {
                "start": In(1),
                "first": In(1),
                "advance": In(1),
                "entering": In(1),
                "diagonals": In(rows + columns),
                "row_on": In(rows),
                "column_on": In(columns),
                "tail": In(range(max(2, rows + columns - 1))),
                "at_work": In(range(rows * columns + 1)),
                "working": Out(COUNTER_BITS),
                "stalled": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Follow the wavefronts; add up."""
        m = Module()
        head = Signal(range(self._columns + 1), reset_less=True)  # w(s)
        behind = Signal(range(self._columns + 1), reset_less=True)  # w(s - R')
        valid = Signal(range(self._rows * self._columns + 1), reset_less=True)  # n(s)
        head_next, behind_next = Signal.like(head), Signal.like(behind)

        def leaving(on: Signal) -> Signal:
            """Return the diagonal of the last lane that is on."""
            last = on & ~Cat(on[1:], 0)
            return (self.diagonals[: len(on)] & last).any()

        beyond = Array(self.diagonals)[self.tail + 1]
        m.d.comb += [
            head_next.eq(head + self.entering - leaving(self.column_on)),
            behind_next.eq(behind + leaving(self.row_on) - beyond),
        ]
        with m.If(self.start):
            m.d.sync += [head.eq(0), behind.eq(0), valid.eq(0)]
        with m.Elif(self.advance):
            m.d.sync += [
                head.eq(head_next),
                behind.eq(behind_next),
                valid.eq(valid + head_next - behind_next),
            ]
        working = Signal(range(self._most + 1), reset_less=True)
        present = Signal(range(self._most + 1), reset_less=True)
        # `at_work` lags, but it is 0 between tiles: both counts may start in the same cycle.
        m.d.sync += [
            present.eq(Mux(self.first, 0, present) + valid),
            working.eq(Mux(self.first, 0, working) + self.at_work),
        ]
        m.d.comb += [self.working.eq(working), self.stalled.eq((present - working)[: len(present)])]
        return m
