"""When DTQAtten's fetcher has what a head needs: packets asked for, beats, words, nothing stalled from outside."""

from __future__ import annotations

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.fetch_list import ListReader
from bitfabric.hdl.dtqatten.fetch_receive import Receiver
from bitfabric.hdl.dtqatten.fetch_values import ValueWriter
from bitfabric.hdl.dtqatten.fetch_walk import BUFFERED_HEADS, IssueWalker
from bitfabric.sim.cycles.gearbox import GearboxTimes

# A register behind the fetcher's descriptors and one before its beats.
PORTS = 2


class FetchTimes:
    """Follow the packets of a block through the fetcher [derived].

    Packet p enters in ``e(p) = max(e(p-1) + 1, c(p - outstanding) + 1)``, a head's first one also after ``retire`` of the head
    before the last one. Its first word is taken in ``max(e(p) + 5 + latency, c(p-1) + 1)`` and the others of its
    ``ceil(d/S)`` words in the cycles after it, of 4 bits (two words a beat) as of 8, V as the gearbox takes them; ``c(p)`` is
    the last one's. Neither the stream's registers nor the memory's one beat a cycle can come later than that.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.
    start : int
        Cycle of ``start``.
    kept, head_size : int
        m and d.
    latency : int
        Cycles from a descriptor's handshake at the machine's port to its first beat there; the memory offers one beat a cycle.
    entries : int, optional
        Entries of the list; None with ``carry``.
    per_token : bool
        Whether scales are fetched.

    Members
    -------
    list_done : int or None
        Cycle of ``list_done``.
    """

    def __init__(
        self,
        config: DtqattenConfig,
        *,
        start: int,
        kept: int,
        head_size: int,
        latency: int,
        entries: int | None = None,
        per_token: bool = False,
    ):
        self._delay = IssueWalker.LATENCY + PORTS + latency
        self._outstanding = config.outstanding
        self._kept, self._size = kept, head_size
        self._words = -(-head_size // config.axis_bytes)
        self._gearbox = None
        if config.rows != config.axis_bytes:
            self._gearbox = GearboxTimes(config.axis_bytes, config.rows)
        self.list_done: int | None = None
        if entries is not None:
            self.list_done = start + 1 + self._delay + entries - 1 + ListReader.DONE_LATENCY
        self._entered = start if self.list_done is None else self.list_done
        self._consumed = [self._entered]  # the first one stands for all that was before
        self._heads = 0
        if per_token:
            self._packets(kept, 1)

    def head(self, retired: int = -1) -> tuple[int, int]:
        """Return the cycles of ``qk_loaded`` and ``v_loaded`` of the next head.

        Parameters
        ----------
        retired : int
            Cycle of ``retire`` of the head before the last one; unused for the first two heads.
        """
        if self._heads >= BUFFERED_HEADS:
            self._entered = max(self._entered, retired)
        self._heads += 1
        self._packets(2 * self._kept, self._words)
        qk_loaded = self._consumed[-1] + Receiver.LOADED_LATENCY
        if self._gearbox is None:
            self._packets(self._kept, self._words)
            written = self._consumed[-1] + 1
        else:
            self._values(self._gearbox)
            written = self._gearbox.leaves[-1]
        return qk_loaded, written + ValueWriter.LOADED_LATENCY

    def _first_word(self) -> int:
        """Return when a next packet's first word is there, and the one before is gone."""
        consumed, outstanding = self._consumed, self._outstanding
        entered = self._entered + 1
        if len(consumed) > outstanding:
            entered = max(entered, consumed[-outstanding] + 1)
        self._entered = entered
        return max(entered + self._delay, consumed[-1] + 1)

    def _packets(self, count: int, words: int) -> None:
        for _ in range(count):
            self._consumed.append(self._first_word() + words - 1)

    def _values(self, gearbox: GearboxTimes) -> None:
        for _ in range(self._kept):
            first = self._first_word()
            taken = gearbox.packet(range(first, first + self._words), self._size)
            self._consumed.append(taken[-1])
