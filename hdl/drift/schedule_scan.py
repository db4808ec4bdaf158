"""The scan: every column split, and for each every row split of both halves together."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.schedule_split import CYCLES_BITS, SplitCycles, split_layout


class ScanSearch(Block):
    """Find the best split of all in ``(C + 1) * (R + 1) + 9`` cycles [ours].

    The halves do not depend on each other once the column split is chosen, so that each takes its own first best row
    split; the first best column split wins. The result is that of all (C + 1) * (R + 1)^2 splits.

    Parameters
    ----------
    config : DriftConfig
        Gives R and C.

    Members
    -------
    go : In(1)
        Begin; splits are asked for from the next cycle on.
    clear : In(1)
        Stop; ``done`` will not come.
    split : Out(split_layout(config))
        What is asked for.
    left, right : In(CYCLES_BITS)
        Answer of 6 cycles ago, see ``SplitCycles``.
    best : Out(split_layout(config))
        The best split, from ``done`` to the next ``go``.
    cycles : Out(CYCLES_BITS)
        Its maximum.
    done : Out(1)
        For one cycle, ``(C + 1) * (R + 1) + 9`` cycles after ``go``.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "go": In(1),
                "clear": In(1),
                "split": Out(split_layout(config)),
                "left": In(CYCLES_BITS),
                "right": In(CYCLES_BITS),
                "best": Out(split_layout(config)),
                "cycles": Out(CYCLES_BITS),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count through the splits; count along with the answers."""
        m = Module()
        config = self._config
        running = Signal()
        row = Signal(range(config.rows + 1), reset_less=True)
        column = Signal(range(config.columns + 1), reset_less=True)
        last_row, last = Signal(), Signal()
        m.d.comb += [
            last_row.eq(row == config.rows),
            last.eq(last_row & (column == config.columns)),
            self.split.columns.eq(column),
            self.split.rows_left.eq(row),
            self.split.rows_right.eq(row),
        ]
        with m.If(self.go):
            m.d.sync += [running.eq(1), row.eq(0), column.eq(0)]
        with m.Elif(running):
            m.d.sync += [running.eq(~last), row.eq(Mux(last_row, 0, row + 1)), column.eq(column + last_row)]

        # What becomes of an answer: it is one, it begins a column split, ends it, ends the first, ends all.
        marks: Value = Cat(running, row == 0, running & last_row, column == 0, running & last, row, column)
        for stage in range(SplitCycles.LATENCY):
            marks = self._mark(m, f"marks_{stage}", marks, (0, 2, 4))
        valid, first, row_end, first_end, end = (marks[bit] for bit in range(5))
        row_6 = marks[5 : 5 + len(row)]
        sides = [
            self._first_best(m, side, valid, first, answer, row_6)
            for side, answer in (("left", self.left), ("right", self.right))
        ]
        # A column split is complete a cycle later, and its value a cycle after that.
        ends = self._mark(m, "ends", Cat(row_end, first_end, end, marks[5 + len(row) :]), (0, 2))
        value = Signal(CYCLES_BITS, reset_less=True)
        choice = Signal(split_layout(config), reset_less=True)
        m.d.sync += [
            value.eq(Mux(sides[0][0] < sides[1][0], sides[1][0], sides[0][0])),
            choice.columns.eq(ends[3:]),
            choice.rows_left.eq(sides[0][1]),
            choice.rows_right.eq(sides[1][1]),
        ]
        compare, without, end = self._mark(m, "compare", ends[:3], (0, 2))
        best = Signal(split_layout(config), reset_less=True)
        cycles = Signal(CYCLES_BITS, reset_less=True)
        with m.If(compare & (without | (value < cycles))):
            m.d.sync += [best.eq(choice), cycles.eq(value)]
        m.d.comb += [self.best.eq(best), self.cycles.eq(cycles)]
        done = Signal()
        m.d.sync += done.eq(end)
        m.d.comb += self.done.eq(done)
        with m.If(self.clear):
            m.d.sync += [running.eq(0), done.eq(0)]
        return m

    def _mark(self, m: Module, name: str, value: Value, valid: tuple[int, ...]) -> Value:
        """Return ``value`` a cycle later; the bits ``valid`` are 0 after reset and ``clear``."""
        bits = []
        for bit in range(len(value)):
            register = Signal(name=f"{name}_{bit}", reset_less=bit not in valid)
            m.d.sync += register.eq(value[bit])
            if bit in valid:
                with m.If(self.clear):
                    m.d.sync += register.eq(0)
            bits.append(register)
        return Cat(*bits)

    @staticmethod
    def _first_best(
        m: Module, side: str, valid: Value, first: Value, answer: Value, row: Value
    ) -> tuple[Signal, Signal]:
        """Return the smallest answer of a column split so far, and its row."""
        best = Signal(CYCLES_BITS, name=f"best_{side}", reset_less=True)
        best_row = Signal(len(row), name=f"best_row_{side}", reset_less=True)
        with m.If(valid & (first | (answer < best))):
            m.d.sync += [best.eq(answer), best_row.eq(row)]
        return best, best_row
