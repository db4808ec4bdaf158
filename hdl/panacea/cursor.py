"""Where a path of a PEA stands: its sub-tile, weights and psums, and whether they are there."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal, Value

from bitfabric.hdl.panacea.act_buffer import sub_tile_layout
from bitfabric.hdl.panacea.config import PanaceaConfig


def advance(m: Module, pointer: Signal, size: int) -> None:
    """Let ``pointer`` go on in a ring of ``size``."""
    m.d.sync += pointer.eq(Mux(pointer == size - 1, 0, pointer + 1))


def joined(m: Module, name: str, one: Value, other: Value, bound: int) -> tuple[Signal, Signal]:
    """Return how far ``one`` is ahead of ``other`` (signed), and a strobe when both have reached the next event."""
    lead = Signal(range(-bound, bound + 1), name=f"{name}_lead")
    both = Signal(name=f"{name}_both")
    m.d.sync += lead.eq(lead + one - other)
    m.d.comb += both.eq(Mux(lead > 0, other, Mux(lead < 0, one, one & other)))
    return lead, both


class Cursor:
    """Step one path through the sub-tiles.

    Parameters
    ----------
    m : Module
        Gets the logic.
    name : str
        Of the path.
    config : PanaceaConfig
    ports : component
        Gives ``pea``, ``infos``, ``filled``, ``weights_filled`` (one per weight tile), ``drained``.

    Members
    -------
    info : Signal(sub_tile_layout)
        The present sub-tile.
    ready : Signal
        It and its weights are there, and so is a psum bank.
    active : list of Signal
        This PEA has output channels in the weight tile.
    slot, group, bank, weight_banks : Signal
        Where its parts are.
    many : Signal
        The sub-tile after it is there as well.
    finish : Signal
        To be driven: the present cycle is the last one of the sub-tile.
    tile_ends, output_ends : Signal
        With ``finish``: the weights, the psum bank are done with.
    """

    def __init__(self, m: Module, name: str, config: PanaceaConfig, ports: Any):
        tiles = 2 if config.dtp else 1
        self.info = Signal(sub_tile_layout(config), name=f"{name}_info")
        self.ready, self.finish, self.many = (
            Signal(name=f"{name}_{what}") for what in ("ready", "finish", "many")
        )
        self.tile_ends, self.output_ends = (Signal(name=f"{name}_{w}_ends") for w in ("tile", "output"))
        there = Signal(range(config.act_slots + 1), name=f"{name}_there")
        self.slot = Signal(range(config.act_slots), name=f"{name}_slot")
        self.group = Signal(range(max(config.groups, 2)), name=f"{name}_group")
        self.bank = Signal(name=f"{name}_bank")
        pending = Signal(range(3), name=f"{name}_pending")  # outputs finished and not drained
        self.active = [Signal(name=f"{name}_active{tile}") for tile in range(tiles)]
        self.weight_banks = [Signal(name=f"{name}_weight_bank{tile}") for tile in range(tiles)]
        weights = [Signal(range(3), name=f"{name}_weights{tile}") for tile in range(tiles)]
        ready: Value = (there != 0) & (pending != 2)
        for tile in range(tiles):
            peas = (self.info.peas_a, self.info.peas_b)[tile]
            m.d.comb += self.active[tile].eq(ports.pea < peas)
            ready &= ~self.active[tile] | (weights[tile] != 0)
            spent = Signal(name=f"{name}_spent{tile}")
            m.d.comb += spent.eq(self.tile_ends & self.active[tile])
            m.d.sync += weights[tile].eq(weights[tile] + ports.weights_filled[tile] - spent)
            with m.If(spent):
                m.d.sync += self.weight_banks[tile].eq(~self.weight_banks[tile])
        m.d.comb += [
            self.info.eq(Array(ports.infos)[self.slot]),
            self.ready.eq(ready),
            self.many.eq(there > 1),
            self.tile_ends.eq(self.finish & self.info.last_group),
            self.output_ends.eq(self.tile_ends & self.info.last_k),
        ]
        m.d.sync += [
            there.eq(there + ports.filled - self.finish),
            pending.eq(pending + self.output_ends - ports.drained),
        ]
        with m.If(self.finish):
            advance(m, self.slot, config.act_slots)
            m.d.sync += self.group.eq(Mux(self.info.last_group, 0, self.group + 1))
        with m.If(self.output_ends):
            m.d.sync += self.bank.eq(~self.bank)
