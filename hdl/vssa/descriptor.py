"""What a tile is to a VSSA array."""

from __future__ import annotations

from amaranth.lib import data


def tile_layout(rows: int, columns: int, elements: int, tag_bits: int) -> data.StructLayout:
    """Return the description of a tile.

    Fields: ``last`` (K - 1, ``elements`` at most being K); ``rows``, ``columns`` (lanes with data, from lane 0);
    ``floor`` (0, 1, 2: a step lasts 1, 2, 4 cycles at least); ``a_unsigned``, ``b_unsigned`` (of 8-bit operands'
    HO nibbles); ``tag`` (opaque).
    """
    return data.StructLayout(
        {
            "last": range(elements),
            "rows": range(rows + 1),
            "columns": range(columns + 1),
            "floor": 2,
            "a_unsigned": 1,
            "b_unsigned": 1,
            "tag": tag_bits,
        }
    )
