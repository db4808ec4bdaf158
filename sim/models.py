"""Cases from real models, for ``--model``."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.gemm.config import GemmConfig
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.quant.drift import block_statistics, select_weights
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import calibrate_acts, calibrate_weights, integer_bias
from bitfabric.sim.case import GemmCase
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_limits import fits as fits_drift
from bitfabric.sim.drift_options import threshold_for
from bitfabric.sim.dtqatten_case import AttentionCase, attention_case
from bitfabric.sim.panacea_case import PanaceaCase
from bitfabric.sim.panacea_limits import fits
from bitfabric.sim.workloads.minilm import (
    MinilmCase,
    attention_operands,
    gemm_operands,
    minilm_case,
    parse_spec,
)

ATTENTION_SHARES = (0.72, 0.31)  # of tokens that stay, and that have 8 bits: the paper's mean for BERT
DRIFT_SHARE = 0.7  # of tokens and of channels at 4 bits: half of the products are then of 4 x 4 bits


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


def drift_model_case(spec: str, config: DriftConfig) -> DriftCase:
    """Return the layer that ``MODEL:WHERE[:TOKENS][:SHARE]`` names, e.g. ``minilm:0.q:16`` or ``minilm:0.q:0.25``.

    Activations have 8 bits and one scale, weights 8 bits and a scale per output channel; bytes come out, at the scale
    of ``minilm_case``. The selection is per token and per output channel, 8 or 4 bits: δ of the activations and δ/Δ of
    the weights are the largest ones at which ``SHARE`` (``DRIFT_SHARE`` by default) of all tokens and of the channels
    are low. The first ``TOKENS`` are taken, by default as many as the machine holds, all or a half of them and so on.

    Raises
    ------
    ParameterError
        If the model, the place, the number of tokens or the share is unknown.
    BitfabricError
        If the model's extra is not installed.
    """
    case, count, low = tokens_and_share(spec, DRIFT_SHARE)
    rows, channels = case.act.shape[0], case.weight.shape[1]
    tokens = block_statistics(case.act, (1, None))
    scale_free = threshold_for(block_statistics(case.weight, (None, 1)), round(low * channels), 1.0)
    weights = select_weights(case.weight, 1.0, scale_free)
    layer = DriftCase(
        name=spec,
        acts=case.act[:count],
        weights=weights.values,
        weight_bits=weights.bits,
        weight_clip=weights.shift,
        scale=case.act_scale,
        threshold=threshold_for(tokens, round(low * rows), case.act_scale),
        bias=case.bias,
        multiplier=case.multiplier,
        shift=case.shift,
    )
    while count is None and layer.m > 1 and not fits_drift(config, layer):
        layer = replace(layer, acts=layer.acts[: layer.m // 2])
    return layer


def dtqatten_model_case(spec: str, config: DtqattenConfig) -> AttentionCase:
    """Return the block that ``MODEL:BLOCK[:TOKENS][:KEEP:HIGH]`` names: all heads, real Q, K and V.

    For example ``minilm:1:64`` or ``minilm:1:64:0.5:0.25``. The tokens are the first of the frozen sentences, one after
    the other. Their importance in the block, with all of them at 8 bits, says which stay and which have 8 bits: shares
    ``KEEP`` and ``HIGH`` of all, ``ATTENTION_SHARES`` by default; the next block has the same shares.

    Raises
    ------
    ParameterError
        If the model, the block, the number of tokens or a share is unknown.
    BitfabricError
        If the model's extra is not installed.
    """
    form = "minilm:BLOCK[:TOKENS][:KEEP:HIGH], e.g. minilm:1:64:0.72:0.31"
    where = re.fullmatch(r"(\d)(?::(\d+))?(?::(\d*\.\d+):(\d*\.\d+))?", _where(spec, form))
    if where is None or max(float(where[3] or 0), float(where[4] or 0)) > 1:
        raise ParameterError("model", spec, f"of the form {form}, with shares from 0.0 to 1.0")
    q, k, v = attention_operands(int(where[1]))
    tokens = int(where[2] or min(config.tokens_max, q.shape[1]))
    if not 1 <= tokens <= q.shape[1]:
        raise ParameterError("model", spec, f"of the form {form}, with 1 to {q.shape[1]} TOKENS")
    vectors = [values[:, :tokens] for values in (q, k, v)]
    keep, high = (float(where[3]), float(where[4])) if where[3] else ATTENTION_SHARES
    whole = attention_case(*vectors, bits=np.full(tokens, 8), keep=keep, high=high)
    return attention_case(*vectors, bits=whole.result.bits, keep=keep, high=high, name=spec)


def tokens_and_share(spec: str, usual: float) -> tuple[MinilmCase, int | None, float]:
    """Return the GEMM that ``MODEL:WHERE[:TOKENS][:SHARE]`` names, TOKENS if it has any, and SHARE or the ``usual`` one.

    Raises
    ------
    ParameterError
        If the model, the place, the number of tokens or the share is unknown.
    BitfabricError
        If the model's extra is not installed.
    """
    form = "minilm:LAYER.NAME[:TOKENS][:SHARE], e.g. minilm:0.q:16:0.7"
    where = re.fullmatch(r"([^:]*)(?::(\d+))?(?::(\d*\.\d*))?", _where(spec, form))
    share = where[3] or str(usual) if where else "."
    if where is None or share == "." or float(share) > 1:
        raise ParameterError("model", spec, f"of the form {form}, with SHARE from 0.0 to 1.0")
    case = minilm_case(where[1])
    if not where[2]:
        return case, None, float(share)
    count, tokens = int(where[2]), len(case.act)
    if not 1 <= count <= tokens:
        raise ParameterError("model", spec, f"of the form {form}, with 1 to {tokens} TOKENS")
    return case, count, float(share)


def _where(spec: str, form: str) -> str:
    model, separator, where = spec.partition(":")
    if model != "minilm" or not separator:
        raise ParameterError("model", spec, f"of the form {form}")
    return where
