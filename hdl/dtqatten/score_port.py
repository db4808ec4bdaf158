"""The way of products from an unload port into the scores: scaled, masked, kept by band and key, with their maxima."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.flat_index import flat_index
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.dtqatten.config import SCALE_BITS, SCORE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.score_lane import SHIFT_BITS, ScoreLane
from bitfabric.hdl.dtqatten.score_maximum import ScoreMaximum
from bitfabric.hdl.dtqatten.score_tables import ScoreTables


class ScorePort(Block):
    """Take a row a cycle: a key's products with a band's queries. Keep the scores of the port's own tiles of keys.

    A row that is on the bus in cycle s is written in s + ``LATENCY``, so that a read in the cycle after finds it;
    ``tile_done`` comes in that cycle, too. The rows of a tile may have gaps; between the last row of a tile and the
    first of the next one there is a cycle without a row, at least.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    scan_en, scan_position, scan_band, scan_lane, scan_id : In
        Tell where a token is, see ``ScoreTables``.
    scale_en, scale_position, scale_band, scale_lane, scale_q, scale_k : In
        Tell its scales, likewise; used with ``per_token``.
    per_token, causal, multiplier, shift : In
        Levels, see ``ScoreLane``.
    i_next_band, i_next_position : In
        The band and the key's position that are on the bus in the next cycle, if anything is.
    i_valid, i_data, i_band, i_slot : In
        A row: the products, column 0 lowest; its band; the key's place among the port's, see ``slots_max``.
    i_row_valid, i_first, i_last : In(1)
        There is such a key; first and last row of its tile.
    tile_done, tile_done_band : Out
        Strobe: all scores of a tile are there.
    max_en, max_band, max_data, max_valid : In, In, Out, Out
        Read a band's maxima on this port, see ``ScoreMaximum``; the next tile of that band starts anew.
    read_en, read_band, read_slot : In
        Read the scores of a key with a band's queries.
    read_data : Out(24 * columns)
        They, from the cycle after until the next read.
    """

    LATENCY: ClassVar[int] = ScoreLane.LATENCY

    def __init__(self, config: DtqattenConfig):
        self._config = config
        position, band, lane = config.id_bits, address_bits(config.bands_max), address_bits(config.columns)
        slot = address_bits(config.slots_max)
        super().__init__(
            {
                "scan_en": In(1),
                "scan_position": In(position),
                "scan_band": In(band),
                "scan_lane": In(lane),
                "scan_id": In(config.id_bits),
                "scale_en": In(1),
                "scale_position": In(position),
                "scale_band": In(band),
                "scale_lane": In(lane),
                "scale_q": In(SCALE_BITS),
                "scale_k": In(SCALE_BITS),
                "per_token": In(1),
                "causal": In(1),
                "multiplier": In(SCALE_BITS),
                "shift": In(SHIFT_BITS),
                "i_next_band": In(band),
                "i_next_position": In(position),
                "i_valid": In(1),
                "i_data": In(config.columns * config.acc_bits),
                "i_band": In(band),
                "i_slot": In(slot),
                "i_row_valid": In(1),
                "i_first": In(1),
                "i_last": In(1),
                "tile_done": Out(1),
                "tile_done_band": Out(band),
                "max_en": In(1),
                "max_band": In(band),
                "max_data": Out(SCORE_BITS * config.columns),
                "max_valid": Out(1),
                "read_en": In(1),
                "read_band": In(band),
                "read_slot": In(slot),
                "read_data": Out(SCORE_BITS * config.columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Compute the lanes' scores; what a row is called goes beside them."""
        m = Module()
        config = self._config
        scores = self._scores(m)
        ram = place(m, "scores", Ram(SCORE_BITS * config.columns, config.bands_max * config.slots_max))
        address = self._address(self.i_band, self.i_slot)[: ram.address_bits]
        marks = Cat(self.i_valid, self.i_valid & self.i_row_valid)
        ends = Cat(self.i_valid & self.i_first, self.i_last)
        late_marks = _stages(m, "marks", marks, self.LATENCY, reset_less=False)
        late_ends = _stages(m, "ends", ends, self.LATENCY, reset_less=False)
        late_band = _stages(m, "band", self.i_band, self.LATENCY)
        late_address = _stages(m, "address", address, self.LATENCY)
        valid, row_valid = late_marks[-1]
        first, last = late_ends[-1]
        m.d.comb += [
            ram.write_en.eq(row_valid),
            ram.write_addr.eq(late_address[-1]),
            ram.write_data.eq(scores),
            ram.read_en.eq(self.read_en),
            ram.read_addr.eq(self._address(self.read_band, self.read_slot)),
            self.read_data.eq(ram.read_data),
        ]
        maximum = place(m, "maximum", ScoreMaximum(config.columns, config.bands_max))
        m.d.comb += [
            maximum.first_ahead.eq(late_ends[-2][0]),
            maximum.band_ahead.eq(late_band[-2]),
            maximum.valid.eq(valid),
            maximum.first.eq(first),
            maximum.last.eq(last),
            maximum.band.eq(late_band[-1]),
            maximum.row_valid.eq(row_valid),
            maximum.scores.eq(scores),
            maximum.max_en.eq(self.max_en),
            maximum.max_band.eq(self.max_band),
            self.max_data.eq(maximum.max_data),
            self.max_valid.eq(maximum.max_valid),
        ]
        done_band = Signal(len(self.tile_done_band), reset_less=True)
        m.d.sync += [self.tile_done.eq(valid & last), done_band.eq(late_band[-1])]
        m.d.comb += self.tile_done_band.eq(done_band)
        return m

    def _scores(self, m: Module) -> Value:
        """Return the row's scores, ``LATENCY`` cycles after it was on the bus."""
        config = self._config
        tables = place(m, "tables", ScoreTables(config))
        for name, member in tables.signature.members.items():
            if name.startswith(("scan_", "scale_")) and member.flow == In:
                m.d.comb += getattr(tables, name).eq(getattr(self, name))
        m.d.comb += [tables.band.eq(self.i_next_band), tables.position.eq(self.i_next_position)]
        scores = []
        for column in range(config.columns):
            lane = place(m, f"lane_{column}", ScoreLane(config.acc_bits, config.id_bits))
            m.d.comb += [
                lane.acc.eq(self.i_data.word_select(column, config.acc_bits).as_signed()),
                lane.scale_q.eq(tables.scales.word_select(column, SCALE_BITS)),
                lane.scale_k.eq(tables.scale_of_key),
                lane.id_q.eq(tables.ids.word_select(column, config.id_bits)),
                lane.id_k.eq(tables.id_k),
                lane.per_token.eq(self.per_token),
                lane.causal.eq(self.causal),
                lane.multiplier.eq(self.multiplier),
                lane.shift.eq(self.shift),
            ]
            scores.append(lane.score)
        return Cat(scores)

    def _address(self, band: Value, slot: Value) -> Value:
        config = self._config
        return flat_index((band, config.bands_max), (slot, config.slots_max))


def _stages(m: Module, name: str, value: Value, count: int, *, reset_less: bool = True) -> list[Signal]:
    """Return ``value`` as it was 1 to ``count`` cycles ago."""
    stages = []
    for stage in range(1, count + 1):
        later = Signal(len(value), name=f"{name}_{stage}", reset_less=reset_less)
        m.d.sync += later.eq(value)
        stages.append(later)
        value = later
    return stages
