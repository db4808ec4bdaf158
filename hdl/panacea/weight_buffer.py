"""The weight buffer (WBUF) of a PEA, and the index buffer beside it: the sub-tiles in use and those that follow."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.fetcher import fetch_layout
from bitfabric.hdl.panacea.operand_mux import bank_layout
from bitfabric.hdl.panacea.vector_bank import VectorBank


class WeightBuffer(Block):
    """Hold two weight sub-tiles, two for each weight tile with DTP [paper, III-D].

    Decoded indices are kept as one bit per position (``masks``): the weight index buffer. What lands in cycle t can
    be read in t + 1.

    Parameters
    ----------
    config : PanaceaConfig
        Gives sizes.

    Members
    -------
    claim : In(1).array(tiles)
        A sub-tile is about to land.
    free : Out(1).array(tiles)
        There is a bank for one.
    landing : In(1).array(tiles), i : In(fetch_layout)
        What lands.
    filled : Out(1).array(tiles)
        The last of it lands in this cycle.
    release : In(1).array(tiles)
        The oldest sub-tile is done with.
    banks : Out(bank_layout).array(2 · tiles), masks : Out(T_K).array(2 · tiles)
        All of it.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        self._tiles = 2 if config.dtp else 1
        super().__init__(
            {
                "claim": In(1).array(self._tiles),
                "free": Out(1).array(self._tiles),
                "landing": In(1).array(self._tiles),
                "i": In(fetch_layout(config)),
                "filled": Out(1).array(self._tiles),
                "release": In(1).array(self._tiles),
                "banks": Out(bank_layout(config)).array(2 * self._tiles),
                "masks": Out(config.tile_k).array(2 * self._tiles),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Fill the banks in turn."""
        m = Module()
        for tile in range(self._tiles):
            held = Signal(range(3), name=f"held{tile}")
            writing = Signal(name=f"writing{tile}")
            m.d.sync += held.eq(held + self.claim[tile] - self.release[tile])
            m.d.comb += [
                self.free[tile].eq(held != 2),
                self.filled[tile].eq(self.landing[tile] & self.i.last),
            ]
            with m.If(self.filled[tile]):
                m.d.sync += writing.eq(~writing)
            for index in range(2):
                bank = place(m, f"bank{tile}_{index}", VectorBank(self._config, self._config.weight_dense))
                number = 2 * tile + index
                m.d.comb += [
                    bank.en.eq(self.landing[tile] & (writing == index)),
                    bank.i.eq(self.i),
                    self.banks[number].dense.eq(bank.dense),
                    self.banks[number].top.eq(bank.top),
                    self.masks[number].eq(bank.mask),
                ]
        return m
