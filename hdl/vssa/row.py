"""One row of VSSA PEs."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.vssa.pe import OPERAND_BITS, VssaPe, check_acc_bits
from bitfabric.quant.errors import check_range


class VssaRow(Block):
    """Place the PEs of one row: a passes west to east, b and the sums north to south.

    Parameters
    ----------
    columns, acc_bits : int
        C and the accumulators' width.
    pe_counters : bool
        Whether to count the PEs at work.

    Members
    -------
    a_in, a_high : In(8), In(1)
        What enters at the west edge.
    advance, phase, a_unsigned, b_unsigned, shift : In
        For all PEs, see ``VssaPe``.
    valid : In(columns)
        One bit per PE.
    b_in, b_out : In / Out(columns * 8)
        Column by column, as plain bits, as all ports here.
    b_high_in, b_high_out : In / Out(columns)
    acc_in, acc_out : In / Out(columns * acc_bits)
        The accumulators' chain.
    any_high : Out(1)
        A PE's operands both have 8 bits and are valid.
    at_work : Out(range(columns + 1))
        PEs at work in the cycle before; 0 without counters.

    Raises
    ------
    ParameterError
        If there is no column or ``acc_bits`` is not allowed.
    """

    def __init__(self, columns: int, acc_bits: int, pe_counters: bool):
        self._columns = check_range("columns", columns, 1)
        self._acc_bits = check_acc_bits(acc_bits)
        self._pe_counters = bool(pe_counters)
        super().__init__(
            {
                "a_in": In(OPERAND_BITS),
                "a_high": In(1),
                "advance": In(1),
                "phase": In(2),
                "a_unsigned": In(1),
                "b_unsigned": In(1),
                "shift": In(1),
                "valid": In(columns),
                "b_in": In(columns * OPERAND_BITS),
                "b_out": Out(columns * OPERAND_BITS),
                "b_high_in": In(columns),
                "b_high_out": Out(columns),
                "acc_in": In(columns * acc_bits),
                "acc_out": Out(columns * acc_bits),
                "any_high": Out(1),
                "at_work": Out(range(columns + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Chain the PEs."""
        m = Module()
        pes = [place(m, f"pe_{column}", VssaPe(self._acc_bits)) for column in range(self._columns)]
        for column, pe in enumerate(pes):
            west = pes[column - 1] if column else None
            m.d.comb += [
                pe.a_in.eq(self.a_in if west is None else west.a_out),
                pe.a_high_in.eq(self.a_high if west is None else west.a_high_out),
                pe.b_in.eq(self.b_in.word_select(column, OPERAND_BITS)),
                pe.b_high_in.eq(self.b_high_in[column]),
                pe.acc_in.eq(self.acc_in.word_select(column, self._acc_bits)),
                pe.valid.eq(self.valid[column]),
            ]
            m.d.comb += [
                getattr(pe, name).eq(getattr(self, name))
                for name in ("advance", "phase", "a_unsigned", "b_unsigned", "shift")
            ]
        m.d.comb += [
            self.b_out.eq(Cat(pe.b_out for pe in pes)),
            self.b_high_out.eq(Cat(pe.b_high_out for pe in pes)),
            self.acc_out.eq(Cat(pe.acc_out for pe in pes)),
            self.any_high.eq(Cat(pe.both_high for pe in pes).any()),
        ]
        if self._pe_counters:
            at_work = Signal(range(self._columns + 1))
            m.d.sync += at_work.eq(balanced_sum([pe.enabled for pe in pes]))
            m.d.comb += self.at_work.eq(at_work)
        return m
