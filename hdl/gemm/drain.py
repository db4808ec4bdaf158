"""The drain: reads complete accumulators, requantizes them if asked to, and packs beats."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.gemm.accumulator import drain_layout
from bitfabric.hdl.gemm.config import OutputShape
from bitfabric.hdl.gemm.loader import params_layout
from bitfabric.quant.errors import check_range

OUT_LATENCY = 4  # cycles from a group's read to its beat at m_axis, less the requantizer's


class Drain(Block):
    """Stream the accumulators of a bank row by row, ``drain_lanes`` columns a cycle.

    A row takes ``ceil(n_valid / drain_lanes)`` cycles. As 32-bit accumulators every group of lanes is a beat; when
    requantized to bytes four groups share one. Rows start on a beat; what a row leaves of its last beat is 0.
    Bytes are ``clip(((acc+bias)*multiplier + (1 << (shift-1))) >> shift, low, high) + zero_point``, low byte.
    Latency from the read of a group to its beat: 3 cycles, or 3 + ``Requantizer.LATENCY``. The whole pipeline
    holds while a beat waits.

    Parameters
    ----------
    config : OutputShape
        Gives columns, accumulator width and stream width.
    depth : int
        Rows of an accumulator bank.

    Members
    -------
    requantize, low, high, zero_point : In
        Of the GEMM.
    full, info, drain_en, drain_row, drain_data, release, freed
        The accumulators, see ``Accumulators``.
    params_en, params_addr, params_data, params_release
        The requantization parameters of the N tile; read latency 1.
    o : Out(stream)
        Beats; ``last`` with the GEMM's last one.
    """

    def __init__(self, config: OutputShape, depth: int):
        self._config = config
        self._depth = check_range("depth", depth, 1)
        self._groups = -(-config.columns // config.drain_lanes)
        super().__init__(
            {
                "requantize": In(1),
                "low": In(signed(9)),
                "high": In(signed(9)),
                "zero_point": In(signed(9)),
                "full": In(1),
                "info": In(drain_layout(depth, config.columns)),
                "drain_en": Out(1),
                "drain_row": Out(address_bits(depth)),
                "drain_data": In(signed(config.acc_bits)).array(config.columns),
                "release": Out(1),
                "freed": Out(1),
                "params_en": Out(1),
                "params_addr": Out(address_bits(self._groups)),
                "params_data": In(params_layout(config)),
                "params_release": Out(1),
                "o": Out(stream.Signature(beat_layout(config.axis_data_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Issue reads; select, requantize and pack behind them."""
        m = Module()
        lanes = self._config.drain_lanes
        en = Signal()  # the pipeline moves
        running = Signal()
        row = Signal(range(self._depth), reset_less=True)
        group = Signal(range(max(self._groups, 4)), reset_less=True)  # its two low bits place it in a beat
        columns_left = Signal(range(self._config.columns + 1), reset_less=True)
        last_group, last_row, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            last_group.eq(columns_left <= lanes),
            last_row.eq(row == self.info.m_valid - 1),
            ends.eq(running & en & last_group & last_row),
            self.drain_en.eq(running & en & (group == 0)),
            self.drain_row.eq(row),
            self.params_en.eq(running & en & self.requantize),
            self.params_addr.eq(group),
            self.release.eq(ends),
            self.params_release.eq(ends & self.requantize),
        ]
        with m.If(~running):
            m.d.sync += [running.eq(self.full), row.eq(0), group.eq(0), columns_left.eq(self.info.n_valid)]
        with m.Elif(en):
            m.d.sync += [group.eq(group + 1), columns_left.eq(columns_left - lanes)]
            with m.If(last_group):
                m.d.sync += [group.eq(0), columns_left.eq(self.info.n_valid), row.eq(row + 1)]
            with m.If(ends):
                m.d.sync += running.eq(0)

        # Control of a group: what of it is used, its place in a beat of four groups, the row's and GEMM's end.
        used = Cat(columns_left > lane for lane in range(lanes))
        control = Cat(group[:2], last_group, ends & self.info.last, used)
        groups = self._delay(m, en, "group", group, 1)
        valid1 = self._delay(m, en, "valid1", running, 1, reset_less=False)
        # A beat that waits keeps the last group in `drain_data`: only then may the bank be written and read anew.
        taken = self._delay(m, en, "ends", ends, 1, reset_less=False)
        m.d.comb += self.freed.eq(en & taken)
        control1 = self._delay(m, en, "control1", control, 1)

        accs = [
            self._delay(m, en, f"acc{lane}", Mux(control1[4 + lane], value, 0).as_signed(), 1)
            for lane, value in enumerate(self._select(m, groups))
        ]
        channels = [
            self._delay(m, en, f"channel{lane}", self.params_data[lane].as_value(), 1)
            for lane in range(lanes)
        ]
        valid2 = self._delay(m, en, "valid2", valid1, 1, reset_less=False)
        control2 = self._delay(m, en, "control2", control1, 1)
        codes = [self._requantize(m, en, lane, accs[lane], channels[lane]) for lane in range(lanes)]
        # Only groups of a GEMM that wants bytes: an int32 GEMM's last one would come out in the next GEMM.
        valid3 = self._delay(m, en, "valid3", valid2 & self.requantize, Requantizer.LATENCY, reset_less=False)
        control3 = self._delay(m, en, "control3", control2, Requantizer.LATENCY)

        self._pack(m, en, (valid2, control2, accs), (valid3, control3, codes))
        return m

    @staticmethod
    def _delay(m: Module, en: Value, name: str, value: Value, stages: int, reset_less: bool = True) -> Value:
        for stage in range(stages):
            register = Signal(value.shape(), name=f"{name}_{stage}", reset_less=reset_less)
            with m.If(en):
                m.d.sync += register.eq(value)
            value = register
        return value

    def _select(self, m: Module, group: Value) -> list[Value]:
        """Return the accumulators of ``group``; lanes past the last column are 0."""
        lanes, columns = self._config.drain_lanes, self._config.columns
        selected = []
        for lane in range(lanes):
            value = Signal(signed(self._config.acc_bits), name=f"selected{lane}")
            with m.Switch(group):
                for index in range(self._groups):
                    if index * lanes + lane < columns:
                        with m.Case(index):
                            m.d.comb += value.eq(self.drain_data[index * lanes + lane])
            selected.append(value)
        return selected

    def _requantize(self, m: Module, en: Value, lane: int, acc: Value, channel: Value) -> Value:
        unit = place(m, f"requantizer_{lane}", Requantizer())
        m.d.comb += [
            unit.en.eq(en),
            unit.acc.eq(acc),
            unit.bias.eq(channel[:32].as_signed()),
            unit.multiplier.eq(channel[32:63]),
            unit.shift.eq(channel[63:69]),
            unit.low.eq(self.low),
            unit.high.eq(self.high),
            unit.zero_point.eq(self.zero_point),
        ]
        return unit.out[:8]

    def _pack(
        self,
        m: Module,
        en: Signal,
        wide: tuple[Value, Value, list[Value]],
        narrow: tuple[Value, Value, list[Value]],
    ) -> None:
        """Make beats of one group of accumulators, or of up to four groups of bytes."""
        lanes = self._config.drain_lanes
        beat = Signal(self._config.axis_data_bits, reset_less=True)
        beat_last = Signal(reset_less=True)
        beat_valid = Signal()
        m.d.comb += [
            en.eq(self.o.ready | ~beat_valid),
            self.o.valid.eq(beat_valid),
            self.o.payload.data.eq(beat),
            self.o.payload.last.eq(beat_last),
        ]
        words = Signal(32 * lanes)
        bytes_ = Signal(8 * lanes)
        m.d.comb += words.eq(Cat(_extend(acc) for acc in wide[2]))
        m.d.comb += bytes_.eq(Cat(Mux(narrow[1][4 + k], code, 0) for k, code in enumerate(narrow[2])))
        with m.If(en):
            with m.If(self.requantize):
                valid, control, _ = narrow
                place_in_beat, row_ends = control[:2], control[2]
                m.d.sync += [
                    beat_valid.eq(valid & (row_ends | (place_in_beat == 3))),
                    beat_last.eq(control[3]),
                ]
                with m.If(valid):
                    for index in range(4):
                        part = beat[8 * lanes * index : 8 * lanes * (index + 1)]
                        with m.If(place_in_beat == index):
                            m.d.sync += part.eq(bytes_)
                        with m.Elif(place_in_beat == 0):
                            m.d.sync += part.eq(0)
            with m.Else():
                m.d.sync += [beat_valid.eq(wide[0]), beat_last.eq(wide[1][3]), beat.eq(words)]


def _extend(value: Value) -> Value:
    """Return ``value`` sign-extended to 32 bits."""
    return Cat(value, value[-1].replicate(32 - len(value)))
