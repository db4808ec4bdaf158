import os
import random
import sys
from pathlib import Path

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from cocotb_tools.runner import get_results, get_runner
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi import axi_clock_ports, axi_domain
from bitfabric.hdl.common.axi_lite import AxiLiteRegisters, axi_lite_ports, connect_axi_lite
from bitfabric.hdl.common.register_map import Field, Register, RegisterMap
from bitfabric.hdl.emit import emit
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate

REGISTERS = RegisterMap(
    "test",
    [
        Register(
            "control",
            "All kinds in one register.",
            [
                Field("start", 2, "pulse", "Strobes."),
                Field("mode", 10, "rw", "Crosses a byte.", 0x155),
                Field("done", 3, "w1c", "Sticky."),
                Field("busy", 1, "ro", "Input."),
            ],
        ),
        Register.value("rows", "rw", "Rows.", reset=0xDEADBEEF),
        Register.value("cycles", "ro", "Cycles.", offset=0x20),
    ],
)
OKAY, SLVERR = 0, 2


async def write(ctx, bus, address, data, strobe=0xF, delays=(0, 0, 0), prot=0):
    """Write with address, data and response ready from the given cycles on; return the response."""
    pending = {"aw", "w", "b"}
    ctx.set(bus.awaddr, address)
    ctx.set(bus.awprot, prot)
    ctx.set(bus.wdata, data)
    ctx.set(bus.wstrb, strobe)
    for cycle in range(40):
        valid = {
            "aw": "aw" in pending and cycle >= delays[0],
            "w": "w" in pending and cycle >= delays[1],
            "b": "b" in pending and cycle >= delays[2],
        }
        ctx.set(bus.awvalid, valid["aw"])
        ctx.set(bus.wvalid, valid["w"])
        ctx.set(bus.bready, valid["b"])
        _, _, awready, wready, bvalid, response = await ctx.tick().sample(
            bus.awready, bus.wready, bus.bvalid, bus.bresp
        )
        if bvalid:
            assert pending <= {"b"}, "answered before address and data"
        for name, ready in (("aw", awready), ("w", wready), ("b", bvalid)):
            if valid[name] and ready:
                pending.discard(name)
        if not pending:
            ctx.set(bus.bready, 0)
            return response
    raise AssertionError(f"write without an end, {pending} pending")


async def read(ctx, bus, address, delay=0):
    """Read with the answer taken from cycle ``delay`` on; return data and response."""
    ctx.set(bus.araddr, address)
    ctx.set(bus.arvalid, 1)
    for cycle in range(40):
        ctx.set(bus.rready, cycle >= delay)
        _, _, arready, rvalid, rdata, rresp = await ctx.tick().sample(
            bus.arready, bus.rvalid, bus.rdata, bus.rresp
        )
        if arready:
            ctx.set(bus.arvalid, 0)
        if rvalid and cycle >= delay:
            ctx.set(bus.rready, 0)
            return rdata, rresp
    raise AssertionError("read without an end")


def test_every_order_of_the_channels():
    block = AxiLiteRegisters(REGISTERS)
    value = 0

    async def testbench(ctx):
        nonlocal value
        assert await read(ctx, block.bus, 4) == (0xDEADBEEF, OKAY)
        for aw in (0, 1, 2, 5):
            for w in (0, 1, 2, 5):
                for b in (0, 1, 3, 7, 9):
                    value = (value * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF
                    assert await write(ctx, block.bus, 4, value, delays=(aw, w, b)) == OKAY
                    assert ctx.get(block.rows) == value
                    assert await read(ctx, block.bus, 4, delay=b) == (value, OKAY)

    simulate(block, testbench)


def test_kinds_of_fields_and_byte_strobes():
    block = AxiLiteRegisters(REGISTERS)
    strobes = []

    async def monitor(ctx):
        for _ in range(200):
            await ctx.tick()
            if start := ctx.get(block.control_start):
                strobes.append(start)

    async def testbench(ctx):
        bus = block.bus
        assert ctx.get(block.control_mode) == 0x155
        assert await read(ctx, bus, 0) == (0x155 << 2, OKAY)
        # Lower byte only: strobes, and 6 bits of mode.
        assert await write(ctx, bus, 0, 0xFFFFFFFF, strobe=0b1101) == OKAY
        assert ctx.get(block.control_mode) == 0x17F
        # Upper byte only: no strobe.
        assert await write(ctx, bus, 0, 0x00000003, strobe=0b0010) == OKAY
        assert ctx.get(block.control_mode) == 0x03F
        assert await write(ctx, bus, 0, 0x00000002, strobe=0b0001) == OKAY
        assert ctx.get(block.control_mode) == 0
        assert await write(ctx, bus, 0, 0xFFFFFFFF, strobe=0) == OKAY
        assert strobes == [3, 2]
        # Hardware's inputs: `busy` is a level, `done` sticks bit by bit.
        ctx.set(block.control_busy, 1)
        ctx.set(block.control_done, 0b101)
        await ctx.tick()
        ctx.set(block.control_done, 0)
        assert await read(ctx, bus, 0) == (1 << 15 | 0b101 << 12, OKAY)
        assert ctx.get(block.control_done_state) == 0b101
        assert await write(ctx, bus, 0, 0b001 << 12, strobe=0b1101) == OKAY  # the byte is not written
        assert ctx.get(block.control_done_state) == 0b101
        assert await write(ctx, bus, 0, 0b011 << 12, strobe=0b0010) == OKAY
        assert ctx.get(block.control_done_state) == 0b100
        # A strobe in the cycle of the clearing write is not lost.
        ctx.set(block.control_done, 0b100)
        assert await write(ctx, bus, 0, 0b111 << 12, strobe=0b0010) == OKAY
        ctx.set(block.control_done, 0)
        assert ctx.get(block.control_done_state) == 0b100
        # A read-only register ignores writes, without an error.
        ctx.set(block.cycles, 0x12345678)
        assert await write(ctx, bus, 0x20, 0) == OKAY
        assert await read(ctx, bus, 0x20) == (0x12345678, OKAY)

    simulate(block, testbench, monitor)


@pytest.mark.parametrize("address", [0x8, 0x1C, 0x24, 0xFFC, 0x804])
def test_unmapped_addresses(address):
    block = AxiLiteRegisters(REGISTERS)

    async def testbench(ctx):
        assert await write(ctx, block.bus, address, 0xFFFFFFFF) == SLVERR
        assert await read(ctx, block.bus, address) == (0, SLVERR)
        assert ctx.get(block.rows) == 0xDEADBEEF
        assert await read(ctx, block.bus, 0x7) == (0xDEADBEEF, OKAY)  # byte addresses share the word

    simulate(block, testbench)


def test_latency_and_throughput():
    block = AxiLiteRegisters(REGISTERS)

    async def testbench(ctx):
        bus = block.bus
        await ctx.tick()
        ctx.set(bus.awaddr, 4)
        ctx.set(bus.araddr, 4)
        ctx.set(bus.wstrb, 0xF)
        for signal in (bus.awvalid, bus.wvalid, bus.bready, bus.arvalid, bus.rready):
            ctx.set(signal, 1)
        seen = []
        for cycle in range(8):
            ctx.set(bus.wdata, cycle)
            ready, valid = (
                [ctx.get(getattr(bus, name)) for name in names]
                for names in (("awready", "wready", "arready"), ("bvalid", "rvalid"))
            )
            seen.append((ready, valid, ctx.get(block.rows)))
            await ctx.tick()
        assert [ready for ready, _, _ in seen] == [[1, 1, 1], [0, 0, 0]] * 4
        assert [valid for _, valid, _ in seen] == [[0, 0], [0, 0], *[[1, 1], [0, 0]] * 3]
        assert [rows for _, _, rows in seen][2::2] == [0, 2, 4]

    simulate(block, testbench)


def test_ready_does_not_follow_ready():
    block = AxiLiteRegisters(REGISTERS)

    async def testbench(ctx):
        bus = block.bus
        for pattern in range(64):
            outputs = (bus.awready, bus.wready, bus.bvalid, bus.arready, bus.rvalid, bus.rdata, bus.bresp)
            inputs = (bus.awvalid, bus.wvalid, bus.bready, bus.arvalid, bus.rready)
            before = [ctx.get(signal) for signal in outputs]
            for bit, signal in enumerate(inputs):
                ctx.set(signal, (pattern * 0x9D >> bit) & 1)
                assert [ctx.get(signal) for signal in outputs] == before
            await ctx.tick()

    simulate(block, testbench)


def one_register(name, **keywords):
    return RegisterMap("m", [Register.value(name, "rw", "", **keywords)])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: AxiLiteRegisters(one_register("r", offset=0x40), address_bits=6),
            "address_bits=6 is not allowed; it must be an integer in [7, 64]",
        ),
        (
            lambda: AxiLiteRegisters(one_register("bus")),
            "port='bus' is not allowed; it must be a name that AxiLiteRegisters does not use itself",
        ),
        (
            lambda: AxiLiteRegisters(one_register("elaborate")),
            "port='elaborate' is not allowed; it must be a name that AxiLiteRegisters does not use itself",
        ),
        (
            lambda: AxiLiteRegisters(one_register("address_bits")),
            "port='address_bits' is not allowed; it must be a name that AxiLiteRegisters does not use itself",
        ),
        (
            lambda: axi_lite_ports("s_axil", 1),
            "address_bits=1 is not allowed; it must be an integer in [2, 64]",
        ),
    ],
)
def test_construction_errors(make, text):
    with pytest.raises(ParameterError) as error:
        make()
    assert str(error.value) == text


def test_connecting_checks_the_address_width():
    m = Module()
    m._MustUse__used = True
    top, registers = LiteTop(10), AxiLiteRegisters(REGISTERS)
    with pytest.raises(ParameterError) as error:
        connect_axi_lite(m, top, "s_axil", registers)
    assert str(error.value) == "address_bits=10 is not allowed; it must be 12, as in the register file"
    top._MustUse__used = registers._MustUse__used = True


# The emitted Verilog, driven by a bus model that no one here wrote.


class LiteTop(Block):
    """Put the registers behind flat AXI ports and give their fields' ports to the testbench."""

    def __init__(self, address_bits: int = 12):
        super().__init__(
            {
                **axi_clock_ports(),
                **axi_lite_ports("s_axil", address_bits),
                "start": Out(2),
                "mode": Out(10),
                "rows": Out(32),
                "done": In(3),
                "cycles": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi_domain(m, self)
        registers = place(m, "registers", AxiLiteRegisters(REGISTERS))
        connect_axi_lite(m, self, "s_axil", registers)
        m.d.comb += [
            self.start.eq(registers.control_start),
            self.mode.eq(registers.control_mode),
            self.rows.eq(registers.rows),
            registers.control_done.eq(self.done),
            registers.cycles.eq(self.cycles),
        ]
        return m


@cocotb.test()
async def cocotb_random_traffic(dut):
    rng = random.Random(cocotb.RANDOM_SEED)
    constants = REGISTERS.constants()
    dut.done.value = 0
    dut.cycles.value = 0xCAFEF00D
    dut.aresetn.value = 0
    cocotb.start_soon(Clock(dut.aclk, 10, "ns").start())
    master = AxiLiteMaster(
        AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, dut.aresetn, reset_active_level=False
    )
    for _ in range(4):
        await RisingEdge(dut.aclk)
    await FallingEdge(dut.aclk)
    for name in ("awready", "wready", "bvalid", "arready", "rvalid"):
        assert str(getattr(dut, f"s_axil_{name}").value) == "0", name
    dut.aresetn.value = 1
    stall = float(os.environ["STALL"])
    pauses = random.Random(1)
    for channel in (
        master.write_if.aw_channel,
        master.write_if.w_channel,
        master.write_if.b_channel,
        master.read_if.ar_channel,
        master.read_if.r_channel,
    ):
        if stall:
            channel.set_pause_generator(iter(lambda: pauses.random() < stall, None))
    strobes = []

    async def count_strobes():
        while True:
            await FallingEdge(dut.aclk)
            if int(dut.start.value):
                strobes.append(int(dut.start.value))

    cocotb.start_soon(count_strobes())
    mode, rows, expected_strobes = 0x155, 0xDEADBEEF, []
    for _ in range(150):
        address = rng.choice([constants["CONTROL_OFFSET"], constants["ROWS_OFFSET"]])
        first = rng.randrange(4)
        data = rng.randbytes(rng.randint(1, 4 - first))
        word = int.from_bytes(data, "little") << 8 * first
        mask = ((1 << 8 * len(data)) - 1) << 8 * first
        answer = await master.write(address + first, data)
        assert answer.resp == AxiResp.OKAY
        if address == constants["ROWS_OFFSET"]:
            rows = rows & ~mask | word
        else:
            mode = (mode & ~(mask >> 2) | word >> 2) & 0x3FF
            if word & 3:
                expected_strobes.append(word & 3)
        assert int(dut.rows.value) == rows
        assert int(dut.mode.value) == mode
        got = await master.read(constants["CONTROL_OFFSET"], 8)
        assert got.data == ((rows << 32) | mode << 2).to_bytes(8, "little")
    got = await master.read(constants["CYCLES_OFFSET"], 4)
    assert (got.data, got.resp) == (0xCAFEF00D.to_bytes(4, "little"), AxiResp.OKAY)
    got = await master.read(0x100, 4)
    assert (got.data, got.resp) == (bytes(4), AxiResp.SLVERR)
    assert (await master.write(0x100, bytes(4))).resp == AxiResp.SLVERR
    # Many transfers under way at once.
    writes = [master.init_write(constants["ROWS_OFFSET"], bytes([index] * 4)) for index in range(20)]
    reads = [master.init_read(constants["CYCLES_OFFSET"], 4) for _ in range(20)]
    for event in (*writes, *reads):
        await event.wait()
    assert int(dut.rows.value) == 0x13131313
    assert strobes == expected_strobes


@pytest.fixture(scope="module")
def lite_top(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lite_top")
    source = folder / "lite_top.v"
    source.write_text(emit(LiteTop(), "lite_top").verilog)
    runner = get_runner("icarus")
    runner.build(
        sources=[source], hdl_toplevel="lite_top", build_dir=folder / "build", timescale=("1ns", "1ps")
    )
    return runner, folder


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_emitted_verilog_on_icarus(lite_top, stall, monkeypatch):
    runner, folder = lite_top
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    results = runner.test(
        hdl_toplevel="lite_top",
        test_module=Path(__file__).stem,
        test_dir=folder,
        build_dir=folder / "build",
        results_xml=str(folder / f"results_{stall}.xml"),
        extra_env={"STALL": str(stall), "COCOTB_RANDOM_SEED": "1"},
        log_file=folder / f"log_{stall}.txt",
    )
    assert get_results(results) == (1, 0)
