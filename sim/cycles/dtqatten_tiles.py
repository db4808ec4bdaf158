"""The tiles of a DTQAtten block in the order in which they are dealt, and how long arrays take for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.tile_list import RESULTS, SCORES
from bitfabric.sim.cycles.vssa import PeCounts, TileTimes, pe_counts, steps, tile_times


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Describe a tile of a head.

    Members
    -------
    pv : bool
        Of results, not of scores.
    band, tile : int
        Band of queries; tile of keys or channels.
    rows, columns, length : int
        R', C' and K.
    floor : int
        The shortest step is ``2**floor`` cycles.
    gap : int
        Candidates that the list looks at for it, itself included.
    band_first, band_last, head_last : bool
        First and last tile of results of a band; last tile of the head.
    """

    pv: bool
    band: int
    tile: int
    rows: int
    columns: int
    length: int
    floor: int
    gap: int
    band_first: bool = False
    band_last: bool = False
    head_last: bool = False


@dataclass(frozen=True)
class Band:
    """Describe a band: its number, its queries, and the candidates that an order looks at for it, itself included."""

    number: int
    columns: int
    gap: int


class HeadTiles:
    """List the tiles and bands of a head, all heads being alike.

    Parameters
    ----------
    config : DtqattenConfig
        The machine.
    high : bool array (m,)
        Tokens of 8 bits, by position.
    head_size : int
        d.

    Members
    -------
    tiles : list of Tile
        In their order.
    bands : list of Band
        In the order of their results.
    after : int
        Candidates after the last band.
    """

    def __init__(self, config: DtqattenConfig, high: NDArray[np.bool_], head_size: int):
        self._config = config
        self._high = high
        self.kept, self.head_size = len(high), head_size
        self._band_high = self._flags(config.columns)
        self._tile_high = self._flags(config.rows)
        self.bands, self.after = self._bands()

    def _flags(self, size: int) -> list[bool]:
        return [bool(self._high[at : at + size].any()) for at in range(0, self.kept, size)]

    def _bands(self) -> tuple[list[Band], int]:
        bands, gap = [], 0
        for wanted in RESULTS:
            for number, high in enumerate(self._band_high):
                gap += 1
                if high == bool(wanted):
                    bands.append(Band(number, self._columns(number), gap))
                    gap = 0
        return bands, gap

    def _columns(self, band: int) -> int:
        return min(self._config.columns, self.kept - band * self._config.columns)

    @cached_property
    def tiles(self) -> list[Tile]:
        """The tiles; the first one's ``gap`` also holds for what follows the head before."""
        rows = self._config.rows
        tiles: list[Tile] = []
        gap = 0
        for of_band, of_tile in SCORES:
            for band, high in enumerate(self._band_high):
                if high != bool(of_band):
                    gap += 1
                    continue
                for tile, tile_high in enumerate(self._tile_high):
                    gap += 1
                    if tile_high != bool(of_tile):
                        continue
                    tiles.append(
                        Tile(
                            pv=False,
                            band=band,
                            tile=tile,
                            rows=min(rows, self.kept - tile * rows),
                            columns=self._columns(band),
                            length=self.head_size,
                            floor=of_band + of_tile,
                            gap=gap,
                        )
                    )
                    gap = 0
        channels = range(-(-self.head_size // rows))
        for index, results in enumerate(self.bands):
            gap += results.gap - 1
            for tile in channels:
                tiles.append(
                    Tile(
                        pv=True,
                        band=results.number,
                        tile=tile,
                        rows=min(rows, self.head_size - tile * rows),
                        columns=results.columns,
                        length=self.kept,
                        floor=1,
                        gap=gap + 1,
                        band_first=tile == 0,
                        band_last=tile == channels[-1],
                        head_last=tile == channels[-1] and index == len(self.bands) - 1,
                    )
                )
                gap = 0
        return tiles

    def words(self, tile: Tile) -> int:
        """Return the words of a tile, W."""
        return -(-tile.length // self._config.line_elements)

    @cached_property
    def _known(self) -> dict[tuple[object, ...], tuple[TileTimes, PeCounts]]:
        return {}

    def times(self, tile: Tile) -> tuple[TileTimes, PeCounts]:
        """Return when a tile's buffer and sums are free after its start, and what its PEs do."""
        row_high: NDArray[np.bool_] | bool
        column_high: NDArray[np.bool_] | bool
        size, columns = self._config.rows, self._config.columns
        keys = self._high[tile.tile * size : tile.tile * size + tile.rows]
        queries = self._high[tile.band * columns : tile.band * columns + tile.columns]
        if tile.pv:
            key: tuple[object, ...] = (True, tile.rows, tile.columns)
        else:
            key = (False, tile.rows, tile.columns, tile.floor, int(keys.sum()), int(queries.sum()))
        if key not in self._known:
            k = tile.length
            if tile.pv:
                row_high, column_high = self._high, True
            else:
                row_high = np.broadcast_to(keys, (k, tile.rows))
                column_high = np.broadcast_to(queries, (k, tile.columns))
            shape = {"k": k, "rows": tile.rows, "columns": tile.columns}
            durations = steps(row_high, column_high, tile.floor, **shape)
            if not tile.pv:
                durations = np.full_like(durations, 1 << tile.floor)
            self._known[key] = (
                tile_times(durations, k, self._config.line_elements),
                pe_counts(row_high, column_high, durations, **shape),
            )
        return self._known[key]
