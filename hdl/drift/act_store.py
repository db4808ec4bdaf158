"""The part of the global buffer that holds activations of one precision, read in windows of nibbles."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.bitgroup import ROWS
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.controls import read_layout
from bitfabric.quant.errors import ParameterError, check_range

PORTS = 2  # the left and the right half of the fabric


class WindowCopy(Block):
    """Hold one copy of a store, with a port that reads R nibbles from any nibble on.

    Even and odd words are in memories of their own, so that a window may reach into the next word. ``window`` follows
    ``request`` by ``LATENCY`` cycles, a window per cycle.

    Parameters
    ----------
    config : DriftConfig
        Gives R and the width.
    words : int
        Words, even, from 2.

    Members
    -------
    write_en, write_address, write_data : In
        Write port; readable from the next cycle on.
    request : In(read_layout(words, config.word_nibbles))
        Word, and nibble within it, of the window's first nibble; ``swap`` is not used.
    window : Out(4).array(R)
        The nibbles. What lies beyond the last word, or was asked for without ``en``, is without meaning.

    Raises
    ------
    ParameterError
        If ``words`` is odd or too small.
    """

    LATENCY: ClassVar[int] = 2

    def __init__(self, config: DriftConfig, words: int) -> None:
        self._config = config
        self._words = check_range("words", words, 2)
        if words % 2:
            raise ParameterError("words", words, "even")
        super().__init__(
            {
                "write_en": In(1),
                "write_address": In(address_bits(words)),
                "write_data": In(config.axis_data_bits),
                "request": In(read_layout(words, config.word_nibbles)),
                "window": Out(ROWS).array(config.rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Read two neighbouring words, then shift."""
        m = Module()
        config, width = self._config, self._config.axis_data_bits
        address = self.request.address[: address_bits(self._words)]
        last = Signal()  # no word follows
        m.d.comb += last.eq(address == self._words - 1)
        rams = []
        for parity, name in enumerate(("even", "odd")):
            ram = place(m, f"ram_{name}", Ram(width, self._words // 2))
            half = address[1:] if len(address) > 1 else Cat(0)
            m.d.comb += [
                ram.write_en.eq(self.write_en & (self.write_address[0] == parity)),
                ram.write_addr.eq(self.write_address[1:]),
                ram.write_data.eq(self.write_data),
                # The next word of an odd one is one further among the even ones.
                ram.read_en.eq(self.request.en & (1 if parity else ~last)),
                ram.read_addr.eq(half if parity else half + address[0]),
            ]
            rams.append(ram)
        odd_first = Signal(reset_less=True)
        nibble = Signal(len(self.request.nibble), reset_less=True)
        m.d.sync += [odd_first.eq(address[0]), nibble.eq(self.request.nibble)]
        even, odd = (ram.read_data for ram in rams)
        both = Signal(2 * width)
        m.d.comb += both.eq(Cat(Mux(odd_first, odd, even), Mux(odd_first, even, odd)))
        shifted: Value = both
        for bit in reversed(range(len(nibble))):
            # Only what the smaller steps can still bring into the window is kept.
            kept = Signal(ROWS * (config.rows + (1 << bit) - 1), name=f"kept_{bit}")
            step = ROWS << bit
            m.d.comb += kept.eq(Mux(nibble[bit], shifted[step : step + len(kept)], shifted[: len(kept)]))
            shifted = kept
        for row in range(config.rows):
            out = Signal(ROWS, name=f"nibble_{row}", reset_less=True)
            m.d.sync += out.eq(shifted[ROWS * row : ROWS * (row + 1)])
            m.d.comb += self.window[row].eq(out)
        return m


class ActStore(Block):
    """Hold the activation rows of one precision twice: both halves of the fabric read at their own pace.

    Timing as ``WindowCopy``.

    Parameters
    ----------
    config : DriftConfig
        Gives R and the width.
    words : int
        Words, even, from 2: ``config.high_words`` or ``config.low_words``.

    Members
    -------
    write_en, write_address, write_data : In
        Write a word into both copies.
    request : In(read_layout(words, config.word_nibbles)).array(2)
        Window for the left and for the right half.
    window : Out(4).array(2, R)
        Nibbles of either, two cycles later.

    Raises
    ------
    ParameterError
        If ``words`` is odd or too small.
    """

    LATENCY: ClassVar[int] = WindowCopy.LATENCY

    def __init__(self, config: DriftConfig, words: int) -> None:
        self._config = config
        self._words = check_range("words", words, 2)
        if words % 2:
            raise ParameterError("words", words, "even")
        super().__init__(
            {
                "write_en": In(1),
                "write_address": In(address_bits(words)),
                "write_data": In(config.axis_data_bits),
                "request": In(read_layout(words, config.word_nibbles)).array(PORTS),
                "window": Out(ROWS).array(PORTS, config.rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the copies."""
        m = Module()
        for port, name in enumerate(("left", "right")):
            copy = place(m, name, WindowCopy(self._config, self._words))
            for member in ("write_en", "write_address", "write_data"):
                m.d.comb += getattr(copy, member).eq(getattr(self, member))
            m.d.comb += copy.request.eq(self.request[port].as_value())
            for row in range(self._config.rows):
                m.d.comb += self.window[port][row].eq(copy.window[row])
        return m
