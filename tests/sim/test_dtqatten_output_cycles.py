"""The sender's cycle model by hand; ``tests/hdl/test_dtqatten_sender.py`` holds the RTL against it."""

import itertools
import random

import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.sim.cycles.dtqatten_output import TILE_DONE_LATENCY, SenderTimes, SentBand
from bitfabric.sim.cycles.gearbox import GearboxTimes

PAPER = DtqattenConfig.preset("paper")  # R = S = 16, C = 18


def test_latencies():
    """Requantize (4), then the cycle after the write."""
    assert TILE_DONE_LATENCY == 5


def test_a_band_alone():
    """Accepted in 10: walk 11, memory 12, lane 13; first word taken 13, its beat 14; 18 rows of 4 words each."""
    times = SenderTimes(PAPER, 64)
    assert times.band(10, 18) == SentBand(accepted=10, sent=13 + 71 + 1, last_beat=14 + 71)


def test_a_single_byte():
    """One row of one word."""
    assert SenderTimes(PAPER, 1).band(0, 1) == SentBand(accepted=0, sent=4, last_beat=4)


def test_bands_follow_each_other():
    """The last word is read in 82; the next band is accepted in 83 and pauses the walk for a cycle."""
    times = SenderTimes(PAPER, 64)
    first = times.band(10, 18)
    second = times.band(0, 2)
    assert first.last_beat == 85
    assert second == SentBand(accepted=83, sent=86 + 7 + 1, last_beat=94)
    assert times.band(200, 1).last_beat == 207


def test_the_list():
    """Two entries to a beat: rows end in 94, the list's beats are taken in 96 to 96 + 63."""
    times = SenderTimes(PAPER, 64)
    times.band(10, 18)
    times.band(0, 2)
    assert times.finish(90, 128) == 94 + 1 + 64 + 1
    assert times.finish(300, 1) == 301 + 1 + 1


@pytest.mark.parametrize("bits", [64, 128, 512])
@pytest.mark.parametrize("rows", [1, 3, 5, 8, 11, 16, 64])
def test_rate(rows, bits):
    """A row takes what the narrower side takes, one more at most where words are narrower than beats."""
    config = DtqattenConfig(rows=rows, axis_data_bits=bits, head_size_max=256)
    for size in (1, 2, 7, 8, 9, 16, 17, 33, 64, 65, 100, 255, 256):
        ends = [SenderTimes(config, size).band(0, queries).last_beat for queries in (6, 7, 18)]
        best = max(-(-size // rows), -(-8 * size // bits))
        extra = ends[1] - ends[0] - best
        assert extra in ((0, 1) if 8 * rows < bits else (0,))
        assert ends[2] - ends[1] == 11 * (best + extra)


def step_by_step(config, size, bands):
    """Return the times of bands: two registers cycle by cycle, the gearbox by its own model."""
    gearbox = GearboxTimes(config.rows, config.axis_bytes)
    row = [(min(config.rows, size - at), at + config.rows >= size) for at in range(0, size, config.rows)]
    waiting, accepted, result = list(bands), [], []
    walk, first, second, taken = [], None, None, None
    for cycle in itertools.count():
        if second and taken is None:
            taken = gearbox.word(cycle, second[0] if second[1] else None)
        free = not walk
        if not second or taken == cycle:
            if second and second[2]:
                sent = SentBand(accepted=accepted[len(result)], sent=cycle + 1, last_beat=gearbox.leaves[-1])
                result.append(sent)
                if len(result) == len(bands):
                    return result
            second, first, taken = first, walk.pop(0) if walk else None, None
        if free and waiting and waiting[0][0] <= cycle:
            words = row * waiting.pop(0)[1]
            accepted.append(cycle)
            walk = [(*word, index == len(words) - 1) for index, word in enumerate(words)]


@pytest.mark.parametrize("seed", range(60))
def test_every_word(seed):
    """Bands that come early, late and in between equal what the registers do."""
    rng = random.Random(seed)
    rows, bits = rng.choice([1, 2, 3, 5, 8, 11, 16, 18, 64]), rng.choice([64, 128, 256, 512])
    config = DtqattenConfig(rows=rows, axis_data_bits=bits, head_size_max=256)
    size = rng.choice([rng.randint(1, 8), rng.randint(1, 64), rng.randint(1, 256)])
    bands, cycle = [], 0
    for _ in range(8):
        cycle += rng.choice([0, 0, rng.randrange(8), rng.randrange(200)])
        bands.append((cycle, rng.choice([1, 2, rng.randint(1, 18)])))
    times = SenderTimes(config, size)
    assert [times.band(*band) for band in bands] == step_by_step(config, size, bands)
