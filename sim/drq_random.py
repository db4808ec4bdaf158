"""Random convolutions for DRQ: kernels, strides and padding, from no sensitive region to all, tails and corner values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.quant.drq import NEVER, REGION, threshold_for_share
from bitfabric.quant.requant import ACC_MAX, ACC_MIN, requant_parameters
from bitfabric.sim.drq_case import DrqCase
from bitfabric.sim.drq_file import gemm_image
from bitfabric.sim.drq_limits import fits

EFFORT = 2500  # cycles that a case may take, about
Fields = dict[str, Any]


def random_case(
    config: DrqConfig,
    rng: np.random.Generator,
    m: int,
    k: int,
    n: int,
    *,
    requantized: bool | None = None,
    **fields: Any,
) -> DrqCase:
    """Return a plain GEMM, a 1x1 convolution on a map of M x 1 pixels and K channels.

    ``fields`` fix what is otherwise left to chance, as does ``requantized`` unless it is None.
    """
    own: Fields = {"kernel_height": 1, "kernel_width": 1, "stride": 1, "padding": 0}
    if "acts" in fields:
        own["image"] = gemm_image(fields.pop("acts"))
    return random_convolution(config, rng, (m, 1, k), n, requantized=requantized, **own, **fields)


def random_convolution(
    config: DrqConfig,
    rng: np.random.Generator,
    size: tuple[int, int, int],
    n: int,
    *,
    requantized: bool | None = None,
    **fields: Any,
) -> DrqCase:
    """Return a convolution of a map of ``size`` (height, width, channels) to ``n`` output channels.

    ``fields`` fix what is otherwise left to chance, as does ``requantized`` unless it is None.
    """
    fields = _draw_kernel(rng, size[0], size[1], fields) | fields
    fields = _draw_region(config, rng, size[0], size[1]) | fields
    region = fields["region_height"], fields["region_width"]
    if "image" not in fields:
        fields["image"] = _draw_image(rng, size, region)
    if "threshold" not in fields:
        share = float(rng.choice([0.0, 1.0, *rng.random(4)]))
        fields["threshold"] = threshold_for_share(fields["image"], share, region)
        if rng.random() < 0.1:
            fields["threshold"] = int(rng.choice([0, NEVER, int(rng.integers(0, NEVER + 1))]))
    if "weights" not in fields:
        depth = fields["kernel_height"] * fields["kernel_width"] * size[2]
        fields["weights"] = _draw_weights(rng, depth, n)
    if requantized is None:
        requantized = "multiplier" in fields or bool(rng.integers(2))
    case = DrqCase(**fields)
    if requantized and not case.requantized:
        fields = _draw_post(rng, case) | fields
    return DrqCase(**{"name": _name(case, requantized), **fields})


def random_cases(config: DrqConfig, seed: int, count: int, *, effort: int = EFFORT) -> list[DrqCase]:
    """Return ``count`` random cases around the machine's sizes.

    A quarter are plain GEMMs. There are single elements, tails of regions, tiles and words, several M and N tiles.

    Parameters
    ----------
    config : DrqConfig
        The machine.
    seed, count : int
        Of the random numbers; how many.
    effort : int
        About the most cycles that a case may take.
    """
    rng = np.random.default_rng(seed)
    return [_fitting(config, rng, effort) for _ in range(count)]


def _draw_kernel(rng: np.random.Generator, height: int, width: int, fields: Fields) -> Fields:
    """Return a kernel that is no larger than the padded map."""
    padding = int(fields.get("padding", rng.choice([0, 0, 1, 1, 2])))
    kernel = {}
    for name, side in (("kernel_height", height), ("kernel_width", width)):
        most = side + 2 * padding
        kernel[name] = min(int(rng.choice([1, 2, 3, 3, 3, 5])), most)
    if rng.random() < 0.2 and "padding" not in fields:
        kernel, padding = dict.fromkeys(kernel, 1), 0
    return {**kernel, "padding": padding, "stride": int(rng.choice([1, 1, 1, 2, 2, 3]))}


def _draw_region(config: DrqConfig, rng: np.random.Generator, height: int, width: int) -> Fields:
    sides = (
        REGION if rng.random() < 0.3 else (int(rng.integers(1, height + 2)), int(rng.integers(1, width + 2)))
    )
    return {"region_height": sides[0], "region_width": sides[1]}


def _draw_image(
    rng: np.random.Generator, size: tuple[int, int, int], region: tuple[int, int]
) -> NDArray[np.int8]:
    """Return a map whose regions differ in magnitude, some of them zero, with values at the ends of the range."""
    counts = [-(-side // one) for side, one in zip(size, region, strict=False)]
    reach = np.exp2(rng.uniform(0, 7, (*counts, size[2])))
    reach[rng.random(reach.shape) < 0.05] = 0
    spread = reach.repeat(region[0], axis=0)[: size[0]].repeat(region[1], axis=1)[:, : size[1]]
    image = rng.uniform(-spread, spread)
    corners = rng.random(size) < rng.choice([0.0, 0.1, 1.0], p=[0.6, 0.3, 0.1])
    ends = rng.choice([-128, 127, 0, -1, 8, 7, -8, -9, 119, 120], size)
    return np.clip(np.rint(np.where(corners, ends, image)), -128, 127).astype(np.int8)


def _draw_weights(rng: np.random.Generator, k: int, n: int) -> NDArray[np.int8]:
    weights = rng.integers(-128, 128, (k, n))
    corners = rng.random((k, n)) < rng.choice([0.0, 0.2, 1.0], p=[0.6, 0.3, 0.1])
    return np.where(corners, rng.choice([-128, 127, 0, -1], (k, n)), weights).astype(np.int8)


def _draw_post(rng: np.random.Generator, case: DrqCase) -> Fields:
    """Return requantization whose bytes are spread, saturated or nearly all zero."""
    acc = case.acc
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
    return fields


def _dimension(rng: np.random.Generator, step: int, most: int) -> int:
    """Return 1, a multiple of the step, or anything up to some of them."""
    sizes = (1, step, 2 * step, *rng.integers(1, [2 * step + 2, 3 * step + 2]))
    return min(int(rng.choice(sizes)), most)


def _fitting(config: DrqConfig, rng: np.random.Generator, effort: int) -> DrqCase:
    """Return a case that small memories hold: of half the longest side where need be."""
    n, plain = _dimension(rng, config.columns, 3 * config.columns), bool(rng.random() < 0.25)
    if plain:
        size = [_dimension(rng, config.rows, 64), 1, _dimension(rng, 2 * config.line_elements, config.k_max)]
    else:
        size = [*rng.integers(1, [11, 11]).tolist(), int(rng.choice([1, 2, 3, *rng.integers(1, 20, 3)]))]
    attempts = 0
    while True:
        height, width, channels = size
        if plain:
            case = random_case(config, rng, height, channels, n)
        else:
            case = random_convolution(config, rng, (height, width, channels), n)
        if _effort(config, case) <= effort and fits(config, case):
            return case
        attempts += 1
        if attempts % 3 == 0:
            if max(*size, n) == 1:
                case.check(config)
            longest = int(np.argmax([*size, n]))
            if longest == 3:
                n = -(-n // 2)
            else:
                size[longest] = -(-size[longest] // 2)


def _effort(config: DrqConfig, case: DrqCase) -> float:
    """Return about the cycles: the stream, the steps of all tiles, and the results."""
    beat = config.axis_data_bits // 8
    tiles = -(-case.m // config.rows) * -(-case.n // config.columns)
    steps = tiles * (case.k + config.rows + config.columns) * 3
    return (
        steps
        + (case.image.size + case.weights.size + case.m * case.n * (1 if case.requantized else 4)) / beat
    )


def _name(case: DrqCase, requantized: bool) -> str:
    share = float(case.mixed.sensitive.mean())
    parts = [
        f"{case.height}x{case.width}x{case.channels} to {case.n}",
        f"kernel {case.kernel_height}x{case.kernel_width} by {case.stride}",
        *([f"padded {case.padding}"] if case.padding else []),
        f"sensitive {share:.2f} by {case.region_height}x{case.region_width}",
        *(["bytes"] if requantized else []),
    ]
    return " ".join(parts)
