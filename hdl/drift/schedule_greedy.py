"""The greedy search of the paper: start in proportion to the work, move one line at a time."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, NIBBLES_BITS, DriftConfig
from bitfabric.hdl.drift.schedule_split import CYCLES_BITS, SplitCycles, split_layout
from bitfabric.quant.errors import check_range

# A step asks for the split as it is, then with each line moved down and up.
LINES = ("columns", "rows_left", "rows_right")
OPTIONS = 1 + 2 * len(LINES)


class Proportion(Block):
    """Share lines in proportion, ``length * high / (high + low)``, halves rounded up.

    All or none where only one part has work (none where neither has), otherwise at least 1 and at most
    ``length - 1``; of a single line, 1 [ours]. ``lines`` is there ``steps + 1`` cycles after ``start``.

    Parameters
    ----------
    bits : int
        Width of either part's work.
    length : int
        Lines to share, from 1.
    steps : int
        Cycles of the division, at least the width of ``length``.

    Members
    -------
    start : In(1)
        Begin.
    high, low : In(bits)
        Work, stable from ``start`` until ``lines`` is taken.
    lines : Out(range(length + 1))
        The high-precision part's share.

    Raises
    ------
    ParameterError
        If ``bits`` or ``length`` is not positive or ``steps`` too small.
    """

    def __init__(self, bits: int, length: int, steps: int) -> None:
        self._bits = check_range("bits", bits, 1)
        self._length = check_range("length", length, 1)
        self._steps = check_range("steps", steps, length.bit_length())
        super().__init__({"start": In(1), "high": In(bits), "low": In(bits), "lines": Out(range(length + 1))})

    def elaborate(self, platform: object) -> Module:
        """Subtract twice the work, shifted as far as the largest quotient bit, and shift what remains."""
        m = Module()
        work = Signal(self._bits + 1)
        # floor(length * high / work + 1/2) = floor((2 * length * high + work) / (2 * work)) < 2^steps
        divisor = Signal(self._bits + 1 + self._steps, reset_less=True)
        rest = Signal(self._bits + 2 + self._steps, reset_less=True)
        quotient = Signal(self._steps, reset_less=True)
        fits = Signal()
        left = Signal.like(rest)
        m.d.comb += [
            work.eq(self.high + self.low),
            fits.eq(rest >= divisor),
            left.eq(Mux(fits, rest - divisor, rest)),
        ]
        m.d.sync += [rest.eq(left << 1), quotient.eq(Cat(fits, quotient))]
        with m.If(self.start):
            m.d.sync += [
                divisor.eq(work << self._steps),  # 2 * work << (steps - 1)
                rest.eq(self.high * (2 * self._length) + work),
            ]
        with m.If(self.high == 0):
            m.d.comb += self.lines.eq(0)
        with m.Elif(self.low == 0):
            m.d.comb += self.lines.eq(self._length)
        with m.Elif((quotient == 0) | (self._length == 1)):
            m.d.comb += self.lines.eq(1)
        with m.Elif(quotient >= self._length):
            m.d.comb += self.lines.eq(self._length - 1)
        with m.Else():
            m.d.comb += self.lines.eq(quotient)
        return m


class GreedySearch(Block):
    """Move one line at a time while that makes the maximum smaller [paper].

    The start shares columns by granules, rows of both halves by rows times nibbles. Every step takes the first best of
    the split as it is, then columns, left rows, right rows each with one line less and one more; it ends when the first
    of these is taken. ``done`` comes ``3 + bits + 15 * steps`` cycles after ``go``, bits being the width of the larger of
    R and C.

    Parameters
    ----------
    config : DriftConfig
        Gives R and C.

    Members
    -------
    go, clear, split, left, right, best, cycles, done
        See ``ScanSearch``.
    m_high, m_low, q_high, q_low, g_high, g_low : In
        The work, stable from ``go`` to ``done``.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "go": In(1),
                "clear": In(1),
                "m_high": In(DIMENSION_BITS),
                "m_low": In(DIMENSION_BITS),
                "q_high": In(NIBBLES_BITS),
                "q_low": In(NIBBLES_BITS),
                "g_high": In(GRANULE_BITS),
                "g_low": In(GRANULE_BITS),
                "split": Out(split_layout(config)),
                "left": In(CYCLES_BITS),
                "right": In(CYCLES_BITS),
                "best": Out(split_layout(config)),
                "cycles": Out(CYCLES_BITS),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Ask for the options one by one, compare the answers, move."""
        m = Module()
        config = self._config
        current = Signal(split_layout(config), reset_less=True)
        asking, decide, done = Signal(), Signal(), Signal()
        option = Signal(range(OPTIONS), reset_less=True)
        start = self._prepare(m, current)

        legal = self._ask(m, current, option)
        move, cycles = self._answer(m, asking, option, legal, decide)
        with m.If(start):
            m.d.sync += [asking.eq(1), option.eq(0)]
        with m.Elif(asking):
            m.d.sync += [option.eq(option + 1), asking.eq(option != OPTIONS - 1)]
        m.d.sync += done.eq(decide & (move == 0))
        with m.If(decide & (move != 0)):
            m.d.sync += [asking.eq(1), option.eq(0)]
            for index, line in enumerate(LINES):
                with m.Switch(move):
                    with m.Case(1 + 2 * index):
                        m.d.sync += current[line].eq(current[line] - 1)
                    with m.Case(2 + 2 * index):
                        m.d.sync += current[line].eq(current[line] + 1)
        with m.If(self.clear):
            m.d.sync += [asking.eq(0), done.eq(0)]
        m.d.comb += [self.best.eq(current), self.cycles.eq(cycles), self.done.eq(done)]
        return m

    def _prepare(self, m: Module, current: Signal) -> Signal:
        """Share the lines; return the strobe with which the first split is there a cycle later."""
        config = self._config
        steps = max(config.rows, config.columns).bit_length()
        work = [
            Signal(DIMENSION_BITS + NIBBLES_BITS, name=f"work_{p}", reset_less=True) for p in ("high", "low")
        ]
        m.d.sync += [work[0].eq(self.m_high * self.q_high), work[1].eq(self.m_low * self.q_low)]
        strobes = [self.go]
        for stage in range(steps + 2):
            strobe = Signal(name=f"prepare_{stage}")
            m.d.sync += strobe.eq(strobes[-1] & ~self.clear)
            strobes.append(strobe)
        rows = place(m, "share_rows", Proportion(len(work[0]), config.rows, steps))
        columns = place(m, "share_columns", Proportion(GRANULE_BITS, config.columns, steps))
        m.d.comb += [
            rows.start.eq(strobes[1]),
            rows.high.eq(work[0]),
            rows.low.eq(work[1]),
            columns.start.eq(strobes[1]),
            columns.high.eq(self.g_high),
            columns.low.eq(self.g_low),
        ]
        with m.If(strobes[-1]):
            m.d.sync += [
                current.columns.eq(columns.lines),
                current.rows_left.eq(rows.lines),
                current.rows_right.eq(rows.lines),
            ]
        return strobes[-1]

    def _ask(self, m: Module, current: Signal, option: Signal) -> Signal:
        """Drive ``split``; return whether the option lies within the fabric."""
        config = self._config
        legal = Signal()
        m.d.comb += [legal.eq(1), self.split.eq(current)]
        with m.Switch(option):
            for index, (line, limit) in enumerate(
                zip(LINES, (config.columns, config.rows, config.rows), strict=True)
            ):
                with m.Case(1 + 2 * index):
                    m.d.comb += legal.eq(current[line] != 0)
                    with m.If(legal):
                        m.d.comb += self.split[line].eq(current[line] - 1)
                with m.Case(2 + 2 * index):
                    m.d.comb += legal.eq(current[line] != limit)
                    with m.If(legal):
                        m.d.comb += self.split[line].eq(current[line] + 1)
        return legal

    def _answer(
        self, m: Module, asking: Signal, option: Signal, legal: Signal, decide: Signal
    ) -> tuple[Signal, Signal]:
        """Return the first best option and its cycles; ``decide`` comes with them."""
        marks: Value = Cat(asking, legal, option)
        for stage in range(SplitCycles.LATENCY):
            marks = self._later(m, f"{stage}", marks)
        slower = Signal(CYCLES_BITS)
        value = Signal(CYCLES_BITS, reset_less=True)
        m.d.comb += slower.eq(Mux(self.left < self.right, self.right, self.left))
        # An option outside the fabric is smaller than nothing.
        m.d.sync += value.eq(slower | (~marks[1]).replicate(CYCLES_BITS))
        marks = self._later(m, "value", marks)
        move = Signal(range(OPTIONS), reset_less=True)
        cycles = Signal(CYCLES_BITS, reset_less=True)
        chosen = marks[2:]
        with m.If(marks[0] & ((chosen == 0) | (value < cycles))):
            m.d.sync += [move.eq(chosen), cycles.eq(value)]
        m.d.sync += decide.eq(marks[0] & (chosen == OPTIONS - 1) & ~self.clear)
        return move, cycles

    def _later(self, m: Module, name: str, marks: Value) -> Value:
        valid = Signal(name=f"valid_{name}")
        option = Signal(len(marks) - 1, name=f"option_{name}", reset_less=True)
        m.d.sync += [valid.eq(marks[0] & ~self.clear), option.eq(marks[1:])]
        return Cat(valid, option)
