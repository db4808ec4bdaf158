"""The loader: takes the input stream apart into the feature map, requantization parameters and weights."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drq.config import DIMENSION_BITS, OPERAND_BITS, DrqConfig
from bitfabric.hdl.gemm.loader import connect_params, params_layout
from bitfabric.hdl.gemm.words import PARAM_BEATS, assemble


class Loader(Block):
    """Fill the machine's memories from one stream.

    The stream carries, each item in whole beats and elements one byte each:

    1. the feature map: pixels in raster order, the channels of each;
    2. for every N tile, if ``requantize``: for every ``drain_lanes`` channels a beat of biases, a beat of multipliers
       and a beat of shifts (32-bit words);
    3. and ``depth`` rows of the tile's weights.

    Timing: a beat per cycle; a cycle to plan each item of an N tile, which waits there until its bank is free, and one
    where there are no parameters. ``last`` must come with the last beat.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    n, depth, requantize : In
        Output channels, contraction, and whether there are parameters; levels.
    start : In(1)
        Strobe: beats are taken from the next cycle on.
    i : In(stream)
        Beats.
    map_ready, map_last : In(1)
        A beat of the map may be taken; it is its last one.
    map_en, map_data : Out
        One is taken.
    params_free, params_en, params_address, params_data, params_done
        Write port of a ``DoubleBuffer``.
    weights_free, weights_en, weights_address, weights_data, weights_done
        The same; an enable and data for each of the E elements of a word.
    framing_error : Out(1)
        Strobe: ``last`` came too early or not at all.
    """

    def __init__(self, config: DrqConfig):
        self._config = config
        self._param_words = -(-config.columns // config.drain_lanes)
        super().__init__(
            {
                "n": In(DIMENSION_BITS),
                "depth": In(config.k_max.bit_length()),
                "requantize": In(1),
                "start": In(1),
                "i": In(stream.Signature(beat_layout(config.axis_data_bits))),
                "map_ready": In(1),
                "map_last": In(1),
                "map_en": Out(1),
                "map_data": Out(config.axis_data_bits),
                "params_free": In(1),
                "params_en": Out(1),
                "params_address": Out(address_bits(self._param_words)),
                "params_data": Out(params_layout(config)),
                "params_done": Out(1),
                "weights_free": In(1),
                "weights_en": Out(config.line_elements),
                "weights_address": Out(address_bits(config.tile_words)),
                "weights_data": Out(config.columns * config.line_elements * OPERAND_BITS),
                "weights_done": Out(1),
                "framing_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Plan an item, take its beats, go on."""
        m = Module()
        config = self._config
        slices = max(PARAM_BEATS, self._beats(config.columns))
        most_words = max(config.k_max, self._param_words)
        index = Signal(range(most_words), reset_less=True)  # of a word
        final = Signal(range(most_words), reset_less=True)  # the last one's
        beat, beats = (Signal(range(slices), name=name, reset_less=True) for name in ("beat", "beats"))
        n_left = Signal(DIMENSION_BITS, reset_less=True)
        n_valid = Signal(range(config.columns + 1))
        last_tile = Signal()
        taking, fire, word_done, item_done, finished = (Signal() for _ in range(5))
        m.d.comb += [
            last_tile.eq(n_left <= config.columns),
            n_valid.eq(Mux(last_tile, n_left, config.columns)),
            self.i.ready.eq(taking),
            fire.eq(taking & self.i.valid),
            word_done.eq(fire & (beat == beats)),
            item_done.eq(word_done & (index == final)),
            self.map_data.eq(self.i.payload.data),
            self.framing_error.eq(fire & (self.i.payload.last != finished)),
        ]
        with m.If(word_done):
            m.d.sync += [beat.eq(0), index.eq(index + 1)]
        with m.Elif(fire):
            m.d.sync += beat.eq(beat + 1)

        def plan(words_less_one: Value, word_beats: Value | int) -> list[object]:
            return [final.eq(words_less_one), beats.eq(word_beats), beat.eq(0), index.eq(0)]

        groups_less_one = (n_valid - 1)[: len(n_valid)] >> (config.drain_lanes.bit_length() - 1)
        beats_less_one = (n_valid - 1)[: len(n_valid)] >> (config.axis_bytes.bit_length() - 1)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += n_left.eq(self.n)
                    m.next = "MAP"
            with m.State("MAP"):
                m.d.comb += [taking.eq(self.map_ready), self.map_en.eq(fire)]
                with m.If(fire & self.map_last):
                    m.next = "PLAN_PARAMS"
            with m.State("PLAN_PARAMS"):
                with m.If(~self.requantize):
                    m.next = "PLAN_WEIGHTS"
                with m.Elif(self.params_free):
                    m.d.sync += plan(groups_less_one, PARAM_BEATS - 1)
                    m.next = "PARAMS"
            with m.State("PARAMS"):
                m.d.comb += [taking.eq(1), self.params_en.eq(word_done), self.params_done.eq(item_done)]
                with m.If(item_done):
                    m.next = "PLAN_WEIGHTS"
            with m.State("PLAN_WEIGHTS"):
                with m.If(self.weights_free):
                    m.d.sync += plan(self.depth - 1, beats_less_one)
                    m.next = "WEIGHTS"
            with m.State("WEIGHTS"):
                m.d.comb += [taking.eq(1), self.weights_done.eq(item_done)]
                m.d.comb += finished.eq(item_done & last_tile)
                with m.If(item_done):
                    m.d.sync += n_left.eq(n_left - config.columns)
                    m.next = "PLAN_PARAMS"
                    with m.If(last_tile):
                        m.next = "END"
            with m.State("END"):
                pass
        word = assemble(m, self.i.payload.data, fire, beat, slices)
        connect_params(m, config, word, self.params_data)
        element_bits = config.line_elements.bit_length() - 1
        writes = Signal()
        m.d.comb += [
            writes.eq(word_done & ~self.map_en & ~self.params_en),
            self.params_address.eq(index),
            self.weights_address.eq(index >> element_bits),
            self.weights_data.eq(word[: config.columns * OPERAND_BITS].replicate(config.line_elements)),
        ]
        for element in range(config.line_elements):
            m.d.comb += self.weights_en[element].eq(writes & (index[:element_bits] == element))
        return m

    def _beats(self, elements: int) -> int:
        return -(-elements // self._config.axis_bytes)
