"""Descriptors: which bytes of the host's memory a packet on the data streams brings or takes."""

from __future__ import annotations

from amaranth.lib import data

from bitfabric.hdl.dtqatten.config import ADDRESS_BITS, LENGTH_BITS

STRIDE_BITS = 16  # of the bytes from a token to the next one

# Byte address and length in bytes, the address in the low bits.
DESCRIPTOR = data.StructLayout({"address": ADDRESS_BITS, "length": LENGTH_BITS})
