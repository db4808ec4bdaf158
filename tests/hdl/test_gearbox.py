"""The gearbox: every byte once and in order, a packet's words its own, and the cycle of every word."""

import random

import pytest

from bitfabric.hdl.common.gearbox import Gearbox
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles.gearbox import GearboxTimes
from bitfabric.sim.streams import run_streams

SHAPES = [
    (1, 1),
    (16, 16),
    (8, 3),
    (3, 8),
    (16, 8),
    (8, 16),
    (8, 1),
    (1, 8),
    (6, 9),
    (9, 6),
    (16, 5),
    (4, 64),
]


def cut(packet, size):
    return [packet[start : start + size] for start in range(0, len(packet), size)]


def given(packets, size, rng):
    """Return the input's words, with noise where no byte counts."""
    words = []
    for packet in packets:
        parts = cut(packet, size)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            noise = bytes(rng.randrange(256) for _ in range(size - len(part)))
            count = len(part) if last else rng.randrange(size + 1)
            words.append({"data": int.from_bytes(part + noise, "little"), "count": count, "last": last})
    return words


def wanted(packets, size):
    words = []
    for packet in packets:
        parts = [int.from_bytes(part, "little") for part in cut(packet, size)]
        words += [{"data": part, "last": index == len(parts) - 1} for index, part in enumerate(parts)]
    return words


def draw(shape, rng, count=40):
    """Return packets around the words' sizes, runs of short ones among them."""
    sizes = [1, 1, 1, *shape, shape[0] + 1, shape[1] + 1, sum(shape), 2 * max(shape)]
    sizes += [rng.choice([1, rng.randrange(1, 4 * max(shape))]) for _ in range(count - len(sizes))]
    rng.shuffle(sizes)
    return [bytes(rng.choice([0, 255, rng.randrange(256)]) for _ in range(size)) for size in sizes]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
def test_bytes_and_cycles(shape, stalls):
    rng = random.Random(hash((*shape, *stalls)))
    packets = draw(shape, rng)
    words, expected = given(packets, shape[0], rng), wanted(packets, shape[1])
    result = run_streams(Gearbox(*shape), {"i": words}, {"o": len(expected)}, *stalls, seed=1)
    assert result["o"] == expected
    if stalls[1]:
        return
    times, previous = GearboxTimes(*shape), 0
    for word, taken in zip(words, result.arrivals["i"], strict=True):
        # A stalled source offers a word some time before it is taken: no earlier than the model takes it.
        offered = taken if stalls[0] else max(previous + 1, 1)
        assert times.word(offered, word["count"] if word["last"] else None) == taken
        previous = taken
    assert times.leaves == result.arrivals["o"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_narrower_side_does_not_wait(shape):
    """Packets of whole words on both sides go through at one word a cycle of the narrower side."""
    size = 12 * shape[0] * shape[1]
    packets = [bytes(size)] * 3
    words = given(packets, shape[0], random.Random(1))
    result = run_streams(Gearbox(*shape), {"i": words}, {"o": 3 * size // shape[1]})
    cycles = result.arrivals["o" if shape[1] <= shape[0] else "i"]
    assert cycles[-1] - cycles[0] == len(cycles) - 1


def test_a_packet_is_timed_word_by_word():
    times = GearboxTimes(8, 3)
    assert times.packet([4, 5, 6], 17) == [4, 6, 9]
    assert times.leaves == [5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(("arguments", "name"), [((0, 8), "in_bytes"), ((8, 0), "out_bytes")])
def test_construction_errors(arguments, name):
    with pytest.raises(ParameterError) as error:
        Gearbox(*arguments)
    assert str(error.value) == f"{name}=0 is not allowed; it must be an integer of at least 1"
