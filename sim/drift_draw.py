"""Draw the parts of random layers for Drift: operands, precisions, post-processing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.pooling import KERNEL_MAX
from bitfabric.quant.drift import NEVER, Pooling, block_statistics, high_clips, saturate
from bitfabric.quant.pwl import PwlFormat, PwlTable, fit
from bitfabric.quant.requant import ACC_MAX, ACC_MIN, requant_parameters
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_options import threshold_for

Fields = dict[str, Any]
_SHARES = (0.0, 1.0)


def draw_widths(rng: np.random.Generator) -> tuple[int, int]:
    """Return hp and lp: in half of all cases 8 and 4."""
    if rng.integers(2):
        return 8, 4
    high = int(rng.choice([8, *rng.integers(2, 9, 2)]))
    return high, int(rng.integers(1, high + 1))


def draw_acts(rng: np.random.Generator, m: int, k: int, high_bits: int) -> NDArray[np.int8]:
    """Return rows that are even, that have a few large elements among small ones, or that are zero."""
    reach = 1 << (high_bits - 1 if rng.random() < 0.8 else 7)
    size = np.exp2(rng.uniform(0, np.log2(reach), (m, 1)))
    acts = rng.uniform(-size, size, (m, k))
    peaks = (rng.random((m, k)) < 2 / k) & (rng.random((m, 1)) < 0.5)
    acts = np.where(peaks, rng.choice([-1, 1], (m, k)) * reach, acts)
    corners = rng.random((m, k)) < rng.choice([0.0, 0.1, 1.0], p=[0.7, 0.25, 0.05])
    acts = np.where(corners, rng.choice([-reach, 1 - reach, 0, reach - 1], (m, k)), acts)
    acts[rng.random(m) < 0.05] = 0
    return np.clip(np.rint(acts), -reach, reach - 1).astype(np.int8)


def draw_precision(
    config: DriftConfig,
    rng: np.random.Generator,
    acts: NDArray[np.integer[Any]],
    widths: Sequence[int],
    **given: Any,
) -> Fields:
    """Return sub-tensors and a threshold that makes a share of them low; a threshold of one's own stands."""
    m, k = acts.shape
    most = max(config.staging_beats // -(-k // config.beat_bytes), 1)
    rows = int(rng.choice([1, 1, 1, 2, *rng.integers(1, m + 2, 2)]))
    fields: Fields = {
        "subtensor_rows": min(rows, most),
        "scale": float(rng.uniform(0.001, 0.1)),
        "truncate": bool(rng.integers(4) == 0),
    }
    fields |= given
    if given.keys() & {"threshold", "threshold_int"}:
        return fields
    found = block_statistics(saturate(acts, widths[0])[0], (fields["subtensor_rows"], None))
    clips = high_clips(found.maximum, *widths)
    count = round(float(rng.choice([*_SHARES, *rng.random(4)])) * len(clips))
    if rng.random() < 0.25:  # T itself, which is the same for a shorter last sub-tensor
        reach = sorted((int(s) ** 2 << int(c) for s, c in zip(found.total, clips, strict=True)), reverse=True)
        limit = NEVER if count == 0 else reach[count - 1]
        return fields | {"threshold_int": limit, "threshold_tail_int": limit}
    return fields | {"threshold": threshold_for(found, count, fields["scale"], *widths)}


def draw_weights(rng: np.random.Generator, k: int, n: int, fields: Fields) -> Fields:
    """Return weights and their precisions; those that ``fields`` has are taken out of it."""
    low = rng.random(n) < rng.choice([*_SHARES, *rng.random(4)])
    usual = rng.random(n) < rng.choice([0.5, 1.0])
    bits = np.where(low, np.where(usual, 4, rng.integers(1, 5, n)), np.where(usual, 8, rng.integers(5, 9, n)))
    bits = np.asarray(fields.pop("weight_bits", bits))
    clip = np.asarray(fields.pop("weight_clip", rng.integers(0, 9 - bits)))
    reach = 1 << (bits - 1)
    weights = rng.integers(-reach, reach, (k, n))
    corners = rng.random((k, n)) < rng.choice([0.0, 0.2, 1.0], p=[0.6, 0.3, 0.1])
    weights = np.where(corners, np.where(rng.integers(2, size=(k, n)), -reach, reach - 1), weights)
    weights = fields.pop("weights", weights.astype(np.int8))
    return {"weights": weights, "weight_bits": bits, "weight_clip": clip}


def draw_post(config: DriftConfig, rng: np.random.Generator, case: DriftCase) -> Fields:
    """Return post-processing whose bytes are spread, saturated or nearly all zero."""
    acc = case.golden()
    largest = np.maximum(np.abs(acc).max(axis=0), 1)
    wide = np.minimum(ACC_MAX - acc.max(axis=0), acc.min(axis=0) - ACC_MIN)
    reach = np.where(rng.random(case.n) < 0.1, wide, np.minimum(largest, wide))
    bias = rng.integers(-reach, reach + 1)
    total = np.maximum(np.abs(acc + bias).max(axis=0), 1)
    multiplier, shift = requant_parameters(127.0 * rng.choice([0.02, 0.5, 1.0, 4.0]) / total)
    fields: Fields = {"bias": bias, "multiplier": multiplier, "shift": shift}
    if rng.integers(4) == 0:
        point = int(rng.integers(-64, 65))
        low, high = sorted(rng.integers(-128 - min(point, 0), 128 - max(point, 0), 2).tolist())
        fields |= {"low": low, "high": high, "zero_point": point}
    if rng.integers(2):
        fields["table"] = _table(config.pwl, rng)
    if rng.integers(2):
        fields["pool"] = _pooling(rng, case.m)
    return fields


def _table(form: PwlFormat, rng: np.random.Generator) -> PwlTable:
    name = str(rng.choice(["identity", "relu", "gelu", "tanh"]))
    scale = 4.0 / 128  # a range of ±4 is where they bend
    return fit(name, scale, scale * float(rng.choice([0.25, 1.0, 2.0])), fmt=form)


def _divisor(rng: np.random.Generator, number: int, usual: int) -> int:
    """Return a divisor: any one, or as often the largest that is at most ``usual``."""
    divisors = [size for size in range(1, number + 1) if number % size == 0]
    likely = max(size for size in divisors if size <= usual)
    return likely if rng.integers(2) else int(rng.choice(divisors))


def _pooling(rng: np.random.Generator, m: int) -> Pooling:
    """Return a pooling of ``m`` rows as images of any number and shape."""
    positions = _divisor(rng, m, m)
    height = _divisor(rng, positions, math.isqrt(positions))
    size = (height, positions // height)
    average = bool(rng.random() < 0.4)
    largest = [min(side, KERNEL_MAX) for side in size]
    kernel = tuple(int(rng.choice([side, min(side, 3), int(rng.integers(1, side + 1))])) for side in largest)
    padding = 0 if average else int(rng.integers(0, min(kernel)))
    return Pooling(
        kind="average" if average else "max",
        height=size[0],
        width=size[1],
        kernel=(kernel[0], kernel[1]),
        stride=int(rng.integers(1, min(max(kernel) + 2, KERNEL_MAX + 1))),
        padding=padding,
    )
