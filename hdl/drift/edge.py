"""The accumulators at an end of a column of Drift's fabric: nibble columns joined, then summed over K tiles."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.bitgroup import COLUMNS
from bitfabric.hdl.arith.nibble_join import NibbleJoin
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.gemm.accumulator import AccumulatorColumn, south_layout


class EdgeColumn(Block):
    """Accumulate what leaves a column of groups at one edge, and pass its control on to both neighbours.

    Four nibble columns are four 4-bit or two 8-bit channels. A psum presented with its control in cycle t is in
    the memory from t + 2 on; one row's psums may follow each other in consecutive cycles. Two banks of
    ``acc_depth`` rows: one is drained while the other one fills. Source: design section 6 [derived].

    Parameters
    ----------
    config : DriftConfig

    Members
    -------
    left : In(1)
        The column belongs to the left half: it takes the control of the west and its weights are 8-bit, so that
        accumulator 0 takes the channel of nibble columns 0 and 1, accumulator 2 that of 2 and 3, and 1 and 3 are not
        written. Else the control is the east's and every nibble column has its accumulator. Constant while it is used.
    control_west, control_east : In(south_layout(acc_depth))
        Which accumulators the psums are for, from the neighbours.
    control_out : Out(south_layout(acc_depth))
        What was taken, a cycle later.
    psum : In(config.psum)
        What leaves the fabric.
    drain_en, drain_bank : In(2)
        Read a row of a complete bank; latency 1. Bit 0 is for the left half, bit 1 for the right one.
    drain_row : In(address_bits(acc_depth)).array(2)
        The row, for the left and the right half.
    data : Out(signed(acc_bits)).array(4)
        It, kept until the column's next read as long as nothing is added in its bank. 1 and 3 are without
        meaning in the left half.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        control = south_layout(config.acc_depth)
        super().__init__(
            {
                "left": In(1),
                "control_west": In(control),
                "control_east": In(control),
                "control_out": Out(control),
                "psum": In(config.psum),
                "drain_en": In(2),
                "drain_bank": In(2),
                "drain_row": In(address_bits(config.acc_depth)).array(2),
                "data": Out(signed(config.acc_bits)).array(COLUMNS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Choose the half's control, then join and accumulate."""
        m = Module()
        config = self._config
        control = Signal(south_layout(config.acc_depth))
        drain_en, drain_bank = Signal(), Signal()
        drain_row = Signal(address_bits(config.acc_depth))
        m.d.comb += [
            control.eq(Mux(self.left, self.control_west.as_value(), self.control_east.as_value())),
            drain_en.eq(Mux(self.left, self.drain_en[0], self.drain_en[1])),
            drain_bank.eq(Mux(self.left, self.drain_bank[0], self.drain_bank[1])),
            drain_row.eq(Mux(self.left, self.drain_row[0], self.drain_row[1])),
        ]
        psums: list[Value] = []
        for pair in range(COLUMNS // 2):
            join = place(m, f"join_{pair}", NibbleJoin(config.rows))
            m.d.comb += [
                join.wide.eq(self.left),
                join.low.eq(self.psum[2 * pair]),
                join.high.eq(self.psum[2 * pair + 1]),
            ]
            psums += [join.low_out, join.high_out]
        for index, psum in enumerate(psums):
            # A fabric of many rows and a small K: the psums are as small as the sums, whatever their width.
            bits = min(len(psum), config.acc_bits)
            name = f"accumulator_{index}"
            column = place(m, name, AccumulatorColumn(config.acc_bits, bits, config.acc_depth))
            m.d.comb += [
                column.psum.eq(psum[:bits].as_signed()),
                column.south.eq(control),
                column.drain_en.eq(drain_en),
                column.drain_bank.eq(drain_bank),
                column.drain_row.eq(drain_row),
                self.data[index].eq(column.drain_data),
            ]
            if index % 2:
                m.d.comb += column.south.valid.eq(control.valid & ~self.left)
            if index == 0:
                m.d.comb += self.control_out.eq(column.east)
        return m
