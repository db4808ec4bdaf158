"""HOW it is built: Amaranth components and the one Verilog emission path."""

if __name__ != "bitfabric.hdl":
    raise ImportError(f"import this package as bitfabric.hdl, not as {__name__}")
