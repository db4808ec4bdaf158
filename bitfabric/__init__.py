"""bitfabric: synthesizable RTL for neural-network accelerators whose precision changes at run time."""

__version__ = "0.1.0"
