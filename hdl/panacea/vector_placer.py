"""The crossbar between decoded HO vectors and the positions of a buffer."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.panacea.config import VECTOR_BITS, PanaceaConfig


class VectorPlacer(Block):
    """Bring every vector to its position: once for all the buffers that a fetcher fills [ours].

    Combinational. No two vectors that are kept have the same position.

    Parameters
    ----------
    config : PanaceaConfig
        Gives the vectors of a word and T_K.

    Members
    -------
    keep : In(1).array, position : In.array, vector : In(16).array
        The vectors of a word.
    mask : Out(T_K), vectors : Out(T_K · 16)
        Positions that get one, and the vectors there.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        size = config.quads * config.quad
        super().__init__(
            {
                "keep": In(1).array(size),
                "position": In((config.tile_k - 1).bit_length()).array(size),
                "vector": In(VECTOR_BITS).array(size),
                "mask": Out(config.tile_k),
                "vectors": Out(config.tile_k * VECTOR_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Let every position look for its vector."""
        m = Module()
        for index in range(self._config.tile_k):
            value: Value = Const(0, VECTOR_BITS)
            hits = []
            for keep, position, vector in zip(self.keep, self.position, self.vector, strict=True):
                hit = keep & (position == index)
                hits.append(hit)
                value = value | Mux(hit, vector, 0)
            m.d.comb += [
                self.mask[index].eq(Cat(*hits).any()),
                self.vectors[index * VECTOR_BITS : (index + 1) * VECTOR_BITS].eq(value),
            ]
        return m
