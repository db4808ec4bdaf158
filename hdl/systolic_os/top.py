"""The output-stationary machine."""

from __future__ import annotations

from bitfabric.hdl.block import Block
from bitfabric.hdl.gemm.top import GemmTop
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_os.core import SystolicOsCore


class SystolicOsTop(GemmTop):
    """Put the output-stationary array into the GEMM machine.

    Parameters
    ----------
    config : SystolicOsConfig
        Every parameter of the design.

    Members
    -------
    See ``GemmTop``.
    """

    NAME = "systolic_os"
    ACCUMULATE = False

    def __init__(self, config: SystolicOsConfig):
        super().__init__(config)
        self._array_config = config

    @property
    def array_latency(self) -> int:
        """Cycles from a tile's last activation at row 0 to its last psum at the south edge."""
        config = self._array_config
        return 2 * config.rows + config.columns - 1

    def core(self) -> Block:
        """Return the output-stationary core."""
        return SystolicOsCore(self._array_config)
