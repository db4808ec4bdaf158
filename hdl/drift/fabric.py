"""Drift's fabric: rows of groups that a column split and two row splits cut into four arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.controls import LINK
from bitfabric.hdl.drift.group import DriftGroup


class DriftRow(Block):
    """Place the groups of one row, links between neighbours.

    Parameters
    ----------
    config : DriftConfig

    Members
    -------
    west, east : In(LINK)
        What enters at the row's ends.
    from_east, upper, take_north, take_south : In(columns)
        One bit per group, see ``DriftGroup``.
    load_north, load_south, copy_north, copy_south : In(columns)
        One bit per group; ``copy`` with transit buffering only.
    stationary_north, stationary_south, stationary_out : In, In, Out(columns * config.stationary.size)
    psum_north_in, psum_south_in, psum_out : In, In, Out(columns * config.psum.size)
        Column by column, as plain bits: names for every field of every column of every row take time to emit.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        columns = config.columns
        stationary, psum = columns * config.stationary.size, columns * config.psum.size
        self._flags = ["from_east", "upper", "take_north", "take_south", "load_north", "load_south"]
        if config.weight_buffering == "transit":
            self._flags += ["copy_north", "copy_south"]
        super().__init__(
            {
                "west": In(LINK),
                "east": In(LINK),
                "stationary_north": In(stationary),
                "stationary_south": In(stationary),
                "stationary_out": Out(stationary),
                "psum_north_in": In(psum),
                "psum_south_in": In(psum),
                "psum_out": Out(psum),
            }
            | {name: In(columns) for name in self._flags}
        )

    def elaborate(self, platform: object) -> Module:
        """Chain the groups both ways."""
        m = Module()
        columns = self._config.columns
        groups = [place(m, f"group_{column}", DriftGroup(self._config)) for column in range(columns)]
        for column, group in enumerate(groups):
            m.d.comb += [
                group.west.eq(groups[column - 1].link_out if column else self.west),
                group.east.eq(groups[column + 1].link_out if column + 1 < columns else self.east),
            ]
            for port, width in (
                ("stationary", self._config.stationary.size),
                ("psum", self._config.psum.size),
            ):
                here = slice(column * width, (column + 1) * width)
                ends = ("_north", "_south") if port == "stationary" else ("_north_in", "_south_in")
                for end in ends:
                    m.d.comb += Value.cast(getattr(group, port + end)).eq(getattr(self, port + end)[here])
                m.d.comb += getattr(self, f"{port}_out")[here].eq(Value.cast(getattr(group, f"{port}_out")))
            m.d.comb += [getattr(group, name).eq(getattr(self, name)[column]) for name in self._flags]
        return m


class DriftFabric(Block):
    """Multiply four regions' activations by their weights at once, each at its own cadence.

    Local row i of a region counts from its row split, local column j from its west (left half) or east edge (right
    half). An activation row that enters local row i of a region in cycle t + i meets local column j's group (i, j)
    in cycle t + i + j; its psums are at the region's edge, north for an upper and south for a lower region, in cycle
    t + r + j, r rows being in the region. A weight row at column j's edge that is loaded in cycle u is in the
    group next to the edge from u + 1 on; the chain moves in every cycle of ``load``, so that the first of r rows ends
    at local row 0. Source: Drift section 4 [paper]; weights from both edges [ours], design section 6.

    Parameters
    ----------
    config : DriftConfig

    Members
    -------
    columns_left : In(range(columns + 1))
        Columns of the left half, which take activations from the west; the others take them from the east.
    rows_left, rows_right : In(range(rows + 1))
        Rows of each half's upper region. The three are constant while anything is in the fabric and have to be
        so from two cycles before: they act through two registers.
    west, east : In(LINK).array(rows)
        Activation bits by row; the swap, one cycle ahead of a tile's first ones, makes its weights the held ones.
    north_weights, south_weights : In(config.stationary).array(columns)
        What enters the load chains of the upper and of the lower regions.
    north_load, south_load : In(columns)
        The chain of a column moves.
    north_copy, south_copy : In(columns)
        Transit buffering only: what a column's chain holds becomes next.
    north_psum, south_psum : Out(config.psum).array(columns)
        The psums of the first and of the last row of groups.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        rows, columns = config.rows, config.columns
        members = {
            "columns_left": In(range(columns + 1)),
            "rows_left": In(range(rows + 1)),
            "rows_right": In(range(rows + 1)),
            "west": In(LINK).array(rows),
            "east": In(LINK).array(rows),
        }
        for edge in ("north", "south"):
            members |= {
                f"{edge}_weights": In(config.stationary).array(columns),
                f"{edge}_load": In(columns),
                f"{edge}_psum": Out(config.psum).array(columns),
            }
            if config.weight_buffering == "transit":
                members[f"{edge}_copy"] = In(columns)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Stack the rows between the two edges."""
        m = Module()
        config = self._config
        last = config.rows - 1
        rows = [place(m, f"row_{index}", DriftRow(config)) for index in range(config.rows)]
        self._directions(m, rows)
        for index, row in enumerate(rows):
            m.d.comb += [
                row.west.eq(self.west[index]),
                row.east.eq(self.east[index]),
                row.load_north.eq(self.north_load),
                row.load_south.eq(self.south_load),
            ]
            if config.weight_buffering == "transit":
                m.d.comb += [row.copy_north.eq(self.north_copy), row.copy_south.eq(self.south_copy)]
            # Beyond the edges there are no psums; what is left open there is 0.
            if index:
                above = rows[index - 1]
                m.d.comb += [
                    row.stationary_north.eq(above.stationary_out),
                    row.psum_north_in.eq(above.psum_out),
                ]
            else:
                m.d.comb += row.stationary_north.eq(_joined(self.north_weights))
            if index < last:
                below = rows[index + 1]
                m.d.comb += [
                    row.stationary_south.eq(below.stationary_out),
                    row.psum_south_in.eq(below.psum_out),
                ]
            else:
                m.d.comb += row.stationary_south.eq(_joined(self.south_weights))
        for column in range(config.columns):
            here = slice(column * config.psum.size, (column + 1) * config.psum.size)
            m.d.comb += [
                Value.cast(self.north_psum[column]).eq(rows[0].psum_out[here]),
                Value.cast(self.south_psum[column]).eq(rows[last].psum_out[here]),
            ]
        return m

    def _directions(self, m: Module, rows: list[DriftRow]) -> None:
        """Compare row and column numbers with the splits; register, since all of it is constant."""
        columns = self._config.columns
        right = Signal(columns)
        upper_left, upper_right = Signal(len(rows)), Signal(len(rows))
        m.d.sync += right.eq(_at_least(self.columns_left, columns))
        m.d.sync += upper_left.eq(~_at_least(self.rows_left, len(rows)))
        m.d.sync += upper_right.eq(~_at_least(self.rows_right, len(rows)))
        upper = [Signal(columns, name=f"upper_{index}") for index in range(len(rows))]
        for index, row in enumerate(rows):
            m.d.sync += upper[index].eq(
                (upper_left[index].replicate(columns) & ~right)
                | (upper_right[index].replicate(columns) & right)
            )
            # The groups next to a split are the ones whose neighbour belongs to the other region.
            above = ~upper[index - 1] if index else 0
            below = upper[index + 1] if index + 1 < len(rows) else 0
            m.d.comb += [
                row.from_east.eq(right),
                row.upper.eq(upper[index]),
                row.take_north.eq(above & ~upper[index]),
                row.take_south.eq(below & upper[index]),
            ]


def _joined(ports: Iterable[Any]) -> Value:
    """Return the ports of all columns as one value."""
    return Cat(Value.cast(port) for port in ports)


def _at_least(split: Value, count: int) -> Value:
    """Return ``count`` bits of which bit n is 1 from n = split on."""
    return Cat(split <= number for number in range(count))
