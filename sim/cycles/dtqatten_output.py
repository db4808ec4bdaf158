"""Cycle model of DTQAtten's output side: ports that requantize, and the sender while neither of its streams stalls."""

from __future__ import annotations

import dataclasses

from bitfabric.hdl.common.gearbox import gearbox_limit
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.output_port import OutputPort
from bitfabric.hdl.dtqatten.sender_list import ENTRY_BYTES

# From the cycle in which a tile's last row is on the bus to ``tile_done``; with a band's last tile it may be sent.
TILE_DONE_LATENCY = OutputPort.LATENCY + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentBand:
    """Hold when a band was sent.

    Members
    -------
    accepted : int
        The cycle of ``band_valid & band_ready``.
    sent : int
        That of ``band_sent``.
    last_beat : int
        That in which its last beat is taken from ``o``.
    """

    accepted: int
    sent: int
    last_beat: int


@dataclasses.dataclass(frozen=True)
class _Pipe:
    """Hold what a word leaves behind, relative to the cycle ``taken`` in which the gearbox took it.

    ``enters`` and ``before`` are the cycles in which it, and its predecessor, came to the ports' output registers;
    ``before_taken`` is when the predecessor left them; ``issued`` the cycle of its read. ``level`` are the bytes in
    the gearbox a cycle after ``taken``.
    """

    issued: int = -9
    enters: int = -9
    before: int = -9
    before_taken: int = -9
    level: int = 0


class SenderTimes:
    """Follow bands through the sender, one after the other, and then the list.

    The walk, two pipeline registers that stand still together and the gearbox's level give one recurrence per word.
    Rows of a head are alike: once a row leaves behind what the row before it did, all others take as long.

    Parameters
    ----------
    config : DtqattenConfig
        The machine.
    head_size : int
        d, from 1.
    """

    def __init__(self, config: DtqattenConfig, head_size: int) -> None:
        rows, beat = config.rows, config.axis_bytes
        self._entries = beat // ENTRY_BYTES
        self._beat = beat
        self._limit = gearbox_limit(rows, beat)
        words = -(-head_size // rows)
        self._sizes = [rows] * (words - 1) + [head_size - (words - 1) * rows]
        self._pipe = _Pipe()
        self._taken = -1
        self._ready = 0  # for the next band

    def band(self, offered: int, columns: int) -> SentBand:
        """Return the times of a band that is offered from cycle ``offered`` on, until it is accepted."""
        accepted = max(offered, self._ready)
        at, left, last = accepted + 1, columns, None
        while left:
            begun = self._taken
            for index, size in enumerate(self._sizes):
                self._word(at, size, index == len(self._sizes) - 1)
                at = self._taken + self._pipe.issued + 1
            left -= 1
            if self._pipe == last:
                self._taken += left * (self._taken - begun)
                left = 0
            last = self._pipe
        self._ready = self._taken + self._pipe.issued + 1
        return SentBand(accepted=accepted, sent=self._taken + 1, last_beat=self.last_beat)

    @property
    def last_beat(self) -> int:
        """The cycle in which the last beat of all rows so far is taken."""
        return self._taken + self._pipe.level // self._beat

    def finish(self, cycle: int, kept: int) -> int:
        """Return the cycle of ``done`` for ``finish`` in ``cycle``."""
        start = max(cycle, self.last_beat) + 1
        return start + -(-kept // self._entries) + 1

    def _word(self, at: int, size: int, last: bool) -> None:
        """Move a word on that the walk is at from cycle ``at`` on."""
        pipe, taken = self._pipe, self._taken
        stands = ((pipe.before + taken, pipe.before_taken + taken), (pipe.enters + taken, taken))

        def moves(cycle: int) -> int:
            for since, until in stands:
                if since <= cycle < until:
                    cycle = until
            return cycle

        issued = moves(at)
        enters = moves(issued + 1) + 1
        now = max(enters, taken + 1)
        level = max(pipe.level - (now - taken - 1) * self._beat, pipe.level % self._beat)
        if level > self._limit:
            wait = -(-(level - self._limit) // self._beat)
            now += wait
            level -= wait * self._beat
        after = level + size
        if last:
            after += -after % self._beat
        if level >= self._beat:
            after -= self._beat
        self._pipe = _Pipe(issued - now, enters - now, stands[1][0] - now, taken - now, after)
        self._taken = now
