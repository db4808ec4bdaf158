import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import Ram
from bitfabric.hdl.common.stream import StreamRegister, connect_stream
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import Bench, BenchTimeout, ProtocolError, run_streams, simulate

STALLS = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)]


@pytest.mark.parametrize(("stall_in", "stall_out"), STALLS)
@pytest.mark.parametrize("width", [1, 8, 67])
def test_register_passes_everything_in_order(width, stall_in, stall_out):
    ones = (1 << width) - 1
    sent = [0, ones, 1 << (width - 1), *((index * 0x9E3779B97F4A7C15) & ones for index in range(150))]
    result = run_streams(
        StreamRegister(width),
        {"i": sent},
        {"o": len(sent)},
        stall_in=stall_in,
        stall_out=stall_out,
        seed=width,
    )
    assert result["o"] == sent


def test_register_latency_and_throughput():
    result = run_streams(StreamRegister(8), {"i": range(100)}, {"o": 100})
    # `i.ready` rises one cycle after reset, hence the 1.
    assert result.arrivals["i"] == list(range(1, 101))
    assert result.arrivals["o"] == list(range(2, 102))
    assert result.cycles == 102


def test_structures_and_arrays_are_dicts_and_lists():
    shape = StructLayout({"lanes": ArrayLayout(4, 3), "last": 1})
    sent = [{"lanes": [index % 16, 15, 0], "last": index % 2} for index in range(20)]
    assert run_streams(StreamRegister(shape), {"i": sent}, {"o": 20}, 0.5, 0.5)["o"] == sent


def test_no_path_across_the_register():
    block = StreamRegister(8)

    async def testbench(ctx):
        await ctx.tick()
        for fill in range(3):  # empty, one payload, two payloads
            before = ctx.get(block.i.ready), ctx.get(block.o.valid), ctx.get(block.o.payload)
            for valid, payload, ready in ((0, 3, 1), (1, 9, 0), (1, 200, 1)):
                ctx.set(block.i.valid, valid)
                ctx.set(block.i.payload, payload)
                ctx.set(block.o.ready, ready)
                after = ctx.get(block.i.ready), ctx.get(block.o.valid), ctx.get(block.o.payload)
                assert after == before, fill
            ctx.set(block.i.valid, 1)
            ctx.set(block.o.ready, 0)
            await ctx.tick()
        assert not ctx.get(block.i.ready)

    simulate(block, testbench)


def test_register_refuses_an_empty_payload():
    with pytest.raises(ParameterError) as error:
        StreamRegister(0)
    assert str(error.value) == "shape=0 is not allowed; it must be a payload of at least 1 bit"


def test_connect_stream_checks_widths():
    narrow, wide = stream.Signature(7).create(), stream.Signature(8).create()
    m = Module()
    m._MustUse__used = True
    with pytest.raises(ParameterError) as error:
        connect_stream(m, narrow, wide)
    assert str(error.value) == "payload width=7 is not allowed; it must be the sink's 8 bits"


# The bench has to notice each way of breaking the protocol.


class Rogue(Block):
    """Break one rule of the stream protocol on the way from ``i`` to ``o``."""

    def __init__(self, crime: str):
        self.crime = crime
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.register = register = StreamRegister(8)
        connect_stream(m, self.i, register.i)
        connect_stream(m, register.o, self.o)
        phase = Signal(2)
        m.d.sync += phase.eq(phase + 1)
        if self.crime == "drops valid":
            m.d.comb += [
                self.o.valid.eq(register.o.valid & (phase != 3)),
                register.o.ready.eq(self.o.ready & (phase != 3)),
            ]
        elif self.crime == "changes payload":
            m.d.comb += self.o.payload.eq(register.o.payload ^ (phase == 3))
        elif self.crime == "waits for ready":
            m.d.comb += self.o.valid.eq(register.o.valid & self.o.ready)
        elif self.crime == "duplicates":
            m.d.comb += register.o.ready.eq(self.o.ready & (phase != 3))
        elif self.crime == "swallows":
            m.d.comb += register.i.valid.eq(self.i.valid & (phase != 3))
        elif self.crime == "never ready":
            m.d.comb += [self.i.ready.eq(0), register.i.valid.eq(0)]
        return m


@pytest.mark.parametrize(
    ("crime", "error", "text"),
    [
        ("drops valid", ProtocolError, r"cycle \d+: o.valid dropped before the payload was taken"),
        (
            "changes payload",
            ProtocolError,
            r"cycle \d+: o.payload changed from \d+ to \d+ before it was taken",
        ),
        ("waits for ready", ProtocolError, r"cycle \d+: o.valid depends on o.ready"),
        ("duplicates", ProtocolError, r"cycle \d+: o delivered \d+ beyond 50"),
        ("swallows", BenchTimeout, r"not finished after 4000 cycles: i sent 50 of 50, o received \d+ of 50"),
        ("never ready", BenchTimeout, r"not finished after 4000 cycles: i sent 0 of 50, o received 0 of 50"),
    ],
)
def test_bench_notices(crime, error, text):
    with pytest.raises(error, match=text):
        run_streams(Rogue(crime), {"i": range(50)}, {"o": 50}, stall_out=0.5, timeout=4000)


def test_bench_accepts_the_lawful():
    assert run_streams(Rogue("none"), {"i": range(50)}, {"o": 50}, stall_out=0.5)["o"] == list(range(50))


def test_bench_refuses_endless_stalls():
    block = StreamRegister(1)
    with pytest.raises(ParameterError) as error:
        run_streams(block, {"i": []}, {"o": 0}, stall_out=1)
    run_streams(block, {"i": []}, {"o": 0}, stall_out=0.99)
    assert str(error.value) == (
        "stall_out=1 is not allowed; it must be a probability of at least 0 and below 1"
    )


@pytest.mark.parametrize("as_coroutine", [False, True])
def test_bench_runs_setup_first(as_coroutine):
    block = StreamRegister(4)
    seen = []

    def setup(ctx):
        seen.append(ctx.get(block.i.ready))

    async def slow_setup(ctx):
        setup(ctx)
        await ctx.tick()

    result = run_streams(block, {"i": [5]}, {"o": 1}, setup=slow_setup if as_coroutine else setup)
    assert seen == [0]
    assert result.arrivals["i"] == [0 if as_coroutine else 1]


def test_a_bench_starts_anew_each_time():
    """Registers and memories are as at first, also after a testbench that failed half way."""
    ram = Ram(8, 4, transparent=False)
    bench = Bench(ram)
    seen = []

    async def testbench(ctx):
        ctx.set(ram.read_en, 1)
        await ctx.tick()
        seen.append(ctx.get(ram.read_data))
        ctx.set(ram.write_data, 77)
        ctx.set(ram.write_en, 1)
        await ctx.tick().repeat(2)
        assert ctx.get(ram.read_data) == 77
        raise KeyError("half way")

    for _ in range(3):
        with pytest.raises(KeyError):
            bench.run(testbench)
    assert seen == [0] * 3
