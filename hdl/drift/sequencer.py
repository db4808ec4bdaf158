"""The sequencer of a region: when its weights are loaded, when they swap, when activations stream."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.banks import RegionBanks
from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, NIBBLES_BITS, DriftConfig
from bitfabric.hdl.drift.controls import drain_layout, read_layout, weight_control
from bitfabric.hdl.drift.tile_walk import TileWalk, tile_layout
from bitfabric.hdl.drift.weight_rows import WeightRows
from bitfabric.hdl.gemm.accumulator import south_layout

# From a cycle of the sequencer to the same event at the fabric's boundary: the store's two and the dispatcher's one.
TO_FABRIC = 3
# A row issued in cycle t is at the edge of column 0 in t + TO_FABRIC + rows, of the last one columns - 1 cycles later,
# and in the memory two cycles after that: a drain that sees `full` a cycle after the delay may read at once.
TO_FULL = TO_FABRIC


class Sequencer(Block):
    """Run a region's tiles as soon as weights, the array and accumulators allow.

    Cycle s of a tile is its swap, its rows are issued in s + 1 ... s + rows, its load began in L:

    - single: ``L >= s' + rows' + R + C - 1``, ``s >= L + R - 1``, of the tile before (s', rows');
    - double: ``L >= s' + R``, ``s >= max(L + R - 1, s' + rows')``;
    - transit: ``L >= s'``, ``s >= max(L + R, s' + rows')``;

    where R and C are the region's, L also waits for the N tile's weights, and s for an accumulator bank where a
    chunk begins. Without those waits a region is active for exactly the cycles of ``sim.cycles.drift_array``
    [derived].

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.
    words : int
        Words of the region's activation store.

    Members
    -------
    start : In(1)
        Begin; the ports up to ``slot_words`` are stable from then on.
    rows, columns, m, granules, nibbles, stride, slots, slot_words : In
        See ``TileWalk``.
    k, bits : In
        K, and the stored width of the region's activations.
    ready : In(GRANULE_BITS)
        N tiles whose weights are in the buffer.
    consumed : Out(GRANULE_BITS)
        N tiles whose weights are not needed any more.
    weights : Out(weight_control(config))
        Row of weights to load, column 0.
    read : Out(read_layout(words, config.word_nibbles))
        Window of a row of activations; ``swap`` goes with local row 0.
    psum : Out(south_layout(config.acc_depth))
        Control of the row issued in this cycle; it is to be at the edge ``TO_FABRIC`` + rows cycles later.
    full, full_bank, info, take, freed
        See ``RegionBanks``.
    active : Out(1)
        The region loads or computes.
    done : Out(1)
        Nothing is left to do and all banks are drained.
    """

    def __init__(self, config: DriftConfig, words: int) -> None:
        self._config = config
        self._words = words
        super().__init__(
            {
                "start": In(1),
                "rows": In(range(config.rows + 1)),
                "columns": In(range(config.columns + 1)),
                "m": In(DIMENSION_BITS),
                "granules": In(GRANULE_BITS),
                "nibbles": In(NIBBLES_BITS),
                "stride": In(DIMENSION_BITS),
                "slots": In(4),
                "slot_words": In(config.weight_words.bit_length()),
                "k": In(DIMENSION_BITS),
                "bits": In(4),
                "ready": In(GRANULE_BITS),
                "consumed": Out(GRANULE_BITS),
                "weights": Out(weight_control(config)),
                "read": Out(read_layout(words, config.word_nibbles)),
                "psum": Out(south_layout(config.acc_depth)),
                "full": Out(1),
                "full_bank": Out(1),
                "info": Out(drain_layout(config)),
                "take": In(1),
                "freed": In(1),
                "active": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Run loads and streams side by side; a tile passes from one to the other at its swap."""
        m = Module()
        config = self._config
        walk = place(m, "walk", TileWalk(config, self._words))
        for name in ("start", "rows", "columns", "m", "granules", "nibbles", "stride", "slots", "slot_words"):
            m.d.comb += getattr(walk, name).eq(getattr(self, name))
        banks = self._banks(m)

        pending = Signal(tile_layout(config, self._words), reset_less=True)  # loading or loaded
        waits, loading, loaded = Signal(), Signal(), Signal()
        hold = Signal(range(config.acc_depth + config.rows + config.columns))
        load, last_step, swap = Signal(), Signal(), Signal()
        step = Signal(range(config.rows + 1), reset_less=True)
        load_row = Signal()  # a row of weights is loaded in this cycle
        streaming, last_row = Signal(), Signal()

        transit, single = config.weight_buffering == "transit", config.weight_buffering == "single"
        can_load = ~waits | swap if transit else ~waits & (hold == 0)
        m.d.comb += [
            load.eq(walk.valid & (self.ready > walk.stripe) & can_load),
            walk.step.eq(load),
            load_row.eq(load | loading),
            last_step.eq(load_row & (Mux(loading, step, 0) + 1 == self.rows)),
            swap.eq(
                (loaded | (0 if transit else last_step))
                & (~streaming | last_row)
                & (~self._first(walk, pending, load) | banks.free)
            ),
        ]
        with m.If(load):
            m.d.sync += [pending.eq(walk.tile), step.eq(1)]
        with m.Elif(loading):
            m.d.sync += step.eq(step + 1)
        m.d.sync += [
            waits.eq((waits & ~swap) | (load & (transit | ~swap))),
            loading.eq(load_row & ~last_step),
            loaded.eq((loaded & ~swap) | (last_step & (transit | ~swap))),
            hold.eq(Mux(hold == 0, 0, hold - 1)),
        ]
        # With one group a tile's load is over in the cycle in which it begins.
        tile = Signal.like(pending)
        m.d.comb += tile.eq(pending if transit else Mux(load, walk.tile.as_value(), pending.as_value()))
        if not transit:
            with m.If(swap):
                m.d.sync += hold.eq(tile.rows + self.rows + self.columns - 2 if single else self.rows - 1)

        self._load_weights(m, walk, load, load_row, swap)
        consumed = Signal(GRANULE_BITS, reset_less=True)
        ends = Signal()  # the last row of the last tile of an N tile's weights is read in this cycle
        m.d.comb += [
            ends.eq(last_step & Mux(load, walk.tile.end, pending.end)),
            self.consumed.eq(consumed),
        ]
        m.d.sync += consumed.eq(consumed + ends)
        with m.If(self.start):
            m.d.sync += consumed.eq(0)
        trailing = self._stream(m, banks, tile, swap, streaming, last_row)
        m.d.comb += [
            self.active.eq(load_row | swap | streaming | trailing),
            self.done.eq(~walk.valid & ~waits & ~streaming & banks.idle & ~self.start),
        ]
        return m

    def _first(self, walk: TileWalk, pending: Signal, load: Signal) -> Signal:
        if self._config.weight_buffering == "transit":
            return pending.first
        return Mux(load, walk.tile.first, pending.first)

    def _banks(self, m: Module) -> RegionBanks:
        banks = place(m, "banks", RegionBanks(self._config))
        m.d.comb += [
            banks.delay.eq(self.rows + self.columns + TO_FULL),
            self.full.eq(banks.full),
            self.full_bank.eq(banks.full_bank),
            self.info.eq(banks.info.as_value()),
            banks.take.eq(self.take),
            banks.freed.eq(self.freed),
        ]
        return banks

    def _load_weights(self, m: Module, walk: TileWalk, load: Signal, load_row: Signal, swap: Signal) -> None:
        """Ask for a row of weights in every cycle of a load."""
        config = self._config
        rows = place(m, "weight_rows", WeightRows(config))
        base = Signal(config.weight_address_bits, reset_less=True)
        with m.If(load):
            m.d.sync += base.eq(walk.base)
        m.d.comb += [
            rows.restart.eq(load & walk.tile.first),
            rows.step.eq(load_row),
            rows.bits.eq(self.bits),
            rows.base.eq(Mux(load, walk.base, base)),
            rows.k.eq(self.k),
            self.weights.eq(rows.row),
            self.weights.load.eq(load_row),
            self.weights.copy.eq(swap & (config.weight_buffering == "transit")),
        ]

    def _stream(
        self, m: Module, banks: RegionBanks, tile: Signal, swap: Signal, streaming: Signal, last_row: Signal
    ) -> Signal:
        """Issue a row of activations in every cycle after a swap; return whether the last ones are under way."""
        config = self._config
        current = Signal.like(tile, reset_less=True)
        row = Signal(range(config.acc_depth), reset_less=True)
        address = Signal(len(tile.address), reset_less=True)
        bank = Signal(reset_less=True)
        under_way = Signal(range(config.rows + config.columns))
        m.d.comb += [
            last_row.eq(streaming & (row + 1 == current.rows)),
            self.read.en.eq(streaming),
            self.read.swap.eq(swap),
            self.read.address.eq(address),
            self.read.nibble.eq(current.nibble),
            self.psum.valid.eq(streaming),
            self.psum.row.eq(row),
            self.psum.bank.eq(bank),
            self.psum.first.eq(current.first),
            self.psum.last.eq(current.last & last_row),
            banks.last.eq(self.psum.last),
            banks.last_bank.eq(bank),
            banks.claim.eq(swap & tile.first),
            banks.claim_info.rows.eq(tile.rows),
            banks.claim_info.rank.eq(tile.rank),
            banks.claim_info.granules.eq(tile.granules),
            banks.claim_info.granule.eq(tile.granule),
        ]
        with m.If(streaming):
            m.d.sync += [row.eq(row + 1), address.eq(address + self.stride)]
        with m.If(last_row):
            m.d.sync += [streaming.eq(0), under_way.eq(self.rows + self.columns - 2)]
        with m.Elif(under_way != 0):
            m.d.sync += under_way.eq(under_way - 1)
        with m.If(swap):
            m.d.sync += [streaming.eq(1), current.eq(tile), row.eq(0), address.eq(tile.address)]
            with m.If(tile.first):
                m.d.sync += bank.eq(banks.bank)
        trailing = Signal()
        m.d.comb += trailing.eq(under_way != 0)
        return trailing
