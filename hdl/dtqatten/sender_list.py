"""The list that ends a block's results: each token's importance, and its precision in the next block."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Member, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.memory import Ram
from bitfabric.hdl.dtqatten.config import ADDRESS_BITS, VALUE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.descriptor import DESCRIPTOR

ENTRY_BYTES = 8
PRECISION_BITS = 2  # of a token's coded precision: a quarter of its bits


def list_members(config: DtqattenConfig) -> dict[str, Member]:
    """Return what ``ListSender`` and ``Sender`` have in common: the list, where it goes, and its end."""
    return {
        "list_base": In(ADDRESS_BITS),
        "list_valid": In(1),
        "list_position": In(config.id_bits),
        "list_id": In(config.id_bits),
        "list_bits": In(PRECISION_BITS),
        "list_value": In(VALUE_BITS),
        "done": Out(1),
    }


class ListSender(Block):
    """Keep the block's list and send it as a packet of 8 bytes per position.

    An entry is ``{id 16, bits 8, 0 8, importance 32}``, id lowest; ``bits`` is 8, 4 or 0. A beat has S/8 of them; what
    is beyond the last entry is 0. With ``start`` in cycle t the descriptor ``{list_base, 8 * kept}`` and the first
    beat are offered from t + 1 on, a beat per cycle follows.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    kept, list_base : In
        Entries from 1, and byte address of the list; constant from ``start`` on.
    list_valid, list_position, list_id, list_bits, list_value : In
        Write an entry; ``list_bits`` is 0, 1 for 4 bits or 2 for 8. The last one comes before ``start``.
    start : In(1)
        Send.
    o : Out(stream of beat_layout)
        Beats.
    desc : Out(stream of DESCRIPTOR)
        The descriptor.
    done : Out(1)
        Strobe in the cycle after descriptor and last beat have been taken.
    """

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        super().__init__(
            {
                "kept": In(config.count_bits),
                **list_members(config),
                "start": In(1),
                "o": Out(stream.Signature(beat_layout(config.axis_data_bits))),
                "desc": Out(stream.Signature(DESCRIPTOR)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Read a word of the list per beat."""
        m = Module()
        config = self._config
        entries = config.axis_bytes // ENTRY_BYTES  # a power of two
        slot_bits = entries.bit_length() - 1
        size = config.id_bits + PRECISION_BITS + VALUE_BITS
        ram = place(m, "entries", Ram(size * entries, -(-config.tokens_max // entries), granularity=size))
        slot_of = self.list_position[:slot_bits]
        m.d.comb += [
            ram.write_en.eq(
                Cat(self.list_valid & (slot_of == slot) for slot in range(entries))
                if entries > 1
                else self.list_valid
            ),
            ram.write_addr.eq(self.list_position[slot_bits:]),
            ram.write_data.eq(Cat(self.list_id, self.list_bits, self.list_value).replicate(entries)),
        ]

        busy, offered, waiting = Signal(), Signal(), Signal()
        address, left = Signal(ram.address_bits), Signal(config.count_bits, reset_less=True)
        read, taken, last, finished = (Signal(name=name) for name in ("read", "taken", "last", "finished"))
        m.d.comb += [
            last.eq(left <= entries),
            taken.eq(offered & self.o.ready),
            read.eq(self.start | (taken & ~last)),
            finished.eq(busy & (~offered | (taken & last)) & (~waiting | self.desc.ready)),
            ram.read_en.eq(read),
            ram.read_addr.eq(address),
            self.o.valid.eq(offered),
            self.o.payload.last.eq(last),
            self.o.payload.data.eq(
                Cat(
                    Mux(left > slot, self._entry(ram.read_data[slot * size : (slot + 1) * size]), 0)
                    for slot in range(entries)
                )
            ),
            self.desc.valid.eq(waiting),
            self.desc.payload.address.eq(self.list_base),
            self.desc.payload.length.eq(self.kept * ENTRY_BYTES),
        ]
        with m.If(read):
            m.d.sync += address.eq(address + 1)
        with m.If(taken):
            m.d.sync += [offered.eq(~last), left.eq(left - entries)]
        with m.If(self.desc.ready):
            m.d.sync += waiting.eq(0)
        with m.If(finished):
            m.d.sync += busy.eq(0)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), offered.eq(1), waiting.eq(1), left.eq(self.kept)]
        done = Signal()
        m.d.sync += done.eq(finished)
        m.d.comb += self.done.eq(done)
        return m

    def _entry(self, stored: Value) -> Value:
        """Return the bytes of an entry."""
        ids = self._config.id_bits
        bits = stored[ids : ids + PRECISION_BITS]
        zeros = (Const(0, 16 - ids), Const(0, 2), Const(0, 4 + 8))
        return Cat(stored[:ids], zeros[0], zeros[1], bits, zeros[2], stored[ids + PRECISION_BITS :])
