import os
import random
import re
import subprocess
import sys
from pathlib import Path

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from cocotb_tools.runner import get_results, get_runner
from cocotbext.axi import AxiStreamBus, AxiStreamFrame
from cocotbext.axi import AxiStreamSink as BusSink
from cocotbext.axi import AxiStreamSource as BusSource

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi import axi_clock_ports, axi_domain
from bitfabric.hdl.common.axi_stream import (
    AxiStreamSignature,
    AxiStreamSink,
    AxiStreamSource,
    axi_stream_ports,
    beat_layout,
    connect_axi_stream_in,
    connect_axi_stream_out,
)
from bitfabric.hdl.common.fifo import StreamFifo
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.emit import emit
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import run_streams, simulate

STALLS = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)]


class Loop(Block):
    """Send a stream out as AXI beats and take them in again."""

    def __init__(self, data_bits: int):
        self.data_bits = data_bits
        signature = stream.Signature(beat_layout(data_bits))
        super().__init__({"i": In(signature), "o": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        source = place(m, "source", AxiStreamSource(self.data_bits))
        sink = place(m, "sink", AxiStreamSink(self.data_bits))
        connect_stream(m, self.i, source.i)
        connect_stream(m, sink.o, self.o)
        m.d.comb += [
            sink.bus.tdata.eq(source.bus.tdata),
            sink.bus.tlast.eq(source.bus.tlast),
            sink.bus.tvalid.eq(source.bus.tvalid),
            source.bus.tready.eq(sink.bus.tready),
        ]
        return m


@pytest.mark.parametrize(("stall_in", "stall_out"), STALLS)
@pytest.mark.parametrize("data_bits", [8, 24, 256])
def test_adapters_keep_every_beat(data_bits, stall_in, stall_out):
    ones = (1 << data_bits) - 1
    sent = [
        {"data": value & ones, "last": value % 3 == 0}
        for value in (0, ones, 1 << (data_bits - 1), *(index * 0x9E3779B97F4A7C15 for index in range(60)))
    ]
    result = run_streams(Loop(data_bits), {"i": sent}, {"o": len(sent)}, stall_in, stall_out)
    assert result["o"] == sent
    if stall_in == stall_out == 0:  # two registers
        assert [out - into for into, out in zip(result.arrivals["i"], result.arrivals["o"], strict=True)] == [
            2
        ] * len(sent)


def test_flat_port_names():
    assert set(axi_stream_ports("s_axis", 16, "in")) == {
        f"s_axis_{n}" for n in ("tdata", "tlast", "tvalid", "tready")
    }
    ports = {port["name"]: port["direction"] for port in emit(StreamTop(), "top").ports}
    assert ports == {
        "aclk": "input",
        "aresetn": "input",
        "s_axis_tdata": "input",
        "s_axis_tlast": "input",
        "s_axis_tvalid": "input",
        "s_axis_tready": "output",
        "m_axis_tdata": "output",
        "m_axis_tlast": "output",
        "m_axis_tvalid": "output",
        "m_axis_tready": "input",
    }


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: AxiStreamSink(0), "data_bits=0 is not allowed; it must be an integer of at least 8"),
        (lambda: AxiStreamSource(12), "data_bits=12 is not allowed; it must be a multiple of 8"),
        (lambda: AxiStreamSignature(7), "data_bits=7 is not allowed; it must be an integer of at least 8"),
        (
            lambda: axi_stream_ports("s", 8, "inwards"),
            "direction='inwards' is not allowed; it must be one of 'in', 'out'",
        ),
    ],
)
def test_construction_errors(make, text):
    with pytest.raises(ParameterError) as error:
        make()
    assert str(error.value) == text


# The emitted Verilog, with clock and reset of an AXI top.


class StreamTop(Block):
    """Pass beats from ``s_axis`` to ``m_axis`` through a FIFO."""

    def __init__(self, depth: int = 5):
        self.depth = depth
        super().__init__(
            {
                **axi_clock_ports(),
                **axi_stream_ports("s_axis", 32, "in"),
                **axi_stream_ports("m_axis", 32, "out"),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi_domain(m, self)
        fifo = place(m, "fifo", StreamFifo(beat_layout(32), self.depth))
        connect_axi_stream_in(m, self, "s_axis", fifo.i)
        connect_axi_stream_out(m, self, "m_axis", fifo.o)
        return m


def test_reset_is_registered_once_and_loses_nothing():
    top = StreamTop()

    async def testbench(ctx):
        await ctx.tick()
        assert not ctx.get(top.s_axis_tready)  # aresetn starts low
        ctx.set(top.aresetn, 1)
        ctx.set(top.s_axis_tvalid, 1)
        ready = []
        for _ in range(3):
            ready.append(ctx.get(top.s_axis_tready))
            await ctx.tick()
        assert ready == [0, 0, 1]

    simulate(top, testbench)


@cocotb.test()
async def cocotb_random_frames(dut):
    rng = random.Random(cocotb.RANDOM_SEED)
    pauses = random.Random(1)
    stall_in, stall_out = float(os.environ["STALL_IN"]), float(os.environ["STALL_OUT"])
    dut.aresetn.value = 0
    cocotb.start_soon(Clock(dut.aclk, 10, "ns").start())
    source = BusSource(
        AxiStreamBus.from_prefix(dut, "s_axis"), dut.aclk, dut.aresetn, reset_active_level=False
    )
    sink = BusSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.aclk, dut.aresetn, reset_active_level=False)
    for end, stall in ((source, stall_in), (sink, stall_out)):
        if stall:
            end.set_pause_generator(iter(lambda stall=stall: pauses.random() < stall, None))
    for attempt in range(2):  # the second one after a reset in full flight
        dut.aresetn.value = 0
        for _ in range(3):
            await RisingEdge(dut.aclk)
        await FallingEdge(dut.aclk)
        for name in ("s_axis_tready", "m_axis_tvalid"):
            assert str(getattr(dut, name).value) == "0", name
        dut.aresetn.value = 1
        frames = [rng.randbytes(4 * rng.randint(1, 12)) for _ in range(40)]
        for frame in frames:
            await source.send(AxiStreamFrame(frame))
        for frame in frames[: 20 if attempt == 0 else None]:
            assert bytes((await sink.recv()).tdata) == frame
        if attempt == 0:
            dut.aresetn.value = 0
            await RisingEdge(dut.aclk)
            source.clear()
            sink.clear()


@pytest.fixture(scope="module")
def verilog(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream_top") / "stream_top.v"
    path.write_text(emit(StreamTop(), "stream_top").verilog)
    return path


@pytest.fixture(scope="module")
def runner(verilog):
    runner = get_runner("icarus")
    runner.build(
        sources=[verilog],
        hdl_toplevel="stream_top",
        build_dir=verilog.parent / "build",
        timescale=("1ns", "1ps"),
    )
    return runner


@pytest.mark.parametrize(("stall_in", "stall_out"), STALLS)
def test_emitted_verilog_on_icarus(runner, verilog, stall_in, stall_out, monkeypatch):
    folder = verilog.parent
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    results = runner.test(
        hdl_toplevel="stream_top",
        test_module=Path(__file__).stem,
        test_dir=folder,
        build_dir=folder / "build",
        results_xml=str(folder / f"results_{stall_in}_{stall_out}.xml"),
        extra_env={"STALL_IN": str(stall_in), "STALL_OUT": str(stall_out), "COCOTB_RANDOM_SEED": "1"},
        log_file=folder / f"log_{stall_in}_{stall_out}.txt",
    )
    assert get_results(results) == (1, 0)


BENCH = """
module bench;
  reg aclk = 0, aresetn = 0, tvalid = 0, tready = 0;
  wire s_ready, m_valid;
  stream_top dut(.aclk(aclk), .aresetn(aresetn), .s_axis_tdata(32'h1), .s_axis_tlast(1'b0), .s_axis_tvalid(tvalid),
    .s_axis_tready(s_ready), .m_axis_tready(tready), .m_axis_tvalid(m_valid));
  always #5 aclk = ~aclk;
  integer cycle;
  initial begin
    for (cycle = 0; cycle < 60; cycle = cycle + 1) begin
      @(negedge aclk);
      if (cycle == 4) aresetn = 1;
      tvalid = cycle > 8;
      tready = cycle > 30;
      if (cycle >= 4 && ((s_ready ^ s_ready) !== 0 || (m_valid ^ m_valid) !== 0)) $display("UNKNOWN %0d", cycle);
    end
    $display("END %b %b", s_ready, m_valid);
    $finish;
  end
endmodule
"""


@pytest.mark.parametrize("with_reset", [True, False])
def test_reset_alone_defines_valid_and_ready(verilog, with_reset, tmp_path):
    # An ASIC has no initial values, so they are taken away; without the reset this has to show.
    text, count = re.subn(
        r"^(\s*reg (?:\[[^\]]*\] )?\S+) = \S+;$", r"\1;", verilog.read_text(), flags=re.MULTILINE
    )
    assert count > 10
    bench = BENCH if with_reset else BENCH.replace("reg aclk = 0, aresetn = 0", "reg aclk = 0, aresetn = 1")
    (tmp_path / "top.v").write_text(text)
    (tmp_path / "bench.v").write_text(bench)
    subprocess.run(["iverilog", "-o", "bench.vvp", "top.v", "bench.v"], cwd=tmp_path, check=True)
    output = subprocess.run(
        ["vvp", "bench.vvp"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert ("UNKNOWN" in output) == (not with_reset)
    if with_reset:
        assert output == "END 1 1\n"
