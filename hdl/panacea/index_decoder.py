"""The index decoder (IDXD): run-length indices become K positions, forced vectors are dropped."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.panacea.config import ENTRY_BITS, INDEX_BITS, VECTOR, VECTOR_BITS, PanaceaConfig
from bitfabric.hdl.panacea.vector_placer import VectorPlacer


class IndexDecoder(Block):
    """Decode what a memory word holds of one group's stored HO vectors [paper, III-D].

    Combinational but for the position where the group's next word goes on. All entries of a word are decoded side by
    side, their indices added up in a tree, and brought to their positions once for all buffers [ours]. A vector
    all of whose slices are the skipped one is a forced one, whatever its index: it moves the position and is dropped.

    Parameters
    ----------
    config : PanaceaConfig
        Gives the form of a word and T_K.

    Members
    -------
    en : In(1)
        A word is there.
    first : In(1)
        It is the group's first.
    start : In
        The first of its quads that is the group's.
    left : In
        The group's stored vectors that no word before had, at least 1.
    skipped : In(4)
        The slice value that is skipped: 0 for weights, r for activations.
    k_valid : In
        K positions of the sub-tile.
    word : In(quads · quad · 20)
        Entries, value below, index above.
    mask : Out(T_K), vectors : Out(T_K · 16)
        Positions of the vectors that are no forced ones, and the vectors there.
    error : Out(1)
        An index leads out of the sub-tile, or something stands behind the last stored vector.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(
            {
                "en": In(1),
                "first": In(1),
                "start": In(range(config.quads + 1)),
                "left": In(range(config.tile_k + 1)),
                "skipped": In(4),
                "k_valid": In(range(config.tile_k + 1)),
                "word": In(config.quads * config.quad * ENTRY_BITS),
                "mask": Out(config.tile_k),
                "vectors": Out(config.tile_k * VECTOR_BITS),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Add up the indices, then let every position look for its vector."""
        m = Module()
        config = self._config
        size = config.quads * config.quad
        resume = Signal(range(config.tile_k + 1), reset_less=True)
        begin = Signal.like(resume, name="begin")
        m.d.comb += begin.eq(Mux(self.first, 0, resume))
        steps, used, errors = [], [], []
        for number in range(size):
            quad, in_quad = divmod(number, config.quad)
            entry = self.word.word_select(Const(number, 8), ENTRY_BITS)
            mine, stored = Signal(name=f"mine{number}"), Signal(name=f"stored{number}")
            ahead = Signal(range(size + 1), name=f"ahead{number}")  # entries of the group before this one
            reach = self.left + (config.quad - 1)
            m.d.comb += [
                ahead.eq(number - self.start * config.quad),
                # The group's quads: the last one may be filled up.
                mine.eq(self.en & (self.start <= quad) & (reach >= ahead - in_quad + config.quad)),
                stored.eq(mine & (ahead < self.left)),
            ]
            step = Signal(range((1 << INDEX_BITS) + 1), name=f"step{number}")
            m.d.comb += step.eq(Mux(stored, entry[VECTOR_BITS:] + 1, 0))
            steps.append(step)
            used.append(stored)
            errors.append(mine & ~stored & (entry != 0))
        ends = self._sums(m, steps)
        at, kept = [], []
        for number in range(size):
            vector = self.word.word_select(Const(number, 8), ENTRY_BITS)[:VECTOR_BITS]
            end = Signal(range(config.tile_k + size * (1 << INDEX_BITS) + 1), name=f"end{number}")
            outside, keep = Signal(name=f"outside{number}"), Signal(name=f"keep{number}")
            position = Signal((config.tile_k - 1).bit_length(), name=f"position{number}")
            m.d.comb += [
                end.eq(begin + ends[number]),
                position.eq(end - 1),
                outside.eq(used[number] & (end > self.k_valid)),
                keep.eq(used[number] & ~outside & (vector != self.skipped.replicate(VECTOR))),
            ]
            with m.If(used[number]):
                m.d.sync += resume.eq(end)
            at.append(position)
            kept.append((keep, vector))
            errors.append(outside)
        m.d.comb += self.error.eq(Cat(*errors).any())
        placer = place(m, "placer", VectorPlacer(config))
        for number, (position, (keep, vector)) in enumerate(zip(at, kept, strict=True)):
            m.d.comb += [
                placer.keep[number].eq(keep),
                placer.position[number].eq(position),
                placer.vector[number].eq(vector),
            ]
        m.d.comb += [self.mask.eq(placer.mask), self.vectors.eq(placer.vectors)]
        return m

    @staticmethod
    def _sums(m: Module, steps: list[Signal]) -> list[Value]:
        """Return the running sums (Sklansky's tree)."""
        sums: list[Value] = list(steps)
        span = 1
        while span < len(sums):
            following: list[Value] = []
            for index, value in enumerate(sums):
                if index // span % 2:
                    total = Signal(len(value) + 1, name=f"sum{span}_{index}")
                    m.d.comb += total.eq(value + sums[index // span * span - 1])
                    following.append(total)
                else:
                    following.append(value)
            sums = following
            span *= 2
        return sums
