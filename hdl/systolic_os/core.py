"""The output-stationary core: the block sequencer in front of the datapath."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.gemm.core import FEED_LATENCY, CycleWindow, core_members, delay
from bitfabric.hdl.gemm.tile_loop import TileLoop
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_os.datapath import SystolicOsDatapath


class SystolicOsCore(Block):
    """Feed K block by block and let finished tiles run down the drain chain.

    An (M, N) tile is fed for K cycles; the next one starts when its last product is done (``rows + columns - 2``
    cycles later), or with ``tile_overlap`` as soon as the drain chain allows. Without a stall no cycle is lost: see
    ``SystolicOsConfig``. Where a block is late the array idles on invalid activations.

    Parameters
    ----------
    config : SystolicOsConfig
        Gives array and buffers.

    Members
    -------
    See ``core_members``.
    """

    def __init__(self, config: SystolicOsConfig):
        self._config = config
        super().__init__(core_members(config, config.acc_bits))

    def elaborate(self, platform: object) -> Module:
        """Issue blocks; count what the array still has to do after them."""
        m = Module()
        config = self._config
        tail = config.rows + config.columns - 2

        loop = place(m, "loop", TileLoop(config))
        tile = loop.tile
        m.d.comb += [loop.m.eq(self.m), loop.k.eq(self.k), loop.n.eq(self.n), loop.start.eq(self.start)]
        gap = Signal(range(max(tail, config.rows) + 1))  # cycles between two tiles
        if config.tile_overlap:
            m.d.comb += gap.eq(Mux(self.k < config.rows, config.rows - self.k, 0))
        else:
            m.d.comb += gap.eq(tail)

        feeding, feed_start, feed_issue, feed_last = Signal(), Signal(), Signal(), Signal()
        needs_acts, tile_last = Signal(), Signal()
        index = Signal(range(config.weight_depth), reset_less=True)
        address = Signal(range(config.act_depth), reset_less=True)
        cooldown = Signal.like(gap)
        m.d.comb += [
            needs_acts.eq(tile.first_n | ~self.resident),
            feed_start.eq(
                loop.active
                & ~feeding
                & (cooldown == 0)
                & self.weights_full
                & (self.acts_ready | ~needs_acts)
                & (self.acc_free | ~tile.first_k)
            ),
            feed_issue.eq(feed_start | feeding),
            feed_last.eq(feed_issue & (index == tile.k_valid - 1)),
            tile_last.eq(feed_last & tile.last_k),
            loop.step.eq(feed_last),
            self.weights_en.eq(feed_issue),
            self.weights_addr.eq(index),
            self.weights_release.eq(feed_last),
            self.acts_taken.eq(feed_start & needs_acts),
            self.acts_en.eq(feed_issue),
            self.acts_addr.eq(address),
            self.acts_release.eq(feed_last & (~self.resident | (tile.last_n & tile.last_k))),
            self.claim.eq(feed_start & tile.first_k),
            self.claim_info.m_valid.eq(tile.m_valid),
            self.claim_info.n_valid.eq(tile.n_valid),
            self.claim_info.last.eq(tile.last_m & tile.last_n),
        ]
        with m.If(feed_issue):
            m.d.sync += [
                feeding.eq(~feed_last),
                index.eq(Mux(feed_last, 0, index + 1)),
                address.eq(Mux(feed_last & (~self.resident | tile.last_k), 0, address + 1)),
            ]
        with m.If(tile_last):
            m.d.sync += cooldown.eq(gap)
        with m.Elif(cooldown != 0):
            m.d.sync += cooldown.eq(cooldown - 1)
        with m.If(self.start):
            m.d.sync += [index.eq(0), address.eq(0)]

        window = CycleWindow(m, begin=feed_start, last=feed_last & tile.last, tail=tail)
        cycles = Signal(range(config.weight_depth + tail + config.rows + 1))
        m.d.comb += cycles.eq(tile.k_valid + Mux(tile.last_k, gap, 0))
        stalled = window.pace(first=None, issue=feed_start, cycles=cycles, pending=loop.active & ~feeding)
        m.d.comb += [self.window.eq(window.window), self.stalled.eq(stalled)]

        datapath = place(m, "datapath", SystolicOsDatapath(config))
        leaving, row = self._drain(m, tile_last, tile)
        m.d.comb += [
            datapath.valid.eq(feed_issue),
            datapath.first.eq(feed_start & tile.first_k),
            datapath.capture.eq(delay(m, "capture", tile_last, 1)),
            datapath.leaving.eq(leaving),
            datapath.leaving_row.eq(row),
            datapath.weights_data.eq(self.weights_data),
            datapath.acts_data.eq(self.acts_data),
            *(self.psum[column].eq(datapath.psum[column]) for column in range(config.columns)),
        ]
        return m

    def _drain(self, m: Module, tile_last: Value, tile: data.View) -> tuple[Signal, Signal]:
        """Announce the rows that leave a tile's drain chain; return that one leaves, and which."""
        config = self._config
        # The last row captures rows + 1 cycles after the last activation was at row 0, visible a cycle later.
        ended = delay(m, "ended", tile_last, FEED_LATENCY + config.rows)
        ended_rows = delay(m, "ended_rows", tile.m_valid, FEED_LATENCY + config.rows, reset_less=True)
        leaving = Signal()
        row = Signal(range(config.rows), reset_less=True)
        m_valid = Signal(config.rows.bit_length(), reset_less=True)
        bank = Signal()
        with m.If(leaving):
            m.d.sync += row.eq(row - 1)
            with m.If(row == 0):
                m.d.sync += [leaving.eq(0), bank.eq(~bank)]
        with m.If(ended):
            m.d.sync += [leaving.eq(1), row.eq(config.rows - 1), m_valid.eq(ended_rows)]
        m.d.comb += [
            self.south.valid.eq(leaving & (row < m_valid)),
            self.south.row.eq(row),
            self.south.bank.eq(bank),
            self.south.first.eq(1),
            self.south.last.eq(row == 0),
        ]
        return leaving, row
