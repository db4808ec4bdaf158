"""Random layers for Drift: every precision and option, from all high to all low, with tails and corner values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from bitfabric.hdl.drift.config import DriftConfig
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


def random_cases(config: DriftConfig, seed: int, count: int) -> list[DriftCase]:
    """Return ``count`` random cases around the machine's sizes: single elements, tails, several tiles."""
    rng = np.random.default_rng(seed)

    def dimension(step: int, most: int) -> int:
        sizes = (1, step, int(rng.integers(1, 2 * step + 2)), int(rng.integers(1, 3 * step + 2)))
        return min(sizes[rng.integers(len(sizes))], most)

    cases: list[DriftCase] = []
    while len(cases) < count:
        shape = [
            dimension(config.acc_depth, config.m_max),
            dimension(config.rows, config.k_max),
            dimension(2 * config.columns, (1 << 16) - 1),
        ]
        cases.append(_fitting(config, rng, shape))
    return cases


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


def _fitting(config: DriftConfig, rng: np.random.Generator, shape: list[int]) -> DriftCase:
    """Return a case that small memories hold: of half the rows, channels and elements where need be."""
    case = random_case(config, rng, *shape)
    while not fits(config, case):
        if shape == [1, 1, 1]:
            case.check(config)
        longest = int(np.argmax(shape))
        shape[longest] = -(-shape[longest] // 2)
        case = random_case(config, rng, *shape)
    return case


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
