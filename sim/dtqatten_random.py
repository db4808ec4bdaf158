"""Random blocks for DTQAtten: every precision and option, from one token to all of them, with corner values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.dtqatten.config import ADDRESS_BITS, DtqattenConfig
from bitfabric.quant.dtqatten_parameters import MULTIPLIER_MAX, OUT_SHIFT_MAX, SCORE_SHIFT_MAX
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.dtqatten_case import SCALES, VECTORS, AttentionCase
from bitfabric.sim.dtqatten_memory import layout_of

EFFORT = 6000  # cycles that a case may take, about
SCORES = 3 * 4096  # a usual score: of a few octaves
CARRIED = 0.25  # of the cases of random_cases go on with what the one before left

Fields = dict[str, Any]


def random_case(
    config: DtqattenConfig,
    rng: np.random.Generator,
    m: int,
    k: int,
    n: int | None = None,
    *,
    heads: int | None = None,
    **fields: Any,
) -> AttentionCase:
    """Return a case of ``m`` tokens and heads of ``k`` channels; ``n``, if given, is ``m``.

    ``heads`` and ``fields`` fix what is otherwise left to chance.
    """
    if heads is None:
        heads = 1 if n is not None else int(rng.integers(1, config.heads_max + 1))
    if "bits" not in fields:
        fields["bits"] = _draw_bits(rng, m)
    bits = np.asarray(fields["bits"])
    kept = int(np.count_nonzero(bits))
    if "order" not in fields:
        fields["order"] = _draw_order(rng, bits)
    chosen = {name: bool(rng.integers(2)) for name in ("reorder", "causal", "accumulate")}
    fields = {**chosen, **fields}
    if "next_kept" not in fields:
        fields["next_kept"] = int(rng.choice([1, kept, int(rng.integers(1, kept + 1))]))
    if "next_high" not in fields:
        most = fields["next_kept"]
        fields["next_high"] = int(rng.choice([0, most, int(rng.integers(most + 1))]))
    for name in VECTORS:
        if name not in fields:
            fields[name] = _draw_vectors(rng, heads, k, bits)
    if "sq" not in fields and rng.integers(2):
        fields |= {name: _draw_scales(rng, m) for name in SCALES}
    fields = {**_draw_factors(rng, fields), **fields}
    case = AttentionCase(**fields)
    if not {"base", "gap", "out_base"} & fields.keys() and rng.integers(2):
        case = AttentionCase(**{**fields, **_draw_places(rng, case)})
    return AttentionCase(**{**_fields_of(case), "name": _name(case)})


def random_cases(
    config: DtqattenConfig, seed: int, count: int, *, effort: int = EFFORT
) -> list[AttentionCase]:
    """Return ``count`` random cases around the machine's sizes; some carry the tokens of the one before.

    Parameters
    ----------
    config : DtqattenConfig
        The machine.
    seed, count : int
        Of the random numbers; how many.
    effort : int
        About the most cycles that a case may take.
    """
    rng = np.random.default_rng(seed)
    cases: list[AttentionCase] = []
    while len(cases) < count:
        if cases and rng.random() < CARRIED:
            cases.append(next_case(config, rng, cases[-1]))
            continue
        m = _draw_size(rng, config.tokens_max, config.rows, config.columns, config.line_elements)
        k = _draw_size(rng, config.head_size_max, config.rows, config.axis_bytes, config.line_elements)
        heads = int(rng.choice([1, 2, 3, int(rng.integers(1, config.heads_max + 1))]))
        heads = min(heads, config.heads_max)
        while heads > 1 and _effort(config, m, k, heads) > effort:
            heads -= 1
        while m > 1 and _effort(config, m, k, heads) > effort:
            m = -(-m // 2)
        cases.append(random_case(config, rng, m, k, heads=heads))
    return cases


def next_case(
    config: DtqattenConfig, rng: np.random.Generator, before: AttentionCase, **fields: Any
) -> AttentionCase:
    """Return a case on the tokens that ``before`` leaves in the machine; ``fields`` fix what is left to chance."""
    heads = fields.pop("heads", before.heads)
    size = fields.pop("head_size", before.head_size)
    return random_case(config, rng, before.tokens, size, heads=heads, **{**before.next_fields(), **fields})


def shared_bits(rng: np.random.Generator, tokens: int, low: float, pruned: float) -> NDArray[np.int64]:
    """Return the bits of tokens, these shares of them at 4 and at 0 bits (one stays), at random.

    Raises
    ------
    ParameterError
        If the shares are of more than all tokens.
    """
    if low + pruned > 1 + 1e-9:
        raise ParameterError(
            "token_low + token_pruned", round(low + pruned, 9), "at most 1: shares of the same tokens"
        )
    zeros = min(round(pruned * tokens), tokens - 1)
    fours = min(round(low * tokens), tokens - zeros)
    bits = np.repeat([0, 4, 8], [zeros, fours, tokens - zeros - fours])
    return np.asarray(rng.permutation(bits), np.int64)


def _draw_size(rng: np.random.Generator, most: int, *steps: int) -> int:
    """Return a size up to ``most``: one, most, about a multiple of a step, or any."""
    step = int(rng.choice(steps))
    near = step * int(rng.integers(1, max(most // step, 1) + 1)) + int(rng.integers(-1, 2))
    chosen = int(
        rng.choice([near, near, int(rng.integers(1, most + 1)), most, 1], p=[0.35, 0.15, 0.3, 0.12, 0.08])
    )
    return min(max(chosen, 1), most)


def _draw_bits(rng: np.random.Generator, tokens: int) -> NDArray[np.int64]:
    """Return bits: all of one kind, all but one pruned, or shares of each in random order."""
    kind = rng.integers(6)
    if kind < 2:
        return np.full(tokens, (8, 4)[kind], np.int64)
    if kind == 2:
        bits = np.zeros(tokens, np.int64)
        bits[rng.integers(tokens)] = rng.choice([4, 8])
        return bits
    shares = rng.dirichlet([1, 1, 1])
    if kind == 3:  # none pruned
        shares[2] = 0
    bits = rng.choice([8, 4, 0], tokens, p=shares / shares.sum())
    bits[rng.integers(tokens)] = rng.choice([4, 8])
    return np.asarray(bits, np.int64)


def _draw_order(rng: np.random.Generator, bits: NDArray[np.integer[Any]]) -> NDArray[np.int64] | None:
    """Return the order of a list: that of ids, any, clustered, or without pruned tokens."""
    kind = rng.integers(4)
    if kind == 0:
        return None
    order = rng.permutation(bits.size)
    if kind == 2:
        return np.argsort(bits, kind="stable")
    return order[bits[order] > 0] if kind == 3 else order


def _draw_vectors(
    rng: np.random.Generator, heads: int, size: int, bits: NDArray[np.integer[Any]]
) -> NDArray[np.int8]:
    """Return vectors of either precision: bell-shaped, uniform, or nothing but extremes."""
    shape = (heads, bits.size, size)
    kind = rng.integers(4)
    if kind == 0:
        eight = rng.integers(-128, 128, shape)
    elif kind == 1:
        eight = rng.choice([-128, -127, -1, 0, 127], shape)
    else:
        eight = np.clip(np.rint(rng.normal(0, 40, shape)), -128, 127).astype(np.int64)
    return np.where(bits[:, np.newaxis] == 4, eight >> 4, eight).astype(np.int8)


def _draw_scales(rng: np.random.Generator, tokens: int) -> NDArray[np.int64]:
    """Return scales of tokens: about alike, or of all sizes down to 1."""
    if rng.integers(3):
        return rng.integers(20000, MULTIPLIER_MAX + 1, tokens)
    scales = np.floor(2.0 ** (16 * rng.random(tokens))).astype(np.int64)
    scales[rng.integers(tokens)] = rng.choice([1, MULTIPLIER_MAX])
    return np.clip(scales, 1, MULTIPLIER_MAX)


def _draw_factors(rng: np.random.Generator, fields: Fields) -> Fields:
    """Return multipliers and shifts: scores of a few octaves and results of a few ten, or any."""
    size = fields["queries"].shape[-1]
    multiplier = int(rng.integers(1 << 15, MULTIPLIER_MAX + 1))
    if fields.get("sq") is not None:  # products of scales are what the multiplier is
        multiplier = int(np.mean(fields["sq"], dtype=float) * np.mean(fields["sk"], dtype=float)) >> 16 or 1
    typical = 40 * 40 * np.sqrt(size) * multiplier / SCORES  # of standard deviations
    shift = int(np.clip(np.rint(np.log2(typical)), 1, SCORE_SHIFT_MAX))
    out_multiplier = int(rng.integers(1 << 15, MULTIPLIER_MAX + 1))
    # a * V / sum(a) is about a value: half of that, to twice as much, comes out.
    out_shift = 17 + int(rng.integers(-1, 2)) - (17 if fields.get("sq") is not None else 0)
    kind = rng.integers(5)
    if kind == 0:
        shift = int(rng.integers(1, SCORE_SHIFT_MAX + 1))
    elif kind == 1:
        out_shift = int(rng.integers(1, OUT_SHIFT_MAX + 1))
    elif kind == 2:
        multiplier, out_multiplier = (int(rng.choice([1, MULTIPLIER_MAX])) for _ in range(2))
    return {
        "score_multiplier": multiplier,
        "score_shift": shift,
        "out_multiplier": out_multiplier,
        "out_shift": max(out_shift, 1),
    }


def _draw_places(rng: np.random.Generator, case: AttentionCase) -> Fields:
    """Return where a case's regions are: anywhere, results up to the last address."""
    size = case.heads * case.head_size
    places: Fields = {"base": int(rng.integers(4096)), "gap": int(rng.integers(2 * size + 8))}
    layout = layout_of(AttentionCase(**{**_fields_of(case), **places}))
    room = (1 << ADDRESS_BITS) - (layout.end - layout.size)
    places["out_base"] = int(rng.choice([room, int(rng.integers(layout.size, room + 1))]))
    return places


def _fields_of(case: AttentionCase) -> Fields:
    return {name: getattr(case, name) for name in AttentionCase.__dataclass_fields__}


def _effort(config: DtqattenConfig, tokens: int, size: int, heads: int) -> float:
    """Return about the cycles of a block of 8-bit tokens."""
    beats = -(-size // config.axis_bytes)
    tiles = -(-tokens // config.rows) * -(-tokens // config.columns)
    results = -(-size // config.rows) * -(-tokens // config.columns)
    busy = 4 * (tiles * (size + 10) + results * (tokens + 10)) / config.arrays
    return heads * max(4 * tokens * beats, busy) + 6 * tokens


def _name(case: AttentionCase) -> str:
    high = int(case.high.sum())
    parts = [f"{case.tokens} tokens {high}+{case.kept - high}", f"{case.heads} heads of {case.head_size}"]
    options = ("carry", "per_token", "reorder", "causal", "accumulate")
    parts += [name for name in options if getattr(case, name)]
    return " ".join([*parts, f"next {case.next_high}+{case.next_kept - case.next_high}"])
