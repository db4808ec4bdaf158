"""The post-processing unit (PPU): finished psums become the next layer's activation slices."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.pwl import PiecewiseLinear
from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.panacea.config import CODE_BITS, SHIFT_BITS, VECTOR, VECTOR_BITS, PanaceaConfig

LANES = VECTOR * VECTOR  # of a block of psums
CHANNEL = data.StructLayout({"bias": signed(32), "multiplier": 31, "shift": SHIFT_BITS})
FLAGS = ("first_of_group", "last_of_group", "last_of_record", "last")


def block_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return a block of finished psums: v output channels of v tokens.

    Fields: ``acc`` (lane ``v*row + column``; a row is a channel, a column a token), ``channels`` (of the rows),
    ``rows`` and ``columns`` (how many are valid, from 1), ``first_of_group``, ``last_of_group``, ``last_of_record``,
    ``last`` (its place in the group of tokens, in the next layer's tile, in the layer) and ``k_valid`` (K positions
    of that tile).
    """
    return data.StructLayout(
        {
            "acc": data.ArrayLayout(signed(config.acc_bits), LANES),
            "channels": data.ArrayLayout(CHANNEL, VECTOR),
            "rows": VECTOR.bit_length(),
            "columns": VECTOR.bit_length(),
            **dict.fromkeys(FLAGS, 1),
            "k_valid": config.count_bits,
        }
    )


def slices_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return a block of slices: the vectors of v positions of K, which were the block's rows.

    Fields: ``dense`` (by slice, then row) and ``high`` (by row), token 0 in the lowest nibble; ``keep`` (rows whose HO
    vector is not skipped); the flags and ``k_valid`` of the block.
    """
    vectors = data.ArrayLayout(VECTOR_BITS, VECTOR)
    return data.StructLayout(
        {
            "dense": data.ArrayLayout(vectors, 2),
            "high": vectors,
            "keep": VECTOR,
            **dict.fromkeys(FLAGS, 1),
            "k_valid": config.count_bits,
        }
    )


class PostProcessor(Block):
    """Requantize, apply the piecewise-linear function, clip and slice a block of psums per cycle [paper].

    ``clip(f(requantize(acc + bias)), 0, 2^b - 1)`` as ``quant.panacea.post_process``, b four times the slices; then
    one slice, or ``code >> l`` above ``(code mod 2^l) >> (l-4)``, or three nibbles. Absent columns have r in the
    HO slice and 0 below, absent rows 0 and no HO vector; a block of one slice keeps none.
    Latency ``LATENCY`` cycles, 1 block per cycle; the whole pipeline holds while its last block waits.

    Parameters
    ----------
    config : PanaceaConfig
        Gives psum width and segments.

    Members
    -------
    slices, drop, skipped : In
        The next layer's slices, l - 4 and r; constant while there are blocks inside.
    table_en, table_addr, table_data : In
        Write port of the function's table, see ``PiecewiseLinear``.
    i : In(stream of block_layout)
        Psums.
    o : Out(stream of slices_layout)
        Slices.
    """

    LATENCY: ClassVar[int] = Requantizer.LATENCY + PiecewiseLinear.LATENCY + 1

    def __init__(self, config: PanaceaConfig):
        self._config = config
        fmt = config.pwl
        super().__init__(
            {
                "slices": In(2),
                "drop": In(2),
                "skipped": In(4),
                "table_en": In(1),
                "table_addr": In((fmt.segments - 1).bit_length()),
                "table_data": In(fmt.slope_bits + fmt.offset_bits),
                "i": In(stream.Signature(block_layout(config))),
                "o": Out(stream.Signature(slices_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the lanes; move valid and place along; slice behind them."""
        m = Module()
        block = self.i.payload
        en = Signal()
        valid = Signal()
        m.d.comb += [en.eq(self.o.ready | ~valid), self.i.ready.eq(en), self.o.valid.eq(valid)]

        moving = self.i.valid
        along = Cat(block.rows, block.columns, *(block[name] for name in FLAGS), block.k_valid)
        for stage in range(self.LATENCY - 1):
            stage_valid = Signal(name=f"valid_{stage}")
            stage_along = Signal(len(along), name=f"along_{stage}", reset_less=True)
            with m.If(en):
                m.d.sync += [stage_valid.eq(moving), stage_along.eq(along)]
            moving, along = stage_valid, stage_along
        rows, columns, rest = along[:3], along[3:6], along[6:]
        out = self.o.payload
        result = Signal(out.shape(), reset_less=True)
        m.d.comb += Value.cast(out).eq(result)
        with m.If(en):
            m.d.sync += [
                valid.eq(moving),
                Cat(*(result[name] for name in FLAGS), result.k_valid).eq(rest),
            ]
        codes = [self._lane(m, en, lane) for lane in range(LANES)]
        for row in range(VECTOR):
            parts = [self._slice(m, codes[VECTOR * row + column]) for column in range(VECTOR)]
            here = Signal(name=f"row_{row}")
            present = [Signal(name=f"present_{row}_{column}") for column in range(VECTOR)]
            m.d.comb += here.eq(rows > row)
            m.d.comb += [signal.eq(here & (columns > column)) for column, signal in enumerate(present)]
            low, middle = (
                Cat(Mux(present[column], parts[column][index], 0) for column in range(VECTOR))
                for index in (0, 1)
            )
            high = Cat(Mux(present[column], parts[column][2], self.skipped) for column in range(VECTOR))
            differs = Cat(
                present[column] & (parts[column][2] != self.skipped) for column in range(VECTOR)
            ).any()
            with m.If(en):
                m.d.sync += [
                    result.dense[0][row].eq(low),
                    result.dense[1][row].eq(middle),
                    result.high[row].eq(high),
                    result.keep[row].eq(differs & (self.slices != 1)),
                ]
        return m

    def _lane(self, m: Module, en: Signal, lane: int) -> Signal:
        """Return a lane's 12-bit code."""
        block = self.i.payload
        channel = block.channels[lane // VECTOR]
        requantizer = place(m, f"requantizer_{lane}", Requantizer(out_bits=CODE_BITS))
        half = 1 << (CODE_BITS - 1)
        m.d.comb += [
            requantizer.en.eq(en),
            requantizer.acc.eq(block.acc[lane]),
            requantizer.bias.eq(channel.bias),
            requantizer.multiplier.eq(channel.multiplier),
            requantizer.shift.eq(channel.shift),
            requantizer.low.eq(-half),
            requantizer.high.eq(half - 1),
            requantizer.zero_point.eq(0),
        ]
        fmt = self._config.pwl
        function = place(
            m,
            f"function_{lane}",
            PiecewiseLinear(in_bits=CODE_BITS, out_bits=CODE_BITS, out_signed=False, segments=fmt.segments),
        )
        m.d.comb += [
            function.en.eq(en),
            function.x.eq(requantizer.out[:CODE_BITS].as_signed()),
            function.table_en.eq(self.table_en),
            function.table_addr.eq(self.table_addr),
            function.table_data.eq(self.table_data),
        ]
        return function.out

    def _slice(self, m: Module, code: Signal) -> tuple[Signal, Signal, Signal]:
        """Return the lowest, the middle and the HO slice of a code, clipped to the next layer's width."""
        low, middle, high = Signal(4), Signal(4), Signal(4)
        byte = Signal(8)
        m.d.comb += byte.eq(code[:8] | code[8:].any().replicate(8))
        with m.Switch(self.slices):
            with m.Case(1):
                m.d.comb += low.eq(code[:4] | code[4:].any().replicate(4))
            with m.Case(3):
                m.d.comb += [low.eq(code[:4]), middle.eq(code[4:8]), high.eq(code[8:])]
            with m.Default():
                with m.Switch(self.drop):
                    for drop in (1, 2, 0):
                        with m.Case(drop) if drop else m.Default():
                            m.d.comb += [low.eq(byte[drop : drop + 4]), high.eq(byte[drop + 4 :])]
        return low, middle, high
