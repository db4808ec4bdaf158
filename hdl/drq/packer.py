"""Put pieces of rows behind one another, without gaps, as words."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import ParameterError, check_range


class Packer(Block):
    """Cut rows that come in pieces of up to ``lanes`` elements into words of ``lanes`` elements.

    A word leaves in the cycle of the piece that completes it, a row's last word, filled up with zeros, in that of the
    row's last piece. Where this piece has more than its word, the rest leaves in the next cycle (``flushing``), in
    which no piece may come. Paths lead from the inputs to the outputs.

    Parameters
    ----------
    lanes : int
        Elements of a word, a power of two.
    bits : int
        Width of an element.

    Members
    -------
    en : In(1)
        A piece comes.
    data, count : In(lanes * bits), In(range(lanes + 1))
        Its elements, element 0 lowest, and how many they are, at least 1; what stands above is ignored.
    last : In(1)
        It ends a row.
    flushing : Out(1)
        The row's last word leaves, behind its last piece; from a flip-flop.
    o_en, o_data : Out(1), Out(lanes * bits)
        A word.
    o_last : Out(1)
        It ends the row.

    Raises
    ------
    ParameterError
        If ``lanes`` is no power of two, or ``bits`` is below 1.
    """

    def __init__(self, lanes: int, bits: int):
        self._lanes = check_range("lanes", lanes, 1)
        if lanes & (lanes - 1):
            raise ParameterError("lanes", lanes, "a power of two")
        self._bits = check_range("bits", bits, 1)
        super().__init__(
            {
                "en": In(1),
                "data": In(lanes * bits),
                "count": In(range(lanes + 1)),
                "last": In(1),
                "flushing": Out(1),
                "o_en": Out(1),
                "o_data": Out(lanes * bits),
                "o_last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Shift a piece behind what is left of those before."""
        m = Module()
        lanes, width = self._lanes, self._lanes * self._bits
        held = Signal(width)  # zero beyond `level` elements, of which there are fewer than a word
        level = Signal(range(max(2, lanes)))
        both, end = Signal(2 * width), Signal(range(2 * lanes + 1))
        masked = Cat(
            Mux(self.count > lane, self.data[lane * self._bits : (lane + 1) * self._bits], 0)
            for lane in range(lanes)
        )
        m.d.comb += [
            both.eq(self._moved(masked, level) | held),
            end.eq(level + self.count),
            self.o_en.eq((self.en & (self.last | (end >= lanes))) | self.flushing),
            self.o_last.eq((self.en & self.last & (end <= lanes)) | self.flushing),
            self.o_data.eq(Mux(self.flushing, held, both[:width])),
        ]
        m.d.sync += self.flushing.eq(self.en & self.last & (end > lanes))
        with m.If(self.en):
            with m.If(end >= lanes):
                m.d.sync += [held.eq(both[width:]), level.eq(Mux(self.last, 0, end - lanes))]
            with m.Else():
                m.d.sync += [held.eq(Mux(self.last, 0, both[:width])), level.eq(Mux(self.last, 0, end))]
        with m.Elif(self.flushing):
            m.d.sync += held.eq(0)
        return m

    def _moved(self, value: Value, level: Value) -> Value:
        """Return a piece moved up by ``level`` elements."""
        for bit in range(self._lanes.bit_length() - 1):
            value = Mux(level[bit], Cat(Const(0, self._bits << bit), value), value)
        return value
