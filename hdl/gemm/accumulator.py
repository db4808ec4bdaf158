"""Accumulators at the south edge of an array: one memory per column, two banks, drained while they fill."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.quant.errors import ParameterError, check_range


def south_layout(depth: int) -> data.StructLayout:
    """Return the control that accompanies a psum.

    Fields: ``valid``; ``row`` (of the accumulator bank), ``bank``; ``first`` (overwrite instead of adding);
    ``last`` (the bank is complete with this psum).
    """
    return data.StructLayout({"valid": 1, "row": address_bits(depth), "bank": 1, "first": 1, "last": 1})


def drain_layout(rows: int, columns: int) -> data.StructLayout:
    """Return what the drain needs to know of a bank: its used rows and columns, and if it is the GEMM's last."""
    return data.StructLayout({"m_valid": rows.bit_length(), "n_valid": columns.bit_length(), "last": 1})


class AccumulatorColumn(Block):
    """Accumulate one column's psums and pass its control on to the next column.

    A psum presented in cycle t is in the memory from t + 2 on; psums for one row may follow each other in
    consecutive cycles, since the memory forwards. The sum wraps: size it with ``acc_bits_needed``.

    Parameters
    ----------
    acc_bits, psum_bits : int
        Widths, two's complement.
    depth : int
        Rows per bank.
    accumulate : bool
        False leaves the adder out, for arrays that accumulate inside.

    Members
    -------
    psum : In(signed(psum_bits))
        What leaves the array.
    south : In(south_layout(depth))
        Its control.
    east : Out(south_layout(depth))
        The control, one cycle later.
    drain_en, drain_bank, drain_row : In
        Read port of the bank that is complete; latency 1.
    drain_data : Out(signed(acc_bits))
        Its accumulator, kept until the next read.

    Raises
    ------
    ParameterError
        If a width or the depth is not positive, or a psum is wider than an accumulator.
    """

    def __init__(self, acc_bits: int, psum_bits: int, depth: int, accumulate: bool = True):
        self._acc_bits = check_range("acc_bits", acc_bits, 1)
        self._psum_bits = check_range("psum_bits", psum_bits, 1)
        if psum_bits > acc_bits:
            raise ParameterError("psum_bits", psum_bits, f"at most acc_bits={acc_bits}")
        self._depth = check_range("depth", depth, 1)
        self._accumulate = accumulate
        super().__init__(
            {
                "psum": In(signed(psum_bits)),
                "south": In(south_layout(depth)),
                "east": Out(south_layout(depth)),
                "drain_en": In(1),
                "drain_bank": In(1),
                "drain_row": In(address_bits(depth)),
                "drain_data": Out(signed(acc_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Read, then add and write."""
        m = Module()
        # Only a bank's own bits are needed behind the read; `valid` is the only one that wants a reset.
        guarded = Signal(self.south.shape(), reset_less=True)
        valid = Signal()
        psum = Signal(signed(self._psum_bits), reset_less=True)
        m.d.sync += [guarded.eq(self.south), valid.eq(self.south.valid), psum.eq(self.psum)]
        m.d.comb += [self.east.eq(guarded), self.east.valid.eq(valid)]

        banks = [
            place(m, f"bank{index}", Ram(self._acc_bits, self._depth, transparent=self._accumulate))
            for index in range(2)
        ]
        total = Signal(signed(self._acc_bits))
        if self._accumulate:
            kept = Array(bank.read_data for bank in banks)[guarded.bank].as_signed()
            m.d.comb += total.eq(Mux(guarded.first, 0, kept) + psum)
        else:
            m.d.comb += total.eq(psum)
        answering = Signal(reset_less=True)
        with m.If(self.drain_en):
            m.d.sync += answering.eq(self.drain_bank)
        m.d.comb += self.drain_data.eq(Array(bank.read_data for bank in banks)[answering].as_signed())
        for index, bank in enumerate(banks):
            drained = Signal(name=f"drained{index}")
            m.d.comb += [
                drained.eq(self.drain_en & (self.drain_bank == index)),
                bank.read_en.eq(drained),
                bank.read_addr.eq(self.drain_row),
                bank.write_en.eq(valid & (guarded.bank == index)),
                bank.write_addr.eq(guarded.row),
                bank.write_data.eq(total),
            ]
            if self._accumulate:
                adds = self.south.valid & ~self.south.first & (self.south.bank == index)
                m.d.comb += [
                    bank.read_en.eq(drained | adds),
                    bank.read_addr.eq(Mux(drained, self.drain_row, self.south.row)),
                ]
        return m


class Accumulators(Block):
    """Place a column of accumulators under every column of the array and keep track of their two banks.

    The control enters at column 0 and moves east one column per cycle, like the psums' diagonal. A bank is
    ``full`` from the cycle after its last write in the last column.

    Parameters
    ----------
    columns, acc_bits, psum_bits, depth, accumulate
        See ``AccumulatorColumn``.

    Members
    -------
    psum : In(signed(psum_bits)).array(columns)
        The array's south edge.
    south : In(south_layout(depth))
        Control of column 0.
    free : Out(1)
        A bank can be claimed.
    claim, claim_info : In
        Claim it, with what the drain must know of it.
    full, info : Out
        The oldest claimed bank is complete, and what was said when it was claimed.
    drain_en, drain_row : In
        Read a row of it; latency 1.
    drain_data : Out(signed(acc_bits)).array(columns)
        The row.
    release : In(1)
        Go on to the next bank (allowed in the cycle of the last ``drain_en``).
    freed : In(1)
        The last row of the bank released has been taken from ``drain_data``: it can be claimed again. Until then
        the row stays, however long that takes.
    """

    def __init__(self, columns: int, acc_bits: int, psum_bits: int, depth: int, accumulate: bool = True):
        self._columns = check_range("columns", columns, 1)
        self._column = (acc_bits, psum_bits, depth, accumulate)
        info = drain_layout(depth, columns)
        super().__init__(
            {
                "psum": In(signed(psum_bits)).array(columns),
                "south": In(south_layout(depth)),
                "free": Out(1),
                "claim": In(1),
                "claim_info": In(info),
                "full": Out(1),
                "info": Out(info),
                "drain_en": In(1),
                "drain_row": In(address_bits(depth)),
                "drain_data": Out(signed(acc_bits)).array(columns),
                "release": In(1),
                "freed": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Chain the columns; banks are claimed, completed and drained in turn."""
        m = Module()
        claim_bank, full_bank, drain_bank, freed_bank = Signal(), Signal(), Signal(), Signal()
        used = Array(Signal(name=f"used{index}") for index in range(2))
        full = Array(Signal(name=f"full{index}") for index in range(2))
        infos = Array(Signal(self.claim_info.shape(), name=f"info{i}", reset_less=True) for i in range(2))
        control = self.south
        for index in range(self._columns):
            column = place(m, f"column_{index}", AccumulatorColumn(*self._column))
            m.d.comb += [
                column.psum.eq(self.psum[index]),
                column.south.eq(control),
                column.drain_en.eq(self.drain_en),
                column.drain_bank.eq(drain_bank),
                column.drain_row.eq(self.drain_row),
                self.drain_data[index].eq(column.drain_data),
            ]
            control = column.east
        m.d.comb += [
            self.free.eq(~used[claim_bank]),
            self.full.eq(full[drain_bank]),
            self.info.eq(Mux(drain_bank, infos[1].as_value(), infos[0].as_value())),
        ]
        with m.If(self.claim):
            m.d.sync += [used[claim_bank].eq(1), claim_bank.eq(~claim_bank)]
            for index in range(2):
                with m.If(claim_bank == index):
                    m.d.sync += infos[index].eq(self.claim_info)
        with m.If(control.valid & control.last):  # this cycle writes it
            m.d.sync += [full[full_bank].eq(1), full_bank.eq(~full_bank)]
        with m.If(self.release):
            m.d.sync += [full[drain_bank].eq(0), drain_bank.eq(~drain_bank)]
        with m.If(self.freed):
            m.d.sync += [used[freed_bank].eq(0), freed_bank.eq(~freed_bank)]
        return m
