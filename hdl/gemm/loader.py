"""The loader: takes the input stream apart into requantization parameters, weights and activations."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.gemm.config import DIMENSION_BITS, GemmConfig, OutputShape
from bitfabric.hdl.gemm.tile_loop import TileLoop
from bitfabric.hdl.gemm.words import PARAM_BEATS, assemble


def channel_layout() -> data.StructLayout:
    """Return the requantization parameters of one output channel."""
    return data.StructLayout({"bias": 32, "multiplier": 31, "shift": 6})


def connect_params(m: Module, config: OutputShape, word: Value, params: data.View) -> None:
    """Let ``params``, a word of the parameter buffer, be what three beats in ``word`` bring."""
    for lane in range(config.drain_lanes):
        for index, (name, shape) in enumerate(channel_layout()):
            low = index * config.axis_data_bits + 32 * lane
            m.d.comb += params[lane][name].eq(word[low : low + unsigned(shape.width).width])


def params_layout(config: OutputShape) -> data.ArrayLayout:
    """Return one word of the parameter buffer: the channels that drain together."""
    return data.ArrayLayout(channel_layout(), config.drain_lanes)


class Loader(Block):
    """Fill the machine's buffers from one stream, in the order in which the tiles need them.

    For every tile the stream carries, each item padded to whole beats and elements one byte each:

    1. if ``requantize`` and it is the tile's first along K: for every ``drain_lanes`` channels a beat of biases, a
       beat of multipliers and a beat of shifts (32-bit words);
    2. ``k_valid`` rows of ``n_valid`` weights;
    3. if the activations are not in the buffer already (first N tile, or not ``resident``): ``m_valid`` rows of
       ``k_valid`` activations, or for an output-stationary array ``k_valid`` columns of ``m_valid``.

    Timing: one cycle to plan an item, then one beat per cycle; an item waits in its planning cycle until its bank
    is free. ``last`` must come with the GEMM's last beat.

    Parameters
    ----------
    config : GemmConfig
        Gives array size, buffers and stream width.

    Members
    -------
    m, k, n, requantize, resident, start : In
        The GEMM; ``start`` for one cycle.
    i : In(stream)
        Beats.
    params_*, weights_*, acts_* : Out / In
        Write ports of the three buffers with their ``free`` and ``done`` handshakes.
    framing_error : Out(1)
        For one cycle: ``last`` came too early or not at all.
    overrun : Out(1)
        For one cycle: a bank of activations is full and its tiles go on, because ``resident`` was wrong.
    """

    def __init__(self, config: GemmConfig):
        self._config = config
        self._param_words = -(-config.columns // config.drain_lanes)
        super().__init__(
            {
                "m": In(DIMENSION_BITS),
                "k": In(DIMENSION_BITS),
                "n": In(DIMENSION_BITS),
                "requantize": In(1),
                "resident": In(1),
                "start": In(1),
                "i": In(stream.Signature(beat_layout(config.axis_data_bits))),
                "params_free": In(1),
                "params_en": Out(1),
                "params_addr": Out(address_bits(self._param_words)),
                "params_data": Out(params_layout(config)),
                "params_done": Out(1),
                "weights_free": In(1),
                "weights_en": Out(1),
                "weights_addr": Out(address_bits(config.k_step)),
                "weights_data": Out(config.columns * config.weight_bits),
                "weights_done": Out(1),
                "acts_free": In(1),
                "acts_en": Out(1),
                "acts_addr": Out(address_bits(config.act_depth)),
                "acts_data": Out(config.rows * config.act_bits),
                "acts_tile_done": Out(1),
                "acts_bank_done": Out(1),
                "framing_error": Out(1),
                "overrun": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Plan an item, take its beats, go on."""
        m = Module()
        config = self._config
        loop = place(m, "loop", TileLoop(config))
        tile = loop.tile
        m.d.comb += [
            loop.m.eq(self.m),
            loop.k.eq(self.k),
            loop.n.eq(self.n),
            loop.start.eq(self.start),
        ]
        most_words = max(config.k_step, config.act_depth, self._param_words)
        words_left = Signal(range(most_words + 1), reset_less=True)  # after the present one
        address = Signal(range(most_words), reset_less=True)
        acts_address = Signal(range(config.act_depth), reset_less=True)
        slices = max(PARAM_BEATS, self._beats(config.columns), self._beats(config.rows))
        beats = Signal(range(slices), reset_less=True)  # of a word, less one
        beat = Signal(range(slices), reset_less=True)

        n_beats, act_beats = Signal.like(beats), Signal.like(beats)
        act_lanes = tile.k_valid if config.m_innermost else tile.m_valid
        act_words = tile.m_valid if config.m_innermost else tile.k_valid
        m.d.comb += [
            n_beats.eq(self._beats_less_one(tile.n_valid)),
            act_beats.eq(self._beats_less_one(act_lanes)),
        ]
        sends_acts = Signal()
        m.d.comb += sends_acts.eq(tile.first_n | ~self.resident)

        fire, word_done, item_done = Signal(), Signal(), Signal()
        taking = Signal()
        m.d.comb += [
            self.i.ready.eq(taking),
            fire.eq(taking & self.i.valid),
            word_done.eq(fire & (beat == beats)),
            item_done.eq(word_done & (words_left == 0)),
        ]
        with m.If(word_done):
            m.d.sync += [beat.eq(0), words_left.eq(words_left - 1), address.eq(address + 1)]
        with m.Elif(fire):
            m.d.sync += beat.eq(beat + 1)
        word = assemble(m, self.i.payload.data, fire, beat, slices)

        def plan(words: Value, word_beats: Value | int) -> list[object]:
            return [words_left.eq(words - 1), beats.eq(word_beats), beat.eq(0), address.eq(0)]

        finished = Signal()  # the tile's last beat
        groups_less_one = (tile.n_valid - 1) >> (config.drain_lanes.bit_length() - 1)
        with m.FSM():
            with m.State("PLAN_PARAMS"):
                with m.If(loop.active):
                    with m.If(~(tile.first_k & self.requantize)):
                        m.next = "PLAN_WEIGHTS"
                    with m.Elif(self.params_free):
                        m.d.sync += plan(groups_less_one + 1, PARAM_BEATS - 1)
                        m.next = "PARAMS"
            with m.State("PARAMS"):
                m.d.comb += [taking.eq(1), self.params_en.eq(word_done), self.params_done.eq(item_done)]
                with m.If(item_done):
                    m.next = "PLAN_WEIGHTS"
            with m.State("PLAN_WEIGHTS"):
                with m.If(self.weights_free):
                    m.d.sync += plan(tile.k_valid, n_beats)
                    m.next = "WEIGHTS"
            with m.State("WEIGHTS"):
                m.d.comb += [taking.eq(1), self.weights_en.eq(word_done), self.weights_done.eq(item_done)]
                with m.If(item_done):
                    with m.If(sends_acts):
                        m.next = "PLAN_ACTS"
                    with m.Else():
                        m.d.comb += finished.eq(1)
                        m.next = "PLAN_PARAMS"
            with m.State("PLAN_ACTS"):
                with m.If(self.acts_free):
                    m.d.sync += plan(act_words, act_beats)
                    m.next = "ACTS"
            with m.State("ACTS"):
                m.d.comb += [
                    taking.eq(1),
                    self.acts_en.eq(word_done),
                    self.acts_tile_done.eq(item_done),
                    self.acts_bank_done.eq(item_done & (tile.last_k | ~self.resident)),
                ]
                with m.If(word_done):
                    m.d.sync += acts_address.eq(Mux(self.acts_bank_done, 0, acts_address + 1))
                with m.If(item_done):
                    m.d.comb += finished.eq(1)
                    m.next = "PLAN_PARAMS"
        with m.If(self.start):
            m.d.sync += acts_address.eq(0)
        m.d.comb += [
            loop.step.eq(finished),
            self.framing_error.eq(fire & (self.i.payload.last != (finished & tile.last))),
            self.overrun.eq(
                self.acts_en & (acts_address == self._config.act_depth - 1) & ~self.acts_bank_done
            ),
            self.params_addr.eq(address),
            self.weights_addr.eq(address),
            self.acts_addr.eq(acts_address),
        ]
        self._distribute(m, word)
        return m

    def _beats(self, elements: int) -> int:
        return -(-elements * 8 // self._config.axis_data_bits)

    def _beats_less_one(self, elements: Value) -> Value:
        return (elements - 1)[: len(elements)] >> (self._config.axis_data_bits // 8).bit_length() - 1

    def _distribute(self, m: Module, word: Signal) -> None:
        config = self._config

        def lanes(count: int, bits: int) -> Value:
            return Cat(word[8 * lane : 8 * lane + bits] for lane in range(count))

        m.d.comb += [
            self.weights_data.eq(lanes(config.columns, config.weight_bits)),
            self.acts_data.eq(lanes(config.rows, config.act_bits)),
        ]
        connect_params(m, config, word, self.params_data)
