"""The compensator (CS): sums the weights that meet an activation's HO vector, to make up for the skipped ones."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block
from bitfabric.hdl.panacea.config import VECTOR, VECTOR_BITS
from bitfabric.hdl.panacea.shifts import shift_weight
from bitfabric.quant.errors import check_range


class Compensator(Block):
    """Add up weights that are there for an outer product anyway [paper, III-D, eq. 6].

    Every k whose activation vector is kept contributes each of its weight slices once, at ``8^i``: with the product
    of that slice and the HO slice. Four rows, one sum each; the sum is multiplied by r where a psum block leaves the
    PEA, once per row [ours: the paper's form has 16 multiplications a block]. Combinational.

    Parameters
    ----------
    operators : int
        Operators whose weights may take part.
    slices : int
        Most weight slices.

    Members
    -------
    weights : In(16).array(operators)
        Their weight vectors.
    takes : In(1).array(operators)
        Their activation is an HO vector.
    slice : In(2).array(operators)
        Which weight slice it is.
    sums : Out(signed).array(4)
        Of the cycle, row by row.

    Raises
    ------
    ParameterError
        If a number is not positive.
    """

    def __init__(self, operators: int, slices: int):
        self._operators = check_range("operators", operators, 1)
        self._slices = check_range("slices", slices, 1, 3)
        self.sum_bits = 4 + 3 * (slices - 1) + (operators - 1).bit_length()
        super().__init__(
            {
                "weights": In(VECTOR_BITS).array(operators),
                "takes": In(1).array(operators),
                "slice": In(2).array(operators),
                "sums": Out(signed(self.sum_bits)).array(VECTOR),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Mask, shift and add."""
        m = Module()
        for row in range(VECTOR):
            terms = []
            for index in range(self._operators):
                weight = Signal(signed(4), name=f"weight{row}_{index}")
                m.d.comb += weight.eq(
                    Mux(self.takes[index], self.weights[index][4 * row : 4 * row + 4].as_signed(), 0)
                )
                terms.append(shift_weight(weight, self.slice[index], self._slices))
            m.d.comb += self.sums[row].eq(balanced_sum(terms))
        return m
