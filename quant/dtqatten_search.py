"""Search each layer's shares of 8, 4 and 0-bit tokens by Bayesian optimization: eq. (1)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.dtqatten_bops import LayerSize, Shares, mean_bops
from bitfabric.quant.errors import BitfabricError, ParameterError, check_range

# λ of the paper's BERT models; 0.24 for GPT-2.
PAPER_WEIGHT = 0.37
PAPER_TRIALS = 20
# Steps of 5 %.
PAPER_STEPS = 20


@dataclass(frozen=True)
class Trial:
    """Hold one point of the search.

    Members
    -------
    shares : tuple of Shares
        Of each layer.
    loss : float
        What the loss function gave.
    bops : float
        L_ops of eq. (2).
    objective : float
        ``loss + weight * bops``.
    """

    shares: tuple[Shares, ...]
    loss: float
    bops: float
    objective: float


@dataclass(frozen=True)
class SearchResult:
    """Hold the best point of a search and all of them.

    Members
    -------
    best : Trial
        Of the least objective; the first of several.
    trials : tuple of Trial
        In the order they were tried; the first is all tokens at 8 bits.
    """

    best: Trial
    trials: tuple[Trial, ...]


def search_shares(
    loss: Callable[[tuple[Shares, ...]], float],
    sizes: Sequence[LayerSize],
    *,
    weight: float = PAPER_WEIGHT,
    trials: int = PAPER_TRIALS,
    steps: int = PAPER_STEPS,
    seed: int = 0,
) -> SearchResult:
    """Search the shares of each layer that minimise ``loss + weight * L_ops``, eq. (1) [paper].

    Bayesian optimization by Optuna's tree-structured Parzen estimator, which needs the ``search`` extra. A
    layer keeps at least one step of its tokens and never more than the layer before it, because pruned
    tokens do not return; the first trial is all tokens at 8 bits, so that the result is never worse than
    that [ours].

    Parameters
    ----------
    loss : callable
        Takes the shares of every layer and returns the model's loss, such as its ``cross_entropy``.
    sizes : sequence of LayerSize
        One for each layer that is searched.
    weight : float
        λ, at least 0. L_ops is up to 64, so the same λ weighs 1/64 of what it does where 8-bit attention
        counts as 1; the paper does not say which its 0.37 means.
    trials : int
        Points tried, at least 1 (20 [paper]).
    steps : int
        Steps into which 100 % is divided, 1 to 1000 (20, of 5 % each [paper]).
    seed : int
        At least 0. The same seed and loss give the same result.

    Returns
    -------
    SearchResult

    Raises
    ------
    BitfabricError
        If Optuna is not installed.
    ParameterError
        If a parameter is out of range, or a loss is not finite.
    """
    layers = check_range("len(sizes)", len(sizes), 1)
    trials = check_range("trials", trials, 1)
    steps = check_range("steps", steps, 1, 1000)
    seed = check_range("seed", seed, 0, 2**32 - 1)
    if not (math.isfinite(weight) and weight >= 0):
        raise ParameterError("weight", weight, "finite and at least 0")
    optuna = _optuna()
    done: list[Trial] = []

    def objective(trial: Any) -> float:
        shares, most = [], steps
        for layer in range(layers):
            most = min(most, trial.suggest_int(f"keep_{layer}", 1, steps))
            high = min(most, trial.suggest_int(f"high_{layer}", 0, steps))
            shares.append(Shares((steps - most) / steps, (most - high) / steps, high / steps))
        found = float(loss(tuple(shares)))
        if not math.isfinite(found):
            raise ParameterError("loss", found, "finite for every share of tokens")
        bops = mean_bops(shares, sizes)
        done.append(Trial(tuple(shares), found, bops, found + weight * bops))
        return done[-1].objective

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        study.enqueue_trial({f"{what}_{i}": steps for i in range(layers) for what in ("keep", "high")})
        study.optimize(objective, n_trials=trials)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return SearchResult(min(done, key=lambda one: one.objective), tuple(done))


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean cross-entropy of classes, in nats.

    Parameters
    ----------
    logits : array, (samples, classes)
        Real and finite.
    labels : integer array, (samples,)
        0 to classes - 1.

    Raises
    ------
    ParameterError
        If not so.
    """
    values = np.asarray(logits, np.float64)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ParameterError("logits", values.shape, "finite, of shape (samples, classes)")
    chosen = check_integers("labels", labels, 0, values.shape[1] - 1)
    if chosen.shape != values.shape[:1]:
        raise ParameterError("labels", chosen.shape, f"of shape ({values.shape[0]},)")
    below = values - values.max(axis=1, keepdims=True)
    logs = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    return float(-logs[np.arange(chosen.size), chosen].mean())


def _optuna() -> Any:
    try:
        return importlib.import_module("optuna")
    except ImportError:
        message = "optuna is not installed; run `pip install 'bitfabric[search]'`"
        raise BitfabricError(message) from None
