"""The activation buffer: two banks, handed over whole but readable tile by tile while they fill."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.quant.errors import check_range


class ActBuffer(Block):
    """Hold activations that may be read many times before their bank is released.

    Unlike ``DoubleBuffer`` a bank can be read before it is full: the writer announces every tile, and the reader
    takes tiles in the same order, so that the array starts when its first tile is there. Read latency is 1 cycle.
    A tile written or a bank released in cycle t is seen in t + 1.

    Parameters
    ----------
    width : int
        Bits per word.
    depth : int
        Words per bank.

    Members
    -------
    write_free : Out(1)
        The bank to be written has been released.
    write_en, write_addr, write_data : In
        Write port.
    tile_written, bank_written : In(1)
        A tile is complete; it was the bank's last (allowed in the cycle of the last write).
    tile_ready : Out(1)
        At least one tile was written and not taken.
    tile_taken : In(1)
        The reader has taken note of a tile.
    read_en, read_addr, read_data : In, In, Out
        Read port; the data stay until the next ``read_en``.
    bank_released : In(1)
        The reader is done with its bank (allowed in the cycle of the last ``read_en``).

    Raises
    ------
    ParameterError
        If ``width`` or ``depth`` is not positive.
    """

    def __init__(self, width: int, depth: int):
        self._width = check_range("width", width, 1)
        self._depth = check_range("depth", depth, 1)
        address = address_bits(depth)
        super().__init__(
            {
                "write_free": Out(1),
                "write_en": In(1),
                "write_addr": In(address),
                "write_data": In(width),
                "tile_written": In(1),
                "bank_written": In(1),
                "tile_ready": Out(1),
                "tile_taken": In(1),
                "read_en": In(1),
                "read_addr": In(address),
                "read_data": Out(width),
                "bank_released": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep one flag per bank and one count of tiles."""
        m = Module()
        banks = [place(m, f"bank{index}", Ram(self._width, self._depth)) for index in range(2)]
        used = Array(Signal(name=f"used{index}") for index in range(2))
        write_bank, read_bank = Signal(), Signal()
        answering = Signal(reset_less=True)
        tiles = Signal(range(2 * self._depth + 1))  # a tile has at least a word
        m.d.comb += [
            self.write_free.eq(~used[write_bank]),
            self.tile_ready.eq(tiles != 0),
            self.read_data.eq(Array(bank.read_data for bank in banks)[answering]),
        ]
        for index, bank in enumerate(banks):
            m.d.comb += [
                bank.write_en.eq(self.write_en & (write_bank == index)),
                bank.write_addr.eq(self.write_addr),
                bank.write_data.eq(self.write_data),
                bank.read_en.eq(self.read_en & (read_bank == index)),
                bank.read_addr.eq(self.read_addr),
            ]
        with m.If(self.read_en):
            m.d.sync += answering.eq(read_bank)
        with m.If(self.tile_written & ~self.tile_taken):
            m.d.sync += tiles.eq(tiles + 1)
        with m.Elif(self.tile_taken & ~self.tile_written):
            m.d.sync += tiles.eq(tiles - 1)
        with m.If(self.bank_written):
            m.d.sync += [used[write_bank].eq(1), write_bank.eq(~write_bank)]
        with m.If(self.bank_released):
            m.d.sync += [used[read_bank].eq(0), read_bank.eq(~read_bank)]
        return m
