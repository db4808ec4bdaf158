"""The workload scheduler of the paper's form: static and dynamic operators, each class on its own path."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value, signed

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.cursor import Cursor, joined
from bitfabric.hdl.panacea.picker import ProductPicker
from bitfabric.hdl.panacea.records import dense_slices
from bitfabric.hdl.panacea.scheduling import place_of, scheduler_members, static_pick
from bitfabric.hdl.panacea.sequence import behind, chunk, sequence_layout
from bitfabric.hdl.panacea.work import work_layout


class WorkloadScheduler(Block):
    """Allocate products to S static and D dynamic operators [paper, III-D].

    Static operators take up to S products of one pair of dense slices per cycle, dynamic ones up to D products with
    an HO slice; each class is at its own sub-tile, at most ``act_slots`` apart. Every sub-tile takes a class at least
    one cycle. With DTP a sub-tile meets two weight tiles: static operators serve the first tile's products, then the
    second's; dynamic ones the first tile's, then the second's, and where no such product is left for an operator, the
    second's static products that the static operators leave [paper]. What one class can finish alone in the next
    cycle is left to it, while the other goes on to the next sub-tile [ours]. ``work`` is registered: latency 1.

    Parameters
    ----------
    config : PanaceaConfig
        Gives D, S, DTP and sizes.

    Members
    -------
    See ``scheduler_members``.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(scheduler_members(config))

    def elaborate(self, platform: object) -> Module:
        """Let the two classes take their products, and see who is done with what."""
        m = Module()
        config = self._config
        weight_dense, act_dense = Signal(2), Signal(2)
        m.d.comb += [
            weight_dense.eq(dense_slices(self.weight_slices)),
            act_dense.eq(dense_slices(self.act_slices)),
        ]
        dense = (weight_dense, act_dense)
        static, dynamic = (Cursor(m, name, config, self) for name in ("static", "dynamic"))
        lead, release = joined(m, "act", static.finish, dynamic.finish, config.act_slots)
        work = Signal(work_layout(config))
        fresh = Signal(init=1)  # the dynamic class starts on other masks
        second = Signal()  # ... on those of the second weight tile

        # Products of two dense slices with the first weight tile.
        first = Signal(sequence_layout(config))
        k_valid = static.info.k_valid
        count = chunk(m, "first", first, k_valid, config.static_operators, config.static_operators)
        after = behind(m, "first_after", config, first, count, k_valid, *dense)
        takes = Signal()  # the static class works for the first weight tile
        m.d.comb += takes.eq(static.ready & static.active[0] & ~first.done)
        with m.If(static.finish):
            m.d.sync += first.eq(0)
        with m.Elif(takes):
            m.d.sync += first.eq(after)

        # Products with an HO slice.
        picker = place(m, "picker", ProductPicker(config, config.dynamic_operators))
        banks = [dynamic.weight_banks[0], *(2 + bank for bank in dynamic.weight_banks[1:])]
        mask_index = Mux(second, banks[-1], banks[0]) if config.dtp else banks[0]
        picks_done = Signal()  # all of them have been taken in cycles before
        picking = Signal()
        m.d.comb += [
            picker.weight_mask.eq(Array(self.weight_masks)[mask_index]),
            picker.act_mask.eq(Array(self.act_masks)[dynamic.slot]),
            picker.weight_dense.eq(weight_dense),
            picker.act_dense.eq(act_dense),
            picker.fresh.eq(fresh),
            picker.limit.eq(config.dynamic_operators),
            picking.eq(dynamic.ready & dynamic.active[0] & ~picks_done),
            picker.en.eq(picking),
        ]
        with m.If(picking):
            m.d.sync += fresh.eq(picker.done)

        static_done, dynamic_done = Signal(), Signal()
        m.d.comb += [
            static_done.eq(first.done | (takes & after.done) | ~static.active[0]),
            dynamic_done.eq(picks_done | (picking & picker.done) | ~dynamic.active[0]),
        ]
        shared = None
        if config.dtp:
            shared = self._share(
                m,
                static,
                dynamic,
                lead,
                dense,
                first,
                picker,
                picking,
                picks_done,
                static_done,
                dynamic_done,
                second,
            )
        else:
            m.d.comb += [
                static.finish.eq(static.ready & static_done),
                dynamic.finish.eq(dynamic.ready & dynamic_done),
            ]
        self._issue(m, work, static, dynamic, first, count, takes, picker, picking, second, shared)
        m.d.sync += [self.work.eq(work), self.slot_release.eq(release)]
        for tile in range(2 if config.dtp else 1):
            one, other = (cursor.tile_ends & cursor.active[tile] for cursor in (static, dynamic))
            _, both = joined(m, f"weights{tile}", one, other, 2)
            m.d.sync += self.weights_release[tile].eq(both)
        _, outputs = joined(m, "output", static.output_ends, dynamic.output_ends, 2)
        m.d.sync += self.output_done.eq(outputs)
        return m

    def _share(
        self,
        m: Module,
        static: Cursor,
        dynamic: Cursor,
        lead: Signal,
        dense: tuple[Signal, Signal],
        first: Any,
        picker: ProductPicker,
        picking: Signal,
        picks_done: Signal,
        static_done: Signal,
        dynamic_done: Signal,
        second: Signal,
    ) -> tuple[Any, Signal, Signal, Any, Signal]:
        """Let both classes take the second weight tile's products of two dense slices.

        The place in them is that of the class ahead: it leaves its sub-tile only when they are all taken, or when the
        other one takes the rest in the next cycle, so that for the one behind there are none else.
        """
        config = self._config
        at = Signal(sequence_layout(config))
        tail = Signal()  # one class has left the rest to the other, which takes it in this cycle
        statics, dynamics = Signal(), Signal()  # who takes some
        own, other = (lead >= 0) & ~tail, (lead <= 0) & ~tail
        m.d.comb += [
            statics.eq(static.ready & static.active[1] & first.done & ~at.done & (own | ((lead < 0) & tail))),
            dynamics.eq(
                dynamic.ready
                & dynamic.active[1]
                & ~at.done
                & ((picks_done & (other | ((lead > 0) & tail))) | (picking & second & other))
            ),
        ]
        k_valid = Signal.like(static.info.k_valid, name="shared_k_valid")
        m.d.comb += k_valid.eq(Mux(tail == (lead > 0), dynamic.info.k_valid, static.info.k_valid))
        wide = chunk(m, "second", at, k_valid, config.static_operators, config.static_operators)
        taken = Signal.like(wide, name="second_taken")
        m.d.comb += taken.eq(Mux(statics, wide, 0))
        middle = behind(m, "second_middle", config, at, taken, k_valid, *dense)
        # Operators that no product with an HO slice needs.
        spare = Signal(range(config.dynamic_operators + 1))
        m.d.comb += spare.eq(config.dynamic_operators - Mux(picking, picker.count, 0))
        narrow = chunk(m, "third", middle, k_valid, spare, config.dynamic_operators)
        more = Signal.like(narrow, name="third_taken")
        m.d.comb += more.eq(Mux(dynamics & ~middle.done, narrow, 0))
        after = behind(m, "second_after", config, middle, more, k_valid, *dense)

        # The last products need only one of the classes; the other goes on.
        rest = Signal.like(k_valid, name="rest")
        one_leaves, static_leaves, dynamic_leaves = Signal(), Signal(), Signal()
        last_part = (after.weight_slice == dense[0] - 1) & (after.act_slice == dense[1] - 1)
        picks_end = picks_done | (picking & picker.done & second)
        m.d.comb += [
            rest.eq(k_valid - after.position),
            one_leaves.eq(
                (lead == 0)
                & ~tail
                & static.ready
                & dynamic.ready
                & static_done
                & static.active[1]
                & picks_end
                & ~after.done
                & last_part
            ),
            static_leaves.eq(one_leaves & (rest <= config.dynamic_operators)),
            dynamic_leaves.eq(one_leaves & ~static_leaves & (rest <= config.static_operators)),
        ]
        m.d.sync += tail.eq(static_leaves | dynamic_leaves)
        # A class behind the other has none left, but for a tail.
        static_ends, dynamic_ends = Signal(), Signal()
        m.d.comb += [
            static_ends.eq(Mux(lead < 0, ~tail | after.done, (after.done & ~tail) | static_leaves)),
            dynamic_ends.eq(Mux(lead > 0, ~tail | after.done, (after.done & ~tail) | dynamic_leaves)),
            static.finish.eq(static.ready & static_done & (~static.active[1] | static_ends)),
            dynamic.finish.eq(
                dynamic.ready & dynamic_done & (~dynamic.active[1] | (picks_end & dynamic_ends))
            ),
        ]
        m.d.sync += at.eq(after)
        with m.If(after.done & ((static.finish & (lead >= 0)) | (dynamic.finish & (lead <= 0)) | tail)):
            m.d.sync += at.eq(0)
        with m.If(picking & picker.done):
            with m.If(dynamic.active[1] & ~second):
                m.d.sync += second.eq(1)
            with m.Else():
                m.d.sync += picks_done.eq(1)
        with m.If(dynamic.finish):
            m.d.sync += [second.eq(0), picks_done.eq(0)]
        return at, taken, more, middle, statics

    def _issue(
        self,
        m: Module,
        work: Any,
        static: Cursor,
        dynamic: Cursor,
        first: Any,
        count: Signal,
        takes: Signal,
        picker: ProductPicker,
        picking: Signal,
        second: Signal,
        shared: tuple[Any, Signal, Signal, Any, Signal] | None,
    ) -> None:
        """Write down the cycle's work."""
        config = self._config
        for index in range(config.static_operators):
            pick = work.picks[index]
            m.d.comb += static_pick(pick, takes & (count > index), first.position + index, first)
            if shared is not None:
                at, taken, _, _, statics = shared
                with m.If(statics):
                    m.d.comb += static_pick(pick, taken > index, at.position + index, at)
        for index in range(config.dynamic_operators):
            pick = work.picks[config.static_operators + index]
            m.d.comb += [pick.eq(picker.picks[index]), pick.valid.eq(picking & picker.picks[index].valid)]
            if shared is not None:
                _, _, more, middle, _ = shared
                place_in = Signal(signed(config.dynamic_operators.bit_length() + 1), name=f"spare{index}")
                m.d.comb += place_in.eq(index - Mux(picking, picker.count, 0))
                with m.If((place_in >= 0) & (more > place_in)):
                    m.d.comb += static_pick(pick, 1, middle.position + place_in, middle)
        tiles: tuple[Value, Value] = (Const(0, 1), Const(0, 1))
        static_count, dynamic_count = Mux(takes, count, 0), Mux(picking, picker.count, 0)
        if shared is not None:
            _, taken, more, _, statics = shared
            tiles = (statics, second)
            m.d.comb += work.static.eq(static_count + taken + more)
            used = (takes | (taken != 0), (picking & (picker.count != 0)) | (more != 0))
        else:
            m.d.comb += work.static.eq(static_count)
            used = (takes, picking & (picker.count != 0))
        m.d.comb += work.dynamic.eq(dynamic_count)
        for cursor, tile, target, en in zip((static, dynamic), tiles, work.places, used, strict=True):
            m.d.comb += place_of(config, cursor, tile, target, en)
