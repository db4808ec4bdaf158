"""DTQAtten's top-k engine: the least key that is selected, whatever the keys, and when."""

import numpy as np
import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.topk import DIGIT_BITS, TopK, key_digits, topk_lanes, topk_words
from bitfabric.hdl.emit import emit
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

PASSED = {"name": "vectors", "passed": True, "problem": None, "registers": {}}


def random_keys(rng, config, m, kind):
    """Return m different keys: random values, few or one or extreme ones, with ids below."""
    ids = rng.permutation(config.tokens_max)[:m]
    top = 2**32 - 1
    values = {
        "any": rng.integers(0, top, m, endpoint=True),
        "few": rng.integers(0, 3, m) * rng.integers(0, top // 2),
        "equal": np.full(m, rng.integers(0, top, endpoint=True)),
        "extreme": rng.choice([0, 1, top - 1, top], m),
        "near": rng.integers(0, top - 20) + rng.integers(0, 20, m),
    }[kind]
    return (values << config.id_bits) | (2**config.id_bits - 1 - ids)


class Walk:
    """Gather what the engine is fed with, and the threshold that it has to find."""

    def __init__(self, config, rng):
        self.config, self.rng = config, rng
        self.lanes, self.digits = topk_lanes(config), key_digits(config)
        self.widths = {
            "start": 1,
            "need": config.count_bits,
            "read_en": 1,
            "read_word": (topk_words(config) - 1).bit_length() or 1,
            "lanes": self.lanes,
            "digits": DIGIT_BITS * self.lanes,
            "previous": DIGIT_BITS * self.lanes,
            "first_pass": 1,
            "last": 1,
        }
        self.inputs = {name: [] for name in self.widths}
        self.threshold = {}  # by cycle

    def extend(self, count):
        """Append cycles in which nothing is asked for, and everything else is noise."""
        for name, width in self.widths.items():
            idle = name in {"start", "read_en"}
            noise = self.rng.integers(0, 2, (count, width)) if not idle else np.zeros((count, 1), int)
            self.inputs[name] += [int("".join(map(str, row)), 2) for row in noise.tolist()]

    @property
    def now(self):
        return len(self.inputs["start"])

    def set(self, cycle, **values):
        self.extend(max(0, cycle + 1 - self.now))
        for name, value in values.items():
            self.inputs[name][cycle] = int(value)

    def select(self, keys, need, stall):
        """Append a selection; ``stall`` is the probability that a word comes late."""
        rng, lanes = self.rng, self.lanes
        # What is in lanes without a key must not matter.
        padded = rng.integers(0, 2**40, -(-len(keys) // lanes) * lanes)
        padded[: len(keys)] = keys
        words = padded.reshape(-1, lanes)
        there = (np.arange(padded.size) < len(keys)).reshape(-1, lanes)
        self.set(self.now, start=1, need=need)
        cycle = self.now
        for index in range(self.digits):
            for word, row in enumerate(words):
                while rng.random() < stall:
                    cycle += 1
                self.set(cycle, read_en=1, read_word=word)
                cycle += 1
                last = word == len(words) - 1
                shift = DIGIT_BITS * (self.digits - 1 - index)
                values = {"digits": self.pack(row >> shift), "first_pass": index == 0, "last": last}
                if index:
                    values["previous"] = self.pack(row >> (shift + DIGIT_BITS))
                else:
                    values["lanes"] = sum(1 << lane for lane in np.flatnonzero(there[word]).tolist())
                self.set(cycle, **values)
            if index < self.digits - 1:
                cycle += TopK.GAP
        self.extend(TopK.LATENCY + int(rng.integers(0, 3)))
        if need:
            self.threshold[cycle + TopK.LATENCY] = int(np.sort(keys)[-need])

    @staticmethod
    def pack(row):
        return sum((int(value) & (1 << DIGIT_BITS) - 1) << DIGIT_BITS * i for i, value in enumerate(row))

    def job(self):
        self.extend(2)
        expected, mask = np.zeros((2, self.now), np.int64)
        for cycle, value in self.threshold.items():
            expected[cycle], mask[cycle] = value, 2 ** (DIGIT_BITS * self.digits) - 1
        return VectorJob(inputs=self.inputs, expected={"threshold": expected}, mask={"threshold": mask})


@pytest.mark.parametrize(("tokens_max", "lanes"), [(16, 4), (7, 3), (3, 1), (33, 16)], ids=str)
def test_the_least_selected_key_is_found(tokens_max, lanes):
    config = DtqattenConfig.preset("tiny", tokens_max=tokens_max, topk_lanes=lanes)
    rng = np.random.default_rng([tokens_max, lanes])
    walk = Walk(config, rng)
    for run, kind in enumerate(["any", "few", "equal", "extreme", "near"] * 3):
        for m in {1, tokens_max, int(rng.integers(1, tokens_max, endpoint=True))}:
            keys = random_keys(rng, config, m, kind)
            for need in {0, 1, m, int(rng.integers(1, m, endpoint=True))}:
                walk.select(keys, need, 0.3 * (run % 3 == 2))
    assert run_vectors(emit(TopK(config), "topk"), walk.job())["steps"] == [PASSED]


def test_a_key_has_a_digit_for_each_four_bits():
    for tokens_max, digits in ((1, 9), (16, 9), (17, 10), (256, 10), (1024, 11)):
        assert key_digits(DtqattenConfig(tokens_max=tokens_max)) == digits
