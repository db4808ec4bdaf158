"""An AXI4-Lite register file made from a register map."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Member, Out, Signature

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.axi import port
from bitfabric.hdl.common.register_map import REGISTER_BITS, RegisterMap
from bitfabric.quant.errors import ParameterError, check_range

DEFAULT_ADDRESS_BITS = 12  # 4 KiB, the smallest region that interconnects hand out
RESPONSE_OKAY = 0
RESPONSE_SLVERR = 2


class AxiLiteSignature(Signature):
    """Describe an AXI4-Lite port of 32 data bits as the manager sees it.

    Parameters
    ----------
    address_bits : int
        Width of the byte addresses.

    Members
    -------
    awaddr, awprot, awvalid, awready, wdata, wstrb, wvalid, wready, bresp, bvalid, bready
        The write channels.
    araddr, arprot, arvalid, arready, rdata, rresp, rvalid, rready
        The read channels.
    """

    def __init__(self, address_bits: int):
        self.address_bits = check_range("address_bits", address_bits, 2, 64)
        super().__init__(
            {
                "awaddr": Out(self.address_bits),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(REGISTER_BITS),
                "wstrb": Out(REGISTER_BITS // 8),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(self.address_bits),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(REGISTER_BITS),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AxiLiteSignature) and other.address_bits == self.address_bits

    def __hash__(self) -> int:
        return hash((type(self), self.address_bits))

    def __repr__(self) -> str:
        return f"AxiLiteSignature({self.address_bits})"


class AxiLiteRegisters(Block):
    """Hold the registers of a map behind an AXI4-Lite port.

    Address and data of a write may come in any order. A write takes effect 1 cycle after the later of the two
    was taken and is answered in the same cycle; a read is answered 2 cycles after its address was taken, with
    hardware's values of the cycle between. Throughput is one write and one read every 2 cycles. All outputs are
    flip-flops, no ready input reaches a ready output, and ready outputs are low during reset. An address without
    register is answered by SLVERR, reads give 0; the two lowest address bits and ``prot`` are ignored. A byte
    whose strobe is low keeps an ``rw`` field and strobes or clears nothing.

    Parameters
    ----------
    register_map : RegisterMap
        The registers.
    address_bits : int
        Width of the byte addresses.

    Members
    -------
    bus : In(AxiLiteSignature(address_bits))
        The port.
    <register>_<field> : Out or In
        One port per field, called ``<register>`` alone if the only field is called ``value``: the stored value
        of ``rw``, the strobe of ``pulse`` (one cycle), the input of ``ro``, the setting strobe of ``w1c``.
    <register>_<field>_state : Out
        What a ``w1c`` field holds.

    Raises
    ------
    ParameterError
        If the map does not fit into the addresses or a port's name is taken.
    """

    def __init__(self, register_map: RegisterMap, address_bits: int = DEFAULT_ADDRESS_BITS):
        lowest = max(2, (register_map.size - 1).bit_length())
        self.address_bits = check_range("address_bits", address_bits, lowest, 64)
        self.register_map = register_map
        members: dict[str, Member] = {"bus": In(AxiLiteSignature(self.address_bits))}
        for register in register_map.registers:
            for item in register.fields:
                name = register.port(item)
                if name == "bus" or hasattr(type(self), name) or name in vars(self):
                    raise ParameterError(
                        "port", name, f"a name that {type(self).__name__} does not use itself"
                    )
                members[name] = (Out if item.access in ("rw", "pulse") else In)(item.width)
                if item.access == "w1c":
                    members[f"{name}_state"] = Out(item.width)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        """Return the two channels and the fields."""
        m = Module()
        write, write_addr, write_data, write_mask = self._write_channel(m)
        read, read_addr = self._read_channel(m)
        known_write, known_read = Signal(), Signal()
        m.d.comb += [known_write.eq(0), known_read.eq(0)]
        read_value = Signal(REGISTER_BITS)
        for register, offset in self.register_map.placed():
            hit = Signal(name=f"{register.name}_write")
            word = Signal(REGISTER_BITS, name=f"{register.name}_word")
            m.d.comb += hit.eq(write & (write_addr == offset // 4))
            with m.If(write_addr == offset // 4):
                m.d.comb += known_write.eq(1)
            with m.If(read_addr == offset // 4):
                m.d.comb += [known_read.eq(1), read_value.eq(word)]
            for item, lsb in register.placed():
                bits = slice(lsb, lsb + item.width)
                name = register.port(item)
                value = self._field(m, name, item, hit, write_data[bits], write_mask[bits])
                m.d.comb += word[bits].eq(value)
        with m.If(write):
            m.d.sync += self.bus.bresp.eq(Mux(known_write, RESPONSE_OKAY, RESPONSE_SLVERR))
        with m.If(read):
            m.d.sync += [
                self.bus.rdata.eq(read_value),
                self.bus.rresp.eq(Mux(known_read, RESPONSE_OKAY, RESPONSE_SLVERR)),
            ]
        return m

    def _field(self, m: Module, name: str, item: Any, hit: Value, data: Value, mask: Value) -> Value:
        """Add the logic of one field and return what it reads as."""
        member = getattr(self, name)
        if item.access == "ro":
            return member
        if item.access == "pulse":
            m.d.sync += member.eq(Mux(hit, data & mask, 0))
            return Const(0, item.width)
        if item.access == "w1c":
            state = getattr(self, f"{name}_state")
            m.d.sync += state.eq((state & ~Mux(hit, data & mask, 0)) | member)
            return state
        stored = Signal(item.width, init=item.reset, name=f"{name}_stored")
        with m.If(hit):
            m.d.sync += stored.eq((stored & ~mask) | (data & mask))
        m.d.comb += member.eq(stored)
        return stored

    def _write_channel(self, m: Module) -> tuple[Value, Value, Value, Value]:
        """Return the strobe of a write, its word address, its data and its mask of written bits."""
        bus = self.bus
        addr = Signal(self.address_bits, name="write_byte_addr", reset_less=True)
        data = Signal(REGISTER_BITS, name="write_data", reset_less=True)
        strobe = Signal(REGISTER_BITS // 8, name="write_strobe", reset_less=True)
        write = Signal(name="write")
        has_addr = self._hold(m, "aw", bus.awvalid, bus.awready, write, [(addr, bus.awaddr)])
        has_data = self._hold(m, "w", bus.wvalid, bus.wready, write, [(data, bus.wdata), (strobe, bus.wstrb)])
        m.d.comb += write.eq(has_addr & has_data & (~bus.bvalid | bus.bready))
        with m.If(write):
            m.d.sync += bus.bvalid.eq(1)
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        mask = Signal(REGISTER_BITS, name="write_mask")
        m.d.comb += mask.eq(Cat(bit.replicate(8) for bit in strobe))
        return write, addr[2:], data, mask

    def _read_channel(self, m: Module) -> tuple[Value, Value]:
        """Return the strobe of a read and its word address."""
        bus = self.bus
        addr = Signal(self.address_bits, name="read_byte_addr", reset_less=True)
        read = Signal(name="read")
        has_addr = self._hold(m, "ar", bus.arvalid, bus.arready, read, [(addr, bus.araddr)])
        m.d.comb += read.eq(has_addr & (~bus.rvalid | bus.rready))
        with m.If(read):
            m.d.sync += bus.rvalid.eq(1)
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        return read, addr[2:]

    @staticmethod
    def _hold(
        m: Module, name: str, valid: Value, ready: Value, release: Value, captures: list[tuple[Value, Value]]
    ) -> Value:
        """Keep what a channel hands over until ``release`` and return whether there is something."""
        held = Signal(name=f"{name}_held")
        with m.If(valid & ready):
            m.d.sync += [held.eq(1), ready.eq(0), *(target.eq(source) for target, source in captures)]
        with m.Elif(~held | release):
            m.d.sync += [held.eq(0), ready.eq(1)]
        return held


def axi_lite_ports(prefix: str, address_bits: int = DEFAULT_ADDRESS_BITS) -> dict[str, Member]:
    """Return the members ``<prefix>_awaddr`` ... ``<prefix>_rready`` of a top with an AXI4-Lite port.

    Raises
    ------
    ParameterError
        If ``address_bits`` is not allowed.
    """
    members = AxiLiteSignature(address_bits).members
    return {f"{prefix}_{name}": member.flip() for name, member in members.items()}


def connect_axi_lite(m: Module, top: Any, prefix: str, registers: AxiLiteRegisters) -> None:
    """Connect the ports ``<prefix>_*`` of ``top`` to the register file inside it.

    Raises
    ------
    ParameterError
        If the top's addresses are wider or narrower than the register file's.
    """
    bits = len(port(top, prefix, "awaddr"))
    if bits != registers.address_bits:
        raise ParameterError("address_bits", bits, f"{registers.address_bits}, as in the register file")
    for name, member in AxiLiteSignature(bits).members.items():
        outside, inside = port(top, prefix, name), getattr(registers.bus, name)
        m.d.comb += inside.eq(outside) if member.flow == Out else outside.eq(inside)
