"""One edge of a VSSA array: an element out of the word that was read, and the skew of its lanes."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.choose import choose
from bitfabric.quant.errors import ParameterError, check_range


class VssaFeed(Block):
    """Choose an element of all lanes, and delay lane l by l steps.

    Combinational up to lane 0; stage l of the skew holds lanes l and up, so that it is as few registers as the
    delays ask for. They move with ``advance``, none is reset: whoever counts the elements guards them.

    Parameters
    ----------
    lanes : int
        Rows or columns of the array.
    line_elements : int
        Elements of each lane in a word, a power of two.
    width : int
        Bits of an element.

    Members
    -------
    word : In(line_elements * lanes * width)
        Element e of lane l at bit ``(e * lanes + l) * width``.
    element : In(max(1, log2(line_elements)))
        The element that enters lane 0; not used if there is one only.
    advance : In(1)
        The end of a step.
    o : Out(lanes * width)
        Lane l: what was chosen l steps before.

    Raises
    ------
    ParameterError
        If a parameter is below 1 or ``line_elements`` no power of two.
    """

    def __init__(self, lanes: int, line_elements: int, width: int):
        self._lanes = check_range("lanes", lanes, 1)
        self._line_elements = check_line_elements(line_elements)
        self._width = check_range("width", width, 1)
        super().__init__(
            {
                "word": In(line_elements * lanes * width),
                "element": In(max(1, ceil_log2(line_elements))),
                "advance": In(1),
                "o": Out(lanes * width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Chain ever narrower stages."""
        m = Module()
        width = self._width
        lanes = self._lanes * width
        ahead = choose([self.word.word_select(e, lanes) for e in range(self._line_elements)], self.element)
        m.d.comb += self.o[:width].eq(ahead[:width])
        for lane in range(1, self._lanes):
            stage = Signal(len(ahead) - width, name=f"stage_{lane}", reset_less=True)
            with m.If(self.advance):
                m.d.sync += stage.eq(ahead[width:])
            m.d.comb += self.o.word_select(lane, width).eq(stage[:width])
            ahead = stage
        return m


def check_line_elements(line_elements: object) -> int:
    """Return the elements of a lane in a word.

    Raises
    ------
    ParameterError
        If it is no power of two.
    """
    number = check_range("line_elements", line_elements, 1)
    if number & (number - 1):
        raise ParameterError("line_elements", line_elements, "a power of two")
    return number
