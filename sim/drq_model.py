"""DRQ's cases from real models, for ``--model``."""

from __future__ import annotations

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.quant.drq import threshold_for_share
from bitfabric.sim.drq_case import DrqCase
from bitfabric.sim.drq_file import gemm_image
from bitfabric.sim.drq_limits import rows_max
from bitfabric.sim.models import tokens_and_share

DRQ_SHARE = 0.7  # of regions at 4 bits, as of Drift's tokens


def drq_model_case(spec: str, config: DrqConfig) -> DrqCase:
    """Return the layer that ``MODEL:WHERE[:TOKENS][:SHARE]`` names: a 1x1 convolution on a map of tokens x 1 pixels.

    Operands and bytes are those of ``minilm_case``. The threshold is the largest one that leaves, of the regions of all
    tokens, no fewer than 1 - ``SHARE`` sensitive (``SHARE`` is ``DRQ_SHARE`` by default). The first ``TOKENS`` are taken,
    by default as many as the machine holds.

    Raises
    ------
    ParameterError
        If the model, the place, the number of tokens or the share is unknown, or the machine does not hold a token.
    BitfabricError
        If the model's extra is not installed.
    """
    case, count, low = tokens_and_share(spec, DRQ_SHARE)
    if count is None:
        count = rows_max(config, case.act.shape[1])
    return DrqCase(
        name=spec,
        image=gemm_image(case.act[:count]),
        weights=case.weight,
        threshold=threshold_for_share(gemm_image(case.act), 1 - low),
        bias=case.bias,
        multiplier=case.multiplier,
        shift=case.shift,
    )
