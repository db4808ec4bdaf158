"""The rows of weights that meet a string of activation bits: which k each row is for, and what its bits are worth."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.bitgroup import ROWS
from bitfabric.hdl.block import Block
from bitfabric.hdl.drift.config import DIMENSION_BITS, DriftConfig
from bitfabric.hdl.drift.controls import weight_control

LAST_BIT = 3  # index of the bit that is set in a width of 8 only


class WeightRows(Block):
    """Go through a string of K*bits activation bits in steps of a group's four rows.

    ``row`` is combinational: it describes the four bits at the current place; with ``step`` the place is four bits
    further in the next cycle. ``restart`` makes the place 0 in its own cycle already, so that it may be given with the
    first step (whose row is then row 0, the next cycle's row 1) or in a cycle of its own before (then both this
    cycle's row and the next one's are row 0). Tiles of a string follow each other without a restart. Beyond the
    end of the string rows are not valid. Source: Drift eq. (7) [paper]; order within the string [ours].

    Parameters
    ----------
    config : DriftConfig

    Members
    -------
    restart, step : In(1)
        To the start of the string; by four bits.
    bits : In(4)
        Width at which activations are stored: 4 or 8 with nibble alignment, 1 to 8 with bit alignment.
    k : In(16)
        Elements of the string.
    base : In(config.weight_address_bits)
        Word of the weight buffer that holds the weights of k = 0.
    row : Out(weight_control(config))
        The row at the current place: ``address`` is ``base + k div word_weights`` and ``position`` is ``k mod
        word_weights`` of its first bit's element; ``load`` and ``copy`` are 0, for the sequencer to give.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "restart": In(1),
                "step": In(1),
                "bits": In(4),
                "k": In(DIMENSION_BITS),
                "base": In(config.weight_address_bits),
                "row": Out(weight_control(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep the element and the bit within it; the following ones are counted, not divided."""
        m = Module()
        config = self._config
        bit_bits = 1 if config.alignment == "nibble" else 3  # nibble or bit within an element
        # A last tile of ones goes up to 256 elements beyond K.
        element, at_element, next_element = (
            Signal(DIMENSION_BITS + 1, name=name) for name in ("element", "at_element", "next_element")
        )
        phase, at_phase, next_phase = (
            Signal(bit_bits, name=name) for name in ("phase", "at_phase", "next_phase")
        )
        m.d.comb += [
            at_element.eq(Mux(self.restart, 0, element)),
            at_phase.eq(Mux(self.restart, 0, phase)),
        ]
        with m.If(self.step):
            m.d.sync += [element.eq(next_element), phase.eq(next_phase)]
        with m.Elif(self.restart):
            m.d.sync += [element.eq(0), phase.eq(0)]
        position_bits = (config.word_weights - 1).bit_length()
        m.d.comb += [
            self.row.position.eq(at_element[:position_bits]),
            self.row.address.eq(self.base + at_element[position_bits:]),
        ]
        if config.alignment == "nibble":
            wide = Signal()
            m.d.comb += [
                wide.eq(self.bits[LAST_BIT]),
                self.row.valid.eq(at_element < self.k),
                self.row.high.eq(at_phase),
                self.row.sign.eq(at_phase | ~wide),
                next_phase.eq(wide & ~at_phase),
                next_element.eq(at_element + (at_phase | ~wide)),
            ]
        else:
            self._four_bits(m, at_element, at_phase, next_element, next_phase)
        return m

    def _four_bits(
        self, m: Module, at_element: Signal, at_phase: Signal, next_element: Signal, next_phase: Signal
    ) -> None:
        """Tabulate what the four bits are worth, by width and first bit: 36 cases instead of a chain of four adders."""
        left = Signal(signed(DIMENSION_BITS + 2))  # elements, the current one included
        enough = Signal(ROWS)  # bit i: there is an element at offset i
        many, further, last = Signal(), Signal(range(ROWS + 1)), Signal(3)
        m.d.comb += [
            left.eq(self.k - at_element),
            many.eq(left[2:-1].any()),
            enough.eq(Cat(~left[-1] & (many | (left[:2] > offset)) for offset in range(ROWS))),
            last.eq(self.bits - 1),
            next_element.eq(at_element + further),
        ]
        with m.Switch(Cat(at_phase, last)):
            for bits in range(1, 9):
                for first in range(bits):
                    with m.Case(bits - 1 << 3 | first):
                        for row in range(ROWS):
                            offset, significance = divmod(first + row, bits)
                            m.d.comb += [
                                self.row.offset[row].eq(offset),
                                self.row.significance[row].eq(significance),
                                self.row.sign[row].eq(significance == bits - 1),
                                self.row.valid[row].eq(enough[offset]),
                            ]
                        elements, bit = divmod(first + ROWS, bits)
                        m.d.comb += [further.eq(elements), next_phase.eq(bit)]
