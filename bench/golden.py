"""The golden model's integer GEMM against numpy's float64 matmul."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from bench.row import Progress, Row, medians
from bitfabric.quant.gemm import gemm

M, K, N = 768, 768, 128


def rows(quick: bool, progress: Progress) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    for kind, low, high in (("int8", -128, 128), ("uint8", 0, 256)):
        progress(f"golden GEMM, {kind} activations")
        acts = rng.integers(low, high, (M, K)).astype(kind)
        weights = rng.integers(-128, 128, (K, N), dtype=np.int8)
        acts64, weights64 = acts.astype(np.float64), weights.astype(np.float64)
        ours, floats = medians(
            11 if quick else 101,
            partial(gemm, acts, weights),
            partial(np.matmul, acts64, weights64),
        )
        yield Row(
            what=f"golden GEMM, {kind} x int8",
            target="<= 2x float64 matmul",
            reached=f"{ours / floats:.2f}x ({ours * 1e3:.2f} ms against {floats * 1e3:.2f} ms)",
            workload=f"quant.gemm.gemm, {M}x{K}x{N}, medians, in turn",
            met=ours <= 2 * floats,
            figures={"seconds": ours, "float64_seconds": floats},
        )
