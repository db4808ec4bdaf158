"""What a tile is called on its way through the machine."""

from __future__ import annotations

from amaranth.lib import data

from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig

TILE_DEPTH = 4  # tiles that the list is ahead of the dealer


def tag_layout(config: DtqattenConfig) -> data.StructLayout:
    """Return what an array keeps of its tile, and gives back with the results.

    ``pv`` tells a tile of results from one of scores; ``floor`` is its shortest step as a power of two; ``port`` is
    where it leaves. For scores ``first`` is the first
    key's position and ``slot`` its place among the port's scores of a query, both multiples of R; for results
    ``first`` is 0 and ``slot`` the channel tile's place among the port's. ``rows`` and ``columns`` are less than R
    and C in tails.
    """
    return data.StructLayout(
        {
            "pv": 1,
            "floor": 2,
            "port": address_bits(config.unload_ports),
            "band": address_bits(config.bands_max),
            "first": config.id_bits,
            "slot": max(address_bits(config.slots_max), address_bits(config.port_tiles_max)),
            "rows": config.rows.bit_length(),
            "columns": config.columns.bit_length(),
        }
    )


def tile_layout(config: DtqattenConfig) -> data.StructLayout:
    """Return what the dealer must know of a tile.

    ``tile`` is the K or channel tile; ``band_first`` and ``band_last`` mark the first and last result tile of a band,
    ``head_last`` the last tile of a head.
    """
    return data.StructLayout(
        {
            "tag": tag_layout(config),
            "tile": address_bits(max(config.tiles_max, config.channel_tiles_max)),
            "band_first": 1,
            "band_last": 1,
            "head_last": 1,
        }
    )
