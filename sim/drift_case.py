"""Drift's cases: a layer's operands at two precisions each, its options and the golden result."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drift import MixedOperand, Pooling, PostProcess, Selection, gemm
from bitfabric.quant.errors import BitfabricError, ParameterError
from bitfabric.quant.pwl import PwlTable
from bitfabric.sim.case_file import check_channels, check_operands
from bitfabric.sim.drift_file import load_drift, save_drift
from bitfabric.sim.drift_limits import check_case
from bitfabric.sim.drift_options import Counts, PoolSize, Precision, pool_size

REQUANT_KEYS = ("bias", "multiplier", "shift")
LOW_MOST = 4  # bits of weights that are stored in 4


@dataclass(frozen=True, eq=False, kw_only=True)
class DriftCase:
    """Hold a layer ``acts (M, K) x weights (K, N)``: M tokens and N output channels.

    Members
    -------
    name : str
        What a report calls it.
    acts : integer array (M, K)
        Activations of 8 bits as the host sends them, or as the layer before kept them.
    weights : integer array (K, N)
        At their own precision: converted where that is low.
    weight_bits : integer array (N,)
        Bits of each channel's weights, 1 to 8; over 4 they are stored in 8 bits, else in 4.
    weight_clip : integer array (N,)
        Bits that were dropped at the low end, lc: a channel's results are shifted left by as many.
    scale, threshold, subtensor_rows, truncate : see ``Precision``
        How activations get their precision.
    act_high_bits, act_low_bits, threshold_int, threshold_tail_int : see ``Precision``
        As well; the first two are its ``high_bits`` and ``low_bits``.
    bias, multiplier, shift : integer arrays (N,), optional
        Requantization; all or none. Without it accumulators come out.
    low, high, zero_point : int
        Bounds before the zero point, and the zero point.
    table : PwlTable, optional
        Function of the requantized bytes.
    pool : Pooling, optional
        What is done with the function's results.
    keep : bool
        Bytes are written back as activations instead of coming out.
    next_... : see ``Precision``
        How these get their precision: ``next_scale``, ``next_threshold``, ``next_subtensor_rows``,
        ``next_high_bits``, ``next_low_bits``, ``next_truncate``, ``next_threshold_int``, ``next_threshold_tail_int``.
    resident : bool
        The activations are in the machine: those of the layer before, or what it kept (``kept_fields``).

    Raises
    ------
    ParameterError, BitfabricError
        If shapes or options do not fit together.
    """

    name: str = "case"
    acts: NDArray[np.integer[Any]]
    weights: NDArray[np.integer[Any]]
    weight_bits: NDArray[np.integer[Any]]
    weight_clip: NDArray[np.integer[Any]]
    scale: float = 1.0
    threshold: float = 1.0
    subtensor_rows: int = 1
    act_high_bits: int = 8
    act_low_bits: int = 4
    truncate: bool = False
    threshold_int: int | None = None
    threshold_tail_int: int | None = None
    bias: NDArray[np.integer[Any]] | None = None
    multiplier: NDArray[np.integer[Any]] | None = None
    shift: NDArray[np.integer[Any]] | None = None
    low: int = -128
    high: int = 127
    zero_point: int = 0
    table: PwlTable | None = None
    pool: Pooling | None = None
    keep: bool = False
    next_scale: float = 1.0
    next_threshold: float = 1.0
    next_subtensor_rows: int = 1
    next_high_bits: int = 8
    next_low_bits: int = 4
    next_truncate: bool = False
    next_threshold_int: int | None = None
    next_threshold_tail_int: int | None = None
    resident: bool = False

    def __post_init__(self) -> None:
        check_operands(self.acts, self.weights)
        if not self.acts.size or not self.weights.size:
            raise ParameterError("acts, weights", (self.m, self.k, self.n), "M, K and N of at least 1")
        for name in ("weight_bits", "weight_clip", *REQUANT_KEYS):
            check_channels(name, getattr(self, name), self.n)
        check_integers("weight_bits", self.weight_bits, 1, 8)
        check_integers("weights", self.weights, -128, 127)
        missing = [name for name in REQUANT_KEYS if getattr(self, name) is None]
        if 0 < len(missing) < len(REQUANT_KEYS):
            raise BitfabricError(
                f"{', '.join(missing)} missing: requantization takes bias, multiplier and shift"
            )
        if not self.requantized:
            for name in ("table", "pool", "keep"):
                if getattr(self, name):
                    raise ParameterError(name, getattr(self, name), "absent where accumulators come out")
        for name in ("precision", "next_precision", "pool_size"):
            getattr(self, name)  # checks what it is made of
        self._check_tail("", self.precision, self.m)
        if self.keep:
            self._check_tail("next_", self.next_precision, self.m_out)

    def _check_tail(self, prefix: str, precision: Precision, m: int) -> None:
        given, tail = precision.threshold_int, precision.threshold_tail_int
        if given is not None and tail is None and m % precision.subtensor_rows:
            allowed = f"given with {prefix}threshold_int: the last sub-tensor of M={m} has fewer rows"
            raise ParameterError(f"{prefix}threshold_tail_int", None, allowed)

    @property
    def m(self) -> int:
        """Tokens."""
        return self.acts.shape[0]

    @property
    def k(self) -> int:
        """Contraction."""
        return self.acts.shape[1]

    @property
    def n(self) -> int:
        """Output channels."""
        return self.weights.shape[1]

    @cached_property
    def pool_size(self) -> PoolSize | None:
        """What the pooling unit does, if it does anything."""
        return None if self.pool is None else pool_size(self.pool, self.m)

    @property
    def m_out(self) -> int:
        """Rows of the result."""
        return self.m if self.pool_size is None else self.pool_size.rows

    @property
    def requantized(self) -> bool:
        """Bytes come out, not accumulators."""
        return self.multiplier is not None

    @cached_property
    def precision(self) -> Precision:
        """How the activations get their precision."""
        return self._precision({"high_bits": "act_high_bits", "low_bits": "act_low_bits"}, "")

    @cached_property
    def next_precision(self) -> Precision:
        """How the bytes that are kept get theirs."""
        return self._precision({}, "next_")

    def _precision(self, names: dict[str, str], prefix: str) -> Precision:
        fields = [field.name for field in dataclasses.fields(Precision)]
        own = {name: names.get(name, prefix + name) for name in fields}
        try:
            return Precision(**{name: getattr(self, own[name]) for name in fields})
        except ParameterError as error:  # by the name that the case has for it
            raise ParameterError(own[error.name], error.value, error.allowed) from None

    @cached_property
    def selection(self) -> Selection:
        """The precision of each sub-tensor of the activations."""
        return self.precision.select(self.acts)

    @cached_property
    def rows(self) -> MixedOperand:
        """The activations as the machine stores them."""
        return self.precision.convert(self.acts, self.selection)

    @cached_property
    def next_rows(self) -> MixedOperand:
        """The bytes that are kept, as the machine stores them."""
        kept = self.stored()
        return self.next_precision.convert(kept, self.next_precision.select(kept))

    @cached_property
    def channel_low(self) -> NDArray[np.bool_]:
        """Channels whose weights are stored in 4 bits."""
        return np.asarray(self.weight_bits <= LOW_MOST)

    @cached_property
    def channels(self) -> NDArray[np.int64]:
        """The channels in their stored order: those of 8 bits first."""
        return np.argsort(self.channel_low, kind="stable")

    @cached_property
    def counts(self) -> Counts:
        """Rows, channels and granules of either precision."""
        m_low, n_low = int(self.rows.low.sum()), int(self.channel_low.sum())
        n_high = self.n - n_low
        return Counts(self.m - m_low, m_low, n_high, n_low, -(-n_high // 2), -(-n_low // 4))

    @cached_property
    def result(self) -> NDArray[np.int64]:
        """What the machine must compute, (M', N)."""
        weights = MixedOperand(
            self.weights.astype(np.int8),
            self.channel_low,
            self.weight_bits.astype(np.int64),
            self.weight_clip.astype(np.int64),
        )
        acc = gemm(self.rows, weights)
        if self.multiplier is None or self.shift is None:
            return acc
        bounds = {name: getattr(self, name) for name in ("zero_point", "low", "high", "table")}
        post = PostProcess(
            multiplier=self.multiplier, shift=self.shift, bias=self.bias, pooling=self.pool, **bounds
        )
        return post(acc).astype(np.int64)

    def golden(self) -> NDArray[np.int64]:
        """Return what the machine must compute, (M', N): bytes or accumulators, channels in the case's order.

        Raises
        ------
        ParameterError
            If an accumulator with its bias leaves 32 bits.
        """
        return self.result

    def stored(self) -> NDArray[np.int64]:
        """Return the result, (M', N), channels in the order in which the machine has them."""
        return self.result[:, self.channels]

    def kept_fields(self) -> dict[str, Any]:
        """Return the fields of a case that takes the activations this one leaves in the machine."""
        taken, prefix = (self.stored(), "next_") if self.keep else (self.acts, "")
        fields: dict[str, Any] = {"acts": taken, "resident": True}
        for name in (field.name for field in dataclasses.fields(Precision)):
            own = f"act_{name}" if name in ("high_bits", "low_bits") else name
            fields[own] = getattr(self, prefix + name if prefix else own)
        return fields

    def check(self, config: DriftConfig) -> None:
        """Refuse what ``config`` cannot compute or hold.

        Raises
        ------
        ParameterError
            If a dimension, an operand, an option or a memory does not allow it.
        """
        check_case(config, self)

    def save(self, path: Path) -> None:
        """Write the case as an ``.npz`` file."""
        save_drift(path, self)

    @classmethod
    def load(cls, path: Path) -> DriftCase:
        """Read a case: ``acts`` and ``weights``, the rest optional.

        Raises
        ------
        BitfabricError
            If the file cannot be read or an array is missing.
        ParameterError
            If an array does not fit.
        """
        return cls(name=path.stem, **load_drift(path))
