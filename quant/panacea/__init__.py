"""Panacea: asymmetric activations multiplied slice by slice, frequent HO slices skipped, exactly (AQS-GEMM)."""

from bitfabric.quant.panacea.calibration import (
    ActParameters,
    calibrate_acts,
    calibrate_weights,
    distribution_type,
    integer_bias,
    manipulate_zero_point,
)
from bitfabric.quant.panacea.compression import (
    Compressed,
    Storage,
    compress_acts,
    compress_weights,
    decompress,
    storage,
)
from bitfabric.quant.panacea.counts import (
    Operations,
    TableOne,
    count_operations,
    expected_operations,
    outer_products,
)
from bitfabric.quant.panacea.gemm import AqsResult, aqs_gemm, fold_bias
from bitfabric.quant.panacea.keep import Sparsity, act_keep, act_sparsity, weight_keep, weight_sparsity
from bitfabric.quant.panacea.post import activation_table, post_process
from bitfabric.quant.panacea.slices import Slicing

__all__ = [
    "ActParameters",
    "AqsResult",
    "Compressed",
    "Operations",
    "Slicing",
    "Sparsity",
    "Storage",
    "TableOne",
    "act_keep",
    "act_sparsity",
    "activation_table",
    "aqs_gemm",
    "calibrate_acts",
    "calibrate_weights",
    "compress_acts",
    "compress_weights",
    "count_operations",
    "decompress",
    "distribution_type",
    "expected_operations",
    "fold_bias",
    "integer_bias",
    "manipulate_zero_point",
    "outer_products",
    "post_process",
    "storage",
    "weight_keep",
    "weight_sparsity",
]
