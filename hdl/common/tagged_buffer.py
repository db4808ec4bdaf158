"""A double buffer whose banks carry a tag."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.double_buffer import DoubleBuffer
from bitfabric.quant.errors import check_range


class TaggedBuffer(Block):
    """Hand over a tag with every bank of a ``DoubleBuffer``.

    Parameters
    ----------
    width, depth, granularity
        See ``DoubleBuffer``.
    tag_bits : int
        Width of the tag.

    Members
    -------
    write_free, write_en, write_addr, write_data, write_done, read_full, read_en, read_addr, read_data, read_done
        See ``DoubleBuffer``.
    write_tag : In(tag_bits)
        The bank's tag, taken with ``write_done``.
    read_tag : Out(tag_bits)
        That of the bank to be read, while ``read_full``.

    Raises
    ------
    ParameterError
        If a parameter is not positive or ``granularity`` does not divide ``width``.
    """

    def __init__(self, width: int, depth: int, tag_bits: int, granularity: int | None = None):
        self._buffer = (width, depth, granularity)
        self._tag_bits = check_range("tag_bits", tag_bits, 1)
        buffer = DoubleBuffer(width, depth, granularity)
        buffer._MustUse__used = True  # it only checks and names its ports
        members = dict(buffer.signature.members)
        super().__init__({**members, "write_tag": In(tag_bits), "read_tag": Out(tag_bits)})

    def elaborate(self, platform: object) -> Module:
        """Keep a tag per bank."""
        m = Module()
        buffer = place(m, "buffer", DoubleBuffer(*self._buffer))
        for name, member in buffer.signature.members.items():
            inner, outer = getattr(buffer, name), getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        tags = Array(Signal(self._tag_bits, name=f"tag{number}", reset_less=True) for number in range(2))
        write_bank, read_bank = Signal(), Signal()
        m.d.comb += self.read_tag.eq(tags[read_bank])
        with m.If(self.write_done & self.write_free):
            m.d.sync += [tags[write_bank].eq(self.write_tag), write_bank.eq(~write_bank)]
        with m.If(self.read_done & self.read_full):
            m.d.sync += read_bank.eq(~read_bank)
        return m
