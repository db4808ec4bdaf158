"""Lead results from the arrays to the unload ports, one array at a time on each."""

from __future__ import annotations

import functools
import operator

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.tile import tag_layout
from bitfabric.hdl.vssa.counters import COUNTER_BITS as COUNT_BITS


class UnloadPort(Block):
    """Grant the array of lowest index whose tile leaves here, and register its rows, the last one first.

    A grant in cycle u has array row R - 1 - k on the bus in cycle u + 1 + k; the next one comes in u + R + 1 at the
    earliest.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.
    port : int
        Its number.

    Members
    -------
    full : In(arrays)
        Arrays whose results wait.
    tags : In
        Their tags, one after the other.
    data : In
        Their lowest rows, one after the other.
    factors : In(bands_max)
        Bands whose row factors are there: results wait for them.
    take : Out(arrays)
        The array that is granted, in the same cycle.
    next_tag, next_row : Out
        Tag and row that stand on the bus in the next cycle, if any does.
    valid, pv : Out(1)
        A row is on the bus; it is one of results.
    band, position, slot, row, row_valid, first, last : Out
        Which one: its band; the key's position, for scores; its place among the port's scores, or its channel tile;
        the array row; whether it lies inside the tile; the tile's first and last one.
    bus : Out
        The row.
    working, stalled : In
        Counters of the arrays, one after the other.
    tile_en, tile_pv, tile_floor, tile_working, tile_stalled : Out
        Strobe in the second cycle after a grant: what kind of tile was granted and what its PEs did.
    """

    def __init__(self, config: DtqattenConfig, port: int):
        self._config = config
        self._port = port
        self._tag = tag_layout(config)
        width = config.columns * config.acc_bits
        super().__init__(
            {
                "full": In(config.arrays),
                "tags": In(config.arrays * self._tag.size),
                "data": In(config.arrays * width),
                "factors": In(config.bands_max),
                "take": Out(config.arrays),
                "next_band": Out(address_bits(config.bands_max)),
                "next_position": Out(config.id_bits),
                "valid": Out(1),
                "pv": Out(1),
                "band": Out(address_bits(config.bands_max)),
                "position": Out(config.id_bits),
                "slot": Out(self._tag["slot"].width),
                "row": Out(address_bits(config.rows)),
                "row_valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "bus": Out(width),
                "working": In(config.arrays * COUNT_BITS),
                "stalled": In(config.arrays * COUNT_BITS),
                "tile_en": Out(1),
                "tile_pv": Out(1),
                "tile_floor": Out(2),
                "tile_working": Out(COUNT_BITS),
                "tile_stalled": Out(COUNT_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Arbitrate while no rows pass, then count them."""
        m = Module()
        config = self._config
        tags = [
            self._tag(self.tags[index * self._tag.size : (index + 1) * self._tag.size])
            for index in range(config.arrays)
        ]
        asking = Signal(config.arrays)
        for index, tag in enumerate(tags):
            there = ~tag.pv | Array(self.factors)[tag.band]
            m.d.comb += asking[index].eq(self.full[index] & (tag.port == self._port) & there)
        busy, grant = Signal(), Signal()
        chosen = Signal(config.arrays)
        m.d.comb += [
            chosen.eq(asking & -asking),
            grant.eq(~busy & asking.any()),
            self.take.eq(Mux(grant, chosen, 0)),
        ]
        # The tag of the array that is granted, then the one kept.
        now, kept = Signal(self._tag), Signal(self._tag, reset_less=True)
        array = Signal(config.arrays, reset_less=True)
        one_hot = Signal(config.arrays)
        m.d.comb += one_hot.eq(Mux(busy, array, chosen))
        new = Signal(self._tag)
        for index, tag in enumerate(tags):
            with m.If(chosen[index]):
                m.d.comb += new.eq(tag)
        m.d.comb += now.eq(Mux(busy, kept, new))
        row = Signal(address_bits(config.rows), init=config.rows - 1)
        moving = Signal()
        pause = Signal()  # the cycle between two tiles
        m.d.comb += moving.eq(grant | (busy & ~pause))
        with m.If(grant):
            m.d.sync += [busy.eq(1), kept.eq(new), array.eq(chosen)]
        with m.If(moving):
            m.d.sync += row.eq(row - 1)
            with m.If(row == 0):
                m.d.sync += [row.eq(config.rows - 1), pause.eq(1)]
        with m.If(busy & pause):
            m.d.sync += [busy.eq(0), pause.eq(0)]
        picked = _pick(m, "picked", self.data, one_hot)
        position = Signal(config.id_bits)
        m.d.comb += [
            position.eq(now.first + row),
            self.next_band.eq(now.band),
            self.next_position.eq(position),
        ]
        for target, value in (
            (self.pv, now.pv),
            (self.band, now.band),
            (self.position, position),
            (self.slot, now.slot + Mux(now.pv, 0, row)),
            (self.row, row),
            (self.row_valid, row < now.rows),
            (self.first, row == config.rows - 1),
            (self.last, row == 0),
            (self.bus, picked),
        ):
            delayed = Signal(len(target), name=f"{target.name}_now", reset_less=True)
            m.d.sync += delayed.eq(value)
            m.d.comb += target.eq(delayed)
        granted = Signal()
        m.d.sync += [self.valid.eq(moving), granted.eq(grant), self.tile_en.eq(granted)]
        # The array's counts are complete by then, and no other one is granted before.
        m.d.comb += [
            self.tile_pv.eq(kept.pv),
            self.tile_floor.eq(kept.floor),
            self.tile_working.eq(_pick(m, "picked_working", self.working, array)),
            self.tile_stalled.eq(_pick(m, "picked_stalled", self.stalled, array)),
        ]
        return m


def _pick(m: Module, name: str, parts: Value, one_hot: Value) -> Signal:
    """Return the one of equal ``parts`` whose bit is set."""
    width = len(parts) // len(one_hot)
    terms = [parts[width * at : width * (at + 1)] & bit.replicate(width) for at, bit in enumerate(one_hot)]
    picked = Signal(width, name=name)
    m.d.comb += picked.eq(functools.reduce(operator.or_, terms))
    return picked
