"""A table of rounded-up quotients: how many tiles a dimension has, for every way to cut the fabric's other one."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram
from bitfabric.quant.errors import check_range

BITS_PER_CYCLE = 2  # of each quotient


class QuotientTable(Block):
    """Tabulate ``(ceil(high / i), ceil(low / (length - i)))`` for i = 0 ... length, and look it up.

    Both quotients of a word are divided side by side, ``BITS_PER_CYCLE`` bits a cycle: ``ready`` rises
    ``ceil(bits / 2) * (length + 1) + 2`` cycles after ``start``. A look-up takes 1 cycle, one per port and cycle. A
    quotient by zero has no meaning.

    Parameters
    ----------
    bits : int
        Width of the dividends, and of the quotients.
    length : int
        Lines of the dimension that is cut, from 1.
    ports : int
        Look-ups per cycle, from 1; each has a memory of its own.

    Members
    -------
    clear : In(1)
        Drop the table, complete or not.
    start : In(1)
        Begin; a table under way begins anew.
    high, low : In(bits)
        Dividends, stable from ``start`` until ``ready``.
    ready : Out(1)
        The table is complete; low from the cycle after ``start`` on.
    address : In(range(length + 1)).array(ports)
        i.
    tiles_high, tiles_low : Out(bits).array(ports)
        Quotients of the previous cycle's address.

    Raises
    ------
    ParameterError
        If a parameter is not positive.
    """

    def __init__(self, bits: int, length: int, ports: int = 1) -> None:
        self._bits = check_range("bits", bits, 1)
        self._length = check_range("length", length, 1)
        self._ports = check_range("ports", ports, 1)
        self._steps = -(-bits // BITS_PER_CYCLE)
        super().__init__(
            {
                "clear": In(1),
                "start": In(1),
                "high": In(bits),
                "low": In(bits),
                "ready": Out(1),
                "address": In(range(length + 1)).array(ports),
                "tiles_high": Out(bits).array(ports),
                "tiles_low": Out(bits).array(ports),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Divide for one word while the one before is rounded up and written."""
        m = Module()
        running, ready, write = Signal(), Signal(), Signal()
        step = Signal(range(self._steps), reset_less=True)
        index = Signal(range(self._length + 1), reset_less=True)
        written = Signal.like(index)  # the word that is written
        ends, last = Signal(), Signal()
        m.d.comb += [
            ends.eq(running & (step == self._steps - 1)),
            last.eq(index == self._length),
            self.ready.eq(ready),
        ]
        m.d.sync += [
            write.eq(ends & ~self.start),
            written.eq(index),
            ready.eq((ready | (write & (written == self._length))) & ~self.start),
        ]
        with m.If(self.start):
            m.d.sync += [running.eq(1), step.eq(0), index.eq(0)]
        with m.Elif(ends):
            m.d.sync += [running.eq(~last), step.eq(0), index.eq(index + 1)]
        with m.Elif(running):
            m.d.sync += step.eq(step + 1)
        with m.If(self.clear):
            m.d.sync += [running.eq(0), write.eq(0), ready.eq(0)]

        restart = Signal()
        m.d.comb += restart.eq(self.start | ends)
        low_divisor = Signal.like(index)
        m.d.comb += low_divisor.eq(self._length - index)
        tiles = [
            self._divide(m, name, dividend, divisor, restart)
            for name, dividend, divisor in (("high", self.high, index), ("low", self.low, low_divisor))
        ]
        for port in range(self._ports):
            store = place(m, f"store_{port}", Ram(2 * self._bits, self._length + 1))
            m.d.comb += [
                store.write_en.eq(write),
                store.write_addr.eq(written),
                store.write_data.eq(Cat(*tiles)),
                store.read_en.eq(1),
                store.read_addr.eq(self.address[port]),
                self.tiles_high[port].eq(store.read_data[: self._bits]),
                self.tiles_low[port].eq(store.read_data[self._bits :]),
            ]
        return m

    def _divide(self, m: Module, name: str, dividend: Value, divisor: Signal, restart: Signal) -> Value:
        """Return the quotient, rounded up, in the cycle after its last step.

        The remainder stays below the divisor [derived], so that it is no wider; the quotient's bits take the place
        of those of the dividend.
        """
        bits = self._steps * BITS_PER_CYCLE
        number = Signal(bits, name=f"{name}_number", reset_less=True)
        rest = Signal(len(divisor), name=f"{name}_rest", reset_less=True)
        quotient = Signal(self._bits, name=f"{name}_quotient", reset_less=True)
        inexact = Signal(name=f"{name}_inexact", reset_less=True)
        remainder: Value = rest
        found: list[Value] = []
        for place_ in range(BITS_PER_CYCLE):
            shifted = Signal(len(divisor) + 1, name=f"{name}_shifted_{place_}")
            fits = Signal(name=f"{name}_fits_{place_}")
            left = Signal(len(divisor), name=f"{name}_left_{place_}")
            m.d.comb += [
                shifted.eq(Cat(number[bits - 1 - place_], remainder)),
                fits.eq(shifted >= divisor),
                left.eq(Mux(fits, shifted - divisor, shifted)),
            ]
            remainder = left
            found.insert(0, fits)
        stepped = Signal(bits, name=f"{name}_stepped")
        m.d.comb += stepped.eq(Cat(*found, number[: bits - BITS_PER_CYCLE]))
        m.d.sync += [
            number.eq(Mux(restart, dividend, stepped)),
            rest.eq(Mux(restart, 0, remainder)),
            quotient.eq(stepped),
            inexact.eq(remainder != 0),
        ]
        rounded = Signal(self._bits, name=f"{name}_rounded")
        m.d.comb += rounded.eq(quotient + inexact)
        return rounded
