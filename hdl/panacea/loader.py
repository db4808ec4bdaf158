"""The loader: takes parameters and compressed tiles off the stream, in the order in which they are needed."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.panacea.config import CHANNEL_BITS, VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.job import JOB
from bitfabric.hdl.panacea.loop import PanaceaLoop, vectors_of
from bitfabric.hdl.panacea.records import dense_slices, dense_words, quads_of, words_of


class Loader(Block):
    """Distribute a layer's packet.

    For every M step: the parameters of the first weight tile's PEAs, then of the second's; for every N tile, every K
    tile: under the first N tile, or if the weights do not stay, the weights, first then second tile; under the first
    M step, or if the activations do not stay, the activations, unless they are OMEM's. A beat a cycle; one more for every item.

    Parameters
    ----------
    config : PanaceaConfig
        Gives sizes.

    Members
    -------
    job : In(JOB), start : In(1)
        The layer.
    i : In(stream), kept : In(stream)
        Beats of ``s_axis``; words of the outputs that OMEM kept.
    params_free, params_en, params_addr, params_data, params_done
        Write port of the parameters, one word per PEA; tile B's PEAs follow tile A's.
    wmem_*, amem_*
        Write ports of the two ``SliceMemory``.
    framing_error : Out(1)
        ``last`` came too early or not at all.
    wants_weights, wants_acts : Out(1)
        A word waits for room in WMEM, in AMEM.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        memory = {
            f"{name}_{port}": member
            for name in ("wmem", "amem")
            for port, member in (
                ("ready", In(1)),
                ("en", Out(1)),
                ("tile", Out(1)),
            )
        }
        super().__init__(
            {
                "job": In(JOB),
                "start": In(1),
                "i": In(stream.Signature(beat_layout(config.axis_data_bits))),
                "kept": In(stream.Signature(config.axis_data_bits)),
                "params_free": In(1),
                "params_en": Out(1),
                "params_addr": Out(address_bits(2 * config.peas)),
                "params_data": Out(VECTOR * CHANNEL_BITS),
                "params_done": Out(1),
                **memory,
                "data": Out(config.axis_data_bits),
                "framing_error": Out(1),
                "wants_weights": Out(1),
                "wants_acts": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Plan an item, take its words, go on."""
        m = Module()
        config, job = self._config, self.job
        loop = place(m, "loop", PanaceaLoop(config))
        tile = loop.tile
        m.d.comb += [loop.job.eq(job), loop.start.eq(self.start)]
        sends_weights, sends_acts, has_b = Signal(), Signal(), Signal()
        m.d.comb += [
            sends_weights.eq(tile.first_n | job.stream_weights),
            sends_acts.eq(tile.first_m | ~job.resident),
            has_b.eq(tile.rows_b != 0),
        ]
        second = Signal()  # of the weight tiles
        acts = Signal()  # the item is one of activations
        kept = Signal()  # ... and comes from OMEM
        words_left = Signal(range(2 * config.tile_k * max(config.peas, config.groups) + 1))
        quads = Signal(range(config.tile_k * max(config.peas, config.groups) + 1), reset_less=True)
        fire, valid, ready, taking = (Signal() for _ in range(4))
        word_ready = Signal()
        m.d.comb += [
            kept.eq(acts & job.from_omem),
            valid.eq(Mux(kept, self.kept.valid, self.i.valid)),
            ready.eq(taking & word_ready),
            self.i.ready.eq(ready & ~kept),
            self.kept.ready.eq(ready & kept),
            fire.eq(valid & ready),
            self.data.eq(Mux(kept, self.kept.payload, self.i.payload.data)),
        ]
        chunks = dense_words(config, tile.k_valid)
        most = max(config.peas, config.groups)
        groups = Signal(range(most + 1))
        # Counts where there is no group are an error, which the fetcher finds.
        counts = [
            Mux(groups > index, self.data[index * config.count_bits : (index + 1) * config.count_bits], 0)
            for index in range(most)
        ]
        total = balanced_sum([quads_of(config, count) for count in counts])
        slices = Signal(2)
        m.d.comb += [
            groups.eq(vectors_of(Mux(acts, tile.columns, Mux(second, tile.rows_b, tile.rows_a)))),
            slices.eq(Mux(acts, job.act_slices, job.weight_slices)),
        ]
        dense = Signal.like(words_left)
        m.d.comb += dense.eq(groups * chunks << (dense_slices(slices) == 2))
        ho_words = Signal.like(words_left)
        m.d.comb += ho_words.eq(words_of(config, quads))

        parts = config.params_beats
        part = Signal(range(max(parts, 2)))
        pea = Signal(range(2 * config.peas))
        peas_left = Signal(range(config.peas + 1))
        step, item_ends, in_params = Signal(), Signal(), Signal()
        m.d.comb += [
            word_ready.eq(Mux(in_params, 1, Mux(acts, self.amem_ready, self.wmem_ready))),
            self.wants_weights.eq(taking & ~acts & ~word_ready),
            self.wants_acts.eq(taking & acts & ~word_ready),
            loop.step.eq(step),
        ]

        def plan_tile() -> None:
            """Choose the first item of a tile whose parameters are there."""
            m.d.sync += second.eq(0)
            with m.If(sends_weights):
                m.d.sync += acts.eq(0)
                m.next = "HEADER"
            with m.Elif(sends_acts):
                m.d.sync += acts.eq(1)
                m.next = "HEADER"
            with m.Else():
                m.d.comb += step.eq(1)
                m.next = "PLAN"

        def end_record() -> None:
            """Go on behind a compressed tile's last word."""
            m.d.comb += item_ends.eq(1)
            with m.If(~acts & has_b & ~second):
                m.d.sync += second.eq(1)
                m.next = "HEADER"
            with m.Elif(~acts & sends_acts):
                m.d.sync += acts.eq(1)
                m.next = "HEADER"
            with m.Else():
                m.d.comb += step.eq(1)
                m.next = "PLAN"

        with m.FSM():
            with m.State("PLAN"):
                m.d.sync += [part.eq(0), pea.eq(0), peas_left.eq(vectors_of(tile.rows_a)), second.eq(0)]
                m.d.sync += acts.eq(0)
                with m.If(loop.active):
                    with m.If(tile.first_n & tile.first_k):
                        with m.If(self.params_free):
                            m.next = "PARAMS"
                    with m.Else():
                        plan_tile()
            with m.State("PARAMS"):
                m.d.comb += [taking.eq(1), in_params.eq(1), self.params_en.eq(fire & (part == parts - 1))]
                with m.If(fire):
                    m.d.sync += part.eq(part + 1)
                with m.If(self.params_en):
                    m.d.sync += [part.eq(0), pea.eq(pea + 1), peas_left.eq(peas_left - 1)]
                    with m.If(peas_left == 1):
                        with m.If(has_b & ~second):
                            m.d.sync += [
                                second.eq(1),
                                pea.eq(config.peas),
                                peas_left.eq(vectors_of(tile.rows_b)),
                            ]
                        with m.Else():
                            m.d.comb += self.params_done.eq(1)
                            plan_tile()
            with m.State("HEADER"):
                m.d.comb += taking.eq(1)
                with m.If(fire):
                    m.d.sync += [words_left.eq(dense), quads.eq(total)]
                    m.next = "DENSE"
            with m.State("DENSE"):
                m.d.comb += taking.eq(1)
                with m.If(fire):
                    m.d.sync += words_left.eq(words_left - 1)
                    with m.If(words_left == 1):
                        with m.If(quads == 0):
                            end_record()
                        with m.Else():
                            m.d.sync += words_left.eq(ho_words)
                            m.next = "HO"
            with m.State("HO"):
                m.d.comb += taking.eq(1)
                with m.If(fire):
                    m.d.sync += words_left.eq(words_left - 1)
                    with m.If(words_left == 1):
                        end_record()

        m.d.comb += [
            self.wmem_en.eq(fire & ~acts & ~in_params),
            self.amem_en.eq(fire & acts),
            self.wmem_tile.eq(item_ends),
            self.amem_tile.eq(item_ends),
            self.params_addr.eq(pea),
            self.params_data.eq(self._assemble(m, fire & in_params, part, parts)),
        ]
        # The packet's last beat: of the last tile, or of one before where the last ones bring nothing.
        streamed, last_weights, final = Signal(), Signal(), Signal()
        m.d.comb += [
            streamed.eq(sends_acts & ~job.from_omem),  # activations, for every tile of this M step
            last_weights.eq(~acts & (second | ~has_b) & ~streamed),
            final.eq(
                item_ends
                & tile.last_m
                & tile.last_k
                & (tile.last_n | ~(streamed | job.stream_weights))
                & (last_weights | (acts & ~kept))
            ),
            self.framing_error.eq(self.i.valid & self.i.ready & (self.i.payload.last != final)),
        ]
        return m

    def _assemble(self, m: Module, fire: Value, part: Value, parts: int) -> Value:
        """Return a PEA's parameters when the last of their beats is on the stream."""
        width = self._config.axis_data_bits
        pieces = []
        for index in range(parts - 1):
            kept = Signal(width, name=f"kept{index}", reset_less=True)
            with m.If(fire & (part == index)):
                m.d.sync += kept.eq(self.i.payload.data)
            pieces.append(kept)
        return Cat(*pieces, self.i.payload.data)[: VECTOR * CHANNEL_BITS]
