"""The weight-stationary array: rows of PEs, with nothing around them."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Module, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.hdl.systolic_ws.pe import SystolicWsPe


class SystolicWsRow(Block):
    """Place the PEs of one row; activations and control pass west to east.

    Parameters
    ----------
    config : SystolicWsConfig
        Gives columns and widths.

    Members
    -------
    act, load, swap : In
        What enters at the west edge (``swap`` with double buffering only).
    weight_in, psum_in : In().array(columns)
        North edge.
    weight_out, psum_out : Out().array(columns)
        South edge, one cycle later.
    """

    def __init__(self, config: SystolicWsConfig):
        self._config = config
        weight, psum = signed(config.weight_bits), signed(config.psum_bits)
        members = {
            "act": In(signed(config.act_bits)),
            "load": In(1),
            "weight_in": In(weight).array(config.columns),
            "weight_out": Out(weight).array(config.columns),
            "psum_in": In(psum).array(config.columns),
            "psum_out": Out(psum).array(config.columns),
        }
        if config.weight_buffering == "double":
            members["swap"] = In(1)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Chain the PEs."""
        m = Module()
        config = self._config
        double = config.weight_buffering == "double"
        west = None
        for column in range(config.columns):
            pe = place(
                m,
                f"pe_{column}",
                SystolicWsPe(config.act_bits, config.weight_bits, config.psum_bits, config.weight_buffering),
            )
            m.d.comb += [
                pe.act_in.eq(self.act if west is None else west.act_out),
                pe.load_in.eq(self.load if west is None else west.load_out),
                pe.weight_in.eq(self.weight_in[column]),
                pe.psum_in.eq(self.psum_in[column]),
                self.weight_out[column].eq(pe.weight_out),
                self.psum_out[column].eq(pe.psum_out),
            ]
            if double:
                m.d.comb += pe.swap_in.eq(self.swap if west is None else west.swap_out)
            west = pe
        return m


class SystolicWsArray(Block):
    """Multiply skewed activations by stationary weights; psums leave at the south edge.

    PE (r, c) multiplies what enters row r at cycle t in cycle t + c, so lane r of the activations enters r cycles
    after lane 0, and column c's psum of a row leaves ``rows`` + c cycles after that row's lane 0 entered. Weights
    enter column c from the north, the last row's first, c cycles after column 0.

    Parameters
    ----------
    config : SystolicWsConfig
        Gives rows, columns, widths and the weight buffering.

    Members
    -------
    act : In(data.ArrayLayout(signed(act_bits), rows))
        West edge.
    weight : In(data.ArrayLayout(signed(weight_bits), columns))
        North edge.
    load : In(rows)
        Shift enable of each row's weight chain: every row for ``rows`` cycles when single buffered; when double
        buffered row j from cycle j to cycle ``rows`` - 2 of the load, the first row's weight staying at the north
        edge until the swap.
    swap : In(rows)
        Double buffering only: makes the loaded weights the stationary ones, one cycle ahead of the activation.
    psum : Out(data.ArrayLayout(signed(psum_bits), columns))
        South edge.
    """

    def __init__(self, config: SystolicWsConfig):
        self._config = config
        members = {
            "act": In(data.ArrayLayout(signed(config.act_bits), config.rows)),
            "weight": In(data.ArrayLayout(signed(config.weight_bits), config.columns)),
            "load": In(config.rows),
            "psum": Out(data.ArrayLayout(signed(config.psum_bits), config.columns)),
        }
        if config.weight_buffering == "double":
            members["swap"] = In(config.rows)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Stack the rows."""
        m = Module()
        config = self._config
        rows = [place(m, f"row_{index}", SystolicWsRow(config)) for index in range(config.rows)]
        for index, row in enumerate(rows):
            m.d.comb += [row.act.eq(self.act[index]), row.load.eq(self.load[index])]
            if config.weight_buffering == "double":
                m.d.comb += row.swap.eq(self.swap[index])
        for column in range(config.columns):
            m.d.comb += rows[0].weight_in[column].eq(self.weight[column])
            for north, south in pairwise(rows):
                m.d.comb += [
                    south.weight_in[column].eq(north.weight_out[column]),
                    south.psum_in[column].eq(north.psum_out[column]),
                ]
            m.d.comb += self.psum[column].eq(rows[-1].psum_out[column])
        return m
