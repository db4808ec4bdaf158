"""MiniLM's layers through the golden model: exact whatever the calibration, and near the real numbers."""

from __future__ import annotations

import numpy as np
import pytest

from bitfabric.quant.panacea import (
    act_sparsity,
    aqs_gemm,
    calibrate_acts,
    calibrate_weights,
    fold_bias,
    integer_bias,
    weight_sparsity,
)
from bitfabric.sim.workloads.minilm import NAMES, gemm_operands

pytestmark = pytest.mark.minilm


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer", range(6))
def test_a_layer(layer: int, name: str) -> None:
    operands = gemm_operands(layer, name)
    # The machine's W is (M, K) = (output channels, K), its x is (K, N) = (K, tokens).
    real, x = operands.weight.T, operands.act.T
    weights = calibrate_weights(real, per_channel=True)
    found = {}
    for zpm in ("off", "on", "auto"):
        for target in (None, 0.9):
            acts = calibrate_acts(x, zpm=zpm, target_sparsity=target)
            found[zpm, target] = acts
            values = acts.quantize(x).values
            result = aqs_gemm(weights.values, values, acts.zero_point, acts.low_bits)
            kept = values.astype(np.int64) >> (acts.low_bits - 4) << (acts.low_bits - 4)
            exact = weights.values.astype(np.float64) @ kept
            assert np.array_equal(result.acc, exact)
            parts = np.tensordot(result.part_weights, result.parts, axes=2)
            assert np.array_equal(parts + result.fold - result.compensation, exact)
            # The counts are those of the sparsities measured.
            assert acts.sparsity == act_sparsity(values, acts.zero_point, low_bits=acts.low_bits)
            assert 1 - result.act_keep.mean() == pytest.approx(acts.sparsity.vector)
            assert 1 - result.weight_keep.mean() == pytest.approx(weight_sparsity(weights.values).vector)
            assert result.operations.panacea.multiplications <= result.operations.sibia.multiplications
            # What the PPU sees, in real numbers, is the layer: to the truncation of DBS, whose mean is given back.
            unit = weights.scale * acts.scale
            folded = fold_bias(
                integer_bias(operands.bias, weights.scale, acts.scale),
                weights.values,
                acts.zero_point,
                acts.low_bits,
                dropped=True,
            )
            layer_out = (parts - result.compensation + folded[:, None]) * unit
            reference = real.astype(np.float64) @ x + operands.bias[:, None]
            assert np.corrcoef(layer_out.ravel(), reference.ravel())[0, 1] > 0.9
    for target in (None, 0.9):
        off, on, auto = (found[zpm, target].sparsity.vector for zpm in ("off", "on", "auto"))
        assert auto == max(off, on)
