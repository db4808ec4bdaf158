"""The loader of channel parameters and weights: granules to the columns that will use them."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.drift.config import CHANNEL_BITS, CHANNELS, GRANULE_BITS, DriftConfig


class WeightLoader(Block):
    """Take channel parameters, then weights, and say which N tiles are there.

    Granules of both halves come merged in proportion to their numbers, so that neither half waits for the other
    whatever the split: high ones go first where ``(i + 1) * low <= (j + 1) * high`` for i high and j low ones that have
    come. A half's granules fill its columns in turn from its edge; a column keeps ``slots`` of them and takes the
    next when both regions of the half have done with the N tile that was there.
    A beat is taken per cycle; ``i.ready`` depends on registers only.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    params_start : In(1)
        Take the parameters from the next cycle on; the ports below are stable from now on.
    start : In(1)
        The split is known: take the weights from two cycles later on, or two after the last parameter.
    granules_high, granules_low, slot_words, slots, columns_left : In
        Granules of either half, words of a granule, N tiles that fit a column, and the split.
    i : In(stream of beat_layout)
        Beats.
    params_en, params_granule, params_low, params_data : Out
        A granule's parameters: its number in its half, which half, and its four records.
    write_en, write_address, write_data : Out
        A word to a column (one bit each).
    consumed : In(GRANULE_BITS).array(4)
        N tiles that the regions hh, hl, lh, ll have done with; regions without work say all.
    ready_left, ready_right : Out(GRANULE_BITS)
        N tiles that are there.
    params_done, done : Out(1)
        All parameters, all weights have come.
    framing_error : Out(1)
        ``last`` came early, or not with the last beat; stays.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "params_start": In(1),
                "start": In(1),
                "granules_high": In(GRANULE_BITS),
                "granules_low": In(GRANULE_BITS),
                "slot_words": In(config.weight_words.bit_length()),
                "slots": In(4),
                "columns_left": In(range(config.columns + 1)),
                "i": In(stream.Signature(beat_layout(config.axis_data_bits))),
                "params_en": Out(1),
                "params_granule": Out(GRANULE_BITS),
                "params_low": Out(1),
                "params_data": Out(CHANNELS * CHANNEL_BITS),
                "write_en": Out(config.columns),
                "write_address": Out(config.weight_address_bits),
                "write_data": Out(config.axis_data_bits),
                "consumed": In(GRANULE_BITS).array(4),
                "ready_left": Out(GRANULE_BITS),
                "ready_right": Out(GRANULE_BITS),
                "params_done": Out(1),
                "done": Out(1),
                "framing_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count beats of parameters, then words, columns and N tiles of weights."""
        m = Module()
        in_params, in_weights, started = Signal(), Signal(), Signal()
        taken = Signal()
        params_last, weights_last = Signal(), Signal()
        m.d.comb += [
            taken.eq(self.i.valid & self.i.ready),
            self.params_done.eq(~in_params & started),
        ]
        with m.If(self.params_start):
            m.d.sync += [started.eq(1), in_params.eq(1)]
        with m.If(params_last):
            m.d.sync += in_params.eq(0)
        wanted = Signal()  # the start may come before the parameters are there
        with m.If(self.start):
            m.d.sync += wanted.eq(1)
        with m.If(wanted & started & ~in_params):
            m.d.sync += [in_weights.eq(1), wanted.eq(0)]
        with m.If(weights_last):
            m.d.sync += [in_weights.eq(0), self.done.eq(1)]
        with m.If(taken & (self.i.payload.last != weights_last)):
            m.d.sync += self.framing_error.eq(1)

        room = self._weights(m, in_weights, taken, weights_last)
        self._params(m, in_params, taken, params_last)
        m.d.comb += self.i.ready.eq(in_params | (in_weights & room))
        return m

    def _params(self, m: Module, active: Signal, taken: Signal, last: Signal) -> None:
        """Gather a granule's beats; high granules come first."""
        config = self._config
        beats, width = config.params_beats, config.axis_data_bits
        granule, low = Signal(GRANULE_BITS, reset_less=True), Signal(reset_less=True)
        parts = [Signal(width, name=f"part_{i}", reset_less=True) for i in range(beats - 1)]
        beat = Signal(range(max(beats, 2)), reset_less=True)
        ends = Signal()
        m.d.comb += [
            ends.eq(active & taken & (beat == beats - 1)),
            self.params_en.eq(ends),
            self.params_granule.eq(granule),
            self.params_low.eq(low),
            self.params_data.eq(Cat(*parts, self.i.payload.data)),
            last.eq(
                ends
                & Mux(
                    low,
                    granule + 1 == self.granules_low,
                    (granule + 1 == self.granules_high) & (self.granules_low == 0),
                )
            ),
        ]
        with m.If(active & taken):
            m.d.sync += beat.eq(beat + 1)
            for index, part in enumerate(parts):
                with m.If(beat == index):
                    m.d.sync += part.eq(self.i.payload.data)
        with m.If(ends):
            m.d.sync += [beat.eq(0), granule.eq(granule + 1)]
            with m.If(~low & (granule + 1 == self.granules_high)):
                m.d.sync += [low.eq(1), granule.eq(0)]
        with m.If(self.params_start):
            m.d.sync += [beat.eq(0), granule.eq(0), low.eq(self.granules_high == 0)]

    def _weights(self, m: Module, active: Signal, taken: Signal, last: Signal) -> Signal:
        """Write words to columns; return whether the granule that comes has a place."""
        config = self._config
        order = Signal(signed(GRANULE_BITS + 2), reset_less=True)  # (i + 1) * low - (j + 1) * high
        word = Signal(config.weight_words.bit_length(), reset_less=True)
        counts = [self.granules_high, self.granules_low]
        sizes = [Signal(range(config.columns + 1), name=f"columns_{half}") for half in ("left", "right")]
        m.d.comb += [sizes[0].eq(self.columns_left), sizes[1].eq(config.columns - self.columns_left)]
        sent = [Signal(GRANULE_BITS, name=f"sent_{half}", reset_less=True) for half in range(2)]
        column = [Signal(range(config.columns), name=f"column_{half}", reset_less=True) for half in range(2)]
        slot = [Signal(4, name=f"slot_{half}", reset_less=True) for half in range(2)]
        base = [Signal(config.weight_address_bits, name=f"base_{half}", reset_less=True) for half in range(2)]
        ready = [Signal(GRANULE_BITS, name=f"ready_{half}", reset_less=True) for half in range(2)]
        left = [Signal(name=f"left_{half}") for half in range(2)]
        places = [Signal(name=f"place_{half}") for half in range(2)]
        behind = [Signal(GRANULE_BITS, name=f"behind_{half}") for half in range(2)]
        right, room, ends = Signal(), Signal(), Signal()
        for half in range(2):
            upper, lower = self.consumed[half], self.consumed[2 + half]
            m.d.comb += [
                behind[half].eq(Mux(upper < lower, upper, lower)),
                left[half].eq(sent[half] != counts[half]),
            ]
            # A register: a place is seen a cycle after it was given up.
            m.d.sync += places[half].eq(ready[half] - behind[half] < self.slots)
        m.d.comb += [
            right.eq(~left[0] | (left[1] & (order > 0))),
            room.eq(Mux(right, places[1], places[0])),
            ends.eq(active & taken & (word + 1 == self.slot_words)),
            last.eq(
                ends
                & (sent[0] + (ends & ~right) == self.granules_high)
                & (sent[1] + (ends & right) == self.granules_low)
            ),
            self.write_address.eq(Mux(right, base[1], base[0]) + word),
            self.write_data.eq(self.i.payload.data),
            self.ready_left.eq(ready[0]),
            self.ready_right.eq(ready[1]),
        ]
        for index in range(config.columns):
            here = Mux(right, column[1] == config.columns - 1 - index, column[0] == index)
            m.d.comb += self.write_en[index].eq(active & taken & here)
        with m.If(active & taken):
            m.d.sync += word.eq(word + 1)
        for half in range(2):
            with m.If(ends & (right == half)):
                full_tile = Signal(name=f"full_tile_{half}")
                m.d.comb += full_tile.eq((column[half] + 1 == sizes[half]) | (sent[half] + 1 == counts[half]))
                m.d.sync += [
                    word.eq(0),
                    sent[half].eq(sent[half] + 1),
                    column[half].eq(column[half] + 1),
                    order.eq(order - self.granules_high if half else order + self.granules_low),
                ]
                with m.If(full_tile):
                    m.d.sync += [
                        column[half].eq(0),
                        ready[half].eq(ready[half] + 1),
                        slot[half].eq(slot[half] + 1),
                        base[half].eq(base[half] + self.slot_words),
                        places[half].eq(ready[half] + 1 - behind[half] < self.slots),
                    ]
                    with m.If(slot[half] + 1 == self.slots):
                        m.d.sync += [slot[half].eq(0), base[half].eq(0)]
        with m.If(self.params_start):
            m.d.sync += [
                word.eq(0),
                order.eq(self.granules_low - self.granules_high),
            ]
            for half in range(2):
                m.d.sync += [
                    sent[half].eq(0),
                    column[half].eq(0),
                    slot[half].eq(0),
                    base[half].eq(0),
                    ready[half].eq(0),
                ]
        return room
