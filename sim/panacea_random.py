"""Random layers for Panacea: every width and mode, over all sparsities, with tails and long runs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.quant.panacea import Slicing
from bitfabric.quant.panacea.post import activation_table
from bitfabric.quant.panacea.slices import ACT_BITS, WEIGHT_BITS
from bitfabric.quant.requant import ACC_MAX, requant_parameters
from bitfabric.sim.panacea_case import PanaceaCase
from bitfabric.sim.panacea_limits import fits

Fields = dict[str, Any]


def random_case(
    config: PanaceaConfig,
    rng: np.random.Generator,
    m: int,
    k: int,
    n: int,
    *,
    codes: bool | None = None,
    **fields: Any,
) -> PanaceaCase:
    """Return a case of M tokens and N output channels; ``fields`` fix what is otherwise left to chance.

    Double tiles and resident activations are drawn only where they fit. ``codes`` None leaves the kind of output
    to chance.
    """
    widths = [
        (weights, acts)
        for weights in WEIGHT_BITS
        for acts in ACT_BITS
        if weights <= config.max_weight_bits
        and acts <= config.max_act_bits
        and weights + acts + (k - 1).bit_length() <= config.acc_bits
    ]
    weight_bits, act_bits = widths[rng.integers(len(widths))] if widths else (4, 4)
    weight_bits, act_bits = fields.pop("weight_bits", weight_bits), fields.pop("act_bits", act_bits)
    low_bits = fields.pop("low_bits", int(rng.integers(4, 7)) if act_bits == 8 else 4)
    slicing = Slicing(weight_bits=weight_bits, act_bits=act_bits, low_bits=low_bits)
    point = fields.pop("zero_point", _zero_point(rng, act_bits))
    low, size = slicing.skipped(point) << slicing.ho_shift, 1 << slicing.ho_shift
    half, near = 1 << (weight_bits - 1), 8 ** (slicing.weight_slices - 1)
    case = PanaceaCase(
        acts=fields.pop("acts", _operand(rng, m, k, (0, 2**act_bits), (low, low + size))),
        weights=fields.pop("weights", _operand(rng, n, k, (-half, half), (-near, near)).T),
        weight_bits=weight_bits,
        act_bits=act_bits,
        low_bits=low_bits,
        zero_point=point,
    )
    post = bool(rng.integers(2)) if codes is None else codes
    case = replace(case, **_bias(rng, case, spread=not post))
    if post:
        case = replace(case, **_post(config, rng, case))
    case = replace(case, **fields)
    modes = {
        "stream_weights": rng.random() < 0.25,
        "dtp": config.dtp and bool(rng.integers(2)),
        "resident": bool(rng.integers(2)),
    }
    for mode, wanted in modes.items():
        tried: Fields = {mode: True}
        if mode not in fields and wanted and fits(config, replace(case, **tried)):
            case = replace(case, **tried)
    widths_text = f"w{weight_bits}a{act_bits}" + f"l{low_bits}" * (low_bits > 4)
    short = {"stream_weights": "stream", "resident": "res", "from_omem": "omem"}
    modes_text = [
        short.get(name, name)
        for name in ("codes", "dtp", "resident", "stream_weights", "keep", "from_omem")
        if getattr(case, name)
    ]
    return replace(case, name=" ".join([widths_text, *modes_text]))


def random_cases(config: PanaceaConfig, seed: int, count: int) -> list[PanaceaCase]:
    """Return ``count`` random cases around the machine's tile sizes: single elements, tails, several tiles."""
    rng = np.random.default_rng(seed)

    def dimension(step: int) -> int:
        sizes = (1, step, int(rng.integers(1, 2 * step + 2)), int(rng.integers(1, 3 * step + 2)))
        return sizes[rng.integers(len(sizes))]

    cases: list[PanaceaCase] = []
    while len(cases) < count:
        shape = [dimension(config.tile_n), dimension(config.tile_k), dimension(config.m_step)]
        shape[1] = min(shape[1], config.k_max, 1 << max(config.acc_bits - 8, 0))
        case = random_case(config, rng, *shape)
        # Small memories do not hold everything that the dimensions allow; a lesser K is held by all.
        while not fits(config, case):
            if shape[1] == 1:
                case.check(config)
            shape[1] = -(-shape[1] // 2)
            case = random_case(config, rng, *shape)
        cases.append(case)
    return cases


def random_chain(
    config: PanaceaConfig, rng: np.random.Generator, m: int, sizes: list[int], *, keep_last: bool = False
) -> list[PanaceaCase]:
    """Return layers of which each takes what the one before it kept in OMEM.

    Parameters
    ----------
    config, rng
        As in ``random_case``.
    m : int
        Tokens.
    sizes : list of int
        The first layer's K, then the output channels of every layer.
    keep_last : bool
        The last layer keeps its outputs, too.
    """
    cases: list[PanaceaCase] = []
    for number, (k, n) in enumerate(pairwise(sizes)):
        fields: Fields = {}
        if cases:
            before = cases[-1]
            fields = {"acts": before.golden(), "from_omem": True}
            fields |= {name: getattr(before, f"next_{name}") for name in ("low_bits", "zero_point")}
            fields["act_bits"] = before.next_bits
            room = config.acc_bits - before.next_bits - (k - 1).bit_length()
            fitting = [bits for bits in WEIGHT_BITS if bits <= min(room, config.max_weight_bits)]
            fields["weight_bits"] = int(rng.choice(fitting or WEIGHT_BITS[:1]))
        if keep_last or number < len(sizes) - 2:
            fields |= {"codes": True, "keep": True}
        cases.append(random_case(config, rng, m, k, n, **fields))
    return cases


def _zero_point(rng: np.random.Generator, bits: int) -> int:
    return int(rng.choice([0, 2**bits - 1, 2 ** (bits - 1), *rng.integers(0, 2**bits, 3)]))


def _operand(
    rng: np.random.Generator, rows: int, depth: int, full: tuple[int, int], skipped: tuple[int, int]
) -> NDArray[np.int64]:
    """Return (rows, depth) values; a share of the vectors of four rows lies within ``skipped``, often in runs."""
    groups = -(-rows // 4)
    sparsity = rng.choice([0.0, 1.0, *rng.random(4)])
    run = int(rng.choice([1, 1, 4, 20]))
    keep = rng.random((groups, -(-depth // run))) >= sparsity
    kept = np.repeat(np.repeat(keep, run, axis=1)[:, :depth], 4, axis=0)[:rows]
    values, corners = rng.integers(*full, (rows, depth)), rng.choice([full[0], full[1] - 1], (rows, depth))
    values = np.where(
        rng.random((rows, depth)) < rng.choice([0.0, 0.2, 1.0], p=[0.6, 0.3, 0.1]), corners, values
    )
    return np.where(kept, values, rng.integers(*skipped, (rows, depth)))


def _bias(rng: np.random.Generator, case: PanaceaCase, *, spread: bool) -> Fields:
    """Return biases that leave room for accumulator and fold; with ``spread`` a half of them over all that room."""
    if not rng.integers(4):
        return {}
    result = case.result
    largest = np.abs(result.acc).max(axis=1)
    most = ACC_MAX - np.maximum(largest, np.abs(result.fold).max(axis=1))
    wide = spread & (rng.random(case.n) < 0.5)
    reach = np.where(wide, most, np.minimum(most, largest + 1))
    return {"bias": rng.integers(-reach, reach + 1)}


def _post(config: PanaceaConfig, rng: np.random.Generator, case: PanaceaCase) -> Fields:
    """Return post-processing whose outputs are spread, saturated or nearly all the zero point."""
    bits = int(rng.choice([bits for bits in ACT_BITS if bits <= config.max_act_bits]))
    # At the ends of the range the function saturates; more often there is room above.
    point = _zero_point(rng, bits) if rng.random() < 0.3 else int(rng.integers(0, 2**bits // 3))
    total = case.result.acc + case.biases[:, None]
    largest = np.maximum(np.abs(total).max(axis=1), 1)
    reach = 2047.0 * rng.choice([0.02, 0.3, 1.0, 4.0])
    multiplier, shift = requant_parameters(np.minimum(reach / largest, 2.0**20))
    function = str(rng.choice(["identity", "relu", "gelu"]))
    # A range of ±4 is where GELU bends; its outputs reach the codes' range or stay far below.
    step = 4.0 / 2048
    out_step = step * 2048 / 2**bits * float(rng.choice([1.0, 2.0, 16.0]))
    return {
        "multiplier": multiplier,
        "shift": shift,
        "table": activation_table(function, step, out_step, point, bits, config.segments),
        "next_bits": bits,
        "next_low_bits": int(rng.integers(4, 7)) if bits == 8 else 4,
        "next_zero_point": point,
    }
