"""What both forms of the workload scheduler have in common: ports, and how they write down a cycle's work."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Mux, Value
from amaranth.lib.wiring import In, Member, Out

from bitfabric.hdl.panacea.act_buffer import sub_tile_layout
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.cursor import Cursor
from bitfabric.hdl.panacea.work import work_layout


def scheduler_members(config: PanaceaConfig) -> dict[str, Member]:
    """Return the ports of a scheduler.

    Members
    -------
    pea : In
        Which PEA this is.
    weight_slices, act_slices : In(2)
        Of the layer.
    infos, act_masks : In
        The global activation buffer's sub-tiles, and which of their HO vectors are kept.
    weight_masks : In
        Of the weight buffer's banks: two for each weight tile.
    filled : In(1), weights_filled : In(1).array(tiles)
        A sub-tile, a weight sub-tile can be used from the next cycle on.
    drained : In(1)
        A psum bank is empty again.
    work : Out(work_layout)
        This cycle's products, registered.
    slot_release : Out(1), weights_release : Out(1).array(tiles), output_done : Out(1)
        The oldest sub-tile, weight sub-tile, psum bank is done with, as seen from the operands' registers.
    """
    tiles = 2 if config.dtp else 1
    return {
        "pea": In(config.peas.bit_length()),
        "weight_slices": In(2),
        "act_slices": In(2),
        "infos": In(sub_tile_layout(config)).array(config.act_slots),
        "act_masks": In(config.tile_k).array(config.act_slots),
        "weight_masks": In(config.tile_k).array(2 * tiles),
        "filled": In(1),
        "weights_filled": In(1).array(tiles),
        "drained": In(1),
        "work": Out(work_layout(config)),
        "slot_release": Out(1),
        "weights_release": Out(1).array(tiles),
        "output_done": Out(1),
    }


def static_pick(pick: Any, valid: Value, position: Value, where: Any) -> list[Any]:
    """Return the assignments that make ``pick`` a product of two dense slices."""
    return [
        pick.valid.eq(valid),
        pick.position.eq(position),
        pick.weight_top.eq(0),
        pick.weight_slice.eq(where.weight_slice),
        pick.act_top.eq(0),
        pick.act_slice.eq(where.act_slice),
    ]


def place_of(config: PanaceaConfig, cursor: Cursor, tile: Value, target: Any, en: Value) -> list[Any]:
    """Return the assignments that say where a cursor's operands come from and its sums go to."""
    banks = cursor.weight_banks
    return [
        target.en.eq(en),
        target.tile.eq(tile),
        target.weight_bank.eq(Mux(tile, banks[-1], banks[0])),
        target.slot.eq(cursor.slot),
        target.bank.eq(cursor.bank),
        target.word.eq(cursor.group + Mux(tile, config.groups, 0)),
    ]
