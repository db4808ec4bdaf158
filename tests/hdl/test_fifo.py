import pytest
from amaranth.lib.data import StructLayout

from bitfabric.hdl.common.fifo import StreamFifo
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import run_streams, simulate

STALLS = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)]


@pytest.mark.parametrize(("stall_in", "stall_out"), STALLS)
@pytest.mark.parametrize(("width", "depth"), [(1, 1), (8, 1), (8, 2), (5, 3), (8, 4), (1, 7), (40, 13)])
def test_keeps_everything_in_order(width, depth, stall_in, stall_out):
    ones = (1 << width) - 1
    sent = [0, ones, 1 << (width - 1), *((index * 0x9E3779B1) & ones for index in range(100))]
    result = run_streams(
        StreamFifo(width, depth), {"i": sent}, {"o": len(sent)}, stall_in, stall_out, seed=depth
    )
    assert result["o"] == sent


@pytest.mark.parametrize(("depth", "places"), [(1, 1), (2, 2), (3, 3), (8, 3)])
def test_latency_and_throughput(depth, places):
    # A place is free again 3 cycles after it was taken: `places` payloads every 3 cycles.
    result = run_streams(StreamFifo(8, depth), {"i": range(60)}, {"o": 60})
    assert result.arrivals["i"] == [3 * (index // places) + index % places for index in range(60)]
    assert result.arrivals["o"] == [cycle + 2 for cycle in result.arrivals["i"]]


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8, 11])
def test_level_and_capacity(depth):
    block = StreamFifo(8, depth)

    async def testbench(ctx):
        ctx.set(block.i.valid, 1)
        for count in range(depth):
            assert ctx.get(block.level) == count
            assert ctx.get(block.i.ready)
            ctx.set(block.i.payload, count)
            await ctx.tick()
        for _ in range(3):
            assert ctx.get(block.level) == depth
            assert not ctx.get(block.i.ready)
            await ctx.tick()
        ctx.set(block.i.valid, 0)
        ctx.set(block.o.ready, 1)
        for count in range(depth):
            assert ctx.get(block.level) == depth - count
            assert ctx.get(block.o.valid)
            assert ctx.get(block.o.payload) == count
            await ctx.tick()
        assert ctx.get(block.level) == 0
        assert not ctx.get(block.o.valid)

    simulate(block, testbench)


def test_structured_payload():
    shape = StructLayout({"data": 9, "last": 1})
    sent = [{"data": 511 - index, "last": index & 1} for index in range(30)]
    assert run_streams(StreamFifo(shape, 5), {"i": sent}, {"o": 30}, 0.5, 0.5)["o"] == sent


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((8, 0), "depth=0 is not allowed; it must be an integer of at least 1"),
        ((8, True), "depth=True is not allowed; it must be an integer of at least 1"),
        ((8, 2.5), "depth=2.5 is not allowed; it must be an integer of at least 1"),
        ((0, 4), "shape=0 is not allowed; it must be a payload of at least 1 bit"),
    ],
)
def test_construction_errors(arguments, text):
    with pytest.raises(ParameterError) as error:
        StreamFifo(*arguments)
    assert str(error.value) == text
