"""The output-stationary datapath: what lies between the buffers' words and the rows of sums."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.gemm.core import FEED_LATENCY, delay
from bitfabric.hdl.gemm.skew import Skew
from bitfabric.hdl.systolic_os.array import SystolicOsArray
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_os.pe import west_layout


class SystolicOsDatapath(Block):
    """Skew the words and their control, and place the array.

    A word issued in cycle t is on ``weights_data`` and ``acts_data`` in t + 1 and at the array's boundary
    ``FEED_LATENCY`` cycles after t.

    Parameters
    ----------
    config : SystolicOsConfig
        Gives the array.

    Members
    -------
    valid, first, capture : In(1)
        A word is issued; it starts a tile; the word before ended one.
    leaving, leaving_row : In
        A row of sums is at the south edge of column 0, and which.
    weights_data, acts_data : In
        The buffers' words.
    psum : Out(signed(acc_bits)).array(columns)
        The south edge of the drain chain.
    """

    def __init__(self, config: SystolicOsConfig):
        self._config = config
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "capture": In(1),
                "leaving": In(1),
                "leaving_row": In(address_bits(config.rows)),
                "weights_data": In(config.columns * config.weight_bits),
                "acts_data": In(config.rows * config.act_bits),
                "psum": Out(signed(config.acc_bits)).array(config.columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire buffers, skews and array."""
        m = Module()
        config = self._config
        array = place(m, "array", SystolicOsArray(config))
        lane_layout = west_layout(config.act_bits)
        acts = place(m, "act_skew", Skew(config.rows, lane_layout.size))
        weights = place(m, "weight_skew", Skew(config.columns, config.weight_bits))
        control: dict[str, Value] = {
            name: delay(m, name, getattr(self, name), FEED_LATENCY - 1)
            for name in ("valid", "first", "capture")
        }
        for row in range(config.rows):
            lane = data.View(lane_layout, Signal(lane_layout.size, name=f"lane_{row}"))
            m.d.comb += [
                lane.act.eq(self.acts_data.word_select(row, config.act_bits)),
                *(lane[name].eq(value) for name, value in control.items()),
                acts.i[row].eq(lane.as_value()),
                array.west[row].eq(acts.o[row]),
                # Row r passes on r rows; a further shift would take the next tile's sum from it.
                array.shift[row].eq(self.leaving & (self.leaving_row >= config.rows - row)),
            ]
        for column in range(config.columns):
            m.d.comb += [
                weights.i[column].eq(self.weights_data.word_select(column, config.weight_bits)),
                array.weight[column].eq(weights.o[column].as_signed()),
                self.psum[column].eq(array.psum[column]),
            ]
        return m
