"""Clock and reset of the AXI tops, and what all their ports share."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib.wiring import In, Member

from bitfabric.hdl.block import Block


def axi_clock_ports() -> dict[str, Member]:
    """Return the members ``aclk`` and ``aresetn`` of a top."""
    return {"aclk": In(1), "aresetn": In(1)}


def axi_domain(m: Module, top: Any) -> None:
    """Clock the domain ``sync`` of ``m`` by ``top.aclk`` and reset it by ``top.aresetn``.

    The reset is synchronous and goes through one flip-flop, so that the net that fans out over the design starts
    at a register and not at a pin. The design therefore leaves reset one cycle after ``aresetn`` rises. Nothing is
    lost meanwhile: the ready outputs of ``StreamRegister`` and ``AxiLiteRegisters`` are low until then.
    It starts in reset even before the first edge where initial values are honoured (FPGA, simulators).
    """
    domain = ClockDomain("sync")
    reset = Signal(init=1, reset_less=True, name="reset")
    domain.clk = top.aclk
    domain.rst = reset
    m.domains.sync = domain
    m.d.sync += reset.eq(~top.aresetn)


def port(top: Block, prefix: str, name: str) -> Any:
    """Return the port ``<prefix>_<name>`` of ``top``."""
    return getattr(top, f"{prefix}_{name}")
