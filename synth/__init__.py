"""WHAT IT COSTS: yosys flows, cell libraries, area, timing and formal proofs."""

if __name__ != "bitfabric.synth":
    raise ImportError(f"import this package as bitfabric.synth, not as {__name__}")
