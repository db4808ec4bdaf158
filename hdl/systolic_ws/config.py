"""Parameters of the weight-stationary systolic array."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from bitfabric.hdl.config import param
from bitfabric.hdl.gemm.config import GemmConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.gemm import acc_bits_needed


@dataclasses.dataclass(frozen=True, kw_only=True)
class SystolicWsConfig(GemmConfig):
    """Hold the parameters of ``systolic_ws``.

    ``weight_buffering="single"`` costs ``(R + M + R + C - 2)`` cycles a tile at the array's boundary (Drift's
    eq. 7 at 8x8 bits [paper]); ``"double"`` costs ``R + (tiles-1)*max(M, R) + M + R + C - 2`` in all [derived].
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"rows": 3, "columns": 2, "acc_depth": 8, "act_depth": 24, "axis_data_bits": 32},
        "small": {},
        "medium": {"rows": 16, "columns": 16, "acc_depth": 128, "act_depth": 4096, "axis_data_bits": 128},
        "paper": {"rows": 22, "columns": 36, "acc_depth": 256, "act_depth": 8192, "axis_data_bits": 256},
    }

    acc_depth: int = param(
        64, "activation rows that an accumulator bank holds", unit="rows", low=1, high=65535
    )
    weight_buffering: str = param(
        "single",
        "single: a tile's weights load when the last psum of the tile before has left; "
        "double: they load under its computation",
        choices=("single", "double"),
    )

    def validate(self) -> None:
        """Refuse an act buffer that one tile does not fit."""
        super().validate()
        if self.act_depth < self.acc_depth:
            raise ParameterError("act_depth", self.act_depth, f"at least acc_depth={self.acc_depth}")

    @property
    def m_step(self) -> int:
        """Activation rows of one tile."""
        return self.acc_depth

    @property
    def k_step(self) -> int:
        """Elements of K of one tile."""
        return self.rows

    @property
    def m_innermost(self) -> bool:
        """A word holds `rows` consecutive elements of one activation row."""
        return True

    @property
    def psum_bits(self) -> int:
        """Width of a psum inside the array: enough for `rows` products."""
        return acc_bits_needed(self.rows, self.act_bits, self.weight_bits)
