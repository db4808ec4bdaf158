"""A region's accumulator banks: turns, delays, both under way, against a list of what was claimed."""

import random
from dataclasses import dataclass

import pytest

from bitfabric.hdl.drift.banks import RegionBanks
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.sim.streams import simulate

FAR = 1 << 60


@dataclass
class Use:
    """A bank from its claim on."""

    info: dict
    full_from: int = FAR
    taken: int = FAR
    freed: int = FAR


def now(ctx, dut, names):
    return [ctx.get(getattr(dut, name)) for name in names]


@pytest.mark.parametrize("eager", [True, False])
def test_banks_are_used_in_turn(eager):
    config = DriftConfig.preset("tiny")
    dut, rng = RegionBanks(config), random.Random(eager)
    uses, lasts = [], 0
    seen = {"both": 0, "taken and freed": 0}

    def wants():
        return eager or rng.random() < 0.3

    async def testbench(ctx):
        nonlocal lasts
        for cycle in range(3000):
            claimed = len(uses)
            taken = sum(use.taken < cycle for use in uses)
            freed = sum(use.freed < cycle for use in uses)
            full = taken < claimed and uses[taken].full_from <= cycle
            assert now(ctx, dut, ("free", "idle", "full")) == [claimed - freed < 2, claimed == freed, full]
            assert ctx.get(dut.bank) == claimed % 2
            seen["both"] += claimed - freed == 2
            if full:
                assert ctx.get(dut.full_bank) == taken % 2
                assert {name: ctx.get(dut.info[name]) for name in uses[taken].info} == uses[taken].info
            claim = claimed - freed < 2 and wants()
            last = lasts < claimed and wants()
            take = full and wants()
            free = freed < taken + take and wants()
            delay = rng.choice([1, 2, rng.randint(1, 15)])
            info = {"rows": rng.randint(1, 8), "rank": rng.randrange(1 << 16)}
            info |= {"granules": rng.randint(1, 3), "granule": rng.randrange(1 << 15)}
            if last:
                ctx.set(dut.last_bank, lasts % 2)
                uses[lasts].full_from = cycle + delay + 1
                lasts += 1
            if take:
                uses[taken].taken = cycle
            if free:
                uses[freed].freed = cycle
                seen["taken and freed"] += take and freed == taken
            if claim:
                uses.append(Use(info))
            ctx.set(dut.claim_info, info)
            for name, value in (
                ("claim", claim),
                ("last", last),
                ("take", take),
                ("freed", free),
                ("delay", delay),
            ):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()

    simulate(dut, testbench)
    assert len(uses) > 200
    assert min(seen.values()) > 50
