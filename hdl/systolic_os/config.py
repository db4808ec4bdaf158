"""Parameters of the output-stationary systolic array."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from bitfabric.hdl.config import param
from bitfabric.hdl.gemm.config import GemmConfig
from bitfabric.quant.errors import ParameterError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SystolicOsConfig(GemmConfig):
    """Hold the parameters of ``systolic_os``.

    A tile of `rows` activation rows and `columns` output channels costs ``R + C + K - 2`` cycles at the array's
    boundary, with ``tile_overlap`` only ``max(K, R)`` until the next one starts [derived].
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"rows": 3, "columns": 2, "weight_depth": 5, "act_depth": 10, "axis_data_bits": 32},
        "small": {},
        "medium": {
            "rows": 16,
            "columns": 16,
            "weight_depth": 512,
            "act_depth": 1024,
            "axis_data_bits": 128,
        },
        "paper": {"rows": 22, "columns": 36, "weight_depth": 512, "act_depth": 4096, "axis_data_bits": 256},
    }

    weight_depth: int = param(
        256,
        "elements of K whose weights and activations are fed as one block",
        unit="elements",
        low=1,
        high=65535,
    )
    tile_overlap: bool = param(False, "feed the next tile while the last one still runs through the array")

    def validate(self) -> None:
        """Refuse buffers that a block does not fit, and blocks shorter than the drain of a tile."""
        super().validate()
        if self.weight_depth < self.rows:
            raise ParameterError("weight_depth", self.weight_depth, f"at least rows={self.rows}")
        if self.act_depth < self.weight_depth:
            raise ParameterError("act_depth", self.act_depth, f"at least weight_depth={self.weight_depth}")

    @property
    def m_step(self) -> int:
        """Activation rows of one tile."""
        return self.rows

    @property
    def k_step(self) -> int:
        """Elements of K of one block."""
        return self.weight_depth

    @property
    def m_innermost(self) -> bool:
        """A word holds one element of K of `rows` activation rows."""
        return False
