"""Cases from real models, for ``--model``."""

from __future__ import annotations

from bitfabric.quant.errors import ParameterError
from bitfabric.sim.case import GemmCase
from bitfabric.sim.workloads.minilm import minilm_case


def model_case(spec: str) -> GemmCase:
    """Return the GEMM that ``MODEL:WHERE`` names, e.g. ``minilm:0.q``.

    Raises
    ------
    ParameterError
        If the model or the place is unknown.
    BitfabricError
        If the model's extra is not installed.
    """
    model, separator, where = spec.partition(":")
    if model != "minilm" or not separator:
        raise ParameterError("model", spec, "of the form minilm:LAYER.NAME, e.g. minilm:0.q")
    case = minilm_case(where)
    return GemmCase(
        name=spec,
        acts=case.act,
        weights=case.weight,
        bias=case.bias,
        multiplier=case.multiplier,
        shift=case.shift,
    )
