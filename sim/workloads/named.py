"""Workloads by name, for ``--workload``."""

from __future__ import annotations

from bitfabric.quant.errors import ParameterError
from bitfabric.sim.workloads.bert import GemmShape, bert_base, resnet18

_WORKLOADS = {"bert_base": (bert_base, 128), "resnet18": (resnet18, 224)}


def workload_shapes(spec: str) -> list[GemmShape]:
    """Return the GEMMs of ``NAME`` or ``NAME:SIZE``: ``bert_base`` (tokens), ``resnet18`` (image side).

    Raises
    ------
    ParameterError
        If the name or the size is not allowed.
    """
    name, _, size = spec.partition(":")
    if name not in _WORKLOADS or (size and not size.isdecimal()):
        raise ParameterError("workload", spec, "bert_base[:TOKENS] or resnet18[:IMAGE]")
    shapes, default = _WORKLOADS[name]
    return shapes(int(size) if size else default)
