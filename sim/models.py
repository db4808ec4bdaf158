"""Cases from real models, for ``--model``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bitfabric.hdl.gemm.config import GemmConfig
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import calibrate_acts, calibrate_weights, integer_bias
from bitfabric.sim.case import GemmCase
from bitfabric.sim.panacea_case import PanaceaCase
from bitfabric.sim.panacea_limits import fits
from bitfabric.sim.workloads.minilm import gemm_operands, minilm_case, parse_spec


def model_case(spec: str, config: GemmConfig | None = None) -> GemmCase:
    """Return the INT8 GEMM that ``MODEL:WHERE`` names, e.g. ``minilm:0.q``; it is the same for every ``config``.

    Raises
    ------
    ParameterError
        If the model or the place is unknown.
    BitfabricError
        If the model's extra is not installed.
    """
    case = minilm_case(_where(spec, "minilm:LAYER.NAME, e.g. minilm:0.q"))
    return GemmCase(
        name=spec,
        acts=case.act,
        weights=case.weight,
        bias=case.bias,
        multiplier=case.multiplier,
        shift=case.shift,
    )


def panacea_model_case(spec: str, config: PanaceaConfig) -> PanaceaCase:
    """Return the layer that ``MODEL:WHERE[:TOKENS]`` names, e.g. ``minilm:0.q:16``: its accumulators are exact.

    Weights have 7 bits and a scale per output channel, activations 8 bits and ZPM where it helps; the layer's
    output is the accumulator times both scales. Activations are calibrated on all tokens, the first ``TOKENS``
    are taken. Double tiles and resident activations are used where they fit; weights that do not
    fit are streamed.

    Raises
    ------
    ParameterError
        If the model, the place or the number of tokens is unknown.
    BitfabricError
        If the model's extra is not installed.
    """
    form = "minilm:LAYER.NAME[:TOKENS], e.g. minilm:0.q:16"
    where, separator, count = _where(spec, form).partition(":")
    layer, name = parse_spec(where)
    operands = gemm_operands(layer, name)
    tokens = len(operands.act)
    if separator:
        if not count.isdecimal() or not 1 <= int(count) <= tokens:
            raise ParameterError("model", spec, f"of the form {form}, with 1 to {tokens} TOKENS")
        tokens = int(count)
    weights = calibrate_weights(operands.weight.T, bits=7, per_channel=True)
    acts = calibrate_acts(operands.act.T, bits=8, zpm="auto")
    case = PanaceaCase(
        name=spec,
        acts=acts.quantize(operands.act[:tokens]).values,
        weights=weights.values.T,
        bias=integer_bias(operands.bias, weights.scale, acts.scale)
        - acts.zero_point * weights.values.sum(axis=1),
        weight_bits=7,
        act_bits=8,
        low_bits=acts.low_bits,
        zero_point=acts.zero_point,
    )
    case = replace(case, stream_weights=not fits(config, case))
    # Two weight tiles at a time are for a layer whose weights stay in WMEM [paper].
    for mode in ("resident",) if case.stream_weights else ("dtp", "resident"):
        fields: dict[str, Any] = {mode: True}
        wanted = replace(case, **fields)
        if fits(config, wanted):
            case = wanted
    return case


def _where(spec: str, form: str) -> str:
    model, separator, where = spec.partition(":")
    if model != "minilm" or not separator:
        raise ParameterError("model", spec, f"of the form {form}")
    return where
