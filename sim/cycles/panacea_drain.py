"""When Panacea's drain reads the blocks of an output tile, and what becomes of them."""

from __future__ import annotations

from collections import deque

from bitfabric.hdl.panacea.config import VECTOR, PanaceaConfig
from bitfabric.sim.cycles.panacea_output import OutputTimes
from bitfabric.sim.cycles.panacea_tiles import Modes, groups_of


class DrainTimes:
    """Follow ``Drain`` and ``PanaceaOutput`` through a layer, output tile by output tile."""

    def __init__(self, config: PanaceaConfig, modes: Modes):
        self._config, self._modes = config, modes
        self._output = OutputTimes(config, modes.next_slices, modes.keep)
        self._k_tiles = -(-modes.k // config.tile_k)
        self._idle = 1  # first cycle in which the drain may look at the present output tile's K tiles
        self._drained = 0  # the psum bank before was given back
        self._waits: deque[tuple[int, int]] = deque(maxlen=4)  # a block stands at the output and is not taken
        self.stalled = 0

    def total(self) -> int:
        """Return the cycle of the layer's end."""
        done = self._output.done
        assert done is not None
        # The last beat goes through the stream's register first.
        return done if self._modes.keep else done + 1

    def output(self, complete: int, row: int, rows: list[int], n_tile: int, columns: int) -> tuple[int, int]:
        """Drain an output tile (two with DTP) that all PEAs have finished in ``complete``.

        Returns the cycle in which its psum bank is given back, and that of its last read.
        """
        # One K tile a cycle is passed over; then the drain starts in the cycle after it sees the last one.
        cycle = max(complete, self._idle + self._k_tiles - 1, self._drained + 1) + 1
        blocks = self._blocks(row, rows, n_tile, columns)
        read = cycle
        for index, (keep, flags) in enumerate(blocks):
            read = self._moves(cycle)
            offered = self._moves(self._moves(read + 1) + 1) + 1
            last = index == len(blocks) - 1 and self._is_last(row, rows, n_tile)
            accepted = self._output.block(offered, keep, last=last, **flags)
            self.stalled += accepted - offered
            if accepted > offered:
                self._waits.append((offered, accepted))
            cycle = read + 1
        self._idle, self._drained = read + 1, self._moves(read + 1)
        return self._drained, read

    def _moves(self, cycle: int) -> int:
        """Return the first cycle from ``cycle`` on in which the pipeline moves."""
        for begin, end in self._waits:
            if begin <= cycle < end:
                cycle = end
        return cycle

    def _is_last(self, row: int, rows: list[int], n_tile: int) -> bool:
        return row + sum(rows) == self._modes.n and n_tile == -(-self._modes.m // self._config.tile_n) - 1

    def _blocks(
        self, row: int, rows: list[int], n_tile: int, columns: int
    ) -> list[tuple[tuple[bool, ...], dict[str, bool]]]:
        """Return every block's kept HO vectors and flags, in their order."""
        config = self._config
        found = []
        for size in rows:
            for half in range(0, size, config.tile_k):
                end = min(half + config.tile_k, size)
                for group in range(groups_of(columns)):
                    for start in range(half, end, VECTOR):
                        stop = min(start + VECTOR, end)
                        keep: tuple[bool, ...] = ()
                        if self._modes.kept is not None:
                            token_group = n_tile * config.groups + group
                            keep = tuple(self._modes.kept[row + start : row + stop, token_group])
                        ends = stop == end
                        flags = {
                            "last_of_group": ends,
                            "last_of_record": ends and group == groups_of(columns) - 1,
                        }
                        found.append((keep, flags))
            row += size
        return found
