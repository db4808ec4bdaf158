"""Which operands have eight bits: a token's flag, as a key, as a query and as a position of values."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig


class OperandFlags(Block):
    """Hold the flags of the block's tokens, by tile, by band and by word of positions; read latency 1 cycle.

    Flags of places that no token has are those of an earlier block: those operands are not valid.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    scan_en, scan_high : In(1)
        Tell whether a token has 8 bits.
    scan_tile, scan_lane, scan_band, scan_band_lane, scan_group, scan_slot : In
        Where it is: tile of R keys, band of C queries, word of E positions.
    read_en, read_pv : In(1)
        Read for scores, or for results.
    read_tile, read_band, read_group : In
        Tile of keys and band, for scores; word of positions, for results.
    tile_high, band_high, group_high : Out(R), Out(C), Out(E)
        Flags, from the cycle after until the next read that is for them.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        members = {"scan_en": In(1), "scan_high": In(1), "read_en": In(1), "read_pv": In(1)}
        for name, lane, lanes, depth in self._memories(config):
            members |= {
                f"scan_{name}": In(address_bits(depth)),
                lane: In(address_bits(lanes)),
                f"read_{name}": In(address_bits(depth)),
                f"{name}_high": Out(lanes),
            }
        super().__init__(members)

    @staticmethod
    def _memories(config: DtqattenConfig) -> tuple[tuple[str, str, int, int], ...]:
        return (
            ("tile", "scan_lane", config.rows, config.tiles_max),
            ("band", "scan_band_lane", config.columns, config.bands_max),
            ("group", "scan_slot", config.line_elements, config.token_groups_max),
        )

    def elaborate(self, platform: object) -> Module:
        """Write one bit of each memory, read a word."""
        m = Module()
        for name, lane, lanes, depth in self._memories(self._config):
            ram = place(m, f"{name}_flags", Ram(lanes, depth, granularity=1))
            m.d.comb += [
                ram.write_en.eq(Cat(self.scan_en & (getattr(self, lane) == index) for index in range(lanes))),
                ram.write_addr.eq(getattr(self, f"scan_{name}")),
                ram.write_data.eq(self.scan_high.replicate(lanes)),
                ram.read_en.eq(self.read_en & (self.read_pv == (name == "group"))),
                ram.read_addr.eq(getattr(self, f"read_{name}")),
                getattr(self, f"{name}_high").eq(ram.read_data),
            ]
        return m
