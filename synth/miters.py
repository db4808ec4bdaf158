"""Miters: a block beside an integer expression written with ``*``, and one output that says they agree."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.bitbrick import BitBrick
from bitfabric.hdl.arith.bitgroup import COLUMNS, ROWS, BitGroup, BitGroupConfig, BitGroupCore
from bitfabric.hdl.arith.fusion_unit import FusionUnit, FusionUnitConfig, FusionUnitPe
from bitfabric.hdl.arith.nibble_join import NibbleJoin
from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block, place


class Miter(Block):
    """Hold free inputs and ``ok``, which a proof shows to be 1 for all of them.

    Members
    -------
    ok : Out(1)
    """

    def __init__(self, inputs: dict[str, Any]) -> None:
        super().__init__({**{name: In(shape) for name, shape in inputs.items()}, "ok": Out(1)})


def with_sign(value: Value, is_signed: Value) -> Value:
    """Return ``value`` as a number that is signed where ``is_signed`` is 1."""
    return Cat(value, value[-1] & is_signed).as_signed()


def dot_product(pairs: list[tuple[Value, Value]]) -> tuple[Value, Value]:
    """Return the sum of the products (activation, weight), and whether its weights were cut rightly.

    A weight w wider than a nibble is cut into ``16*high + low``, and the sum is that of ``act * low`` plus 16
    times that of ``act * high``, both written with ``*`` and exact. That this is the sum of
    ``act * w`` is the distributive law; that w is ``16*high + low`` is the second value returned, for the
    solver. Without the cut it has to find that law by itself, bit by bit: minutes instead of seconds.
    """
    if max(len(weight) for _, weight in pairs) <= 5:
        return balanced_sum([act * weight for act, weight in pairs]), Const(1, 1)
    cuts = [(act, weight[:4], weight[4:].as_signed(), weight) for act, weight in pairs]
    low = balanced_sum([act * low for act, low, _, _ in cuts])
    high = balanced_sum([act * high for act, _, high, _ in cuts])
    right = Cat(weight == high * 16 + low for _, low, high, weight in cuts).all()
    return low + high * 16, right


class BrickMiter(Miter):
    """State that a BitBrick multiplies."""

    def __init__(self) -> None:
        super().__init__({"act": 1, "weight": 4, "weight_signed": 1})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dut = place(m, "dut", BitBrick())
        m.d.comb += [
            dut.act.eq(self.act),
            dut.weight.eq(self.weight),
            dut.weight_signed.eq(self.weight_signed),
            self.ok.eq(dut.product == self.act * with_sign(self.weight, self.weight_signed)),
        ]
        return m


class ColumnMiter(Miter):
    """State that one column of a BitGroup multiplies, whatever its settings and the other columns hold.

    Parameters
    ----------
    alignment : str
    column : int
    core : type
        The core to prove; a test hands in a broken one.
    """

    def __init__(self, alignment: str, column: int, core: type[BitGroupCore] = BitGroupCore) -> None:
        self.config, self.column, self.core = BitGroupConfig(alignment=alignment), column, core
        super().__init__({"act": ROWS, "stationary": self.config.stationary})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dut = place(m, "dut", self.core(self.config))
        held = self.stationary
        weight_signed = Const(1, 1) if self.column % 2 else ~held.wide
        if self.config.alignment == "nibble":
            weight = with_sign(held.weights[self.column], weight_signed)
            product = with_sign(self.act, held.sign) * weight
            expected: Value = Mux(held.high, product * 16, product)
        else:
            rows = []
            for row in range(ROWS):
                product = self.act[row] * with_sign(held.weights[row][self.column], weight_signed)
                rows.append(Mux(held.sign[row], -product, product) << held.significance[row])
            expected = balanced_sum(rows)
        m.d.comb += [
            dut.act.eq(self.act),
            dut.stationary.eq(held),
            self.ok.eq(dut.sums[self.column] == expected),
        ]
        return m


class ElementMiter(Miter):
    """State that two BitGroups, one above the other, and a joiner multiply whole signed operands.

    The activation lies over the eight rows as the golden model lays it; rows beyond it are fed zeros.

    Parameters
    ----------
    alignment : str
    act_bits, weight_bits : int
    """

    def __init__(self, alignment: str, act_bits: int, weight_bits: int) -> None:
        self.config, self.act_bits, self.weight_bits = (
            BitGroupConfig(alignment=alignment),
            act_bits,
            weight_bits,
        )
        super().__init__({"act": signed(act_bits), "weight": signed(weight_bits)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        join = place(m, "join", NibbleJoin(self.config.rows))
        wide = self.weight_bits == 8
        sums = []
        for group in range(2):
            core = place(m, f"core_{group}", BitGroupCore(self.config))
            held = core.stationary
            m.d.comb += [
                core.act.eq(self.act.as_unsigned()[ROWS * group : ROWS * group + ROWS]),
                held.wide.eq(wide),
            ]
            nibbles = [self.weight[:4], self.weight[4:]]
            columns = held.weights if self.config.alignment == "nibble" else None
            for row in range(ROWS):
                bit = ROWS * group + row
                if columns is None:
                    m.d.comb += held.sign[row].eq(bit == self.act_bits - 1)
                    m.d.comb += held.significance[row].eq(bit)
                target = held.weights[row] if columns is None else columns
                if columns is None or row == 0:
                    m.d.comb += [target[c].eq(nibble) for c, nibble in enumerate(nibbles)]
            if columns is not None:
                m.d.comb += [held.high.eq(group), held.sign.eq(ROWS * (group + 1) == self.act_bits)]
            sums.append(core.sums)
        expected, cut = dot_product([(self.act, self.weight)])
        m.d.comb += [
            join.wide.eq(wide),
            join.low.eq(sums[0][0] + sums[1][0]),
            join.high.eq(sums[0][1] + sums[1][1]),
            self.ok.eq((join.low_out == expected) & cut),
        ]
        return m


class FusionMiter(Miter):
    """State that a fusion unit multiplies and adds in one mode, for signed and unsigned operands.

    Parameters
    ----------
    config : FusionUnitConfig
    act_bits, weight_bits : int
        The mode.
    unit : type
        The unit to prove; a test hands in a broken one.
    """

    def __init__(
        self,
        config: FusionUnitConfig,
        act_bits: int,
        weight_bits: int,
        unit: type[FusionUnit] = FusionUnit,
    ) -> None:
        self.config, self.act_bits, self.weight_bits, self.unit = config, act_bits, weight_bits, unit
        self.products = 64 // (act_bits * weight_bits)
        inputs: dict[str, Any] = {f"act_{p}": act_bits for p in range(self.products)}
        inputs |= {f"weight_{p}": weight_bits for p in range(self.products)}
        if config.signs == "any":
            inputs |= {"act_signed": 1, "weight_signed": 1}
        super().__init__(inputs)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dut = place(m, "dut", self.unit(self.config))
        n, b = self.config.slices, self.config.min_bits
        across, down = self.act_bits // b, self.weight_bits // b
        acts = [getattr(self, f"act_{p}") for p in range(self.products)]
        weights = [getattr(self, f"weight_{p}") for p in range(self.products)]
        for k in range(n * n):
            j, i = divmod(k, n)
            product = i // across + (n // across) * (j // down)
            m.d.comb += [
                dut.act.word_select(k, b).eq(acts[product].word_select(i % across, b)),
                dut.weight.word_select(k, b).eq(weights[product].word_select(j % down, b)),
            ]
        signs: list[Value] = [Const(1, 1), Const(1, 1)]
        if self.config.signs == "any":
            signs = [self.act_signed, self.weight_signed]
            m.d.comb += [dut.act_signed.eq(signs[0]), dut.weight_signed.eq(signs[1])]
        numbers = [
            (with_sign(a, signs[0]), with_sign(w, signs[1])) for a, w in zip(acts, weights, strict=True)
        ]
        expected, cut = dot_product(numbers)
        m.d.comb += [
            dut.act_bits.eq(self.config.precision(self.act_bits)),
            dut.weight_bits.eq(self.config.precision(self.weight_bits)),
            self.ok.eq((dut.sum == expected) & cut),
        ]
        return m


class BitGroupPeMiter(Miter):
    """State what a BitGroup's registers hold after a cycle, given that its core is proved.

    Parameters
    ----------
    alignment : str
    pe : type
        The PE to prove; a test hands in a broken one.
    """

    def __init__(self, alignment: str, pe: type[BitGroup] = BitGroup) -> None:
        self.config, self.pe = BitGroupConfig(alignment=alignment), pe
        psums = {f"psum_{c}": signed(self.config.psum_bits) for c in range(COLUMNS)}
        super().__init__({"act": ROWS, "load": 1, "stationary": self.config.stationary, **psums})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dut = place(m, "dut", self.pe(self.config))
        core = place(m, "core", BitGroupCore(self.config))
        m.d.comb += [
            dut.act_in.eq(self.act),
            dut.load.eq(self.load),
            dut.stationary_in.eq(self.stationary),
            core.act.eq(self.act),
            core.stationary.eq(dut.stationary_out),
        ]
        agree = [_held(m, self.act, dut.act_out)]
        held = Value.cast(dut.stationary_out)
        agree.append(_held(m, Mux(self.load, Value.cast(self.stationary), held), held))
        for column in range(COLUMNS):
            psum = getattr(self, f"psum_{column}")
            m.d.comb += dut.psum_in[column].eq(psum)
            held_bits = self.config.held_psum_bits(column)
            following = (psum + core.sums[column])[:held_bits].as_signed()
            agree.append(_held(m, following, dut.psum_out[column]))
        m.d.comb += self.ok.eq(Cat(agree).all())
        return m


class FusionPeMiter(Miter):
    """State what a fusion PE's registers hold after a cycle, given that its unit is proved.

    Parameters
    ----------
    config : FusionUnitConfig
    pe : type
        The PE to prove; a test hands in a broken one.
    """

    def __init__(self, config: FusionUnitConfig, pe: type[FusionUnitPe] = FusionUnitPe) -> None:
        self.config, self.pe = config, pe
        self.modes = {name: len(Value.cast(Signal(m.shape))) for name, m in config.mode_members().items()}
        word = config.operand_bits
        super().__init__(
            {"act": word, "load": 1, "weight": word, "psum": signed(config.psum_bits), **self.modes}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dut = place(m, "dut", self.pe(self.config))
        unit = place(m, "unit", FusionUnit(self.config))
        m.d.comb += [
            dut.act_in.eq(self.act),
            dut.load.eq(self.load),
            dut.weight_in.eq(self.weight),
            dut.psum_in.eq(self.psum),
            unit.act.eq(self.act),
            unit.weight.eq(dut.weight_out),
        ]
        for name in self.modes:
            m.d.comb += [Value.cast(getattr(block, name)).eq(getattr(self, name)) for block in (dut, unit)]
        agree = [
            _held(m, self.act, dut.act_out),
            _held(m, Mux(self.load, self.weight, dut.weight_out), dut.weight_out),
            _held(m, self.psum + unit.sum, dut.psum_out),
        ]
        m.d.comb += self.ok.eq(Cat(agree).all())
        return m


def _held(m: Module, following: Value, output: Value) -> Value:
    """Return whether ``output`` is what ``following`` was a cycle ago."""
    before = Signal(output.shape(), reset_less=True)
    m.d.sync += before.eq(following)
    return output == before
