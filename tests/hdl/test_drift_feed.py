"""The head of Drift's s_axis: rows of activations to one stream, what follows to another one."""

import random

import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.feed import Feed
from bitfabric.sim.streams import simulate


async def begin(ctx, dut, m, beats, skip):
    """Start a packet; return whether its activations have passed with that."""
    for name, value in (("m", m), ("beats", beats), ("skip", skip), ("start", 1)):
        ctx.set(getattr(dut, name), value)
    passed = ctx.get(dut.passed)
    await ctx.tick()
    ctx.set(dut.start, 0)
    return passed


async def play(ctx, dut, packet, acts, rng, stall):
    """Offer a packet, check who takes each beat in the cycle it is offered; return the cycles of ``passed``."""
    sent, passed = 0, []
    offered = False
    for _ in range(100 * len(packet) + 10):
        if sent == len(packet):
            return passed
        offered = offered or rng.random() >= stall
        ready = [rng.random() >= stall for _ in range(2)]
        data, last = packet[sent]
        to_rest = sent >= acts
        ctx.set(dut.i.valid, offered)
        ctx.set(dut.i.payload, {"data": data, "last": last})
        ctx.set(dut.acts.ready, ready[0])
        ctx.set(dut.rest.ready, ready[1])
        assert [ctx.get(dut.acts.valid), ctx.get(dut.rest.valid)] == [
            offered and not to_rest,
            offered and to_rest,
        ]
        assert ctx.get(dut.i.ready) == ready[to_rest]
        if offered and to_rest:
            assert (ctx.get(dut.rest.payload.data), ctx.get(dut.rest.payload.last)) == (data, last)
        elif offered:
            assert ctx.get(dut.acts.payload) == data
        if ctx.get(dut.passed):
            passed.append(sent)
            assert offered
            assert ready[0]
        if offered and ready[to_rest]:
            sent, offered = sent + 1, False
        await ctx.tick()
    raise AssertionError("the packet was not taken")


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize(("m", "beats", "skip"), [(1, 1, 0), (3, 1, 0), (1, 4, 0), (5, 3, 0), (5, 3, 1)])
def test_beats_go_where_they_belong(m, beats, skip, stall):
    dut, rng = Feed(DriftConfig.preset("tiny")), random.Random(m + beats)
    acts = 0 if skip else m * beats

    async def testbench(ctx):
        await ctx.tick()
        ctx.set(dut.i.valid, 1)  # before the start nothing is taken
        ctx.set(dut.acts.ready, 1)
        ctx.set(dut.rest.ready, 1)
        for _ in range(3):
            assert not ctx.get(dut.i.ready)
            await ctx.tick()
        ctx.set(dut.i.valid, 0)
        assert await begin(ctx, dut, m, beats, skip) == skip
        packet = [(rng.randrange(1 << 64), 0) for _ in range(acts + 6)]
        packet[-1] = (packet[-1][0], 1)
        assert await play(ctx, dut, packet, acts, rng, stall) == ([] if skip else [acts - 1])
        assert not ctx.get(dut.framing_error)

    simulate(dut, testbench)


@pytest.mark.parametrize("early", [0, 2, 5])
def test_the_packet_ends_within_the_activations(early):
    dut, rng = Feed(DriftConfig.preset("tiny")), random.Random(early)

    async def testbench(ctx):
        await begin(ctx, dut, 3, 2, 0)
        await play(ctx, dut, [(0, n == early) for n in range(early)], 6, rng, 0.5)
        assert not ctx.get(dut.framing_error)
        await play(ctx, dut, [(0, 1), *[(0, 0)] * (8 - early)], 6 - early, rng, 0.5)
        assert ctx.get(dut.framing_error)

    simulate(dut, testbench)
