"""The global activation buffer: a ring of sub-tiles that all PEAs read, each at its own pace."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.panacea.config import VECTOR_BITS, PanaceaConfig
from bitfabric.hdl.panacea.fetcher import fetch_layout
from bitfabric.hdl.panacea.vector_bank import VectorBank


def sub_tile_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return what a PEA needs to know of a sub-tile.

    Fields: ``peas_a``, ``peas_b`` (how many PEAs have output channels in the first and second weight tile),
    ``k_valid``, ``last_group`` (the tile's last sub-tile), ``last_k`` (the output tile's last K tile).
    """
    return data.StructLayout(
        {
            "peas_a": config.peas.bit_length(),
            "peas_b": config.peas.bit_length(),
            "k_valid": config.tile_k.bit_length(),
            "last_group": 1,
            "last_k": 1,
        }
    )


def slot_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return one sub-tile of the buffer: its vectors as ``VectorBank`` gives them, and what it is."""
    return data.StructLayout(
        {
            "dense": config.act_dense * config.tile_k * VECTOR_BITS,
            "top": config.tile_k * VECTOR_BITS,
            "mask": config.tile_k,
            "info": sub_tile_layout(config),
        }
    )


class ActBuffer(Block):
    """Hold ``act_slots`` activation sub-tiles, shared by all PEAs [paper, III-D; ring of slots ours].

    A slot is claimed when its fetch starts and free again when every PEA has released it: a PEA may be ahead of
    another by ``act_slots`` sub-tiles. Sub-tiles are filled, and released by each PEA, in order.

    Parameters
    ----------
    config : PanaceaConfig
        Gives sizes.

    Members
    -------
    claim, info : In
        A sub-tile is about to land, and what it is.
    free : Out(1)
        A slot is free.
    landing : In(1), i : In(fetch_layout)
        What lands.
    filled : Out(1)
        The oldest claimed slot's last vectors land in this cycle: it can be read in the next.
    release : In(1).array(peas)
        A PEA is done with its oldest sub-tile.
    slots : Out(slot_layout).array(act_slots)
        All of it.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(
            {
                "claim": In(1),
                "info": In(sub_tile_layout(config)),
                "free": Out(1),
                "landing": In(1),
                "i": In(fetch_layout(config)),
                "filled": Out(1),
                "release": In(1).array(config.peas),
                "slots": Out(slot_layout(config)).array(config.act_slots),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep a count of slots for every PEA."""
        m = Module()
        config = self._config
        claiming, landing = (
            Signal(range(config.act_slots), name=name) for name in ("claiming", "landing_in")
        )
        m.d.comb += self.filled.eq(self.landing & self.i.last)

        def advance(pointer: Signal) -> None:
            with m.If(pointer == config.act_slots - 1):
                m.d.sync += pointer.eq(0)
            with m.Else():
                m.d.sync += pointer.eq(pointer + 1)

        with m.If(self.claim):
            advance(claiming)
        with m.If(self.filled):
            advance(landing)
        for index in range(config.act_slots):
            bank = place(m, f"slot_{index}", VectorBank(config, config.act_dense))
            info = Signal(self.info.shape(), name=f"info{index}", reset_less=True)
            with m.If(self.claim & (claiming == index)):
                m.d.sync += info.eq(self.info)
            slot = self.slots[index]
            m.d.comb += [
                bank.en.eq(self.landing & (landing == index)),
                bank.i.eq(self.i),
                slot.dense.eq(bank.dense),
                slot.top.eq(bank.top),
                slot.mask.eq(bank.mask),
                slot.info.eq(info),
            ]
        full = []
        for index in range(config.peas):
            held = Signal(range(config.act_slots + 1), name=f"held{index}")
            m.d.sync += held.eq(held + self.claim - self.release[index])
            full.append(held == config.act_slots)
        m.d.comb += self.free.eq(~Cat(*full).any())
        return m
