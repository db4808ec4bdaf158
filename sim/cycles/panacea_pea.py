"""When Panacea's PEAs work on a sub-tile: all PEAs of the core at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.panacea.config import PanaceaConfig

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Marks:
    """Collect the cycles in which PEAs issue products."""

    def __init__(self, peas: int):
        self._peas = peas
        self._starts: list[Ints] = []
        self._ends: list[Ints] = []
        self._index = np.arange(peas)
        self._rows: list[Ints] = []

    def add(self, first: Ints, last: Ints, where: Bools) -> None:
        """Mark every PEA's cycles ``first`` to ``last``, if there are some, where ``where`` holds."""
        chosen = where & (last >= first)
        self._starts.append(first[chosen])
        self._ends.append(last[chosen] + 1)
        self._rows.append(self._index[chosen])

    def busy(self) -> Bools:
        """Return whether each PEA issues in each cycle: (peas, cycles)."""
        starts, ends, rows = (np.concatenate(part) for part in (self._starts, self._ends, self._rows))
        length = int(ends.max()) + 1
        flat = np.bincount(rows * length + starts, minlength=self._peas * length)
        flat = flat - np.bincount(rows * length + ends, minlength=self._peas * length)
        return np.asarray(np.cumsum(flat.reshape(self._peas, length), axis=1) > 0)


class SubTile:
    """Say what a sub-tile is to every PEA.

    Members
    -------
    k_valid, parts : int
        K positions; pairs of dense slices.
    active : list of bool arrays
        Which PEAs have output channels, by weight tile of the M step.
    dynamic : list of int arrays
        Products with an HO slice, by weight tile.
    ready : int array
        First cycle in which the PEA may begin, as far as others are concerned.
    filled : int
        Cycle in which the sub-tile's last vectors land.
    same_tile : bool
        The sub-tile before belongs to the same tile.
    """

    def __init__(self, **fields: Any):
        self.k_valid: int = fields["k_valid"]
        self.parts: int = fields["parts"]
        self.active: list[Bools] = fields["active"]
        self.dynamic: list[Ints] = fields["dynamic"]
        self.ready: Ints = fields["ready"]
        self.filled: int = fields["filled"]
        self.same_tile: bool = fields["same_tile"]


class ClassTimes:
    """Follow the paper's form: static and dynamic operators, each class at its own sub-tile."""

    def __init__(self, config: PanaceaConfig, marks: Marks):
        self._config = config
        self._marks = marks
        self._static = np.zeros(config.peas, np.int64)  # last cycles of the sub-tile before
        self._dynamic = np.zeros(config.peas, np.int64)

    def run(self, tile: SubTile) -> Ints:
        """Return the cycle in which each PEA is done with the sub-tile."""
        config, marks = self._config, self._marks
        static = np.maximum(self._static + 1, tile.ready)
        dynamic = np.maximum(self._dynamic + 1, tile.ready)
        active = tile.active[0]
        length = tile.parts * -(-tile.k_valid // config.static_operators)
        static_last = static + np.where(active, length, 1) - 1
        marks.add(static, static_last, active)
        at, spare = dynamic, dynamic
        for works, products in zip(tile.active, tile.dynamic, strict=True):
            cycles = -(-products // config.dynamic_operators)
            marks.add(at, at + cycles - 1, works)
            at = at + np.where(works, np.maximum(cycles, 1), 0)
            spare = np.maximum(cycles, 1) * config.dynamic_operators - products
        dynamic_last = np.where(active, at - 1, dynamic)
        if len(tile.active) > 1 and tile.active[1].any():
            both = tile.active[1]
            begin, end, ends = self._share(tile, static_last + 1, dynamic_last + 1, spare)
            marks.add(begin, end, both)
            static_last = np.where(both, np.maximum(static_last, ends[0]), static_last)
            dynamic_last = np.where(both, np.maximum(dynamic_last, ends[1]), dynamic_last)
        self._static, self._dynamic = static_last, dynamic_last
        return np.maximum(static_last, dynamic_last)

    def _share(
        self, tile: SubTile, static: Ints, dynamic: Ints, spare: Ints
    ) -> tuple[Ints, Ints, tuple[Ints, Ints]]:
        """Return when the second weight tile's products of two dense slices are taken: first and last cycle.

        ``static`` and ``dynamic`` are the first cycles in which the classes have nothing else to do; in the one before
        there are ``spare`` dynamic operators. Last comes the cycle in which each class leaves.
        """
        config = self._config
        begin = np.minimum(static, dynamic - 1)
        both = np.maximum(static, dynamic) - 1  # from then on one class can leave the rest to the other
        cycle = begin - 1
        part, position = np.zeros_like(cycle), np.zeros_like(cycle)
        leaves = [np.full_like(cycle, -1) for _ in range(2)]
        widths = (config.static_operators, config.dynamic_operators)
        while True:
            most = (
                np.where(cycle >= static, widths[0], 0),
                np.where(cycle >= dynamic, widths[1], np.where(cycle == dynamic - 1, spare, 0)),
            )
            for width in most:
                left = np.where(part < tile.parts, tile.k_valid - position, 0)
                position = position + np.minimum(width, left)
                ends = position == tile.k_valid
                part, position = part + ends, np.where(ends, 0, position)
            going = part < tile.parts
            if not going.any():
                exits = [np.where(leave < 0, cycle, leave) for leave in leaves]
                return begin, cycle, (exits[0], exits[1])
            left = tile.k_valid - position
            stays = (part == tile.parts - 1) & (cycle >= both) & (leaves[0] < 0) & (leaves[1] < 0)
            narrow, wide = stays & (left <= widths[1]), stays & (left > widths[1]) & (left <= widths[0])
            leaves = [np.where(narrow, cycle, leaves[0]), np.where(wide, cycle, leaves[1])]
            # Who has left takes no more.
            static, dynamic = np.where(narrow, cycle + 2, static), np.where(wide, cycle + 3, dynamic)
            cycle = cycle + going


class FlexibleTimes:
    """Follow our form: every operator takes either kind of work, and what is left begins the next sub-tile."""

    def __init__(self, config: PanaceaConfig, marks: Marks):
        self._width = config.operators
        self._marks = marks
        self._last = np.zeros(config.peas, np.int64)  # last cycle of the sub-tile before
        self._room = np.zeros(config.peas, np.int64)  # operators it left in that cycle
        self._idle = np.zeros(config.peas, np.bool_)  # it had no product there

    def run(self, tile: SubTile) -> Ints:
        """Return the cycle in which each PEA is done with the sub-tile."""
        width, marks = self._width, self._marks
        active, products = tile.active[0], tile.dynamic[0]
        begins = active & tile.same_tile & (self._last > tile.filled)
        begun = np.where(begins, np.minimum(self._room, tile.k_valid), 0)
        marks.add(self._last, self._last, self._idle & (begun > 0))
        start = np.maximum(self._last + 1, tile.ready)
        # Cycles that take products of two dense slices, and the operators left in each part's last one.
        first = tile.k_valid - begun
        later = tile.parts - 1
        chunks, rest = -(-first // width), -first % width
        per_part, per_rest = -(-tile.k_valid // width), -tile.k_valid % width
        static_cycles = chunks + later * per_part
        before_last = np.where(later > 0, rest + (later - 1) * per_rest, 0)
        last_rest = np.where(later > 0, per_rest, rest)
        left = np.maximum(products - before_last - last_rest, 0)
        more = -(-left // width)
        cycles = np.where(active, np.maximum(static_cycles + more, 1), 1)
        beside = np.minimum(np.maximum(products - before_last, 0), last_rest)
        used = np.where(
            more > 0, left - (more - 1) * width, np.where(static_cycles > 0, width - last_rest + beside, 0)
        )
        end = start + cycles - 1
        self._idle = active & (cycles == 1) & (used == 0)
        marks.add(start, end, active & ~self._idle)
        self._last, self._room = end, np.where(active, width - used, 0)
        return end
