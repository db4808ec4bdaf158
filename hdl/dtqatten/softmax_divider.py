"""The softmax unit's divisions: the reciprocals of the rows' sums, a row a cycle, and the rows' output factors."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.reciprocal import RECIPROCAL_BITS, Reciprocal
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import SCALE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.softmax_numerators import LARGEST_OCTAVE_BITS
from bitfabric.hdl.dtqatten.softmax_taps import exponent_sum_bits, numerator_sum_bits, sum_octave_bits, taps
from bitfabric.quant.softmax import EXPONENT_FRACTION

MULTIPLIER_BITS = 18  # of a row factor; 17 are used
SHIFT_BITS = 6


class Walk(NamedTuple):
    """Hold a walk over a band's queries: its strobe, and which query of which band, the last or not."""

    active: Value
    last: Value
    lane: Value
    band: Value


class SoftmaxDivider(Block):
    """Take the reciprocals of S, and of mx or A, of a band's queries one after the other, and turn them into factors.

    Two reciprocal units in step: one takes S, the other mx with a scale for each token, A with one for the layer; so
    a band of C' queries takes C' cycles [ours]. The sums of a band are copied when they are complete, and the next band's
    follow at least C' cycles later. A query's output factor is (M, sh) with
    ``M = (out_multiplier*r + 32768) >> 16`` and ``sh = min(63, out_shift + e)``, (r, e) the reciprocal of A, or with scales
    for each token of S/mx: ``r = (mf*r_S + 65536) >> 17`` with ``mf = (mx << 16) >> e_mx``, ``e = e_S - e_mx + 10``. M is never
    0, as r is at least 32768 [derived]. With ``sums_en`` in cycle s, query l's reciprocals are given in s + ``LATENCY`` + l,
    with scales for each token its factor in s + ``FACTOR_LATENCY_TOKEN`` + l. With one for the layer it comes in
    s + ``FACTOR_LATENCY`` + l after ``totals_en`` in s.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    per_token, out_multiplier, out_shift : In
        Constant while there is work inside; the multiplier is from 1.
    sums_en : In(1)
        Copy ``sums``, and in the next cycle ``largest``.
    sums, largest : In
        S and mx of the C queries, query 0 lowest. An mx of 0 counts as 1.
    sums_band, sums_columns : In
        The band and its queries, C'.
    totals_en, totals, totals_band, totals_columns : In
        The same for A.
    ready, ready_band, ready_columns : Out
        Two cycles before the band's last reciprocals can be used: strobe, band, C'.
    result_en : Out(C)
        The query whose reciprocals are given.
    sum_reciprocal, sum_octave, largest_reciprocal, largest_octave : Out
        As ``NumeratorLane`` takes them.
    factor_en, factor_band, factor_lane, factor_multiplier, factor_shift : Out
        A query's output factor.
    factors_done, factors_band : Out
        Strobe in the cycle after a band's last factor, and the band.
    """

    LATENCY: ClassVar[int] = Reciprocal.LATENCY + 2
    FACTOR_LATENCY_TOKEN: ClassVar[int] = LATENCY + 2
    FACTOR_LATENCY: ClassVar[int] = Reciprocal.LATENCY + 2

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        self._band_bits = band = address_bits(config.bands_max)
        self._lane_bits = address_bits(config.columns)
        columns = config.columns.bit_length()
        super().__init__(
            {
                "per_token": In(1),
                "out_multiplier": In(SCALE_BITS),
                "out_shift": In(SHIFT_BITS),
                "sums_en": In(1),
                "sums": In(config.columns * exponent_sum_bits(config)),
                "largest": In(config.columns * SCALE_BITS),
                "sums_band": In(band),
                "sums_columns": In(columns),
                "totals_en": In(1),
                "totals": In(config.columns * numerator_sum_bits(config)),
                "totals_band": In(band),
                "totals_columns": In(columns),
                "ready": Out(1),
                "ready_band": Out(band),
                "ready_columns": Out(columns),
                "result_en": Out(config.columns),
                "sum_reciprocal": Out(RECIPROCAL_BITS),
                "sum_octave": Out(sum_octave_bits(config)),
                "largest_reciprocal": Out(RECIPROCAL_BITS),
                "largest_octave": Out(LARGEST_OCTAVE_BITS),
                "factor_en": Out(1),
                "factor_band": Out(band),
                "factor_lane": Out(self._lane_bits),
                "factor_multiplier": Out(MULTIPLIER_BITS),
                "factor_shift": Out(SHIFT_BITS),
                "factors_done": Out(1),
                "factors_band": Out(band),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk over the queries, divide, hand out."""
        m = Module()
        sum_bits, total_bits = exponent_sum_bits(self._config), numerator_sum_bits(self._config)
        sum_unit = place(m, "sum_unit", Reciprocal(x_bits=sum_bits))
        other_unit = place(m, "other_unit", Reciprocal(x_bits=max(SCALE_BITS, total_bits)))

        sums, sums_columns = self._walk(m, "sums", self.sums_en, self.sums_band, self.sums_columns)
        totals, _ = self._walk(m, "totals", self.totals_en, self.totals_band, self.totals_columns)
        start_late, active_late = Signal(), Signal()
        sum_late = Signal(sum_bits, reset_less=True)
        m.d.sync += [
            start_late.eq(self.sums_en),
            active_late.eq(sums.active),
            # S is complete a cycle before mx; from here on they are in step.
            sum_late.eq(self._hold(m, "sums_hold", self.sums, self.sums_en, sums.active)[:sum_bits]),
        ]
        others = Signal(self._config.columns * len(other_unit.x))
        other_start, other_step = Signal(), Signal()
        m.d.comb += [
            others.eq(
                Mux(
                    self.per_token,
                    self._widened(self.largest, len(other_unit.x)),
                    self._widened(self.totals, len(other_unit.x)),
                )
            ),
            other_start.eq(Mux(self.per_token, start_late, self.totals_en)),
            other_step.eq(Mux(self.per_token, active_late, totals.active)),
        ]
        other = self._hold(m, "others_hold", others, other_start, other_step)[: len(other_unit.x)]
        m.d.comb += [
            sum_unit.x.eq(sum_late),
            other_unit.x.eq(Cat(other[0] | ~other.any(), other[1:])),
        ]

        late = self.LATENCY - 1  # from the walk to the reciprocals
        active = taps(m, "sums_active", sums.active, late + 1, reset_less=False)
        last = taps(m, "sums_last", sums.last, late + 1, reset_less=False)
        lane = taps(m, "sums_lane", sums.lane, late + 1)
        band = taps(m, "sums_band", sums.band, late + 1)
        columns = taps(m, "sums_columns", sums_columns, late - 1)
        m.d.comb += [
            self.ready.eq(last[late - 1]),
            self.ready_band.eq(band[late - 1]),
            self.ready_columns.eq(columns[late - 1]),
            self.result_en.eq(
                Cat(lane[late] == number for number in range(self._config.columns))
                & active[late].replicate(self._config.columns)
            ),
            self.sum_reciprocal.eq(sum_unit.r),
            # e is 22 to 32.
            self.sum_octave.eq(sum_unit.e - EXPONENT_FRACTION),
            # Of mx where each token has a scale; it is below 2^16.
            self.largest_reciprocal.eq(other_unit.r),
            self.largest_octave.eq(other_unit.e),
        ]
        late = Reciprocal.LATENCY
        total_walk = Walk(
            taps(m, "totals_active", totals.active, late, reset_less=False)[-1],
            taps(m, "totals_last", totals.last, late, reset_less=False)[-1],
            taps(m, "totals_lane", totals.lane, late)[-1],
            taps(m, "totals_band", totals.band, late)[-1],
        )
        self._factors(m, sum_unit, other_unit, Walk(active[-1], last[-1], lane[-1], band[-1]), total_walk)
        return m

    def _walk(
        self, m: Module, name: str, start: Signal, band: Signal, columns: Signal
    ) -> tuple[Walk, Signal]:
        """Return a walk over the queries of a band that begins a cycle after ``start``, and its queries' number."""
        active = Signal(name=f"{name}_walking")
        lane = Signal(self._lane_bits, name=f"{name}_walk_lane", reset_less=True)
        left = Signal(len(columns), name=f"{name}_walk_left", reset_less=True)
        held = Signal(len(band), name=f"{name}_walk_band", reset_less=True)
        count = Signal(len(columns), name=f"{name}_walk_columns", reset_less=True)
        last = Signal(name=f"{name}_walk_last")
        m.d.comb += last.eq(active & (left == 1))
        with m.If(start):
            m.d.sync += [active.eq(1), lane.eq(0), left.eq(columns), held.eq(band), count.eq(columns)]
        with m.Elif(active):
            m.d.sync += [active.eq(~last), lane.eq(lane + 1), left.eq(left - 1)]
        return Walk(active, last, lane, held), count

    def _widened(self, lanes: Signal, width: int) -> Value:
        """Return the queries' values, each of ``width`` bits."""
        size = len(lanes) // self._config.columns
        return Cat(
            Cat(lanes[size * number : size * (number + 1)], Const(0, width - size))
            for number in range(self._config.columns)
        )

    def _hold(self, m: Module, name: str, lanes: Signal, start: Value, step: Value) -> Signal:
        """Return a copy of ``lanes``, made at ``start``, that goes down by a lane with each ``step``."""
        hold = Signal(len(lanes), name=name, reset_less=True)
        with m.If(start):
            m.d.sync += hold.eq(lanes)
        with m.Elif(step):
            m.d.sync += hold.eq(hold >> (len(lanes) // self._config.columns))
        return hold

    def _factors(
        self, m: Module, sum_unit: Reciprocal, other_unit: Reciprocal, sums: Walk, totals: Walk
    ) -> None:
        """Compute the factors; the walks stand at the stage before the multiplication by ``out_multiplier``."""
        ratio = Signal(RECIPROCAL_BITS, reset_less=True)
        ratio_octave = Signal(SHIFT_BITS, reset_less=True)
        r, octave = Signal(RECIPROCAL_BITS), Signal(SHIFT_BITS)
        walk = Walk(
            *(Signal(len(value), name=f"factor_{n}") for n, value in zip(Walk._fields, sums, strict=True))
        )
        shift = Signal(SHIFT_BITS + 1)
        m.d.sync += [
            ratio.eq((Cat(other_unit.fraction, Const(1, 1)) * sum_unit.r + (1 << 16)) >> 17),
            # e_S - e_mx + 10, 17 to 42.
            ratio_octave.eq(self.sum_octave + EXPONENT_FRACTION + 10 - other_unit.e),
        ]
        m.d.comb += [
            r.eq(Mux(self.per_token, ratio, other_unit.r)),
            octave.eq(Mux(self.per_token, ratio_octave, other_unit.e)),
            shift.eq(self.out_shift + octave),
            *(own.eq(Mux(self.per_token, s, t)) for own, s, t in zip(walk, sums, totals, strict=True)),
        ]
        most = (1 << SHIFT_BITS) - 1
        ended = Signal()
        multiplier = Signal(MULTIPLIER_BITS, reset_less=True)
        held_shift = Signal(SHIFT_BITS, reset_less=True)
        lane, band, last_band = (
            Signal(size, name=f"held_{name}", reset_less=True)
            for name, size in (
                ("lane", self._lane_bits),
                ("band", self._band_bits),
                ("last_band", self._band_bits),
            )
        )
        m.d.sync += [
            self.factor_en.eq(walk.active),
            multiplier.eq((self.out_multiplier * r + (1 << 15)) >> 16),
            held_shift.eq(Mux(shift > most, most, shift[:SHIFT_BITS])),
            lane.eq(walk.lane),
            band.eq(walk.band),
            ended.eq(walk.last),
            self.factors_done.eq(ended),
            last_band.eq(band),
        ]
        m.d.comb += [
            self.factor_multiplier.eq(multiplier),
            self.factor_shift.eq(held_shift),
            self.factor_lane.eq(lane),
            self.factor_band.eq(band),
            self.factors_band.eq(last_band),
        ]
