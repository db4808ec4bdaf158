"""Random layers for Drift: every precision and option, from all high to all low, with tails and corner values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from bitfabric.hdl.drift.config import CHANNELS, DriftConfig
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_draw import (
    Fields,
    draw_acts,
    draw_post,
    draw_precision,
    draw_weights,
    draw_widths,
)
from bitfabric.sim.drift_limits import fits
from bitfabric.sim.drift_options import Precision

EFFORT = 2500  # cycles that a case may take, about


def random_case(
    config: DriftConfig,
    rng: np.random.Generator,
    m: int,
    k: int,
    n: int,
    *,
    requantized: bool | None = None,
    **fields: Any,
) -> DriftCase:
    """Return a case of M tokens and N output channels; ``fields`` fix what is otherwise left to chance.

    ``requantized`` None leaves the kind of output to chance, where no option asks for bytes; with ``keep`` the
    precisions of what is kept are drawn, too.
    """
    keep = fields.pop("keep", False)
    widths = draw_widths(rng)
    widths = tuple(
        fields.pop(f"act_{name}_bits", bits) for name, bits in zip(("high", "low"), widths, strict=True)
    )
    acts = fields.pop("acts", None)
    if acts is None:
        acts = draw_acts(rng, m, k, widths[0])
    precision: Fields = {"act_high_bits": widths[0], "act_low_bits": widths[1]}
    wanted = fields.keys() & {field.name for field in fields_of(Precision)}
    precision |= draw_precision(config, rng, acts, widths, **{name: fields.pop(name) for name in wanted})
    case = DriftCase(acts=acts, **precision, **draw_weights(rng, k, n, fields))
    if requantized is None:
        needed = keep or any(fields.get(name) is not None for name in ("table", "pool"))
        requantized = needed or bool(rng.integers(2))
    if requantized:
        fields = draw_post(config, rng, case) | fields
    case = replace(case, **fields)
    if keep:
        widths = draw_widths(rng)
        kept: Fields = {"high_bits": widths[0], "low_bits": widths[1]}
        kept |= draw_precision(config, rng, case.stored(), widths)
        case = replace(case, keep=True, **{f"next_{name}": value for name, value in kept.items()})
    return replace(case, name=_name(case))


def random_cases(config: DriftConfig, seed: int, count: int, *, effort: int = EFFORT) -> list[DriftCase]:
    """Return ``count`` random cases around the machine's sizes.

    Single elements, tails, several chunks of rows, several K and N tiles, and so many or so long columns of weights
    that they take turns in the weight buffer.

    Parameters
    ----------
    config : DriftConfig
        The machine.
    seed, count : int
        Of the random numbers; how many.
    effort : int
        About the most cycles that a case may take.
    """
    rng = np.random.default_rng(seed)
    return [_fitting(config, rng, _shape(config, rng), effort) for _ in range(count)]


def _shape(config: DriftConfig, rng: np.random.Generator) -> list[int]:
    """Return M, K and N."""

    def dimension(step: int, most: int, *usual: int) -> int:
        sizes = (step, *usual, *rng.integers(2, [2 * step + 3, 3 * step + 3, most + 2]))
        return int(rng.choice(sizes)) if rng.random() < 0.85 else 1

    k = dimension(config.rows, 4 * config.rows, 2 * config.rows)
    if rng.random() < 0.2:  # a column's weights are one, two or three N tiles long, or nearly so
        longest = max(config.weight_words // int(rng.integers(1, 4)), 1) * config.word_weights
        k = longest - int(rng.integers(config.word_weights))
    m = dimension(config.acc_depth, 3 * config.acc_depth)
    if rng.random() < 0.25:  # an image
        m = int(rng.integers(2, 6, 2).prod())
    n = dimension(config.columns, 12 * config.columns, 4 * config.columns, 8 * config.columns)
    return [min(m, config.m_max), min(k, config.k_max), n]


def random_chain(
    config: DriftConfig, rng: np.random.Generator, m: int, sizes: list[int], *, keep_last: bool = False
) -> list[DriftCase]:
    """Return layers of which each takes what the one before it kept.

    Parameters
    ----------
    config, rng
        As in ``random_case``.
    m : int
        Tokens of the first layer; a layer that pools leaves fewer.
    sizes : list of int
        The first layer's K, then the output channels of every layer.
    keep_last : bool
        The last layer keeps its results, too.
    """
    cases: list[DriftCase] = []
    for number, (k, n) in enumerate(pairwise(sizes)):
        fields = cases[-1].kept_fields() if cases else {}
        rows = len(fields.get("acts", range(m)))
        fields["keep"] = keep_last or number < len(sizes) - 2
        cases.append(random_case(config, rng, rows, k, n, **fields))
    return cases


def random_shared(
    config: DriftConfig, rng: np.random.Generator, m: int, k: int, channels: Sequence[int]
) -> list[DriftCase]:
    """Return layers with the same activations, which only the first brings: as queries, keys and values."""
    cases: list[DriftCase] = []
    for n in channels:
        cases.append(random_case(config, rng, m, k, n, **(cases[-1].kept_fields() if cases else {})))
    return cases


def random_run(config: DriftConfig, rng: np.random.Generator, layers: int) -> list[DriftCase]:
    """Return layers of random sizes, each on what the one before leaves: its results or its own activations."""
    cases: list[DriftCase] = []
    while len(cases) < layers:
        m, k, n = _shape(config, rng)
        fields = cases[-1].kept_fields() if cases else {}
        if cases:
            m, k = fields["acts"].shape
        fields["keep"] = bool(rng.random() < 0.6)
        for attempt in range(
            12
        ):  # a layer that does not fit is drawn again, after some attempts with fewer channels
            case = random_case(config, rng, m, k, n if attempt < 3 else max(n * 3 // attempt, 1), **fields)
            if _effort(config, m, k, case.n) < EFFORT and fits(config, case):
                cases.append(case)
                break
        else:
            cases = []
    return cases


def _effort(config: DriftConfig, m: int, k: int, n: int) -> float:
    """Return about the cycles of 8-bit operands and 32-bit results."""
    beats = k * (m + n) + 4 * m * n + CHANNELS * n * config.params_beats
    return beats / config.beat_bytes + m * k * n / config.groups + m * n / config.lanes


def _fitting(config: DriftConfig, rng: np.random.Generator, shape: list[int], effort: int) -> DriftCase:
    """Return a case that small memories hold: of half the rows, channels and elements where need be."""
    while _effort(config, *shape) > effort:
        longest = int(np.argmax(shape))
        shape[longest] = -(-shape[longest] // 2)
    attempts = 0
    while True:
        case = random_case(config, rng, *shape)
        if fits(config, case):
            return case
        attempts += 1
        if attempts % 3 == 0:  # others of this size may, where a single line cannot serve two precisions
            if shape == [1, 1, 1]:
                case.check(config)
            longest = int(np.argmax(shape))
            shape[longest] = -(-shape[longest] // 2)


def _name(case: DriftCase) -> str:
    counts = case.counts
    parts = [
        f"a{case.act_high_bits}/{case.act_low_bits} {counts.m_high}+{counts.m_low} by {case.subtensor_rows}",
        f"w {counts.n_high}+{counts.n_low}",
    ]
    options = {
        "truncated": case.truncate,
        "bytes": case.requantized,
        "function": case.table is not None,
        "pooled": case.pool is not None,
        "keep": case.keep,
        "resident": case.resident,
    }
    return " ".join([*parts, *(name for name, there in options.items() if there)])
