"""The token table: which token stands at a position, and whether it has 8 bits."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram
from bitfabric.hdl.dtqatten.config import DtqattenConfig

READERS = ("fetch", "scan", "send")


class TokenTable(Block):
    """Hold two lists of tokens: the block's, and the one that its importance makes for the next block.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    bank : In(1)
        Where the block's list is.
    list_en, list_position, list_id, list_high : In
        Write an entry of the block's list.
    next_en, next_position, next_id, next_high : In
        Write an entry of the next block's; never in a cycle with ``list_en``.
    {reader}_en, {reader}_position, {reader}_id, {reader}_high
        Read the block's list; an answer comes a cycle later and stays until the next read. See ``READERS``.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        position = config.id_bits
        members = {"bank": In(1)}
        for writer in ("list", "next"):
            members |= {
                f"{writer}_en": In(1),
                f"{writer}_position": In(position),
                f"{writer}_id": In(config.id_bits),
                f"{writer}_high": In(1),
            }
        for reader in READERS:
            members |= {
                f"{reader}_en": In(1),
                f"{reader}_position": In(position),
                f"{reader}_id": Out(config.id_bits),
                f"{reader}_high": Out(1),
            }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Keep a copy for each reader."""
        m = Module()
        config = self._config
        for reader in READERS:
            ram = place(m, reader, Ram(config.id_bits + 1, 2 << config.id_bits))
            m.d.comb += [
                ram.write_en.eq(self.list_en | self.next_en),
                ram.write_addr.eq(Cat(self.list_position, self.bank)),
                ram.write_data.eq(Cat(self.list_id, self.list_high)),
                ram.read_en.eq(getattr(self, f"{reader}_en")),
                ram.read_addr.eq(Cat(getattr(self, f"{reader}_position"), self.bank)),
                Cat(getattr(self, f"{reader}_id"), getattr(self, f"{reader}_high")).eq(ram.read_data),
            ]
            with m.If(self.next_en):
                m.d.comb += [
                    ram.write_addr.eq(Cat(self.next_position, ~self.bank)),
                    ram.write_data.eq(Cat(self.next_id, self.next_high)),
                ]
        return m
