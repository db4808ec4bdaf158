"""When the gearbox takes words and offers them: the recurrence of its handshakes."""

from __future__ import annotations

from collections.abc import Iterable

from bitfabric.hdl.common.gearbox import gearbox_limit


class GearboxTimes:
    """Follow the words through a gearbox whose output is always taken at once.

    With L bytes behind word i in the buffer (all words before it, padded), ``taken(i)`` is the first cycle after the word
    before it, not before it is offered, in which ceil((L - limit) / out_bytes) words have left; an output
    word is offered (and taken) in the cycle after the word that completes it, or after the output word before it.

    Parameters
    ----------
    in_bytes, out_bytes : int
        Bytes of a word on either side.

    Members
    -------
    leaves : list of int
        The cycle of every output word so far.
    """

    def __init__(self, in_bytes: int, out_bytes: int):
        self._in, self._out = in_bytes, out_bytes
        self._limit = gearbox_limit(in_bytes, out_bytes)
        self._entered = 0  # bytes so far, padded
        self._taken = -1
        self.leaves: list[int] = []

    def word(self, offered: int, end: int | None = None) -> int:
        """Return the cycle in which a word is taken that is offered from ``offered`` on.

        Parameters
        ----------
        offered : int
            Cycle.
        end : int, optional
            The bytes that count, where the word ends its packet.
        """
        taken = max(offered, self._taken + 1)
        out = self._out
        gone = -(-(self._entered - self._limit) // out)
        if gone > 0:
            taken = max(taken, self.leaves[gone - 1] + 1)
        self._taken = taken
        self._entered += self._in if end is None else end
        if end is not None:
            self._entered += -self._entered % out
        leaves = self.leaves
        for _ in range(self._entered // out - len(leaves)):
            leaves.append(max(taken, leaves[-1] if leaves else -1) + 1)
        return taken

    def packet(self, offered: Iterable[int], size: int) -> list[int]:
        """Return the cycles in which the words of a packet of ``size`` bytes are taken."""
        cycles = list(offered)
        last = size - (len(cycles) - 1) * self._in
        return [self.word(cycle) for cycle in cycles[:-1]] + [self.word(cycles[-1], last)]
