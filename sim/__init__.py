"""WHEN it happens: cycle models, cocotb environment, simulator runners, workloads."""

if __name__ != "bitfabric.sim":
    raise ImportError(f"import this package as bitfabric.sim, not as {__name__}")
