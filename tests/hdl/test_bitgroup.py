"""BitGroups in both alignments: core against golden, PE timing, and columns against integer dot products."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from bitfabric.hdl.arith.bitgroup import BitGroup, BitGroupConfig, BitGroupCore, odd_psum_bits, psum_bits
from bitfabric.hdl.arith.nibble_join import NibbleJoin, joined_bits
from bitfabric.hdl.block import place
from bitfabric.quant import bitbrick
from bitfabric.quant.errors import ParameterError


def settings(config, nibbles, significance, sign, wide):
    """Return a group's stationary value: nibbles (4, 4), significance and sign (4,)."""
    weights = (np.asarray(nibbles) & 15).tolist()
    flags = [bool(s) for s in sign]
    if config.alignment == "nibble":
        return {"weights": weights[0], "wide": wide, "sign": flags[3], "high": bool(significance[0])}
    return {
        "weights": weights,
        "wide": wide,
        "sign": sum(f << i for i, f in enumerate(flags)),
        "significance": [int(s) for s in significance],
    }


def column_values(weights, wide):
    """Read raw nibbles as their columns do: even ones are unsigned if ``wide``."""
    values = weights.copy()
    signed = np.array([not wide, True, not wide, True])
    return np.where(signed & (values > 7), values - 16, values)


@pytest.mark.parametrize("alignment", ["nibble", "bit"])
@pytest.mark.parametrize("wide", [0, 1])
def test_core_equals_the_golden_sums(alignment, wide):
    config = BitGroupConfig(alignment=alignment)
    dut = BitGroupCore(config)
    rng = np.random.default_rng(wide)

    async def process(ctx):
        for case in range(150):
            raw = rng.integers(0, 16, (4, 4))
            if case < 4:  # most negative and most positive nibbles, all ones, zeros
                raw[:] = (8, 7, 15, 0)[case]
            if alignment == "nibble":
                raw[:] = raw[0]
                significance = np.arange(4) + 4 * int(rng.integers(2))
                sign = np.array([0, 0, 0, rng.integers(2)])
            else:
                significance, sign = rng.integers(0, 8, 4), rng.integers(0, 2, 4)
                if case < 8:
                    significance[:] = 7
            values = column_values(raw, wide)
            ctx.set(dut.stationary, settings(config, raw, significance, sign, wide))
            for act in range(16):
                ctx.set(dut.act, act)
                bits = act >> np.arange(4) & 1
                expected = bitbrick.group_sums(bits, values, significance, sign)
                assert [ctx.get(s) for s in dut.sums] == expected.tolist()

    simulator = Simulator(dut)
    simulator.add_testbench(process)
    simulator.run()


@pytest.mark.parametrize("alignment", ["nibble", "bit"])
def test_pe_takes_one_cycle_and_loads_on_command(alignment):
    config = BitGroupConfig(alignment=alignment, rows=3)
    dut = BitGroup(config)
    nibbles = np.tile([[-8, 7, -1, 3]], (4, 1))
    first = settings(config, nibbles, range(4), (0, 0, 0, 1), 0)
    second = settings(config, -1 - nibbles, range(4), (0, 0, 0, 1), 0)

    async def process(ctx):
        ctx.set(dut.load, 1)
        ctx.set(dut.stationary_in, first)
        await ctx.tick()
        ctx.set(dut.load, 0)
        ctx.set(dut.stationary_in, second)
        for act, base in ((5, 100), (-8, -100), (-1, 7)):
            ctx.set(dut.act_in, act & 15)
            for psum in dut.psum_in:
                ctx.set(psum, base)
            await ctx.tick()
            assert ctx.get(dut.act_out) == act & 15
            assert [ctx.get(p) for p in dut.psum_out] == [base + act * w for w in (-8, 7, -1, 3)]
            assert ctx.get(dut.stationary_out) == config.stationary.from_bits(
                config.stationary.const(first).as_bits()
            )
        # With `load`, the cycle still multiplies by what was held before it.
        ctx.set(dut.load, 1)
        await ctx.tick()
        assert [ctx.get(p) for p in dut.psum_out] == [7 - w for w in (-8, 7, -1, 3)]
        await ctx.tick()
        assert [ctx.get(p) for p in dut.psum_out] == [8 + w for w in (-8, 7, -1, 3)]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(process)
    simulator.run()


class Column:
    """One column of groups with its joiners, wired as an array wires them."""

    def __init__(self, config):
        self.config, self.m = config, Module()
        rows = config.rows
        self.groups = [place(self.m, f"group_{r}", BitGroup(config)) for r in range(rows)]
        self.joins = [place(self.m, f"join_{i}", NibbleJoin(rows)) for i in range(2)]
        for above, below in itertools.pairwise(self.groups):
            self.m.d.comb += [
                below.stationary_in.eq(above.stationary_out),
                below.load.eq(above.load),
                *(below.psum_in[c].eq(above.psum_out[c]) for c in range(4)),
            ]
        for index, join in enumerate(self.joins):
            self.m.d.comb += [
                join.low.eq(self.groups[-1].psum_out[2 * index]),
                join.high.eq(self.groups[-1].psum_out[2 * index + 1]),
                join.wide.eq(self.groups[0].stationary_out.wide),
            ]

    def run(self, acts, weights, act_bits, weight_bits):
        """Return ``acts @ weights`` over all tiles, computed with skewed rows, for up to four nibble columns."""
        config, rows, wide = self.config, self.config.rows, weight_bits == 8
        layout = bitbrick.row_layout(acts.shape[1], act_bits, rows)
        bits = bitbrick.slice_acts(acts, act_bits, rows)
        nibbles = bitbrick.stationary_nibbles(bitbrick.nibble_columns(weights, weight_bits), layout)
        result = np.zeros((len(acts), weights.shape[1]), np.int64)

        async def process(ctx):
            top = self.groups[0]
            for tile in range(len(layout.element)):
                ctx.set(top.load, 1)
                for row in reversed(range(rows)):
                    fixed = (layout.significance[tile, row], layout.sign[tile, row], wide)
                    held = nibbles[tile, row]
                    ctx.set(top.stationary_in, settings(config, held, *fixed))
                    await ctx.tick()
                ctx.set(top.load, 0)
                for cycle in range(len(acts) + rows):
                    for row, group in enumerate(self.groups):
                        if 0 <= cycle - row < len(acts):
                            word = bits[cycle - row, tile, row]
                            ctx.set(group.act_in, int(word @ (1 << np.arange(4))))
                    token = cycle - rows
                    if token >= 0:
                        if wide:
                            result[token] += [ctx.get(join.low_out) for join in self.joins]
                        else:
                            pairs = [(ctx.get(j.low_out), ctx.get(j.high_out)) for j in self.joins]
                            result[token] += np.ravel(pairs)
                    await ctx.tick()

        simulator = Simulator(self.m)
        simulator.add_clock(1e-6)
        simulator.add_testbench(process)
        simulator.run()
        return result


@pytest.mark.parametrize("weight_bits", [4, 8])
@pytest.mark.parametrize(
    ("alignment", "act_bits", "rows", "k"),
    [
        ("nibble", 4, 3, 7),
        ("nibble", 8, 3, 5),  # an element straddles two groups and, R being odd, two tiles
        ("nibble", 8, 4, 4),
        ("bit", 3, 4, 11),
        ("bit", 5, 3, 7),
        ("bit", 6, 5, 9),
        ("bit", 1, 3, 25),
        ("bit", 8, 3, 4),
        ("bit", 4, 3, 7),
    ],
)
def test_column_equals_the_integer_dot_product(alignment, act_bits, rows, k, weight_bits):
    rng = np.random.default_rng(act_bits * k)
    low, top = -(1 << (act_bits - 1)), 1 << (act_bits - 1)
    wlow, wtop = -(1 << (weight_bits - 1)), 1 << (weight_bits - 1)
    n = 4 if weight_bits == 4 else 2
    acts = np.concatenate(
        [
            np.full((1, k), low),
            np.full((1, k), top - 1),
            np.zeros((1, k), int),
            rng.integers(low, top, (6, k)),
        ]
    )
    weights = rng.integers(wlow, wtop, (k, n))
    weights[:, 0] = wlow
    weights[:, 1] = wtop - 1
    column = Column(BitGroupConfig(alignment=alignment, rows=rows))
    assert np.array_equal(column.run(acts, weights, act_bits, weight_bits), acts @ weights)


def test_psum_widths_are_exact():
    assert (psum_bits(34), psum_bits(35)) == (16, 17)
    for rows in range(1, 40):
        # the worst operands there are, in every width and from every phase of the bit string
        worst = 0
        for bits in range(1, 9):
            for phase in range(bits):
                significance = (np.arange(4 * rows) + phase) % bits
                signs = significance == bits - 1
                values = np.where(signs, -1, 1) * (1 << significance)
                assert 15 * values[~signs].sum() < 1 << (psum_bits(rows) - 1)
                worst = min(worst, 15 * values[signs].sum())
        assert -(1 << (psum_bits(rows) - 2)) > worst >= -(1 << (psum_bits(rows) - 1))
    assert joined_bits(24) == 19


def test_odd_psum_widths_are_exact():
    """An element's most positive product is that of its sign with -8, or of its other bits with 7."""
    assert (odd_psum_bits(24), odd_psum_bits(30), odd_psum_bits(31)) == (15, 15, 16)
    for rows in range(1, 40):
        greatest = least = 0
        for bits in range(1, 9):
            for phase in range(bits):
                position = np.arange(4 * rows) + phase
                value = 1 << position % bits
                sign = position % bits == bits - 1
                down = np.bincount(position // bits, value * sign)
                up = np.bincount(position // bits, value * ~sign)
                greatest = max(greatest, np.maximum(8 * down, 7 * up).sum())
                least = min(least, -np.maximum(8 * up, 7 * down).sum())
        limit = 1 << (odd_psum_bits(rows) - 1)
        assert limit > greatest >= limit // 2
        assert least >= -limit


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: BitGroupConfig(alignment="byte"),
            "alignment='byte' is not allowed; it must be one of 'nibble', 'bit'",
        ),
        (lambda: BitGroupConfig(rows=0), "rows=0 is not allowed; it must be an integer in [1, 1024]"),
        (lambda: BitGroupConfig(rows=1025), "rows=1025 is not allowed; it must be an integer in [1, 1024]"),
        (lambda: NibbleJoin(0), "rows=0 is not allowed; it must be an integer in [1, 1024]"),
    ],
)
def test_errors_name_the_parameter(make, message):
    with pytest.raises(ParameterError) as error:
        make()
    assert str(error.value) == message
