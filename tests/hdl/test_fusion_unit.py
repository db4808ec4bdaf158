"""Fusion units in every mode against the golden model."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from bitfabric.hdl.arith.fusion_unit import FusionUnit, FusionUnitConfig, FusionUnitPe, Precision
from bitfabric.hdl.block import place
from bitfabric.quant import bitbrick
from bitfabric.quant.errors import ParameterError

UNITS = [
    {"max_bits": high, "min_bits": low, "signs": signs}
    for high, low in ((8, 2), (8, 4), (4, 2), (4, 4))
    for signs in ("signed", "any")
]


def widths(config):
    return [b for b in (2, 4, 8) if config.min_bits <= b <= config.max_bits]


def operands(rng, bits, products, signed):
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    corners = np.repeat([[low], [high], [0], [-1 if signed else high]], products, axis=1)
    return np.concatenate([corners, np.roll(corners, 1, 0), rng.integers(low, high + 1, (30, products))])


@pytest.mark.parametrize("unit", UNITS)
def test_every_mode_equals_the_golden_sum(unit):
    config = FusionUnitConfig(**unit)
    dut = FusionUnit(config)
    rng = np.random.default_rng(0)
    signs = [(True, True)] if config.signs == "signed" else [(a, w) for a in (0, 1) for w in (0, 1)]

    async def process(ctx):
        for pa in widths(config):
            for pw in widths(config):
                products = bitbrick.fusion_products(pa, pw, config.max_bits, config.min_bits)
                ctx.set(dut.act_bits, config.precision(pa))
                ctx.set(dut.weight_bits, config.precision(pw))
                mode = (pa, pw, config.min_bits)
                for sa, sw in signs:
                    if config.signs == "any":
                        ctx.set(dut.act_signed, sa)
                        ctx.set(dut.weight_signed, sw)
                    x, w = operands(rng, pa, products, sa), operands(rng, pw, products, sw)
                    w[4:8] = np.roll(w[4:8], 1, 0)
                    acts, weights = (
                        bitbrick.pack_fusion(x, "act", *mode),
                        bitbrick.pack_fusion(w, "weight", *mode),
                    )
                    golden = bitbrick.fusion_sum(acts, weights, *mode, bool(sa), bool(sw))
                    assert np.array_equal(golden, (x * w).sum(axis=-1))
                    for act, weight, expected in zip(acts, weights, golden, strict=True):
                        ctx.set(dut.act, int(act))
                        ctx.set(dut.weight, int(weight))
                        assert ctx.get(dut.sum) == expected

    simulator = Simulator(dut)
    simulator.add_testbench(process)
    simulator.run()


@pytest.mark.parametrize(("pa", "pw"), [(8, 8), (8, 2), (4, 4), (2, 4)])
def test_column_of_pes_equals_the_integer_dot_product(pa, pw):
    rows = 3
    config = FusionUnitConfig(rows=rows)
    products = bitbrick.fusion_products(pa, pw)
    m = Module()
    pes = [place(m, f"pe_{r}", FusionUnitPe(config)) for r in range(rows)]
    for pe in pes:
        m.d.comb += [pe.act_bits.eq(config.precision(pa)), pe.weight_bits.eq(config.precision(pw))]
    for above, below in itertools.pairwise(pes):
        m.d.comb += [
            below.weight_in.eq(above.weight_out),
            below.psum_in.eq(above.psum_out),
            below.load.eq(above.load),
        ]
    rng = np.random.default_rng(pa + pw)
    acts = np.concatenate(
        [
            np.full((1, rows, products), -(1 << (pa - 1))),
            operands(rng, pa, rows * products, True).reshape(-1, rows, products),
        ]
    )
    weights = rng.integers(-(1 << (pw - 1)), 1 << (pw - 1), (rows, products))
    act_words = bitbrick.pack_fusion(acts, "act", pa, pw)
    weight_words = bitbrick.pack_fusion(weights, "weight", pa, pw)
    results = []

    async def process(ctx):
        ctx.set(pes[0].load, 1)
        for word in reversed(weight_words):
            ctx.set(pes[0].weight_in, int(word))
            await ctx.tick()
        ctx.set(pes[0].load, 0)
        ctx.set(pes[0].weight_in, 0)
        for cycle in range(len(acts) + rows):
            for row, pe in enumerate(pes):
                if 0 <= cycle - row < len(acts):
                    ctx.set(pe.act_in, int(act_words[cycle - row, row]))
            if cycle >= rows:
                results.append(ctx.get(pes[-1].psum_out))
            await ctx.tick()
            if cycle < len(acts):
                assert ctx.get(pes[0].act_out) == act_words[cycle, 0]

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(process)
    simulator.run()
    assert results == (acts * weights).sum(axis=(1, 2)).tolist()


def test_widths_are_exact():
    assert FusionUnitConfig(rows=24).psum_bits == 20
    assert FusionUnitConfig(rows=24, signs="any").psum_bits == 22
    assert (FusionUnitConfig(rows=31).psum_bits, FusionUnitConfig(rows=32).psum_bits) == (20, 21)
    assert [FusionUnitConfig(max_bits=b).sum_bits for b in (4, 8)] == [10, 16]
    assert [FusionUnitConfig(min_bits=b).operand_bits for b in (2, 4)] == [32, 16]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FusionUnitConfig(max_bits=2), "max_bits=2 is not allowed; it must be one of 4, 8"),
        (lambda: FusionUnitConfig(min_bits=1), "min_bits=1 is not allowed; it must be one of 2, 4"),
        (
            lambda: FusionUnitConfig(signs="none"),
            "signs='none' is not allowed; it must be one of 'signed', 'any'",
        ),
        (lambda: FusionUnitConfig(rows=0), "rows=0 is not allowed; it must be an integer in [1, 1024]"),
        (
            lambda: FusionUnitConfig(min_bits=4).precision(2),
            "bits=2 is not allowed; it must be one of 4, 8",
        ),
    ],
)
def test_errors_name_the_parameter(make, message):
    with pytest.raises(ParameterError) as error:
        make()
    assert str(error.value) == message


def test_precision_codes_are_thermometer():
    assert [FusionUnitConfig().precision(b) for b in (2, 4, 8)] == list(Precision)
