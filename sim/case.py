"""GEMM cases: operands, the golden result, and the files that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.gemm.config import GemmConfig
from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import BitfabricError, ParameterError, check_range
from bitfabric.quant.gemm import gemm
from bitfabric.quant.requant import ACC_MAX, ACC_MIN, MAX_MULTIPLIER, MAX_SHIFT, requantize
from bitfabric.sim.case_file import OPERANDS, check_channels, check_operands, load_case, save_case

_REQUANT_KEYS = ("bias", "multiplier", "shift")
_SCALAR_KEYS = ("low", "high", "zero_point")


@dataclass(frozen=True, kw_only=True)
class GemmCase:
    """Hold the operands of ``acts (M, K) x weights (K, N)`` and, if bytes are to come out, their requantization.

    Members
    -------
    name : str
        What a report calls it.
    acts, weights : integer arrays (M, K), (K, N)
        Operands.
    bias, multiplier, shift : integer arrays (N,), optional
        Requantization per output channel; all or none.
    low, high, zero_point : int
        Bounds before the zero point, and the zero point.

    Raises
    ------
    ParameterError
        If the shapes do not fit.
    """

    name: str = "case"
    acts: NDArray[np.integer]
    weights: NDArray[np.integer]
    bias: NDArray[np.integer] | None = None
    multiplier: NDArray[np.integer] | None = None
    shift: NDArray[np.integer] | None = None
    low: int = -128
    high: int = 127
    zero_point: int = 0

    def __post_init__(self) -> None:
        check_operands(self.acts, self.weights)
        given = [getattr(self, name) is not None for name in _REQUANT_KEYS]
        if any(given) and not all(given):
            missing = [name for name, there in zip(_REQUANT_KEYS, given, strict=True) if not there]
            raise BitfabricError(
                f"{', '.join(missing)} missing: requantization takes bias, multiplier and shift"
            )
        for name in _REQUANT_KEYS:
            check_channels(name, getattr(self, name), self.n)

    @property
    def m(self) -> int:
        """Activation rows."""
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
    def requantized(self) -> bool:
        """Bytes come out, not accumulators."""
        return self.multiplier is not None

    def check(self, config: GemmConfig) -> None:
        """Refuse what ``config`` cannot compute.

        Raises
        ------
        ParameterError
            If a dimension or an operand is out of range.
        """
        config.check_gemm(self.m, self.k, self.n)
        for name, bits in (("acts", config.act_bits), ("weights", config.weight_bits)):
            array = getattr(self, name)
            bound = 1 << (bits - 1)
            if array.min() < -bound or array.max() >= bound:
                value = int(array.min() if array.min() < -bound else array.max())
                raise ParameterError(name, value, f"within {bits} bits, two's complement")
        for name in _SCALAR_KEYS:
            check_range(name, getattr(self, name), -256, 255)  # the registers have 9 bits
        if self.low > self.high:
            raise ParameterError("low", self.low, f"at most high={self.high}")
        if self.requantized:
            limits = {"bias": (ACC_MIN, ACC_MAX), "multiplier": (1, MAX_MULTIPLIER), "shift": (1, MAX_SHIFT)}
            for name, (low, high) in limits.items():
                check_integers(name, getattr(self, name), low, high)

    def channel_parameters(self) -> tuple[NDArray[np.integer], ...]:
        """Return bias, multiplier and shift, each (N,); empty where accumulators come out."""
        given = (self.bias, self.multiplier, self.shift)
        return tuple(array for array in given if array is not None)

    def golden(self) -> NDArray[np.int64]:
        """Return what the machine must compute, (M, N)."""
        acc = gemm(self.acts, self.weights).astype(np.int64)
        if not self.requantized:
            return acc
        bias, multiplier, shift = self.channel_parameters()
        out = requantize(
            acc, multiplier, shift, zero_point=self.zero_point, low=self.low, high=self.high, bias=bias
        )
        return np.asarray(out, dtype=np.int64)

    def save(self, path: Path) -> None:
        """Write the case as an ``.npz`` file."""
        save_case(path, {name: getattr(self, name) for name in (*OPERANDS, *_REQUANT_KEYS, *_SCALAR_KEYS)})

    @classmethod
    def load(cls, path: Path) -> GemmCase:
        """Read a case: ``acts`` and ``weights``, the rest optional.

        Raises
        ------
        BitfabricError
            If the file cannot be read or an array is missing.
        ParameterError
            If an array does not fit.
        """
        return cls(name=path.stem, **load_case(path, _REQUANT_KEYS, _SCALAR_KEYS))


def random_case(
    config: GemmConfig, rng: np.random.Generator, m: int, k: int, n: int, *, requantized: bool | None = None
) -> GemmCase:
    """Return a case with operands over the full range, a part of them at its ends.

    ``requantized`` None leaves it to chance.
    """

    def operand(rows: int, columns: int, bits: int) -> NDArray[np.int8]:
        bound = 1 << (bits - 1)
        values = rng.integers(-bound, bound, (rows, columns))
        corners = rng.choice([-bound, bound - 1, 0, -1], (rows, columns))
        share = rng.choice([0.0, 0.2, 1.0], p=[0.6, 0.2, 0.2])
        return np.where(rng.random((rows, columns)) < share, corners, values).astype(np.int8)

    acts, weights = operand(m, k, config.act_bits), operand(k, n, config.weight_bits)
    name = f"M{m} K{k} N{n}"
    if requantized is None:
        requantized = bool(rng.integers(2))
    if not requantized:
        return GemmCase(name=name, acts=acts, weights=weights)
    bound = 1 << (config.acc_bits - 2)
    wide = rng.random(n) < 0.5
    spread = np.where(wide, bound, 1 << 12)
    zero_point = int(rng.integers(-128, 128))
    low, high = sorted(int(v) for v in rng.integers(-128, 128, 2))
    full = rng.random() < 0.7
    return GemmCase(
        name=f"{name} bytes",
        acts=acts,
        weights=weights,
        bias=rng.integers(-spread, spread),
        multiplier=rng.integers(1, np.where(wide, 1 << 31, 1 << 16)),
        shift=rng.integers(1, np.where(wide, 63, 24)),
        low=-128 if full else low,
        high=127 if full else high,
        zero_point=0 if full else zero_point,
    )


def random_cases(config: GemmConfig, seed: int, count: int) -> list[GemmCase]:
    """Return ``count`` random cases around the machine's tile sizes: single elements, tails, several tiles."""
    rng = np.random.default_rng(seed)

    def dimension(step: int) -> int:
        sizes = (1, step, int(rng.integers(1, 2 * step + 2)), int(rng.integers(1, 3 * step + 2)))
        return sizes[rng.integers(len(sizes))]

    return [
        random_case(
            config,
            rng,
            dimension(min(config.m_step, 3 * config.rows)),
            min(dimension(min(config.k_step, 3 * config.rows)), config.k_max),
            dimension(config.columns),
        )
        for _ in range(count)
    ]
