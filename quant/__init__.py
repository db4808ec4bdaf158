"""WHAT is computed: number formats, quantization schemes, bit-exact golden models (numpy only)."""

if __name__ != "bitfabric.quant":
    raise ImportError(f"import this package as bitfabric.quant, not as {__name__}")
