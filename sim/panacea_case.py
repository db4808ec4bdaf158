"""Panacea's cases: a layer's operands and modes, the golden result and counts, and what a machine can hold."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.panacea.config import CODE_BITS, PanaceaConfig
from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import BitfabricError, ParameterError, check_choice, check_range
from bitfabric.quant.panacea import AqsResult, Slicing, aqs_gemm
from bitfabric.quant.panacea.post import post_process
from bitfabric.quant.pwl import PwlFormat, PwlTable
from bitfabric.quant.requant import ACC_MAX, ACC_MIN
from bitfabric.quant.slicing import ACT_BITS, LOW_BITS
from bitfabric.sim.case_file import OPERANDS, check_channels, check_operands, load_case, save_case
from bitfabric.sim.panacea_limits import check_case

_CHANNEL_KEYS = ("bias", "multiplier", "shift")
_TABLE_KEYS = ("table_slopes", "table_offsets")
_SCALAR_KEYS = ("weight_bits", "act_bits", "low_bits", "zero_point")
_NEXT_KEYS = ("next_bits", "next_low_bits", "next_zero_point")
_FLAG_KEYS = ("dtp", "resident", "stream_weights", "from_omem", "keep")


@dataclass(frozen=True, eq=False, kw_only=True)
class PanaceaCase:
    """Hold a layer ``acts (M, K) x weights (K, N)``: M tokens and N output channels.

    Members
    -------
    name : str
        What a report calls it.
    acts, weights : integer arrays (M, K), (K, N)
        Operands: activations unsigned, weights signed.
    bias : integer array (N,), optional
        Added to ``W·x``, the activations' low bits dropped as ``low_bits`` says; the fold is not in it.
    multiplier, shift : integer arrays (N,); table : PwlTable; optional
        Post-processing; all or none. Without it accumulators come out.
    weight_bits, act_bits, low_bits, zero_point : int
        As in ``quant.panacea.aqs_gemm``.
    next_bits, next_low_bits, next_zero_point : int
        The same of the next layer's activations, which post-processing makes.
    dtp : bool
        Two weight tiles at a time.
    resident : bool
        Activations come once, not again for every M step of the machine.
    stream_weights : bool
        Weights come again for every tile of tokens: for an M step whose weights do not fit WMEM.
    from_omem, keep : bool
        Activations are what OMEM kept; outputs stay in OMEM.

    Raises
    ------
    ParameterError
        If shapes, widths or zero points are not allowed.
    """

    name: str = "case"
    acts: NDArray[np.integer]
    weights: NDArray[np.integer]
    bias: NDArray[np.integer] | None = None
    multiplier: NDArray[np.integer] | None = None
    shift: NDArray[np.integer] | None = None
    table: PwlTable | None = None
    weight_bits: int = 7
    act_bits: int = 8
    low_bits: int = 4
    zero_point: int = 0
    next_bits: int = 8
    next_low_bits: int = 4
    next_zero_point: int = 0
    dtp: bool = False
    resident: bool = False
    stream_weights: bool = False
    from_omem: bool = False
    keep: bool = False

    def __post_init__(self) -> None:
        check_operands(self.acts, self.weights)
        self.slicing.skipped(self.zero_point)
        check_choice("next_bits", self.next_bits, ACT_BITS)
        check_choice("next_low_bits", self.next_low_bits, LOW_BITS if self.next_bits == 8 else (4,))
        check_range("next_zero_point", self.next_zero_point, 0, 2**self.next_bits - 1)
        parts = ("multiplier", "shift", "table")
        missing = [name for name in parts if getattr(self, name) is None]
        if 0 < len(missing) < len(parts):
            raise BitfabricError(
                f"{', '.join(missing)} missing: post-processing takes multiplier, shift and table"
            )
        for name in _CHANNEL_KEYS:
            check_channels(name, getattr(self, name), self.n)
        if self.keep and not self.codes:
            raise ParameterError("keep", True, "false where accumulators come out")

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

    @property
    def codes(self) -> bool:
        """The next layer's activations come out, not accumulators."""
        return self.table is not None

    @property
    def slicing(self) -> Slicing:
        """How the operands are cut."""
        return Slicing(weight_bits=self.weight_bits, act_bits=self.act_bits, low_bits=self.low_bits)

    @property
    def next_slicing(self) -> Slicing:
        """How the outputs are cut."""
        return Slicing(act_bits=self.next_bits, low_bits=self.next_low_bits)

    @cached_property
    def result(self) -> AqsResult:
        """The golden GEMM, in the machine's form: (channels, tokens)."""
        return aqs_gemm(
            self.weights.T,
            self.acts.T,
            self.zero_point,
            self.low_bits,
            weight_bits=self.weight_bits,
            act_bits=self.act_bits,
        )

    @cached_property
    def biases(self) -> NDArray[np.int64]:
        """The bias of each channel, 0 where there is none."""
        return np.zeros(self.n, np.int64) if self.bias is None else self.bias.astype(np.int64)

    def folded_bias(self) -> NDArray[np.int64]:
        """Return what the machine adds, (N,): the bias and the fold ``r·2^l·ΣW``.

        Raises
        ------
        ParameterError
            If it does not fit 32 bits.
        """
        value = self.slicing.skipped(self.zero_point) << self.slicing.ho_shift
        folded = self.biases + value * self.weights.sum(axis=0, dtype=np.int64)
        return check_integers("bias + fold", folded, ACC_MIN, ACC_MAX).astype(np.int64)

    def check(self, config: PanaceaConfig) -> None:
        """Refuse what ``config`` cannot compute or hold.

        Raises
        ------
        ParameterError
            If a dimension, an operand, a mode or a memory does not allow it.
        """
        check_case(config, self)

    @cached_property
    def outputs(self) -> NDArray[np.int64]:
        """What the machine must compute, (N, M): channels by tokens."""
        if self.table is None:
            total = self.result.acc + self.biases[:, None]
            return check_integers("acc + bias", total, ACC_MIN, ACC_MAX).astype(np.int64)
        assert self.multiplier is not None
        assert self.shift is not None
        acc, bias = self.result.acc - self.result.fold, self.folded_bias()
        return post_process(acc, bias, self.multiplier, self.shift, self.table, self.next_bits).astype(
            np.int64
        )

    def golden(self) -> NDArray[np.int64]:
        """Return what the machine must compute, (M, N): accumulators, or the next layer's codes.

        Raises
        ------
        ParameterError
            If an accumulator leaves 32 bits.
        """
        return self.outputs.T

    def steps(self, config: PanaceaConfig) -> int:
        """Return the passes over the output channels: M steps of the machine."""
        return -(-self.n // (config.m_step * (2 if self.dtp else 1)))

    def counts(self, config: PanaceaConfig) -> dict[str, int]:
        """Return what the machine's event counters must hold, stalls or not."""
        products = self.result.part_outer_products
        dense = [max(slices - 1, 1) for slices in products.shape]
        static = int(products[: dense[0], : dense[1]].sum())
        passes = -(-self.m // config.tile_n)
        return {
            "static_products": static,
            "dynamic_products": int(products.sum()) - static,
            "wmem_reads": self.result.weight_storage(config.tile_k).vectors * passes,
            "amem_reads": self.result.act_storage(config.tile_k).vectors * self.steps(config),
        }

    def save(self, path: Path) -> None:
        """Write the case as an ``.npz`` file."""
        names = (*OPERANDS, *_CHANNEL_KEYS, *_SCALAR_KEYS, *_NEXT_KEYS)
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        values |= {name: int(getattr(self, name)) for name in _FLAG_KEYS}
        if self.table is not None:
            values |= {"table_slopes": self.table.slopes, "table_offsets": self.table.offsets}
        save_case(path, values)

    @classmethod
    def load(cls, path: Path) -> PanaceaCase:
        """Read a case: ``acts`` and ``weights``, the rest optional.

        Raises
        ------
        BitfabricError
            If the file cannot be read or an array is missing.
        ParameterError
            If an array does not fit.
        """
        scalars = (*_SCALAR_KEYS, *_NEXT_KEYS)
        values = load_case(path, (*_CHANNEL_KEYS, *_TABLE_KEYS), scalars, _FLAG_KEYS)
        for name in _FLAG_KEYS:
            if name in values:
                values[name] = bool(check_range(name, values[name], 0, 1))
        given = [name for name in _TABLE_KEYS if name in values]
        if len(given) == 1:
            raise BitfabricError(f"{given[0]} alone: a table takes {' and '.join(_TABLE_KEYS)}")
        if given:
            slopes, offsets = (tuple(check_integers(n, values.pop(n)).tolist()) for n in _TABLE_KEYS)
            form = PwlFormat(in_bits=CODE_BITS, out_bits=CODE_BITS, out_signed=False, segments=len(slopes))
            values["table"] = PwlTable(**dataclasses.asdict(form), slopes=slopes, offsets=offsets)
        return cls(name=path.stem, **values)
