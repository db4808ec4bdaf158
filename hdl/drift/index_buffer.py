"""The index buffer: which token each stored row is, and by how much its values were shifted."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram
from bitfabric.hdl.drift.config import DIMENSION_BITS, DriftConfig

# A stored row: its token, and lc (0 at high precision), by which its results are to be shifted left.
ENTRY = data.StructLayout({"token": DIMENSION_BITS, "shift": 4})


class IndexBuffer(Block):
    """Keep a list of the high-precision rows and one of the low-precision rows in one memory [paper].

    The high rows' list grows from the bottom, the low rows' from the top, so that ``m_max`` entries serve any mixture
    [ours]. Read latency is 1 cycle, throughput one write and one read per cycle.

    Parameters
    ----------
    config : DriftConfig
        Gives ``m_max``.

    Members
    -------
    write_en, write_low, write_rank, write_entry : In
        Write an entry; its rank among the rows of its precision.
    rank, low : In
        Row to read, every cycle; a rank of ``m_max`` or above reads no entry.
    entry : Out(ENTRY)
        Its entry, a cycle later.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._entries = config.m_max
        super().__init__(
            {
                "write_en": In(1),
                "write_low": In(1),
                "write_rank": In(DIMENSION_BITS),
                "write_entry": In(ENTRY),
                "rank": In(DIMENSION_BITS),
                "low": In(1),
                "entry": Out(ENTRY),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the memory."""
        m = Module()
        ram = place(m, "ram", Ram(ENTRY.size, self._entries))
        present = Signal()
        addresses = []
        for name, rank, low in (
            ("write", self.write_rank, self.write_low),
            ("read", self.rank, self.low),
        ):
            address = Signal(ram.address_bits, name=f"{name}_address")
            bottom = rank[: ram.address_bits]
            m.d.comb += address.eq(Mux(low, self._entries - 1 - bottom, bottom))
            addresses.append(address)
        m.d.comb += [
            present.eq(self.rank < self._entries),
            ram.write_en.eq(self.write_en),
            ram.write_addr.eq(addresses[0]),
            ram.write_data.eq(self.write_entry.as_value()),
            ram.read_en.eq(present),
            ram.read_addr.eq(addresses[1]),
            self.entry.eq(ram.read_data),
        ]
        return m
