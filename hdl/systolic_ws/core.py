"""The weight-stationary core: the tile sequencers in front of the datapath."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.gemm.core import FEED_LATENCY, CycleWindow, core_members, delay
from bitfabric.hdl.gemm.tile_loop import TileLoop, tile_layout
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.hdl.systolic_ws.datapath import SystolicWsDatapath


class SystolicWsCore(Block):
    """Load weights, feed activations and announce psums, tile after tile.

    Two sequencers share the tiles. The weight sequencer issues ``rows`` weight rows, the last one first (zeros
    where K ends inside the tile); the feed sequencer then issues ``m_valid`` activation rows. Single buffered, the
    next tile's weights are issued when the last psum has left the array; double buffered, from the first feed on.
    Without a stall the tiles follow each other with no cycle lost: see ``SystolicWsConfig``.

    Parameters
    ----------
    config : SystolicWsConfig
        Gives the array and its buffering.

    Members
    -------
    See ``core_members``.
    """

    def __init__(self, config: SystolicWsConfig):
        self._config = config
        super().__init__(core_members(config, config.psum_bits))

    def elaborate(self, platform: object) -> Module:
        """Join the two sequencers through one slot: the tile whose weights are loaded."""
        m = Module()
        config = self._config
        double = config.weight_buffering == "double"
        tail = config.rows + config.columns - 2

        loop = place(m, "loop", TileLoop(config))
        m.d.comb += [loop.m.eq(self.m), loop.k.eq(self.k), loop.n.eq(self.n), loop.start.eq(self.start)]
        slot = Signal(tile_layout(config), reset_less=True)
        loading, loaded, feeding = Signal(), Signal(), Signal()
        load_start, feed_start, feed_last = Signal(), Signal(), Signal()
        cooldown = Signal(range(tail + 1))

        # Weights.
        index = Signal(range(config.rows), reset_less=True)
        load_index = Signal.like(index)
        load_issue, load_last = Signal(), Signal()
        array_free = (~loaded | feed_start) if double else (~loaded & ~feeding & (cooldown == 0))
        m.d.comb += [
            load_start.eq(loop.active & ~loading & self.weights_full & array_free),
            load_issue.eq(load_start | loading),
            load_index.eq(Mux(load_start, 0, index)),
            load_last.eq(load_issue & (load_index == config.rows - 1)),
            loop.step.eq(load_last),
            self.weights_release.eq(load_last),
        ]
        with m.If(load_issue):
            m.d.sync += [index.eq(load_index + 1), loading.eq(~load_last)]
        with m.If(load_last):
            m.d.sync += slot.eq(loop.tile)
        with m.If(load_last):
            m.d.sync += loaded.eq(1)
        with m.Elif(feed_start):
            m.d.sync += loaded.eq(0)
        weight_row = Signal.like(index)
        inside = Signal()
        m.d.comb += [
            weight_row.eq(config.rows - 1 - load_index),
            inside.eq(weight_row < loop.tile.k_valid),
            self.weights_en.eq(load_issue & inside),
            self.weights_addr.eq(weight_row),
        ]

        # Activations.
        needs_acts = Signal()
        rows_left = Signal(range(config.acc_depth + 1), reset_less=True)
        row = Signal(range(config.acc_depth), reset_less=True)
        feed_issue, last_row = Signal(), Signal()
        held = Signal.like(slot, reset_less=True)
        tile = data.View(tile_layout(config), Signal.like(slot.as_value(), name="tile"))
        address = Signal(range(config.act_depth), reset_less=True)
        m.d.comb += [
            needs_acts.eq(slot.first_n | ~self.resident),
            feed_start.eq(
                loaded & ~feeding & (self.acts_ready | ~needs_acts) & (self.acc_free | ~slot.first_k)
            ),
            feed_issue.eq(feed_start | feeding),
            tile.as_value().eq(Mux(feed_start, slot.as_value(), held.as_value())),
            last_row.eq(Mux(feed_start, slot.m_valid == 1, rows_left == 1)),
            feed_last.eq(feed_issue & last_row),
            self.acts_taken.eq(feed_start & needs_acts),
            self.acts_en.eq(feed_issue),
            self.acts_addr.eq(address),
            self.acts_release.eq(feed_last & (~self.resident | (tile.last_n & tile.last_k))),
            self.claim.eq(feed_start & slot.first_k),
            self.claim_info.m_valid.eq(slot.m_valid),
            self.claim_info.n_valid.eq(slot.n_valid),
            self.claim_info.last.eq(slot.last_m & slot.last_n),
        ]
        with m.If(feed_start):
            m.d.sync += held.eq(slot)
        with m.If(feed_issue):
            m.d.sync += [
                feeding.eq(~last_row),
                rows_left.eq(Mux(feed_start, slot.m_valid, rows_left) - 1),
                row.eq(Mux(last_row, 0, row + 1)),
                # The tiles of an M step stand one behind the other; each N tile begins again at the first.
                address.eq(Mux(last_row & (~self.resident | tile.last_k), 0, address + 1)),
            ]
        with m.If(feed_last):
            m.d.sync += cooldown.eq(tail)
        with m.Elif(cooldown != 0):
            m.d.sync += cooldown.eq(cooldown - 1)
        with m.If(self.start):
            m.d.sync += [row.eq(0), address.eq(0)]
        bank = Signal()
        with m.If(self.claim):
            m.d.sync += bank.eq(~bank)

        south = data.View(self.south.shape(), Signal(self.south.shape().size, name="south_issue"))
        m.d.comb += [
            south.valid.eq(feed_issue),
            south.row.eq(row),
            south.bank.eq(Mux(self.claim, bank, ~bank)),
            south.first.eq(tile.first_k),
            south.last.eq(last_row & tile.last_k),
        ]
        datapath = place(m, "datapath", SystolicWsDatapath(config))
        m.d.comb += [
            datapath.load_issue.eq(load_issue),
            datapath.load_index.eq(load_index),
            datapath.load_inside.eq(inside),
            datapath.swap.eq(feed_start),
            datapath.weights_data.eq(self.weights_data),
            datapath.acts_data.eq(self.acts_data),
            self.south.eq(delay(m, "south", south.as_value(), FEED_LATENCY + config.rows, reset_less=True)),
            # The only bit that must not be undefined after a reset.
            self.south.valid.eq(delay(m, "south_valid", feed_issue, FEED_LATENCY + config.rows)),
            *(self.psum[column].eq(datapath.psum[column]) for column in range(config.columns)),
        ]
        window = CycleWindow(m, begin=load_start, last=feed_last & tile.last, tail=tail)
        cycles = Signal(range(config.acc_depth + 2 * config.rows + config.columns))
        if double:
            m.d.comb += cycles.eq(Mux(slot.m_valid > config.rows, slot.m_valid, config.rows))
        else:
            m.d.comb += cycles.eq(slot.m_valid + (config.rows + tail))
        stalled = window.pace(
            first=config.rows, issue=feed_start, cycles=cycles, pending=loop.active | loading | loaded
        )
        m.d.comb += [self.window.eq(window.window), self.stalled.eq(stalled)]
        return m
