"""The softmax unit: a band's scores to numerators, importance and output factors, one lane per query."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.exponent import EXPONENT_BITS
from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.dtqatten.config import SCALE_BITS, SCORE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.softmax_divider import MULTIPLIER_BITS, SHIFT_BITS, SoftmaxDivider
from bitfabric.hdl.dtqatten.softmax_exponents import ExponentLane
from bitfabric.hdl.dtqatten.softmax_numerators import NUMERATOR_BITS, NumeratorLane
from bitfabric.hdl.dtqatten.softmax_reader import SoftmaxReader
from bitfabric.hdl.dtqatten.softmax_sequencer import SoftmaxSequencer
from bitfabric.hdl.dtqatten.softmax_taps import (
    exponent_sum_bits,
    importance_bits,
    numerator_sum_bits,
    taps,
)


class SoftmaxUnit(Block):
    """Take the softmax of bands of C queries over m keys, a key a cycle, equal to ``quant.softmax`` to the bit.

    The first pass over a band's scores writes the exponents into a buffer and sums them; the reciprocals of the
    sums follow, a query a cycle; the second pass gives numerators and probabilities, and layer-scaled numerators are summed for
    the output factors. The passes of consecutive bands overlap [ours]: the buffer holds two bands, and as both passes take a key a
    cycle, the first may enter a bank as soon as the second begins to leave it.

    Of a band taken in cycle a (``band_valid & band_ready``) the second pass begins in ``b = a + m + C' + START``, or m
    cycles after that of the band before. Then the last numerators are written in ``b + m + NUMERATORS - 1``,
    ``numerators_done`` comes in ``b + m + NUMERATORS``, ``importance_done`` in ``b + m + IMPORTANCE``. With one
    scale for the layer the last output factor is written ``C' + FACTORS - 1`` cycles after
    ``numerators_done`` and ``factors_done`` comes ``C' + FACTORS`` after it. With a scale for each token factors do not wait for
    numerators: they are written from ``a + m + FACTORS_TOKEN`` on and are done C' cycles later; so a band may only be
    offered when the results of its queries in the head before have left the array. A band can be taken
    ``max(m, C' + 2)`` cycles after the one before it, and when the second pass of the one before that
    begins; bands of more than about C keys are so taken every m cycles. ``sim/cycles/dtqatten_softmax.py`` has all times.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    positions : In
        m, from 1; constant, as the other levels, while there are bands inside.
    per_token : In(1)
        Values have a scale for each token.
    out_multiplier : In(16)
        From 1.
    out_shift : In(6)
        From 1.
    scale_en, scale_position, scale_v : In
        Write the scale sv, from 1, of the token at a position.
    band_valid, band, band_columns, band_ready
        The stream of bands; C' is 1 to C and at most m. All its scores are there.
    max_en, max_band, max_data, max_valid
        A band's maxima, a cycle after they are asked for: 24 bits a query, query 0 of port 0 lowest; and
        which ports have any. Of the first C' queries every one has a score that is not masked.
    read_en, read_band, read_slot, read_data
        Scores of a key, likewise: position t is row ``t % R`` of tile ``t // R``, in slot ``tile // P * R + t % R`` of
        port ``tile % P``.
    a_en, a_band, a_position, a_data : Out
        Write the numerators of a key, a byte a query; of queries from C' on they mean nothing.
    add_en, add_position, add_value : Out
        Add to the importance of a position: the sum of its probabilities over the band's queries.
    factor_en, factor_band, factor_lane, factor_multiplier, factor_shift : Out
        Write a query's output factor; the multiplier is below 2^17.
    numerators_done, numerators_band : Out
        Strobe in the cycle after a band's last numerators, and the band.
    importance_done : Out
        Strobe with a band's last addition.
    factors_done, factors_band : Out
        Strobe in the cycle after a band's last factor, and the band.
    """

    EXPONENTS: ClassVar[int] = SoftmaxReader.LATENCY + 1 + ExponentLane.LATENCY  # from taken to the first E
    START: ClassVar[int] = EXPONENTS + SoftmaxDivider.LATENCY
    NUMERATORS: ClassVar[int] = 1 + NumeratorLane.LATENCY
    IMPORTANCE: ClassVar[int] = 1 + NumeratorLane.PROBABILITY_LATENCY
    FACTORS: ClassVar[int] = SoftmaxDivider.FACTOR_LATENCY - 1
    FACTORS_TOKEN: ClassVar[int] = EXPONENTS + SoftmaxDivider.FACTOR_LATENCY_TOKEN

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        band, columns = address_bits(config.bands_max), config.columns.bit_length()
        scores = config.unload_ports * config.columns * SCORE_BITS
        super().__init__(
            {
                "positions": In(config.count_bits),
                "per_token": In(1),
                "out_multiplier": In(SCALE_BITS),
                "out_shift": In(SHIFT_BITS),
                "scale_en": In(1),
                "scale_position": In(config.id_bits),
                "scale_v": In(SCALE_BITS),
                "band_valid": In(1),
                "band": In(band),
                "band_columns": In(columns),
                "band_ready": Out(1),
                "max_en": Out(1),
                "max_band": Out(band),
                "max_data": In(scores),
                "max_valid": In(config.unload_ports),
                "read_en": Out(config.unload_ports),
                "read_band": Out(band),
                "read_slot": Out(address_bits(config.slots_max)),
                "read_data": In(scores),
                "a_en": Out(1),
                "a_band": Out(band),
                "a_position": Out(config.id_bits),
                "a_data": Out(config.columns * NUMERATOR_BITS),
                "add_en": Out(1),
                "add_position": Out(config.id_bits),
                "add_value": Out(importance_bits(config)),
                "factor_en": Out(1),
                "factor_band": Out(band),
                "factor_lane": Out(address_bits(config.columns)),
                "factor_multiplier": Out(MULTIPLIER_BITS),
                "factor_shift": Out(SHIFT_BITS),
                "numerators_done": Out(1),
                "numerators_band": Out(band),
                "importance_done": Out(1),
                "factors_done": Out(1),
                "factors_band": Out(band),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect reader, lanes, buffer and divider."""
        m = Module()
        config = self._config
        reader = place(m, "reader", SoftmaxReader(config))
        divider = place(m, "divider", SoftmaxDivider(config))
        buffer = place(m, "buffer", Ram(config.columns * EXPONENT_BITS, 2 * config.tokens_max))
        for name in ("positions", "band_valid", "band", "band_columns", "max_data", "max_valid", "read_data"):
            m.d.comb += getattr(reader, name).eq(getattr(self, name))
        for name in ("band_ready", "max_en", "max_band", "read_en", "read_band", "read_slot"):
            m.d.comb += getattr(self, name).eq(getattr(reader, name))
        for name in ("per_token", "out_multiplier", "out_shift"):
            m.d.comb += getattr(divider, name).eq(getattr(self, name))
        for name in ("factor_en", "factor_band", "factor_lane", "factor_multiplier", "factor_shift"):
            m.d.comb += getattr(self, name).eq(getattr(divider, name))
        m.d.comb += [self.factors_done.eq(divider.factors_done), self.factors_band.eq(divider.factors_band)]

        begins = self._second_pass(m, divider, buffer)
        self._first_pass(m, reader, divider, buffer)
        inside = Signal(range(3))  # bands taken whose second pass has not begun
        m.d.comb += reader.free.eq(inside != 2)
        m.d.sync += inside.eq(inside + reader.taken - begins)
        return m

    def _address(self, m: Module, name: str, step: Value, last: Value) -> Signal:
        """Return where a pass is in the buffer, the two banks in turn."""
        address = Signal(address_bits(2 * self._config.tokens_max), name=f"{name}_address")
        bank = Signal(name=f"{name}_bank")
        with m.If(step):
            m.d.sync += address.eq(address + 1)
            with m.If(last):
                m.d.sync += [address.eq(Mux(bank, 0, self._config.tokens_max)), bank.eq(~bank)]
        return address

    def _scale(self, m: Module, name: str, step: Value, position: Signal) -> Value:
        """Return the scale of a position in the cycle after ``step``; each pass reads a memory of its own."""
        memory = place(m, f"{name}_scales", Ram(SCALE_BITS, self._config.tokens_max))
        m.d.comb += [
            memory.write_en.eq(self.scale_en),
            memory.write_addr.eq(self.scale_position),
            memory.write_data.eq(self.scale_v),
            memory.read_en.eq(step & self.per_token),
            memory.read_addr.eq(position),
        ]
        return memory.read_data

    def _first_pass(self, m: Module, reader: SoftmaxReader, divider: SoftmaxDivider, buffer: Ram) -> None:
        stages = ExponentLane.LATENCY + 1  # from a request to its E
        reading = taps(m, "reading", reader.read_en.any(), stages, reset_less=False)
        last = taps(m, "reading_last", reader.last, stages + 1, reset_less=False)
        band = taps(m, "reading_band", reader.read_band, stages + 1)
        columns = taps(m, "reading_columns", reader.columns, stages + 1)

        position = Signal(self._config.id_bits)
        with m.If(reading[stages - 1]):
            m.d.sync += position.eq(Mux(last[stages - 1], 0, position + 1))
        scale = self._scale(m, "first", reading[stages - 1], position)
        first, first_scaled = Signal(init=1), Signal(reset_less=True)
        with m.If(reading[stages]):
            m.d.sync += first.eq(last[stages])
        m.d.sync += first_scaled.eq(first)

        lanes = []
        for number in range(self._config.columns):
            lane = place(m, f"exponent_lane_{number}", ExponentLane(self._config))
            part = slice(SCORE_BITS * number, SCORE_BITS * (number + 1))
            m.d.comb += [
                lane.maximum.eq(reader.maximum[part].as_signed()),
                lane.score.eq(reader.score[part].as_signed()),
                lane.value_scale.eq(scale),
                lane.first.eq(first),
                lane.first_scaled.eq(first_scaled),
            ]
            lanes.append(lane)
        m.d.comb += [
            buffer.write_en.eq(reading[stages]),
            buffer.write_addr.eq(self._address(m, "write", reading[stages], last[stages])),
            buffer.write_data.eq(Cat(lane.exponent for lane in lanes)),
            divider.sums_en.eq(last[-1]),
            divider.sums.eq(Cat(lane.total for lane in lanes)),
            divider.largest.eq(Cat(lane.largest for lane in lanes)),
            divider.sums_band.eq(band[-1]),
            divider.sums_columns.eq(columns[-1]),
        ]
        assert len(divider.sums) == self._config.columns * exponent_sum_bits(self._config)

    def _second_pass(self, m: Module, divider: SoftmaxDivider, buffer: Ram) -> Signal:
        """Build the second pass and return the strobe that comes in the cycle before it begins."""
        walk = place(m, "sequencer", SoftmaxSequencer(self._config))
        m.d.comb += [
            walk.positions.eq(self.positions),
            walk.ready.eq(divider.ready),
            walk.ready_band.eq(divider.ready_band),
            walk.ready_columns.eq(divider.ready_columns),
            buffer.read_en.eq(walk.running),
            buffer.read_addr.eq(self._address(m, "read", walk.running, walk.last)),
        ]

        done = self.NUMERATORS + 1
        probability = 1 + NumeratorLane.PROBABILITY_LATENCY
        runs = taps(m, "walk", walk.running, done - 1, reset_less=False)
        lasts = taps(m, "walk_last", walk.last, done, reset_less=False)
        firsts = taps(m, "walk_first", walk.first, NumeratorLane.LATENCY, reset_less=False)
        bands = taps(m, "walk_band", walk.band, done)
        all_columns = taps(m, "walk_columns", walk.columns, done - 1)
        positions = taps(m, "walk_position", walk.position, done - 1)
        scale = self._scale(m, "second", walk.running, walk.position)
        counted = Signal(self._config.columns, reset_less=True)
        m.d.sync += counted.eq(Cat(number < all_columns[probability - 1] for number in range(len(counted))))
        lanes = []
        for number in range(self._config.columns):
            lane = place(m, f"numerator_lane_{number}", NumeratorLane(self._config))
            m.d.comb += [
                lane.per_token.eq(self.per_token),
                lane.result_en.eq(divider.result_en[number]),
                lane.load.eq(Cat(firsts[:3])),
                lane.exponent.eq(buffer.read_data[EXPONENT_BITS * number : EXPONENT_BITS * (number + 1)]),
                lane.value_scale.eq(scale),
                lane.first.eq(firsts[NumeratorLane.LATENCY]),
            ]
            for name in ("sum_reciprocal", "sum_octave", "largest_reciprocal", "largest_octave"):
                m.d.comb += getattr(lane, name).eq(getattr(divider, name))
            lanes.append(lane)
        importance = Signal.like(self.add_value, name="importance", reset_less=True)
        m.d.sync += importance.eq(
            balanced_sum([Mux(on, lane.probability, 0) for on, lane in zip(counted, lanes, strict=True)])
        )
        m.d.comb += [
            self.add_en.eq(runs[probability + 1]),
            self.add_position.eq(positions[probability + 1]),
            self.add_value.eq(importance),
            self.importance_done.eq(lasts[probability + 1]),
            self.a_en.eq(runs[done - 1]),
            self.a_band.eq(bands[done - 1]),
            self.a_position.eq(positions[done - 1]),
            self.a_data.eq(Cat(lane.numerator for lane in lanes)),
            self.numerators_done.eq(lasts[done]),
            self.numerators_band.eq(bands[done]),
            divider.totals_en.eq(lasts[done - 1] & ~self.per_token),
            divider.totals.eq(Cat(lane.total for lane in lanes)),
            divider.totals_band.eq(bands[done - 1]),
            divider.totals_columns.eq(all_columns[done - 1]),
        ]
        assert len(divider.totals) == self._config.columns * numerator_sum_bits(self._config)
        return walk.begins
