"""What scores need to know of a query or a key besides their product: id and scale."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.dtqatten.config import SCALE_BITS, DtqattenConfig


class ScoreTables(Block):
    """Hold ids and scales by band and column, as queries, and by position, as keys.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    scan_en, scan_position, scan_band, scan_lane, scan_id : In
        Write the id of the token at a position, which is a column of a band.
    scale_en, scale_position, scale_band, scale_lane, scale_q, scale_k : In
        Write its scales as a query and as a key.
    band, position : In
        Read a band's queries and a key, in every cycle.
    ids, id_k : Out
        Ids a cycle later, of the band's queries from column 0 up, and of the key.
    scales, scale_of_key : Out
        Scales a cycle later, likewise.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        position, band, lane = config.id_bits, address_bits(config.bands_max), address_bits(config.columns)
        super().__init__(
            {
                "scan_en": In(1),
                "scan_position": In(position),
                "scan_band": In(band),
                "scan_lane": In(lane),
                "scan_id": In(config.id_bits),
                "scale_en": In(1),
                "scale_position": In(position),
                "scale_band": In(band),
                "scale_lane": In(lane),
                "scale_q": In(SCALE_BITS),
                "scale_k": In(SCALE_BITS),
                "band": In(band),
                "position": In(position),
                "ids": Out(config.columns * config.id_bits),
                "id_k": Out(config.id_bits),
                "scales": Out(config.columns * SCALE_BITS),
                "scale_of_key": Out(SCALE_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep each in two memories: a band's columns side by side, and by position."""
        m = Module()
        config = self._config
        for name, en, position, band, lane, query, key, queries_out, key_out in (
            (
                "id",
                *(self.scan_en, self.scan_position, self.scan_band, self.scan_lane),
                *(self.scan_id, self.scan_id, self.ids, self.id_k),
            ),
            (
                "scale",
                *(self.scale_en, self.scale_position, self.scale_band, self.scale_lane),
                *(self.scale_q, self.scale_k, self.scales, self.scale_of_key),
            ),
        ):
            width = len(key)
            queries = place(
                m, f"{name}_queries", Ram(config.columns * width, config.bands_max, granularity=width)
            )
            # The last tile has rows beyond the tokens: they are read, too.
            keys = place(m, f"{name}_keys", Ram(width, 1 << config.id_bits))
            m.d.comb += [
                queries.write_en.eq(Cat(en & (lane == column) for column in range(config.columns))),
                queries.write_addr.eq(band),
                queries.write_data.eq(query.replicate(config.columns)),
                queries.read_en.eq(1),
                queries.read_addr.eq(self.band),
                queries_out.eq(queries.read_data),
                keys.write_en.eq(en),
                keys.write_addr.eq(position),
                keys.write_data.eq(key),
                keys.read_en.eq(1),
                keys.read_addr.eq(self.position),
                key_out.eq(keys.read_data),
            ]
        return m
