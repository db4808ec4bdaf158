"""What a start of Drift makes of the registers: jobs by the formulas of the cases, refusals by the reasons given."""

import random
from types import SimpleNamespace

import pytest
from amaranth.hdl import Module, Signal

from bitfabric.hdl.drift.config import N_MAX, DriftConfig
from bitfabric.hdl.drift.registers import drift_registers
from bitfabric.hdl.drift.start import HELD, Start
from bitfabric.sim.streams import simulate

GOOD = {
    **{"m": 5, "k": 20, "n": 10, "n_high": 3, "n_low": 7, "subtensor_rows": 1, "next_subtensor_rows": 1},
    **{"act_format_high_bits": 8, "act_format_low_bits": 4, "next_act_format_high_bits": 6},
    **{
        "next_act_format_low_bits": 3,
        "pooling_kernel_height": 2,
        "pooling_kernel_width": 2,
        "pooling_stride": 1,
    },
    **{"image_height": 4, "image_width": 4, "pooled_height": 2, "pooled_width": 2, "pooled_m": 3},
}
BUFFER = {"m": 5, "k": 20, "bits_high": 8, "bits_low": 4, "rows_high": 2, "rows_low": 3}
FLAGS = ("bad_dimension", "bad_counts", "bad_format")


class Bench:
    """The logic with registers and buffer as plain signals."""

    def __init__(self, **options):
        self.config = DriftConfig.preset("tiny", **options)
        self.ports = {}
        for register, _ in drift_registers(self.config).placed():
            for field, _ in register.placed():
                name = register.port(field)
                self.ports[name] = Signal(field.width, name=f"register_{name}")
        self.held, self.held_valid = Signal(HELD), Signal()
        self.m = Module()
        registers = SimpleNamespace(**self.ports)
        self.start = Start(self.m, self.config, registers, self.held, self.held_valid)

    def set(self, ctx, values, held=BUFFER):
        for name, port in self.ports.items():
            ctx.set(port, values.get(name, 0))
        ctx.set(self.held_valid, held is not None)
        ctx.set(self.held, held or dict.fromkeys(BUFFER, 0))

    def refused(self, ctx):
        return {name for name in FLAGS if ctx.get(getattr(self.start, name))}


REFUSED = [
    ({"m": 0}, "bad_dimension"),
    ({"m": 65, "control_keep": 1}, "bad_dimension"),
    ({"k": 0}, "bad_dimension"),
    ({"k": 101}, "bad_dimension"),
    ({"n": 0, "n_high": 0, "n_low": 0}, "bad_dimension"),
    ({"n": N_MAX + 1, "n_high": N_MAX + 1, "n_low": 0}, "bad_dimension"),
    ({"n": 257, "n_high": 0, "n_low": 257}, "bad_dimension"),
    ({"n": 129, "n_high": 129, "n_low": 0}, "bad_dimension"),
    ({"subtensor_rows": 0}, "bad_dimension"),
    ({"control_keep": 1, "next_subtensor_rows": 0}, "bad_dimension"),
    ({"control_keep": 1, "control_pool": 1, "pooled_m": 0}, "bad_dimension"),
    ({"control_keep": 1, "control_pool": 1, "pooled_m": 65}, "bad_dimension"),
    ({"control_keep": 1, "n": 101, "n_low": 98}, "bad_dimension"),
    ({"n_low": 8}, "bad_counts"),
    ({"n_high": 2}, "bad_counts"),
    ({"n_high": 65535, "n_low": 11}, "bad_counts"),  # the sum is 10 in 16 bits
    ({"act_format_high_bits": 1, "act_format_low_bits": 1}, "bad_format"),
    ({"act_format_high_bits": 9}, "bad_format"),
    ({"act_format_low_bits": 0}, "bad_format"),
    ({"act_format_high_bits": 3}, "bad_format"),
    ({"control_keep": 1, "next_act_format_high_bits": 2}, "bad_format"),
    ({"control_keep": 1, "next_act_format_high_bits": 12}, "bad_format"),
    *(
        ({"control_accumulators": 1, f"control_{name}": 1}, "bad_format")
        for name in ("keep", "pool", "function")
    ),
    ({"control_resident": 1, "m": 4}, "bad_format"),
    ({"control_resident": 1, "k": 21}, "bad_format"),
    *(
        ({"control_pool": 1, name: value}, "bad_format")
        for name, value in (
            ("pooling_stride", 0),
            ("pooling_stride", 9),
            ("pooling_kernel_height", 0),
            ("pooling_kernel_width", 9),
            ("pooling_padding", 2),
            ("image_height", 0),
            ("image_width", 0),
            ("pooled_height", 0),
            ("pooled_width", 0),
        )
    ),
    ({"control_pool": 1, "pooling_padding": 1, "pooling_average": 1}, "bad_format"),
]
ACCEPTED = [
    {},
    {"m": 64, "k": 100, "subtensor_rows": 65535},
    {"n": 256, "n_high": 0, "n_low": 256},
    {"n": 128, "n_high": 128, "n_low": 0},
    {"control_accumulators": 1},
    {"control_keep": 1, "control_pool": 1, "control_function": 1, "pooling_padding": 1},
    {"control_pool": 1, "pooling_average": 1},
    {"control_resident": 1, "subtensor_rows": 0, "act_format_high_bits": 0},
    {"next_subtensor_rows": 0, "next_act_format_high_bits": 0, "pooled_m": 0, "image_width": 0},
    {"n": 101, "n_low": 98},
    {"act_format_high_bits": 2, "act_format_low_bits": 1},
    {"act_format_high_bits": 8, "act_format_low_bits": 8},
]


def test_refusals():
    bench = Bench(k_max=100)

    async def testbench(ctx):
        for changes in ACCEPTED:
            bench.set(ctx, GOOD | changes)
            assert bench.refused(ctx) == set(), changes
        for changes, reason in REFUSED:
            bench.set(ctx, GOOD | changes)
            assert bench.refused(ctx) == {reason}, changes
        bench.set(ctx, GOOD | {"control_resident": 1}, held=None)
        assert bench.refused(ctx) == {"bad_format"}

    simulate(bench.m, testbench)


def test_high_granules_fill_whole_words_of_parameters():
    """Two granules in a word: the low ones begin a word."""
    bench = Bench(axis_data_bits=128, lanes=8, granules_max=4)

    async def testbench(ctx):
        for high, low, refused in ((2, 8, False), (6, 0, False), (5, 1, True), (2, 9, True), (4, 8, False)):
            bench.set(ctx, GOOD | {"n": high + low, "n_high": high, "n_low": low})
            assert bench.refused(ctx) == ({"bad_dimension"} if refused else set()), (high, low)

    simulate(bench.m, testbench)


def draw(config, rng):
    values = {name: rng.randrange(1 << 16) for name in ("subtensor_rows", "next_subtensor_rows", "pooled_m")}
    values |= {name: rng.choice([1, N_MAX, rng.randint(1, N_MAX)]) for name in ("m", "k", "n_high", "n_low")}
    values["n"] = rng.choice([N_MAX, rng.randint(1, N_MAX)])
    for prefix in ("", "next_"):
        high = rng.randint(2, 8)
        values |= {
            f"{prefix}act_format_high_bits": high,
            f"{prefix}act_format_low_bits": rng.randint(1, high),
        }
        values[f"{prefix}act_format_truncate"] = rng.randrange(2)
        for name in ("threshold", "threshold_tail"):
            values |= {f"{prefix}{name}_{half}": rng.randrange(1 << 32) for half in ("low", "high")}
    for name in ("resident", "keep", "accumulators", "function", "pool"):
        values[f"control_{name}"] = rng.randrange(2)
    return values


@pytest.mark.parametrize(
    "options", [{}, {"alignment": "bit", "axis_data_bits": 256}, {"axis_data_bits": 512}]
)
def test_jobs_follow_from_the_registers(options):
    bench, rng = Bench(**options), random.Random(str(options))
    config, start = bench.config, bench.start
    size = config.beat_bytes

    def intake(values, prefix, rows, k):
        job = {"m": rows, "k": k, "beats": -(-k // size), "subtensor_rows": values[f"{prefix}subtensor_rows"]}
        for name in ("high_bits", "low_bits", "truncate"):
            job[name] = values[f"{prefix}act_format_{name}"]
        for name in ("threshold", "threshold_tail"):
            job[name] = values[f"{prefix}{name}_low"] | values[f"{prefix}{name}_high"] << 32
        return job

    async def testbench(ctx):
        for _ in range(60):
            values = draw(config, rng)
            held = BUFFER | {name: rng.randint(1, 8) for name in ("bits_high", "bits_low")}
            bench.set(ctx, values, held)
            k, resident = values["k"], values["control_resident"]
            rows = values["pooled_m"] if values["control_pool"] else values["m"]
            acts = {name: ctx.get(value) for name, value in start.act_job.items()}
            assert acts == intake(values, "", values["m"], k)
            following = {name: ctx.get(value) for name, value in start.next_job.items()}
            assert following == intake(values, "next_", rows, values["n"])
            gemm = {name: ctx.get(value) for name, value in start.gemm.items()}
            for half, channels in (("high", 2), ("low", 4)):
                bits = config.stored_bits(values[f"act_format_{half}_bits"])
                bits = held[f"bits_{half}"] if resident else bits
                assert gemm[f"bits_{half}"] == bits
                assert gemm[f"nibbles_{half}"] == -(-k * bits // 4)
                assert gemm[f"stride_{half}"] == -(-(-(-k // size) * bits) // 8)
                assert gemm[f"granules_{half}"] == -(-values[f"n_{half}"] // channels)
            assert (gemm["m"], gemm["k"]) == (values["m"], k)

    simulate(bench.m, testbench)
