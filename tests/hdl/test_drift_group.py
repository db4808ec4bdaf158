"""Drift's group: every register against a model of it, in both alignments and with all weight bufferings."""

import random
import re

import numpy as np
import pytest

from bitfabric.hdl.drift.config import BUFFERINGS, DriftConfig
from bitfabric.hdl.drift.controls import LINK
from bitfabric.hdl.drift.group import DriftGroup
from bitfabric.hdl.emit import emit
from bitfabric.quant import bitbrick
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


def wrap(value, bits):
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def products(config, raw, wide, act):
    """Return the four sums of activation bits with the weights that are the bits ``raw``, 8-bit ones if ``wide``."""
    fixed = config.stationary.from_bits(raw)
    if config.alignment == "nibble":
        nibbles = np.tile(list(fixed.weights), (4, 1))
        significance, sign = np.arange(4) + 4 * fixed.high, np.array([0, 0, 0, fixed.sign])
    else:
        nibbles = np.array([list(row) for row in fixed.weights])
        significance, sign = np.array(list(fixed.significance)), fixed.sign >> np.arange(4) & 1
    signed = np.array([not wide, True, not wide, True])
    values = np.where(signed & (nibbles > 7), nibbles - 16, nibbles)
    return bitbrick.group_sums(act >> np.arange(4) & 1, values, significance, sign).tolist()


class Model:
    """The registers of a group."""

    def __init__(self, config):
        self.config = config
        self.chain = self.following = self.weights = self.act = self.swap = 0
        self.psums = [0] * 4

    def step(self, pins):
        """Take what was at the ports in a cycle."""
        buffering = self.config.weight_buffering
        side, edge = ("west", "east")[pins["from_east"]], ("south", "north")[pins["upper"]]
        act, swap = pins[side] & 15, pins[side] >> 4
        base = [0] * 4
        for name in ("north", "south"):
            if pins[f"take_{name}"]:
                base = pins[f"psum_{name}_in"]
        bits = [self.config.group.held_psum_bits(column) for column in range(4)]
        used = self.chain if buffering == "single" else self.weights
        sums = products(self.config, used, not pins["from_east"], act)
        self.psums = [wrap(a + b, n) for a, b, n in zip(base, sums, bits, strict=True)]
        self.act, self.swap = act, swap * (buffering != "single")
        before = self.chain
        if pins[f"load_{edge}"]:
            self.chain = pins[f"stationary_{edge}"]
        if buffering == "double":
            self.following = self.chain
        elif pins.get(f"copy_{edge}"):
            self.following = before
        if swap:
            self.weights = self.following


@pytest.mark.parametrize("alignment", ["nibble", "bit"])
@pytest.mark.parametrize("buffering", BUFFERINGS)
def test_group_equals_its_model(alignment, buffering):
    config = DriftConfig.preset("tiny", alignment=alignment, weight_buffering=buffering)
    dut, model, rng = DriftGroup(config), Model(config), random.Random(len(buffering))
    flags = ["from_east", "upper", "load_north", "load_south"]
    flags += ["copy_north", "copy_south"] if buffering == "transit" else []
    limit = 1 << (config.group.psum_bits - 1)

    async def testbench(ctx):
        for cycle in range(400):
            pins = {name: rng.randrange(2) for name in flags}
            pins |= {name: rng.randrange(1 << LINK.size) for name in ("west", "east")}
            take = rng.choice([(0, 0), (0, 1), (1, 0)])
            pins |= {"take_north": take[0], "take_south": take[1]}
            for edge in ("north", "south"):
                pins[f"stationary_{edge}"] = rng.randrange(1 << config.stationary.size)
                pins[f"psum_{edge}_in"] = [rng.randrange(-limit, limit) for _ in range(4)]
            if cycle < 3:  # what has no reset is given a value first
                pins |= {name: 31 if name in ("west", "east") else 1 for name in (*flags, "west", "east")}
            for name, value in pins.items():
                port = getattr(dut, name)
                if isinstance(value, list):
                    for column, psum in enumerate(value):
                        ctx.set(port[column], psum)
                else:
                    ctx.set(getattr(port, "as_value", lambda port=port: port)(), value)
            await ctx.tick()
            model.step(pins)
            if cycle >= 3:
                assert ctx.get(dut.link_out.as_value()) == model.act | model.swap << 4
                assert ctx.get(dut.stationary_out.as_value()) == model.chain
                assert [ctx.get(dut.psum_out[column]) for column in range(4)] == model.psums

    simulate(dut, testbench)


@pytest.mark.parametrize(("buffering", "copies"), [("single", 0), ("double", 1), ("transit", 2)])
def test_only_the_registers_of_the_buffering_are_built(buffering, copies):
    config = DriftConfig.preset("tiny", weight_buffering=buffering)
    text = emit(DriftGroup(config), "group").verilog
    assert len(re.findall(rf"^  reg \[{config.stationary.size - 1}:0\] ", text, re.MULTILINE)) == copies + 1
    assert bool(re.search(r"^  reg swap\b", text, re.MULTILINE)) == (buffering != "single")


def test_errors_name_the_parameter():
    with pytest.raises(ParameterError) as error:
        DriftGroup(DriftConfig.preset("tiny", weight_buffering="triple"))
    assert str(error.value) == (
        "weight_buffering='triple' is not allowed; it must be one of 'single', 'double', 'transit'"
    )
