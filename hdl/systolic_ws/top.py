"""The weight-stationary machine."""

from __future__ import annotations

from bitfabric.hdl.block import Block
from bitfabric.hdl.gemm.top import GemmTop
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.hdl.systolic_ws.core import SystolicWsCore


class SystolicWsTop(GemmTop):
    """Put the weight-stationary array into the GEMM machine.

    Parameters
    ----------
    config : SystolicWsConfig
        Every parameter of the design.

    Members
    -------
    See ``GemmTop``.
    """

    NAME = "systolic_ws"
    ACCUMULATE = True

    def __init__(self, config: SystolicWsConfig):
        super().__init__(config)
        self._array_config = config

    @property
    def array_latency(self) -> int:
        """Cycles from a tile's last activation at row 0 to its last psum at the south edge."""
        config = self._array_config
        return config.rows + config.columns - 1

    def core(self) -> Block:
        """Return the weight-stationary core."""
        return SystolicWsCore(self._array_config)
