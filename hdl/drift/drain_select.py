"""The drain's first stages: which columns a word takes from a row of accumulators, in the order of the banks."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drift.config import CHANNELS, DriftConfig


class DrainSelect(Block):
    """Select ``word_granules`` neighbouring columns of a row and rotate them to the banks of their parameters.

    Word w has the local columns from ``word_granules * w`` on; local column x is column x of the fabric in the left
    half and column C-1-x in the right one. The granule at place p of a word is led to the lanes of bank
    ``(rotation + p) mod word_granules``. Columns with 8-bit weights have their two channels in accumulators 0 and 2
    and leave by channels 0 and 1. Latency 2 cycles, one word per cycle; columns that do not exist are undefined.

    Parameters
    ----------
    config : DriftConfig
        Gives C, ``acc_bits`` and ``lanes``.

    Members
    -------
    north_data, south_data : In(signed(acc_bits)).array(4 * C)
        The row at either edge.
    south, right : In(1)
        Of the region.
    word : In(range(words))
        Word of the row.
    rotation : In
        Granule of the region's column 0, modulo ``word_granules``; a cycle after ``word``.
    values : Out(signed(acc_bits)).array(lanes)
        Accumulators, channel c of bank l at ``4*l + c``.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._words = -(-config.columns // config.word_granules)
        row = In(signed(config.acc_bits)).array(CHANNELS * config.columns)
        super().__init__(
            {
                "north_data": row,
                "south_data": row,
                "south": In(1),
                "right": In(1),
                "word": In(address_bits(self._words)),
                "rotation": In(address_bits(config.word_granules)),
                "values": Out(signed(config.acc_bits)).array(config.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Choose the edge, the word, the half; register; rotate; register."""
        m = Module()
        config = self._config
        shape = signed(config.acc_bits)
        row = []
        for index in range(CHANNELS * config.columns):
            value = Signal(shape, name=f"row_{index}")
            m.d.comb += value.eq(Mux(self.south, self.south_data[index], self.north_data[index]))
            row.append(value)
        places = [self._place(m, row, place) for place in range(config.word_granules)]
        # One step for each bit of the rotation: bank l takes from the place `step` below.
        for bit in range(config.word_granules.bit_length() - 1):
            step = 1 << bit
            turned = []
            for bank in range(config.word_granules):
                values = []
                for channel in range(CHANNELS):
                    value = Signal(shape, name=f"turned_{bit}_{bank}_{channel}")
                    m.d.comb += value.eq(
                        Mux(self.rotation[bit], places[bank - step][channel], places[bank][channel])
                    )
                    values.append(value)
                turned.append(values)
            places = turned
        for bank, values in enumerate(places):
            for channel, value in enumerate(values):
                out = Signal(shape, name=f"value_{bank}_{channel}", reset_less=True)
                m.d.sync += out.eq(value)
                m.d.comb += self.values[CHANNELS * bank + channel].eq(out)
        return m

    def _place(self, m: Module, row: list[Signal], place: int) -> list[Signal]:
        """Return the registered accumulators of the granule at a place of the word."""
        config = self._config
        chosen = []
        for channel in range(CHANNELS):
            value = Signal(signed(config.acc_bits), name=f"chosen_{place}_{channel}", reset_less=True)
            left, right = (
                Signal(signed(config.acc_bits), name=f"{half}_{place}_{channel}")
                for half in ("left", "right")
            )
            with m.Switch(self.word):
                for word in range(self._words):
                    column = config.word_granules * word + place
                    if column < config.columns:
                        with m.Case(word):
                            mirrored = config.columns - 1 - column
                            m.d.comb += right.eq(row[CHANNELS * mirrored + channel])
                            if channel < CHANNELS // 2:
                                m.d.comb += left.eq(row[CHANNELS * column + 2 * channel])
            m.d.sync += value.eq(Mux(self.right, right, left) if channel < CHANNELS // 2 else right)
            chosen.append(value)
        return chosen
