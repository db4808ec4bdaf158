"""Drift's loader of parameters and weights: order, columns, places, back-pressure to the cycle, framing."""

import random

import pytest

from bitfabric.hdl.drift.config import CHANNEL_BITS, CHANNELS, GRANULE_BITS, DriftConfig
from bitfabric.hdl.drift.weight_loader import WeightLoader
from bitfabric.sim.drift_records import merge_order
from bitfabric.sim.streams import simulate

NO_WORK = (1 << GRANULE_BITS) - 1  # what a region without work says it has done with
TO_WEIGHTS = 2  # cycles from a start, or from the last parameter, to the first word


class Layer:
    """Parameters and weights of a layer, and what the loader is to do with each beat."""

    def __init__(self, config, rng, high, low, left, words, slots):
        self.config, self.counts, self.left, self.words, self.slots = config, (high, low), left, words, slots
        self.sizes = (left, config.columns - left)
        beat = 1 << config.axis_data_bits
        self.params = [rng.randrange(beat) for _ in range((high + low) * config.params_beats)]
        self.weights = [rng.randrange(beat) for _ in range((high + low) * words)]
        self.granules = []  # half, and number within it, as they come
        for number in merge_order(high, low).tolist():
            self.granules.append((1, number - high) if number >= high else (0, number))

    def params_of(self, beat):
        """Return number, half and records of the granule that is complete with a beat; None if none is."""
        count, width = self.config.params_beats, self.config.axis_data_bits
        granule, part = divmod(beat, count)
        if part < count - 1:
            return None
        low = granule >= self.counts[0]
        records = sum(self.params[granule * count + i] << width * i for i in range(count))
        return granule - low * self.counts[0], int(low), records % (1 << CHANNELS * CHANNEL_BITS)

    def place_of(self, beat):
        """Return half, N tile, column's enable and address of a word of weights."""
        granule, word = divmod(beat, self.words)
        half, number = self.granules[granule]
        tile, column = divmod(number, self.sizes[half])
        enable = 1 << (self.config.columns - 1 - column if half else column)
        return half, tile, enable, tile % self.slots * self.words + word

    def ready(self, beats):
        """Return the N tiles of each half that are complete after so many words."""
        tiles = []
        for half in range(2):
            done = sum(half == other for other, _ in self.granules[: beats // self.words])
            size = max(1, self.sizes[half])
            tiles.append(-(-done // size) if done == self.counts[half] else done // size)
        return tiles


class Bench:
    """Play a layer's packet with pauses; compare every output in every cycle."""

    def __init__(self, layer, rng, stall, early, wrong_last=None):
        self.layer, self.rng, self.stall, self.early = layer, rng, stall, early
        self.wrong_last = wrong_last  # beat whose ``last`` is inverted
        self.dut = WeightLoader(layer.config)
        idle = [rng.random() < 0.2 for _ in range(4)]
        # A half needs a region with work to be loaded at all.
        self.idle = [bad and not idle[(i + 2) % 4] for i, bad in enumerate(idle)]
        self.waited = 0

    def begin(self, ctx):
        layer, dut = self.layer, self.dut
        for name, value in zip(("granules_high", "granules_low"), layer.counts, strict=True):
            ctx.set(getattr(dut, name), value)
        ctx.set(dut.slot_words, layer.words)
        ctx.set(dut.slots, layer.slots)
        ctx.set(dut.columns_left, layer.left)

    async def run(self, ctx):
        layer, rng, dut = self.layer, self.rng, self.dut
        beats, params = [*layer.params, *layer.weights], len(layer.params)
        self.begin(ctx)
        sent, offered, consumed, behind = 0, False, [0] * 4, [0, 0]
        split_at = 1 if self.early else 40 + params  # cycle of the start; cycle 0 is that of params_start
        weights_from, framing = None, False
        for cycle in range(4000):
            ready = layer.ready(max(0, sent - params))
            for region in range(4):
                room = ready[region % 2] - consumed[region]
                consumed[region] += room > 0 and (not self.stall or rng.random() < 0.1)
                ctx.set(dut.consumed[region], NO_WORK if self.idle[region] else consumed[region])
            ctx.set(dut.params_start, cycle == 0)
            ctx.set(dut.start, cycle == split_at)
            offered = sent < len(beats) and (offered or rng.random() >= self.stall)
            ctx.set(dut.i.valid, offered)
            if offered:
                last = (sent == len(beats) - 1) != (sent == self.wrong_last)
                ctx.set(dut.i.payload, {"data": beats[sent], "last": last})
            if sent == params and weights_from is None:
                weights_from = max(cycle - 1, split_at) + TO_WEIGHTS
            takes = cycle > 0 and sent < params
            if sent < len(beats) and weights_from is not None and cycle >= weights_from:
                half, tile, enable, address = layer.place_of(sent - params)
                takes = tile - behind[half] < layer.slots
                self.waited += not takes
            assert ctx.get(dut.i.ready) == takes, cycle
            assert [ctx.get(dut.ready_left), ctx.get(dut.ready_right)] == ready or cycle == 0
            assert ctx.get(dut.params_done) == (cycle > 0 and sent >= params)
            assert ctx.get(dut.done) == (sent == len(beats))
            assert ctx.get(dut.framing_error) == framing
            taken = offered and takes
            granule = layer.params_of(sent) if taken and sent < params else None
            assert ctx.get(dut.params_en) == (granule is not None)
            if granule is not None:
                ports = (dut.params_granule, dut.params_low, dut.params_data)
                assert tuple(ctx.get(port) for port in ports) == granule
            if taken and sent >= params:
                ports = (dut.write_en, dut.write_address, dut.write_data)
                assert tuple(ctx.get(port) for port in ports) == (enable, address, beats[sent])
            else:
                assert ctx.get(dut.write_en) == 0
            behind = [
                min((consumed[half + edge] for edge in (0, 2) if not self.idle[half + edge]), default=0)
                for half in range(2)
            ]
            framing = framing or (taken and sent == self.wrong_last)
            sent, offered = sent + taken, offered and not taken
            if sent == len(beats) and ctx.get(dut.done):
                return
            await ctx.tick()
        raise AssertionError(f"{sent} of {len(beats)} beats")


def make_layer(config, rng):
    left = rng.randint(0, config.columns)
    high = rng.randint(1, 4 * config.columns) if left else 0
    low = rng.randint(0 if high else 1, 4 * config.columns) if left < config.columns else 0
    words = rng.randint(1, min(4, config.weight_words))
    return Layer(config, rng, high, low, left, words, min(8, rng.randint(1, config.weight_words // words)))


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"columns": 7, "axis_data_bits": 128, "weight_words": 6},
        {"columns": 1, "axis_data_bits": 256},
        {"columns": 2, "axis_data_bits": 512, "weight_words": 1},
    ],
)
def test_every_beat_finds_its_place(options, stall):
    config, rng = DriftConfig.preset("tiny", **options), random.Random(f"{options}{stall}")
    waited = 0
    for number in range(20):
        bench = Bench(make_layer(config, rng), rng, stall, early=number % 2)
        simulate(bench.dut, bench.run)
        waited += bench.waited
    assert waited or not stall


@pytest.mark.parametrize(("high", "low"), [(1, 0), (0, 5), (3, 9), (9, 3), (4, 4), (1, 12)])
def test_halves_come_in_proportion(high, low):
    config, rng = DriftConfig.preset("tiny", columns=4), random.Random(high)
    left = 2 if high and low else (4 if high else 0)
    bench = Bench(Layer(config, rng, high, low, left, 2, 3), rng, 0.0, early=False)
    simulate(bench.dut, bench.run)


@pytest.mark.parametrize("wrong", [0, 7, 10 + 1, -1])
def test_last_is_early_or_missing(wrong):
    config, rng = DriftConfig.preset("tiny"), random.Random(wrong)
    layer = Layer(config, rng, 1, 1, 1, 3, 4)
    beats = len(layer.params) + len(layer.weights)
    assert (config.params_beats, beats) == (5, 16)
    bench = Bench(layer, rng, 0.3, early=True, wrong_last=wrong % beats)

    async def testbench(ctx):
        await bench.run(ctx)
        assert ctx.get(bench.dut.framing_error)

    simulate(bench.dut, testbench)
