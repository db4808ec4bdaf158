"""A sub-tile's slice-vectors by their K position: what weight buffers and the global activation buffer consist of."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.panacea.config import VECTOR_BITS, PanaceaConfig
from bitfabric.hdl.panacea.fetcher import fetch_layout
from bitfabric.quant.errors import check_range


class VectorBank(Block):
    """Hold the dense slices of a sub-tile and those HO vectors that are kept, each at its position.

    What lands in cycle t can be read in t + 1. HO vectors of positions whose ``mask`` bit is low are stale.

    Parameters
    ----------
    config : PanaceaConfig
        Gives T_K.
    slices : int
        Dense slices, 1 or 2.

    Members
    -------
    en : In(1), i : In(fetch_layout)
        Something lands here.
    dense : Out(slices · T_K · 16)
        Dense vectors, slice by slice.
    top : Out(T_K · 16), mask : Out(T_K)
        HO vectors, and which positions have one.

    Raises
    ------
    ParameterError
        If ``slices`` is not 1 or 2.
    """

    def __init__(self, config: PanaceaConfig, slices: int):
        self._config = config
        self._slices = check_range("slices", slices, 1, 2)
        super().__init__(
            {
                "en": In(1),
                "i": In(fetch_layout(config)),
                "dense": Out(slices * config.tile_k * VECTOR_BITS),
                "top": Out(config.tile_k * VECTOR_BITS),
                "mask": Out(config.tile_k),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Write words of dense vectors, and single HO vectors."""
        m = Module()
        config = self._config
        word = config.lanes * VECTOR_BITS
        chunks = config.tile_k // config.lanes
        dense = Signal(len(self.dense), reset_less=True)
        top = Signal(len(self.top), reset_less=True)
        mask = Signal(config.tile_k, reset_less=True)
        m.d.comb += [self.dense.eq(dense), self.top.eq(top), self.mask.eq(mask)]
        for index in range(self._slices * chunks):
            here = (self.i.chunk == index % chunks) & (self.i.slice == index // chunks)
            with m.If(self.en & self.i.dense_en & here):
                m.d.sync += dense[index * word : (index + 1) * word].eq(self.i.dense)
        for position in range(config.tile_k):
            with m.If(self.en & self.i.mask[position]):
                low = position * VECTOR_BITS
                m.d.sync += top[low : low + VECTOR_BITS].eq(self.i.vectors[low : low + VECTOR_BITS])
        with m.If(self.en):
            m.d.sync += mask.eq(Mux(self.i.first, 0, mask) | self.i.mask)
        return m
