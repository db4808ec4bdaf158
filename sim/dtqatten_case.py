"""DTQAtten's cases: a block's tokens with their vectors and precisions, its options and the golden result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.quant.arrays import check_integers
from bitfabric.quant.dtqatten import counts
from bitfabric.quant.dtqatten_attention import IMPORTANCE_MAX, BlockResult, attention
from bitfabric.quant.dtqatten_checks import Ints, check_bits, check_ids
from bitfabric.quant.dtqatten_parameters import MULTIPLIER_MAX, AttentionParameters
from bitfabric.quant.dtqatten_tokens import quantize_attention
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.sim.dtqatten_file import load_attention, save_attention
from bitfabric.sim.dtqatten_limits import check_case

VECTORS = ("queries", "keys", "values")
SCALES = ("sq", "sk", "sv")


@dataclass(frozen=True, eq=False, kw_only=True)
class AttentionCase:
    """Hold a block: the attention of all heads on the tokens that stay, and the choice of the next block's.

    Arrays of tokens are by id: index in the sequence of n tokens.

    Members
    -------
    name : str
        What a report calls it.
    queries, keys, values : int8 array (heads, n, d)
        Q, K and V as the host's memory has them: -128 to 127, or -8 to 7 for a token of 4 bits.
    bits : integer array (n,)
        8, 4 or 0: no part of the block. One token at least has more than 0.
    order : integer array (entries,), optional
        Ids as the list has them, every token that stays among them; all in their order by default. With ``carry``
        as the block before left them.
    next_kept, next_high : int
        k0 and k1: tokens that the next block keeps, and those of 8 bits.
    score_multiplier, score_shift, out_multiplier, out_shift : see ``AttentionParameters``
        The first is not used with scales.
    sq, sk, sv : integer arrays (n,), optional
        Each token's scales; all or none.
    reorder : bool
        Lists are clustered by precision, low first: this block's, and the next one's.
    causal : bool
        A query sees no key of a greater id.
    accumulate : bool
        The next block's importance goes on from this one's.
    carry : bool
        The tokens are in the machine: those that the block before chose.
    carried : integer array (n,), optional
        Importance that the block before left, with ``carry`` only; 0 by default.
    base, gap, out_base
        Where things are in the host's memory, see ``dtqatten_memory.Layout``.

    Raises
    ------
    ParameterError
        If arrays or options do not fit together.
    """

    name: str = "case"
    queries: NDArray[np.integer[Any]]
    keys: NDArray[np.integer[Any]]
    values: NDArray[np.integer[Any]]
    bits: NDArray[np.integer[Any]]
    order: NDArray[np.integer[Any]] | None = None
    next_kept: int
    next_high: int
    score_multiplier: int = 1
    score_shift: int
    out_multiplier: int
    out_shift: int
    sq: NDArray[np.integer[Any]] | None = None
    sk: NDArray[np.integer[Any]] | None = None
    sv: NDArray[np.integer[Any]] | None = None
    reorder: bool = True
    causal: bool = False
    accumulate: bool = False
    carry: bool = False
    carried: NDArray[np.integer[Any]] | None = None
    base: int = 0
    gap: int = 0
    out_base: int | None = None

    def __post_init__(self) -> None:
        shapes = [np.shape(getattr(self, name)) for name in VECTORS]
        if len(set(shapes)) != 1 or len(shapes[0]) != 3 or 0 in shapes[0]:
            raise ParameterError(", ".join(VECTORS), shapes, "of one shape (heads, n, d), none of them 0")
        bits = check_bits("bits", self.bits, self.tokens)
        for name in VECTORS:
            values = check_integers(name, getattr(self, name), -128, 127)
            check_integers(f"{name} of a 4-bit token", values[:, bits == 4], -8, 7)
        if not bits.any():
            raise ParameterError("bits", "no token above 0 bits", "such that a token is kept")
        missing = np.setdiff1d(np.flatnonzero(bits), self.listed)
        if missing.size:
            raise ParameterError("order", f"without token {missing[0]}", "every token above 0 bits")
        check_range("next_kept", self.next_kept, 1, self.kept)
        check_range("next_high", self.next_high, 0, self.next_kept)
        for name in SCALES:
            given = getattr(self, name)
            if given is not None and np.shape(check_integers(name, given, 0, MULTIPLIER_MAX)) != (
                self.tokens,
            ):
                raise ParameterError(name, np.shape(given), f"of shape ({self.tokens},)")
        if self.carried is not None:
            if not self.carry:
                raise ParameterError("carried", "given", "left out without carry: a list starts at 0")
            if np.shape(self.carried) != (self.tokens,):
                raise ParameterError("carried", np.shape(self.carried), f"of shape ({self.tokens},)")
            check_integers("carried", self.carried, 0, IMPORTANCE_MAX)
        _ = self.parameters  # checks what it is made of

    @property
    def heads(self) -> int:
        """Heads, H."""
        return np.shape(self.queries)[0]

    @property
    def tokens(self) -> int:
        """Tokens of the sequence, n."""
        return np.shape(self.queries)[1]

    @property
    def head_size(self) -> int:
        """Channels of a head, d."""
        return np.shape(self.queries)[2]

    @property
    def m(self) -> int:
        """Rows of a head's scores, pruned tokens too."""
        return self.tokens

    @property
    def k(self) -> int:
        """Channels of a head."""
        return self.head_size

    @property
    def n(self) -> int:
        """Columns of a head's scores, as ``m``."""
        return self.tokens

    @property
    def per_token(self) -> bool:
        """Each token has scales of its own."""
        return self.sq is not None

    @cached_property
    def listed(self) -> Ints:
        """Ids as the list has them, those of 0 bits too."""
        if self.order is None:
            return np.arange(self.tokens)
        try:
            return check_ids(self.order, np.size(self.order), self.tokens)
        except ParameterError as error:  # by the name that the case has for it
            raise ParameterError("order", error.value, error.allowed) from None

    @cached_property
    def positions(self) -> Ints:
        """Id of the token at each position of the machine, (m,)."""
        kept = self.listed[self.bits[self.listed] > 0]
        if self.carry or not self.reorder:
            return kept
        return kept[np.argsort(self.bits[kept], kind="stable")]

    @property
    def kept(self) -> int:
        """Tokens that stay, m."""
        return int(np.count_nonzero(self.bits))

    @property
    def high(self) -> NDArray[np.bool_]:
        """Whether the token at each position has 8 bits, (m,)."""
        return np.asarray(self.bits[self.positions] == 8)

    @cached_property
    def parameters(self) -> AttentionParameters:
        """The block's integers, by position."""
        scales = {name: getattr(self, name) for name in SCALES}
        return AttentionParameters(
            score_multiplier=self.score_multiplier,
            score_shift=self.score_shift,
            out_multiplier=self.out_multiplier,
            out_shift=self.out_shift,
            **{name: None if given is None else given[self.positions] for name, given in scales.items()},
        )

    @cached_property
    def result(self) -> BlockResult:
        """What the machine must compute, by position."""
        bits = self.bits[self.positions]
        steps = np.where(bits == 4, 16, 1)[:, np.newaxis]
        vectors = (getattr(self, name)[:, self.positions].astype(np.int64) * steps for name in VECTORS)
        return attention(
            *vectors,
            bits=bits,
            parameters=self.parameters,
            k0=self.next_kept,
            k1=self.next_high,
            ids=self.positions,
            causal=self.causal,
            reorder=self.reorder,
            accumulate=self.accumulate,
            carried=None if self.carried is None else self.carried[self.positions],
        )

    def golden(self) -> BlockResult:
        """Return what the machine must compute, by position."""
        return self.result

    def next_fields(self) -> dict[str, Any]:
        """Return the fields of a case on the tokens that this one leaves in the machine."""
        result = self.result
        bits, carried = np.zeros(self.tokens, np.int64), np.zeros(self.tokens, np.int64)
        bits[result.next_ids], carried[result.next_ids] = result.next_bits, result.next_importance
        return {"carry": True, "order": result.next_ids, "bits": bits, "carried": carried}

    def check(self, config: DtqattenConfig) -> None:
        """Refuse what ``config`` cannot compute or hold.

        Raises
        ------
        ParameterError
            If a dimension or an address does not allow it.
        """
        check_case(config, self)

    def save(self, path: Path) -> None:
        """Write the case as an ``.npz`` file."""
        save_attention(path, self)

    @classmethod
    def load(cls, path: Path) -> AttentionCase:
        """Read a case.

        Raises
        ------
        BitfabricError
            If the file cannot be read or an array is missing.
        ParameterError
            If an array does not fit.
        """
        return cls(name=path.stem, **load_attention(path))


def attention_case(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    bits: ArrayLike,
    keep: float = 1.0,
    high: float = 1.0,
    scales: str = "layer",
    score_scale: float | None = None,
    **fields: Any,
) -> AttentionCase:
    """Quantize a block's real Q, K and V.

    Parameters
    ----------
    q, k, v : array (heads, n, d)
        By token id.
    bits : integer array (n,)
        8, 4 or 0.
    keep, high : float
        Shares of n that the next block keeps and that have 8 bits there.
    scales : str
        "layer" or "token".
    score_scale : float, optional
        Factor of the scores; by default ``1/sqrt(d)``.
    fields
        Others of the case.

    Raises
    ------
    ParameterError
        If something does not fit.
    """
    inputs = quantize_attention(q, k, v, bits, scales, score_scale=score_scale)
    kept = check_bits("bits", bits)
    steps = np.where(kept == 4, 16, 1)[:, np.newaxis]
    vectors: dict[str, Any] = {
        name: (values // steps).astype(np.int8) for name, values in zip(VECTORS, inputs.vectors, strict=True)
    }
    k0, k1 = counts(kept.size, keep, high, int(np.count_nonzero(kept)))
    numbers = ("score_multiplier", "score_shift", "out_multiplier", "out_shift", *SCALES)
    parameters = {name: getattr(inputs.parameters, name) for name in numbers}
    return AttentionCase(**vectors, bits=kept, next_kept=k0, next_high=k1, **parameters, **fields)
