"""The cycle model of Panacea's output side, when its stream does not stall: to the cycle, block by block."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bitfabric.hdl.panacea.config import INDEX_BITS, VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.ppu import LANES, PostProcessor


class OutputTimes:
    """Follow ``PanaceaOutput`` through a layer; its blocks are told one after the other.

    Parameters
    ----------
    config : PanaceaConfig
        The machine.
    next_slices : int
        The next layer's activation slices; 0 if the outputs are accumulators.
    keep : bool
        The outputs stay in OMEM.

    Members
    -------
    done : int or None
        The cycle of ``done``, known once the last block has been told.
    stalled : int
        Cycles in which a block waits.
    """

    def __init__(self, config: PanaceaConfig, next_slices: int, keep: bool = False):
        self._config = config
        self._slices = next_slices
        self._keep = keep
        self.done: int | None = None
        self.stalled = 0
        self._accepted = -1  # of the block before, as are the next two
        self._taken = -1  # it begins to be written
        self._written = -1  # its last word is
        self._holds: deque[tuple[int, int]] = deque()  # the PPU's pipeline stands still: from, up to
        self._run = self._held = self._quads = self._chunk = self._dense = 0
        self._starts = True
        self._released = [-1, -1]  # last reads of the two records before

    def block(
        self,
        offered: int,
        keep: Sequence[bool] = (),
        *,
        last: bool,
        last_of_group: bool = False,
        last_of_record: bool = False,
    ) -> int:
        """Return the cycle in which a block is taken that is first offered in the cycle ``offered``.

        Parameters
        ----------
        offered : int
            After the cycle in which the block before was taken.
        keep : sequence of bool
            Which of the block's HO vectors are kept, by row; only the valid ones. Like what follows it is not
            looked at for accumulators.
        last, last_of_group, last_of_record
            As in ``hdl.panacea.ppu.block_layout``.
        """
        if not self._slices:
            return self._accumulators(offered, last)
        accepted = offered
        for begin, end in self._holds:
            if begin <= accepted < end:
                accepted = end
        self.stalled += accepted - offered
        while self._holds and self._holds[0][1] <= accepted:
            self._holds.popleft()
        ready = accepted + PostProcessor.LATENCY
        for begin, end in self._holds:  # those at or before `accepted` are gone
            if begin < ready:
                ready += end - begin
        # The run-length encoder takes the block when the one before leaves it.
        encoded = max(ready, self._taken)
        if encoded > ready:
            self._holds.append((ready, encoded))
        taken = max(encoded + 1, self._written)
        if self._starts and not self._keep:
            taken = max(taken, self._released[0] + 1)
        self._taken = taken
        self._written = taken + self._cycles(keep, last_of_group, last_of_record)
        self._starts = last_of_record
        if last_of_record:
            self._record(last)
        return accepted

    def _accumulators(self, offered: int, last: bool) -> int:
        beats = 32 * LANES // self._config.axis_data_bits
        accepted = max(offered, self._written)
        self.stalled += accepted - offered
        self._written = accepted + beats
        if last:
            self.done = self._written
        return accepted

    def _cycles(self, keep: Sequence[bool], ends_group: bool, ends_record: bool) -> int:
        """Return how long a block's words are written."""
        size = self._config.quad
        for kept in keep if self._slices > 1 else ():
            if kept:
                self._held += 1 + (self._run >> INDEX_BITS)
                self._run = 0
            else:
                self._run += 1
        quads, rest = divmod(self._held, size)
        self._held = rest
        self._chunk += 1
        words = 0
        if ends_group:
            quads += rest > 0
            self._run = self._held = 0
        if ends_group or self._chunk == self._config.lanes // VECTOR:
            words = 2 if self._slices == 3 else 1
            self._chunk = 0
        self._quads += quads
        self._dense += words
        return max(max(quads, 1) + ends_record, words)

    def _record(self, last: bool) -> None:
        words = 1 + self._dense + -(-self._quads // self._config.quads)
        self._quads = self._dense = 0
        if not self._keep:
            read = max(self._written + 1, self._released[1])  # its reader takes the record
            self._released = [self._released[1], read + words]
        if last:
            self.done = self._written if self._keep else self._released[1] + 1
