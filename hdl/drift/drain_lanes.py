"""The drain's lanes: a word of accumulators becomes a run of result bytes."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.pwl import PiecewiseLinear
from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.config import CHANNELS, DriftConfig
from bitfabric.hdl.drift.job import GEMM
from bitfabric.hdl.drift.params_memory import CLIP_BITS, SCALING

VALUE_BITS = 32


def delay(m: Module, name: str, value: Value, stages: int, *, reset_less: bool = True) -> Value:
    """Return ``value`` as it was ``stages`` cycles ago."""
    for stage in range(stages):
        register = Signal(value.shape(), name=f"{name}_{stage}", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value


class DrainLanes(Block):
    """Shift, requantize and bend a word of accumulators, and place its bytes for the output memory.

    An accumulator is shifted left by the bits that its row and its channel lost (lc of both, 14 at most; the sum
    fits 32 bits as the values before the conversion would have [derived]). Then ``Requantizer`` and, if wanted,
    ``PiecewiseLinear``; or one byte of the shifted accumulator as it is. Latency ``LATENCY`` cycles for all three,
    one word per cycle; rounding and saturation are those of the two units.

    Parameters
    ----------
    config : DriftConfig
        Gives ``lanes``, ``acc_bits`` and the segments.

    Members
    -------
    gemm : In(GEMM)
        Of the layer; constant.
    values : In(signed(acc_bits)).array(lanes)
        Accumulators, channel c of the granules of bank l at ``4*l + c``.
    right : In(1)
        With them: they are of 4-bit weights, four channels to a granule, else two.
    shift : In(4)
        With them: lc of the row.
    plane : In(2)
        With them: byte of the accumulators that is wanted.
    clips : In(4).array(lanes)
        With them: lc of the channels.
    scalings : In(SCALING).array(lanes)
        A cycle later: the channels' parameters.
    table_en, table_addr, table_data : In
        Write port of every lane's table, see ``PiecewiseLinear``.
    out : Out(8 * lanes)
        Byte j is the channel whose place in the result row is j modulo ``lanes``.
    """

    LATENCY: ClassVar[int] = 1 + Requantizer.LATENCY + PiecewiseLinear.LATENCY + 1

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        fmt = config.pwl
        super().__init__(
            {
                "gemm": In(GEMM),
                "values": In(signed(config.acc_bits)).array(config.lanes),
                "right": In(1),
                "shift": In(4),
                "plane": In(2),
                "clips": In(CLIP_BITS).array(config.lanes),
                "scalings": In(SCALING).array(config.lanes),
                "table_en": In(1),
                "table_addr": In((fmt.segments - 1).bit_length()),
                "table_data": In(fmt.slope_bits + fmt.offset_bits),
                "out": Out(8 * config.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the lanes and rotate what they give."""
        m = Module()
        plane = delay(m, "plane", self.plane, 1)
        right = delay(m, "right", self.right, self.LATENCY - 1)
        codes = [self._lane(m, lane, plane) for lane in range(self._config.lanes)]
        aligned = Signal(8 * self._config.lanes, reset_less=True)
        m.d.sync += aligned.eq(Mux(right, self._rotate(m, codes), self._pack(codes)))
        m.d.comb += self.out.eq(aligned)
        return m

    def _lane(self, m: Module, lane: int, plane: Value) -> Value:
        """Return a lane's byte."""
        config, gemm, scaling = self._config, self.gemm, self.scalings[lane]
        shifted = Signal(signed(VALUE_BITS), name=f"shifted_{lane}", reset_less=True)
        m.d.sync += shifted.eq(self._shift(m, lane))
        byte = Signal(8, name=f"byte_{lane}")
        parts = [shifted[8 * index : 8 * index + 8] for index in range(4)]
        m.d.comb += byte.eq(
            Mux(plane[1], Mux(plane[0], parts[3], parts[2]), Mux(plane[0], parts[1], parts[0]))
        )

        requantizer = place(m, f"requantizer_{lane}", Requantizer())
        function = place(m, f"function_{lane}", PiecewiseLinear(segments=config.segments))
        code = Signal(8, name=f"code_{lane}")
        result = Signal(8, name=f"result_{lane}")
        m.d.comb += [
            requantizer.en.eq(1),
            requantizer.acc.eq(shifted),
            requantizer.bias.eq(scaling.bias),
            requantizer.multiplier.eq(scaling.multiplier),
            requantizer.shift.eq(scaling.shift),
            requantizer.low.eq(gemm.low),
            requantizer.high.eq(gemm.high),
            requantizer.zero_point.eq(gemm.zero_point),
            code.eq(
                Mux(
                    gemm.accumulators,
                    delay(m, f"byte_{lane}", byte, Requantizer.LATENCY),
                    requantizer.out[:8],
                )
            ),
            function.en.eq(1),
            function.x.eq(requantizer.out[:8].as_signed()),
            function.table_en.eq(self.table_en),
            function.table_addr.eq(self.table_addr),
            function.table_data.eq(self.table_data),
            result.eq(
                Mux(
                    gemm.function,
                    function.out.as_unsigned(),
                    delay(m, f"code_{lane}", code, PiecewiseLinear.LATENCY),
                )
            ),
        ]
        return result

    def _shift(self, m: Module, lane: int) -> Value:
        """Return the accumulator times 2^lc of its row and its channel."""
        places = Signal(4, name=f"places_{lane}")
        total = self.shift + self.clips[lane]
        m.d.comb += places.eq(total[:4])
        value: Value = Signal(signed(VALUE_BITS), name=f"extended_{lane}")
        m.d.comb += value.eq(self.values[lane])
        for bit in range(4):
            step = 1 << bit
            moved = Signal(signed(VALUE_BITS), name=f"moved_{lane}_{bit}")
            m.d.comb += moved.eq(Mux(places[bit], Cat(Const(0, step), value[:-step]), value))
            value = moved
        return value

    def _pack(self, codes: list[Value]) -> Value:
        """Return the bytes of two channels per granule; their places in a row begin at 0."""
        half = CHANNELS // 2
        packed = Cat(code for lane, code in enumerate(codes) if lane % CHANNELS < half)
        return Cat(packed, packed)

    def _rotate(self, m: Module, codes: list[Value]) -> Value:
        """Return the bytes of four channels per granule; their places in a row begin at ``n_high``."""
        lanes = len(codes)
        for bit in range(lanes.bit_length() - 1):
            turned = []
            for lane in range(lanes):
                value = Signal(8, name=f"turned_{bit}_{lane}")
                m.d.comb += value.eq(Mux(self.gemm.n_high[bit], codes[lane - (1 << bit)], codes[lane]))
                turned.append(value)
            codes = turned
        return Cat(codes)
