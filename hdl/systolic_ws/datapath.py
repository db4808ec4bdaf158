"""The weight-stationary datapath: what lies between the buffers' words and the psums."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.gemm.core import FEED_LATENCY, delay
from bitfabric.hdl.gemm.skew import Skew
from bitfabric.hdl.systolic_ws.array import SystolicWsArray
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig


class SystolicWsDatapath(Block):
    """Mask and skew the words, align the array's control with them, and place the array.

    A word issued in cycle t is on ``weights_data`` or ``acts_data`` in t + 1 and at the array's boundary
    ``FEED_LATENCY`` cycles after t.

    Parameters
    ----------
    config : SystolicWsConfig
        Gives the array and its buffering.

    Members
    -------
    load_issue, load_index, load_inside : In
        A weight row is issued; its place in the load, the last row being 0; and if it lies within K (zeros are
        loaded otherwise).
    swap : In(1)
        A tile's first activation row is issued.
    weights_data, acts_data : In
        The buffers' words.
    psum : Out(signed(psum_bits)).array(columns)
        The array's south edge.
    """

    def __init__(self, config: SystolicWsConfig):
        self._config = config
        super().__init__(
            {
                "load_issue": In(1),
                "load_index": In(address_bits(config.rows)),
                "load_inside": In(1),
                "swap": In(1),
                "weights_data": In(config.columns * config.weight_bits),
                "acts_data": In(config.rows * config.act_bits),
                "psum": Out(signed(config.psum_bits)).array(config.columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire buffers, skews and array."""
        m = Module()
        config = self._config
        array = place(m, "array", SystolicWsArray(config))
        acts = place(m, "act_skew", Skew(config.rows, config.act_bits))
        weights = place(m, "weight_skew", Skew(config.columns, config.weight_bits))
        # As the word read stays, so does its mask: the first row's weight stands at the edge until the swap.
        inside = Signal(reset_less=True)
        with m.If(self.load_issue):
            m.d.sync += inside.eq(self.load_inside)
        masked = Signal(config.columns * config.weight_bits)
        m.d.comb += masked.eq(Mux(inside, self.weights_data, 0))
        for row in range(config.rows):
            m.d.comb += [
                acts.i[row].eq(self.acts_data.word_select(row, config.act_bits)),
                array.act[row].eq(acts.o[row].as_signed()),
            ]
        for column in range(config.columns):
            m.d.comb += [
                weights.i[column].eq(masked.word_select(column, config.weight_bits)),
                array.weight[column].eq(weights.o[column].as_signed()),
                self.psum[column].eq(array.psum[column]),
            ]
        issue = delay(m, "issue", self.load_issue, FEED_LATENCY - 1)
        index = delay(m, "index", self.load_index, FEED_LATENCY - 1, reset_less=True)
        swap: Value = self.swap
        for row in range(config.rows):
            enable = Signal(name=f"load_{row}")
            m.d.comb += array.load[row].eq(enable)
            if config.weight_buffering == "double":
                m.d.sync += enable.eq(issue & (index >= row) & (index <= config.rows - 2))
                # One cycle ahead of the activation, which takes FEED_LATENCY + row cycles.
                swap = delay(m, f"swap_{row}", swap, 1)
                m.d.comb += array.swap[row].eq(swap)
            else:
                m.d.sync += enable.eq(issue)
        return m
