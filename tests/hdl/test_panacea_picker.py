"""The product picker against the list of all products with an HO slice."""

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.picker import ProductPicker
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import plain, simulate

NONE = {"valid": 0, "position": 0, "weight_top": 0, "weight_slice": 0, "act_top": 0, "act_slice": 0}


def products(weights, acts, weight_dense, act_dense):
    """List every product with an HO slice, position by position."""
    found = []
    for position, (weight, act) in enumerate(zip(weights, acts, strict=True)):
        base = {**NONE, "valid": 1, "position": position}
        if weight:
            found += [{**base, "weight_top": 1, "act_slice": number} for number in range(act_dense)]
        if act:
            found += [{**base, "act_top": 1, "weight_slice": number} for number in range(weight_dense)]
        if weight and act:
            found.append({**base, "weight_top": 1, "act_top": 1})
    return found


def to_mask(bits):
    return sum(int(bit) << number for number, bit in enumerate(bits))


@pytest.mark.parametrize(
    ("options", "width"),
    [({}, 1), ({}, 6), ({"max_weight_bits": 7, "max_act_bits": 8}, 5), ({"tile_k": 4}, 12)],
)
def test_picks_every_product_once_and_in_order(options, width):
    config = PanaceaConfig.preset("tiny", **options)
    unit = ProductPicker(config, width)
    rng = np.random.default_rng(width)

    async def testbench(ctx):
        for _ in range(25):
            dense = [int(rng.integers(1, most + 1)) for most in (config.weight_dense, config.act_dense)]
            masks = rng.random((2, config.tile_k)) < rng.choice([0.0, 0.3, 1.0], (2, 1))
            ctx.set(unit.weight_mask, to_mask(masks[0]))
            ctx.set(unit.act_mask, to_mask(masks[1]))
            ctx.set(unit.weight_dense, dense[0])
            ctx.set(unit.act_dense, dense[1])
            ctx.set(unit.fresh, 1)
            left = products(*masks, *dense)
            done = False
            while not done:
                limit, en = int(rng.integers(0, width + 1)), int(rng.integers(4) > 0)
                ctx.set(unit.limit, limit)
                ctx.set(unit.en, en)
                picks = [plain(ctx.get(unit.picks[number])) for number in range(width)]
                taken = min(limit, len(left))
                assert [pick for pick in picks if pick["valid"]] == left[:limit]
                assert [pick["valid"] for pick in picks] == [1] * taken + [0] * (width - taken)
                assert ctx.get(unit.count) == taken
                assert ctx.get(unit.done) == (len(left) <= limit)
                await ctx.tick()
                if en:
                    ctx.set(unit.fresh, 0)
                    left = left[limit:]
                    done = not left

    simulate(unit, testbench)


def test_width_is_positive():
    with pytest.raises(ParameterError, match="width=0 is not allowed; it must be an integer of at least 1"):
        ProductPicker(PanaceaConfig.preset("tiny"), 0)
