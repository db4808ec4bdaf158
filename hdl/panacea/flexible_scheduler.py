"""The workload scheduler of our form: every operator takes either kind of work."""

from __future__ import annotations

from amaranth.hdl import Array, Const, Module, Mux, Signal

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.cursor import Cursor
from bitfabric.hdl.panacea.picker import ProductPicker
from bitfabric.hdl.panacea.records import dense_slices
from bitfabric.hdl.panacea.scheduling import place_of, scheduler_members, static_pick
from bitfabric.hdl.panacea.sequence import behind, chunk, sequence_layout
from bitfabric.hdl.panacea.work import work_layout


class FlexibleScheduler(Block):
    """Allocate products to D + S equal operators [ours].

    A cycle takes products of one pair of dense slices first, fills up with products that have an HO slice, and when
    the sub-tile has no more, with the next one's first products of two dense slices, if it is there and of the same
    tile. Every sub-tile takes at least one cycle. ``work`` is registered: latency 1. Path 0 is the present sub-tile,
    path 1 the one begun beside it.

    Parameters
    ----------
    config : PanaceaConfig
        Gives the operators and sizes.

    Members
    -------
    See ``scheduler_members``.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(scheduler_members(config))

    def elaborate(self, platform: object) -> Module:
        """Fill the operators from both ends: dense products from the first up, the others from the last down."""
        m = Module()
        config, width = self._config, self._config.operators
        weight_dense, act_dense = Signal(2), Signal(2)
        m.d.comb += [
            weight_dense.eq(dense_slices(self.weight_slices)),
            act_dense.eq(dense_slices(self.act_slices)),
        ]
        dense = (weight_dense, act_dense)
        cursor = Cursor(m, "present", config, self)
        k_valid = cursor.info.k_valid
        busy = Signal()
        m.d.comb += busy.eq(cursor.ready & cursor.active[0])

        at = Signal(sequence_layout(config))
        whole = chunk(m, "dense", at, k_valid, width, width)
        count = Signal(range(width + 1))
        m.d.comb += count.eq(Mux(busy & ~at.done, whole, 0))
        after = behind(m, "dense_after", config, at, count, k_valid, *dense)

        fresh = Signal(init=1)
        picker = place(m, "picker", ProductPicker(config, width))
        m.d.comb += [
            picker.weight_mask.eq(Array(self.weight_masks)[cursor.weight_banks[0]]),
            picker.act_mask.eq(Array(self.act_masks)[cursor.slot]),
            picker.weight_dense.eq(weight_dense),
            picker.act_dense.eq(act_dense),
            picker.fresh.eq(fresh),
            picker.limit.eq(width - count),
            picker.en.eq(busy),
        ]
        with m.If(busy):
            m.d.sync += fresh.eq(cursor.finish)
        m.d.comb += cursor.finish.eq(cursor.ready & (~cursor.active[0] | (after.done & picker.done)))

        # What is left of the operators begins the next sub-tile, which has the same K positions.
        begins = Signal()
        m.d.comb += begins.eq(busy & cursor.finish & ~cursor.info.last_group & cursor.many)
        taken = Signal(range(width + 1))
        room = Signal(range(width + 1))
        nothing = Signal(sequence_layout(config))
        m.d.comb += [taken.eq(count + picker.count), room.eq(Mux(begins, width - taken, 0))]
        ahead = chunk(m, "ahead", nothing, k_valid, room, width)
        begun = behind(m, "ahead_after", config, nothing, ahead, k_valid, *dense)
        with m.If(cursor.finish):
            m.d.sync += at.eq(begun)
        with m.Elif(busy):
            m.d.sync += at.eq(after)

        work = Signal(work_layout(config))
        for index in range(width):
            pick, product = work.picks[index], picker.picks[width - 1 - index]
            with m.If(count > index):
                m.d.comb += static_pick(pick, Const(1), at.position + index, at)
            with m.Elif((count + ahead) > index):
                m.d.comb += static_pick(pick, Const(1), index - count, nothing)
                m.d.comb += work.second[index].eq(1)
            with m.Else():
                m.d.comb += [pick.eq(product), pick.valid.eq(busy & product.valid)]
        m.d.comb += [work.static.eq(count + ahead), work.dynamic.eq(Mux(busy, picker.count, 0))]
        m.d.comb += place_of(config, cursor, Const(0, 1), work.places[0], busy & (taken != 0))
        m.d.comb += place_of(config, cursor, Const(0, 1), work.places[1], ahead != 0)
        slot = Signal.like(cursor.slot, name="next_slot")
        m.d.comb += [
            slot.eq(Mux(cursor.slot == config.act_slots - 1, 0, cursor.slot + 1)),
            work.places[1].slot.eq(slot),
            work.places[1].word.eq(cursor.group + 1),
        ]
        m.d.sync += [
            self.work.eq(work),
            self.slot_release.eq(cursor.finish),
            self.weights_release[0].eq(cursor.tile_ends & cursor.active[0]),
            self.output_done.eq(cursor.output_ends),
        ]
        return m
