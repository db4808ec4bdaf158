"""The output-stationary array: rows of PEs, with nothing around them."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Module, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_os.pe import SystolicOsPe, west_layout


class SystolicOsRow(Block):
    """Place the PEs of one row; activations and control pass west to east.

    Parameters
    ----------
    config : SystolicOsConfig
        Gives columns and widths.

    Members
    -------
    west, shift : In
        What enters at the west edge.
    weight_in, chain_in : In().array(columns)
        North edge.
    weight_out, chain_out : Out().array(columns)
        South edge, one cycle (one shift) later.
    """

    def __init__(self, config: SystolicOsConfig):
        self._config = config
        weight, acc = signed(config.weight_bits), signed(config.acc_bits)
        super().__init__(
            {
                "west": In(west_layout(config.act_bits)),
                "shift": In(1),
                "weight_in": In(weight).array(config.columns),
                "weight_out": Out(weight).array(config.columns),
                "chain_in": In(acc).array(config.columns),
                "chain_out": Out(acc).array(config.columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Chain the PEs."""
        m = Module()
        config = self._config
        west = None
        for column in range(config.columns):
            pe = place(m, f"pe_{column}", SystolicOsPe(config.act_bits, config.weight_bits, config.acc_bits))
            m.d.comb += [
                pe.west.eq(self.west if west is None else west.east),
                pe.shift_in.eq(self.shift if west is None else west.shift_out),
                pe.weight_in.eq(self.weight_in[column]),
                pe.chain_in.eq(self.chain_in[column]),
                self.weight_out[column].eq(pe.weight_out),
                self.chain_out[column].eq(pe.chain_out),
            ]
            west = pe
        return m


class SystolicOsArray(Block):
    """Keep one output per PE; activations enter from the west, weights from the north, sums leave south.

    PE (r, c) multiplies what entered row r and column c at cycle t - r - c of a common diagonal: lane r of the
    activations and lane c of the weights are delayed by r and c. ``capture`` follows a sum's last activation by one
    cycle. From the cycle on in which the last row's sum stands at the south edge, row r shifts r times, so that the
    rows leave from the last to the first; ``rows`` cycles after a tile's last activation another tile's may come.

    Parameters
    ----------
    config : SystolicOsConfig
        Gives rows, columns and widths.

    Members
    -------
    west : In(data.ArrayLayout(west_layout, rows))
        Activations and their control.
    weight : In(data.ArrayLayout(signed(weight_bits), columns))
        North edge.
    shift : In(rows)
        Drain chain enable of each row, at the west edge.
    psum : Out(data.ArrayLayout(signed(acc_bits), columns))
        South edge of the drain chain.
    """

    def __init__(self, config: SystolicOsConfig):
        self._config = config
        super().__init__(
            {
                "west": In(data.ArrayLayout(west_layout(config.act_bits), config.rows)),
                "weight": In(data.ArrayLayout(signed(config.weight_bits), config.columns)),
                "shift": In(config.rows),
                "psum": Out(data.ArrayLayout(signed(config.acc_bits), config.columns)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Stack the rows."""
        m = Module()
        config = self._config
        rows = [place(m, f"row_{index}", SystolicOsRow(config)) for index in range(config.rows)]
        for index, row in enumerate(rows):
            m.d.comb += [row.west.eq(self.west[index]), row.shift.eq(self.shift[index])]
        for column in range(config.columns):
            m.d.comb += rows[0].weight_in[column].eq(self.weight[column])
            for north, south in pairwise(rows):
                m.d.comb += [
                    south.weight_in[column].eq(north.weight_out[column]),
                    south.chain_in[column].eq(north.chain_out[column]),
                ]
            m.d.comb += self.psum[column].eq(rows[-1].chain_out[column])
        return m
