"""Give out MiniLM-L6's real activations and weights, as floats and as INT8 GEMM cases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitfabric.quant.errors import ParameterError, check_choice, check_range
from bitfabric.quant.gemm import gemm
from bitfabric.quant.requant import requant_parameters, requantize
from bitfabric.quant.uniform import Quantized, quantize
from bitfabric.sim.workloads.minilm_model import GEMMS, HEADS, LAYERS, Floats, forward, frozen_sentences, load

NAMES = tuple(GEMMS)


class Operands(NamedTuple):
    """Hold one float32 GEMM: act (tokens, K), weight (K, N), bias (N,)."""

    act: Floats
    weight: Floats
    bias: Floats


@dataclass(frozen=True, eq=False)
class MinilmCase:
    """Hold one INT8 GEMM: ``output = requantize(act @ weight + bias)``.

    Members
    -------
    name : str
        "LAYER.NAME".
    act : int8 array, (tokens, K)
        Symmetric, one scale.
    weight : int8 array, (K, N)
        Symmetric, a scale per output channel.
    bias : int32 array, (N,)
        In units of ``act_scale * weight_scale``.
    multiplier, shift : int64 arrays, (N,)
        Requantization to INT8 at ``out_scale``.
    act_scale, out_scale : float
        ``out_scale`` is max|float32 result| / 127.
    weight_scale : float64 array, (N,)
    """

    name: str
    act: NDArray[np.int8]
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    act_scale: float
    weight_scale: NDArray[np.float64]
    out_scale: float

    def acc(self) -> NDArray[np.int64]:
        """Return the 32-bit accumulators with their bias, (tokens, N)."""
        return np.asarray(gemm(self.act, self.weight) + self.bias.astype(np.int64))

    def output(self) -> NDArray[np.int8]:
        """Return the golden INT8 result, (tokens, N), rounded half up, saturated to [-128, 127]."""
        return requantize(self.acc(), self.multiplier, self.shift).astype(np.int8)


def parse_spec(spec: str) -> tuple[int, str]:
    """Return the layer and GEMM name of "LAYER.NAME".

    Raises
    ------
    ParameterError
        If it is malformed or names no GEMM of the model.
    """
    match = re.fullmatch(r"([0-9])\.([a-z0-9]+)", spec)
    if match is None or int(match[1]) >= LAYERS or match[2] not in NAMES:
        allowed = f"LAYER.NAME with LAYER 0 to {LAYERS - 1} and NAME one of {', '.join(NAMES)}"
        raise ParameterError("model", spec, allowed)
    return int(match[1]), match[2]


def gemm_operands(layer: int, name: str) -> Operands:
    """Return one GEMM's operands from the float32 pass over the frozen sentences (read-only arrays).

    Parameters
    ----------
    layer : int
        0 to 5.
    name : str
        q, k, v, o (attention output), ffn1 or ffn2.

    Raises
    ------
    ParameterError, BitfabricError
        For a layer or name the model does not have; if the models extra is not installed.
    """
    layer = check_range("layer", layer, 0, LAYERS - 1)
    check_choice("name", name, NAMES)
    return Operands(_trace()[layer, name], *load().weight(layer, name))


def attention_operands(layer: int) -> tuple[Floats, Floats, Floats]:
    """Return a layer's Q, K and V, each (heads, tokens, head size), of the frozen sentences one after the other.

    Parameters
    ----------
    layer : int
        0 to 5.

    Raises
    ------
    ParameterError, BitfabricError
        For a layer that the model does not have; if the models extra is not installed.
    """
    found = []
    for name in ("q", "k", "v"):
        operands = gemm_operands(layer, name)
        values = operands.act @ operands.weight + operands.bias
        found.append(np.ascontiguousarray(values.reshape(len(values), HEADS, -1).transpose(1, 0, 2)))
    return found[0], found[1], found[2]


@cache
def minilm_case(spec: str) -> MinilmCase:
    """Return one GEMM in INT8: dynamic symmetric activations per tensor, weights per output channel.

    Parameters
    ----------
    spec : str
        "LAYER.NAME", e.g. "0.q".

    Raises
    ------
    ParameterError, BitfabricError
        For a malformed or unknown spec; if the models extra is not installed.
    """
    layer, name = parse_spec(spec)
    operands = gemm_operands(layer, name)
    act, weight, bias = _quantized(layer, name, operands.act)
    out_scale = float(np.abs(load().linear(layer, name, operands.act)).max()) / 127
    weight_scale = weight.scale.reshape(-1)
    multiplier, shift = requant_parameters(act.scale * weight_scale / out_scale)
    for shared in (act.values, weight.values, bias, multiplier, shift, weight_scale):
        shared.setflags(write=False)  # the case is cached
    return MinilmCase(
        name=spec,
        act=act.values.astype(np.int8, copy=False),
        weight=weight.values.astype(np.int8, copy=False),
        bias=bias,
        multiplier=multiplier,
        shift=shift,
        act_scale=float(act.scale),
        weight_scale=weight_scale,
        out_scale=out_scale,
    )


def embeddings(int8: bool = False, sentences: Sequence[str] | None = None) -> Floats:
    """Return the sentence embeddings, (sentences, 384), of length 1.

    Parameters
    ----------
    int8 : bool
        Run the 36 GEMMs with weights in INT8 (as in ``minilm_case``, their results back in float32);
        attention, layer norm and GELU stay float32.
    sentences : sequence of str, optional
        The frozen ones by default.

    Raises
    ------
    ParameterError, BitfabricError
        If ``sentences`` is empty; if the models extra is not installed.
    """
    chosen = frozen_sentences() if sentences is None else tuple(sentences)
    if not chosen:
        raise ParameterError("sentences", chosen, "at least one sentence")
    return forward(chosen, _int8_linear if int8 else load().linear)


@cache
def _trace() -> dict[tuple[int, str], Floats]:
    """Run the float32 pass once per process and keep what enters each GEMM."""
    seen: dict[tuple[int, str], Floats] = {}
    model = load()

    def record(layer: int, name: str, x: Floats) -> Floats:
        seen[layer, name] = x.copy()
        seen[layer, name].setflags(write=False)
        return model.linear(layer, name, x)

    forward(frozen_sentences(), record)
    return seen


def _quantized(layer: int, name: str, x: Floats) -> tuple[Quantized, Quantized, NDArray[np.int32]]:
    act = quantize(x)
    weight, bias = _weights(layer, name)
    return act, weight, np.rint(bias / (act.scale * weight.scale.reshape(-1))).astype(np.int32)


@cache
def _weights(layer: int, name: str) -> tuple[Quantized, Floats]:
    weight, bias = load().weight(layer, name)
    return quantize(weight, axis=1), bias


def _int8_linear(layer: int, name: str, x: Floats) -> Floats:
    act, weight, bias = _quantized(layer, name, x)
    acc = gemm(act.values, weight.values) + bias
    return np.asarray(acc * (act.scale * weight.scale), np.float32)
