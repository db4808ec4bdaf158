"""Estimate how a tensor's error changes the loss: empirical Fisher information or the Hessian's trace."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_broadcast
from bitfabric.quant.errors import BitfabricError, ParameterError, check_range

Floats = NDArray[np.float64]


def fisher_curvature(gradients: ArrayLike) -> Floats:
    """Return the empirical Fisher estimate of the mean loss's Hessian diagonal: ``g²/samples`` [ours].

    Parameters
    ----------
    gradients : array, (samples, ...)
        Gradient of each sample's own loss, not of their mean. For activations the result lies over the tensor
        (samples, ...); for weights, which all samples share, sum it over axis 0.

    Raises
    ------
    ParameterError
        For an array without samples.
    """
    given = np.asarray(gradients, np.float64)
    if given.ndim < 1 or given.size == 0:
        raise ParameterError("gradients", given.shape, "of shape (samples, ...), not empty")
    return np.square(given) / given.shape[0]


def trace_curvature(trace: float, elements: int) -> float:
    """Return the mean of a Hessian's diagonal, ``max(tr(H), 0)/numel`` (HAWQ's average trace).

    A negative trace has no meaning as a cost and counts as 0 [ours].

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    if not math.isfinite(trace):
        raise ParameterError("trace", trace, "finite")
    return max(float(trace), 0.0) / check_range("elements", elements, 1)


def loss_change(curvature: ArrayLike, error: ArrayLike) -> float:
    """Return the predicted change of the loss, ``1/2·Σ h·Δx²``, to second order at a minimum.

    With ``trace_curvature`` that is ``1/2·tr(H)/numel·||Δx||²``.

    Parameters
    ----------
    curvature : array
        Diagonal of the Hessian; broadcasts to ``error``.
    error : array
        Δx, real.

    Raises
    ------
    ParameterError
        For shapes that do not fit.
    """
    errors, diagonal = np.asarray(error, np.float64), np.asarray(curvature, np.float64)
    check_broadcast("curvature", diagonal.shape, errors.shape)
    return float(0.5 * (diagonal * np.square(errors)).sum())


def hutchinson_trace(
    product: Callable[[Floats], ArrayLike], size: int, probes: int = 64, seed: int = 0
) -> float:
    """Return an unbiased estimate of tr(H): the mean of ``v·Hv`` over random signs v.

    Parameters
    ----------
    product : callable
        v (size,) to Hv (size,).
    size : int
        Rows of H.
    probes : int
        Vectors v; the standard deviation falls with their root. A diagonal H is found exactly with one.
    seed : int

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    size, probes = check_range("size", size, 1), check_range("probes", probes, 1)
    rng = np.random.default_rng(seed)
    found = 0.0
    for _ in range(probes):
        signs = (2 * rng.integers(0, 2, size) - 1).astype(np.float64)
        found += float(signs @ np.asarray(product(signs), np.float64).reshape(-1))
    return found / probes


def torch_traces(loss: Any, tensors: Sequence[Any], probes: int = 64, seed: int = 0) -> list[float]:
    """Return estimates of tr(H) for each of a torch graph's tensors, by Hutchinson's method.

    Needs the ``hessian`` extra.

    Parameters
    ----------
    loss : torch.Tensor
        A scalar whose graph is still there.
    tensors : sequence of torch.Tensor
        Activations or weights that ``loss`` depends on.
    probes, seed : int
        As in ``hutchinson_trace``.

    Raises
    ------
    BitfabricError
        If torch is not installed.
    ParameterError
        If a parameter is out of range.
    """
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        message = "torch is not installed; run `pip install 'bitfabric[hessian]'`, or use fisher_curvature"
        raise BitfabricError(message) from None
    gradients = torch.autograd.grad(loss, list(tensors), create_graph=True)
    traces = []
    for tensor, gradient in zip(tensors, gradients, strict=True):

        def product(signs: Floats, tensor: Any = tensor, gradient: Any = gradient) -> ArrayLike:
            vector = torch.as_tensor(signs, dtype=gradient.dtype, device=gradient.device).reshape(
                gradient.shape
            )
            if not gradient.requires_grad:
                return np.zeros(signs.shape)  # the loss is linear in the tensor
            (column,) = torch.autograd.grad(
                gradient, [tensor], grad_outputs=vector, retain_graph=True, allow_unused=True
            )
            return np.zeros(signs.shape) if column is None else np.asarray(column.detach().cpu().numpy())

        traces.append(hutchinson_trace(product, tensor.numel(), probes, seed))
    return traces
