"""WHAT is computed: number formats, quantization schemes, bit-exact golden models (numpy only)."""

if __name__ != "bitfabric.quant":
    raise ImportError(f"import this package as bitfabric.quant, not as {__name__}")

SCHEMES = {
    "uniform": "symmetric or asymmetric integers, per tensor or per axis, with percentile clipping",
    "slicing": "signed slices of 3n+4-bit weights, unsigned slices of 4k+4-bit activations",
    "rle": "run-length coding of the vectors that are kept",
    "requant": "fixed-point requantization, halves up",
    "pwl": "piecewise-linear functions in integers",
    "panacea": "AQS-GEMM: asymmetric bit slices, frequent slices skipped and compensated exactly (golden model)",
    "drift": "precision per sub-tensor, chosen at run time from its maximum and its mean magnitude (golden model)",
    "dtqatten": "tokens at 8, 4 or 0 bits by their attention, integer softmax, attention of a block (golden model)",
    "drq": "8 bits in the sensitive regions of a convolution's feature map, 4 bits elsewhere (golden model)",
}
FORMATS = {
    "int": "two's complement integers of 2 to 16 bits",
    "uint": "unsigned integers of 2 to 16 bits with a zero point",
}
