"""The way of the arrays' rows: through the unload ports to the scores and the results."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.copies import copies
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import SCALE_BITS, SCORE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.output_port import MULTIPLIER_BITS, SHIFT_BITS, OutputPort
from bitfabric.hdl.dtqatten.score_port import ScorePort
from bitfabric.hdl.dtqatten.tile import tag_layout
from bitfabric.hdl.dtqatten.unload import UnloadPort
from bitfabric.hdl.vssa.counters import COUNTER_BITS

# Ports of all score ports, and of all output ports, that have the same name here.
SCORE_INPUTS = (
    *(f"scan_{name}" for name in ("en", "position", "band", "lane", "id")),
    *(f"scale_{name}" for name in ("en", "position", "band", "lane", "q", "k")),
    *("per_token", "causal", "multiplier", "shift", "max_en", "max_band", "read_band", "read_slot"),
)
FACTOR_INPUTS = tuple(f"factor_{name}" for name in ("en", "band", "lane", "multiplier", "shift"))


class Results(Block):
    """Place the unload ports, and a score port and an output port behind each.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    full, tags, data, working, stalled, take
        See ``Arrays``.
    scan_*, scale_*, per_token, causal, multiplier, shift, max_*, read_* : In, Out
        See ``ScorePort``; data of the ports side by side.
    factor_* : In
        See ``OutputPort``.
    factors_done, factors_band : In
        Strobe: a band's factors are there, so that its results may leave their arrays.
    band_taken, taken_band : In
        Strobe: a band's factors are about to be made anew.
    scores_done, scores_band, results_done, results_band : Out
        Strobes of each port and their bands: a tile's rows are stored.
    out_read_en, out_band, out_tile, out_lane, out_advance, out_data
        Read side of the output ports.
    tile_* : Out
        See ``Counters``.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        ports, band = config.unload_ports, address_bits(config.bands_max)
        lane, count = address_bits(config.columns), config.arrays
        super().__init__(
            {
                "full": In(count),
                "tags": In(count * tag_layout(config).size),
                "data": In(count * config.columns * config.acc_bits),
                "working": In(count * COUNTER_BITS),
                "stalled": In(count * COUNTER_BITS),
                "take": Out(count),
                "scan_en": In(1),
                "scan_position": In(config.id_bits),
                "scan_band": In(band),
                "scan_lane": In(lane),
                "scan_id": In(config.id_bits),
                "scale_en": In(1),
                "scale_position": In(config.id_bits),
                "scale_band": In(band),
                "scale_lane": In(lane),
                "scale_q": In(SCALE_BITS),
                "scale_k": In(SCALE_BITS),
                "per_token": In(1),
                "causal": In(1),
                "multiplier": In(SCALE_BITS),
                "shift": In(6),
                "max_en": In(1),
                "max_band": In(band),
                "max_data": Out(ports * config.columns * SCORE_BITS),
                "max_valid": Out(ports),
                "read_en": In(ports),
                "read_band": In(band),
                "read_slot": In(address_bits(config.slots_max)),
                "read_data": Out(ports * config.columns * SCORE_BITS),
                "factor_en": In(1),
                "factor_band": In(band),
                "factor_lane": In(lane),
                "factor_multiplier": In(MULTIPLIER_BITS),
                "factor_shift": In(SHIFT_BITS),
                "factors_done": In(1),
                "factors_band": In(band),
                "band_taken": In(1),
                "taken_band": In(band),
                "scores_done": Out(ports),
                "scores_band": Out(ports * band),
                "results_done": Out(ports),
                "results_band": Out(ports * band),
                "out_read_en": In(ports),
                "out_band": In(band),
                "out_tile": In(address_bits(config.port_tiles_max)),
                "out_lane": In(lane),
                "out_advance": In(1),
                "out_data": Out(ports * 8 * config.rows),
                "tile_en": Out(ports),
                "tile_pv": Out(ports),
                "tile_floor": Out(2 * ports),
                "tile_working": Out(COUNTER_BITS * ports),
                "tile_stalled": Out(COUNTER_BITS * ports),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Lead every row to both ports behind its unload port; it says which one it is for."""
        m = Module()
        config = self._config
        factors = Signal(config.bands_max)
        with m.If(self.factors_done):
            m.d.sync += Array(factors)[self.factors_band].eq(1)
        with m.If(self.band_taken):
            m.d.sync += Array(factors)[self.taken_band].eq(0)
        unloads, scores, outputs = [], [], []
        for port in range(config.unload_ports):
            unload = place(m, f"unload_{port}", UnloadPort(config, port))
            score = place(m, f"score_{port}", ScorePort(config))
            output = place(m, f"output_{port}", OutputPort(config))
            unloads.append(unload)
            scores.append(score)
            outputs.append(output)
            m.d.comb += [
                *copies(unload, self, ("full", "tags", "data", "working", "stalled")),
                unload.factors.eq(factors),
                *copies(score, self, SCORE_INPUTS),
                *copies(output, self, FACTOR_INPUTS),
                score.read_en.eq(self.read_en[port]),
                score.i_valid.eq(unload.valid & ~unload.pv),
                score.i_slot.eq(unload.slot),
                score.i_first.eq(unload.first),
                score.i_next_position.eq(unload.next_position),
                output.i_valid.eq(unload.valid & unload.pv),
                output.i_tile.eq(unload.slot),
                output.i_row.eq(unload.row),
                output.read_en.eq(self.out_read_en[port]),
                output.read_band.eq(self.out_band),
                output.read_tile.eq(self.out_tile),
                output.read_lane.eq(self.out_lane),
                output.read_advance.eq(self.out_advance),
            ]
            for behind in (score, output):
                m.d.comb += [
                    behind.i_data.eq(unload.bus),
                    behind.i_band.eq(unload.band),
                    behind.i_next_band.eq(unload.next_band),
                    behind.i_row_valid.eq(unload.row_valid),
                    behind.i_last.eq(unload.last),
                ]

        def join(target: Value, blocks: list[Block], name: str) -> None:
            m.d.comb += target.eq(Cat(getattr(block, name) for block in blocks))

        takes: Value = unloads[0].take
        for unload in unloads[1:]:
            takes |= unload.take
        m.d.comb += self.take.eq(takes)
        for name in ("max_data", "max_valid", "read_data"):
            join(getattr(self, name), scores, name)
        for name in ("tile_en", "tile_pv", "tile_floor", "tile_working", "tile_stalled"):
            join(getattr(self, name), unloads, name)
        join(self.scores_done, scores, "tile_done")
        join(self.scores_band, scores, "tile_done_band")
        join(self.results_done, outputs, "tile_done")
        join(self.results_band, outputs, "tile_done_band")
        join(self.out_data, outputs, "read_data")
        return m
