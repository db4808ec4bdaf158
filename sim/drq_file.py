"""The files that hold DRQ's cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.quant.errors import BitfabricError, ParameterError
from bitfabric.sim.case_file import load_arrays, save_case

if TYPE_CHECKING:  # a case loads itself with this module
    from bitfabric.sim.drq_case import DrqCase

REQUANT_KEYS = ("bias", "multiplier", "shift")
_MAPS = ("image", "acts")
_SCALAR_KEYS = (
    "kernel_height",
    "kernel_width",
    "stride",
    "padding",
    "threshold",
    "region_height",
    "region_width",
    "low",
    "high",
    "zero_point",
)


def save_drq(path: Path, case: DrqCase) -> None:
    """Write a case as an ``.npz`` file."""
    names = ("image", "weights", *REQUANT_KEYS, *_SCALAR_KEYS)
    save_case(path, {name: getattr(case, name) for name in names})


def load_drq(path: Path) -> dict[str, Any]:
    """Return the fields of a case: ``weights``, and ``image`` or the ``acts`` of a plain GEMM; the rest optional.

    Raises
    ------
    BitfabricError
        If the file cannot be read, an array is missing or there are both kinds of activations.
    ParameterError
        If an array does not fit.
    """
    holds = "weights (K, N), and image (height, width, channels) or acts (M, K)"
    values = load_arrays(path, ("weights",), (*_MAPS, *REQUANT_KEYS), _SCALAR_KEYS, (), holds=holds)
    given = [name for name in _MAPS if name in values]
    if len(given) != 1:
        what = "has both image and acts" if given else "lacks image"
        raise BitfabricError(f"{path} {what}; a case file holds {holds}")
    if given == ["acts"]:
        values["image"] = gemm_image(values.pop("acts"))
    return values


def gemm_image(acts: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """Return the activations (M, K) of a plain GEMM as a feature map of M x 1 pixels.

    Raises
    ------
    ParameterError
        If they are no matrix.
    """
    if acts.ndim != 2:
        raise ParameterError("acts", acts.shape, "of shape (M, K)")
    return acts[:, np.newaxis]
