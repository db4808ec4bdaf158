"""The index decoder (IDXD): run-length indices become K positions, forced vectors are dropped."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.panacea.config import ENTRY_BITS, INDEX_BITS, VECTOR, VECTOR_BITS, PanaceaConfig


def entry_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return a decoded HO vector: ``keep`` (it takes part in products), ``position`` along K, ``vector``."""
    return data.StructLayout({"keep": 1, "position": (config.tile_k - 1).bit_length(), "vector": VECTOR_BITS})


class IndexDecoder(Block):
    """Decode a quad of stored HO vectors [paper, III-D].

    Combinational but for the where the next quad goes on. A vector all of whose slices are the
    skipped one is a forced one, whatever its index: it moves the position and is dropped.

    Parameters
    ----------
    config : PanaceaConfig
        Gives the quad's size and T_K.

    Members
    -------
    en : In(1)
        A quad is there.
    first : In(1)
        It is its group's first.
    count : In
        How many of its entries are stored vectors, at least 1.
    skipped : In(4)
        The slice value that is skipped: 0 for weights, r for activations.
    k_valid : In
        K positions of the sub-tile.
    quad : In(quad · 20)
        Entries, value below, index above.
    o : Out(entry_layout).array(quad)
        What they say.
    error : Out(1)
        An index leads out of the sub-tile, or something stands behind the last stored vector.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(
            {
                "en": In(1),
                "first": In(1),
                "count": In(range(config.quad + 1)),
                "skipped": In(4),
                "k_valid": In(range(config.tile_k + 1)),
                "quad": In(config.quad * ENTRY_BITS),
                "o": Out(entry_layout(config)).array(config.quad),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Add up the indices."""
        m = Module()
        config = self._config
        bits = (config.tile_k + config.quad * (1 << INDEX_BITS)).bit_length()
        resume = Signal(range(config.tile_k + 1), reset_less=True)
        position: Value = Signal(bits, name="start")
        m.d.comb += position.eq(resume)
        with m.If(self.first):
            m.d.comb += position.eq(0)
        errors = []
        for number in range(config.quad):
            entry = self.quad.word_select(Const(number, 3), ENTRY_BITS)
            at = Signal(bits, name=f"position{number}")
            used = Signal(name=f"used{number}")
            out = Signal(name=f"outside{number}")
            vector = entry[:VECTOR_BITS]
            m.d.comb += [
                used.eq(self.en & (self.count > number)),
                at.eq(position + entry[VECTOR_BITS:]),
                out.eq(used & (at >= self.k_valid)),
                self.o[number].keep.eq(used & ~out & (vector != self.skipped.replicate(VECTOR))),
                self.o[number].position.eq(at),
                self.o[number].vector.eq(vector),
            ]
            # What fills up a quad is 0: a count that is too low shows there.
            errors.append(out | (self.en & ~used & (entry != 0)))
            after = Signal(bits, name=f"after{number}")
            m.d.comb += after.eq(at + 1)
            position = after
            with m.If(used):
                m.d.sync += resume.eq(after)
        m.d.comb += self.error.eq(sum(errors, Const(0, 1)) != 0)
        return m
