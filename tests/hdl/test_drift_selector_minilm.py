"""The precision selector's RTL against the golden model: every token that enters MiniLM's GEMMs, and random ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.selector import PrecisionSelector
from bitfabric.hdl.drift.statistics import total_bits
from bitfabric.hdl.emit import Emitted, emit
from bitfabric.quant.drift import NEVER, integer_threshold, select, statistics
from bitfabric.quant.drift.decision import select_integer
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob
from bitfabric.sim.workloads.minilm import NAMES, minilm_case
from bitfabric.sim.workloads.minilm_drift import ABSOLUTE, RELATIVE
from bitfabric.sim.workloads.minilm_model import LAYERS

CONFIG = DriftConfig.preset("paper")
LATENCY = PrecisionSelector.LATENCY
GROUP = 50  # random sub-tensors that share widths and thresholds


@pytest.fixture(scope="module")
def emitted() -> Emitted:
    return emit(PrecisionSelector(CONFIG), "precision_selector")


class Stimulus:
    """Gather groups of sub-tensors, each behind ``LATENCY`` idle cycles in which widths and thresholds change."""

    def __init__(self) -> None:
        self.inputs: dict[str, list[int]] = {
            name: []
            for name in (
                "valid",
                "maximum",
                "total",
                "is_tail",
                "high_bits",
                "low_bits",
                "threshold",
                "threshold_tail",
            )
        }
        self.decisions: list[int] = []
        self.valid: list[bool] = []

    def add(
        self,
        found: tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]],
        limits: tuple[int, int],
        widths: tuple[int, int],
        low: NDArray[np.bool_],
        low_clip: NDArray[np.int64],
    ) -> None:
        """Append maxima, sums and ``is_tail``, and what is to be decided."""
        count = len(low)
        constant = (*widths, *limits)
        for name, value in zip(list(self.inputs)[4:], constant, strict=True):
            self.inputs[name] += [value] * (count + LATENCY)
        for name, values in zip(list(self.inputs)[:4], (np.ones(count, int), *found), strict=True):
            self.inputs[name] += values.tolist() + [0] * LATENCY
        self.valid += [True] * count + [False] * LATENCY
        self.decisions += (low + 2 * low_clip).tolist() + [0] * LATENCY

    def job(self) -> VectorJob:
        """Return the job: decisions come ``LATENCY`` cycles later, which the idle cycles leave room for."""
        late = [False] * LATENCY + self.valid[:-LATENCY]
        decisions = [0] * LATENCY + self.decisions[:-LATENCY]
        return VectorJob(
            inputs=self.inputs,
            expected={"o_valid": [int(valid) for valid in late], "decision": decisions},
            mask={"decision": [31 * valid for valid in late]},
        )


def run(emitted: Emitted, stimulus: Stimulus) -> None:
    job = stimulus.job()
    report = run_vectors(emitted, job)
    assert report["steps"] == [{"name": job.name, "passed": True, "problem": None, "registers": {}}]


@pytest.mark.minilm
def test_every_token_of_minilm(emitted: Emitted) -> None:
    stimulus = Stimulus()
    low = total = 0
    for layer in range(LAYERS):
        for name in NAMES:
            case = minilm_case(f"{layer}.{name}")
            tokens, k = case.act.shape
            found = statistics(case.act)
            points = [(case.act_scale, delta) for delta in ABSOLUTE[::2]] + [
                (1.0, delta) for delta in RELATIVE[::2]
            ]
            for scale, delta in points:
                chosen = select(case.act, scale, delta)
                limit = integer_threshold(k, scale, delta)
                # T of a tail counts only where ``is_tail`` is set: it would be wrong here.
                stimulus.add(
                    (found.maximum, found.total, np.zeros(tokens, int)),
                    (limit, 0 if chosen.low.mean() < 0.5 else NEVER),
                    (8, 4),
                    chosen.low,
                    chosen.low_clip,
                )
                low += int(chosen.low.sum())
                total += tokens
    assert total >= 36 * 12 * 64
    assert 0.1 < low / total < 0.9  # both decisions occur
    run(emitted, stimulus)


def test_random_subtensors(emitted: Emitted) -> None:
    rng = np.random.default_rng(0)
    stimulus = Stimulus()
    most = CONFIG.staging_beats * CONFIG.beat_bytes
    pairs = [(high, low) for high in range(2, 9) for low in range(1, high + 1)]
    ties = count = 0
    for high_bits, low_bits in pairs * 6:
        top = 2 ** (high_bits - 1) - 1
        maximum = rng.integers(0, top + 1, GROUP) >> rng.integers(0, 3, GROUP)
        share = rng.choice([1.0, *rng.random(3)], GROUP)
        total = np.maximum(maximum, (maximum * share * rng.choice([most, most >> 4, 100], GROUP)).astype(int))
        assert int(total.max()) < 1 << total_bits(CONFIG)
        short = rng.integers(0, 2, GROUP)
        _, clip, _ = select_integer(maximum, total, 0, high_bits, low_bits)
        picks = rng.integers(0, GROUP, 2)
        reached = [(int(total[i]) ** 2 << int(clip[i])) + int(rng.integers(-1, 2)) for i in picks]
        limits = [min(NEVER, max(0, int(value))) for value in reached]
        if rng.random() < 0.1:
            limits[0] = NEVER
        own = np.array(limits, np.uint64)[short]
        low, clip, low_clip = select_integer(maximum, total, own, high_bits, low_bits)
        ties += sum(
            int(t) ** 2 << int(c) == int(limit) for t, c, limit in zip(total, clip, own, strict=True) if t
        )
        stimulus.add((maximum, total, short), (limits[0], limits[1]), (high_bits, low_bits), low, low_clip)
        count += GROUP
    assert count >= 10_000
    assert ties > 20
    run(emitted, stimulus)
