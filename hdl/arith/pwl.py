"""The piecewise-linear function unit: one lane with a table that is loaded at run time."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram
from bitfabric.quant.pwl import PwlFormat


class PiecewiseLinear(Block):
    """Compute ``sat((offset[s] + slope[s] * d) >> shift)``, equal to ``quant.pwl.evaluate`` to the bit.

    The upper bits of the input name the segment s, the lower ``local_bits`` are the distance d from its first
    code, so that the multiplier is only ``slope_bits`` by ``local_bits`` [ours]; the constant ``shift`` is wiring.
    Halves round towards plus infinity, as the offset holds the rounding half; results saturate to the output
    codes. A free-running lane: latency ``LATENCY`` cycles in which ``en`` is high, one code per cycle; the
    caller moves a valid bit along. Outputs are undefined until the segments used have been loaded.

    Parameters
    ----------
    in_bits, out_bits, out_signed, segments : int, int, bool, int
        As ``quant.pwl.PwlFormat``, which also gives the widths of slopes and offsets.

    Members
    -------
    en : In(1)
        Let the pipeline advance; while low, every register keeps its value.
    x : In(signed(in_bits))
        Input code.
    out : Out(signed(out_bits)) or Out(unsigned(out_bits))
        Output code.
    table_en : In(1)
        Write ``table_data``; independent of ``en``. A code looked up in the same cycle sees the old word.
    table_addr : In(log2(segments))
        Segment, ascending with the input code from 0, the most negative.
    table_data : In(slope_bits + offset_bits)
        One of ``PwlTable.words()``: the offset in the lower bits, the slope above.

    Raises
    ------
    ParameterError
        If a parameter is out of its range.
    """

    LATENCY: ClassVar[int] = 3

    def __init__(
        self, *, in_bits: int = 8, out_bits: int = 8, out_signed: bool = True, segments: int = 32
    ) -> None:
        self.format = PwlFormat(in_bits=in_bits, out_bits=out_bits, out_signed=out_signed, segments=segments)
        self.word_bits = self.format.slope_bits + self.format.offset_bits
        super().__init__(
            {
                "en": In(1),
                "x": In(signed(in_bits)),
                "out": Out(signed(out_bits) if out_signed else unsigned(out_bits)),
                "table_en": In(1),
                "table_addr": In(in_bits - self.format.local_bits),
                "table_data": In(self.word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Return the lane: look up, multiply, add and saturate, one register each."""
        m = Module()
        fmt = self.format
        table = place(m, "table", Ram(self.word_bits, fmt.segments))
        distance = Signal(fmt.local_bits, reset_less=True)
        product = Signal(signed(fmt.slope_bits + fmt.local_bits), reset_less=True)
        offset = Signal(signed(fmt.offset_bits), reset_less=True)
        result = Signal(self.out.shape(), reset_less=True)
        line = Signal(signed(max(len(product), len(offset)) + 1))
        value = Signal(signed(len(line) - fmt.shift))
        m.d.comb += [
            table.write_en.eq(self.table_en),
            table.write_addr.eq(self.table_addr),
            table.write_data.eq(self.table_data),
            table.read_en.eq(self.en),
            # Flipping the sign bit adds 2^(in_bits-1): the codes count from 0.
            table.read_addr.eq(self.x[fmt.local_bits :] ^ (fmt.segments >> 1)),
            line.eq(product + offset),
            value.eq(line >> fmt.shift),
            self.out.eq(result),
        ]
        with m.If(self.en):
            m.d.sync += [
                distance.eq(self.x[: fmt.local_bits]),
                product.eq(table.read_data[fmt.offset_bits :].as_signed() * distance),
                offset.eq(table.read_data[: fmt.offset_bits]),
                result.eq(Mux(value > fmt.high, fmt.high, Mux(value < fmt.low, fmt.low, value))),
            ]
        return m
