"""The fetcher's cycle model against the RTL: the list, and each head, with heads that leave late."""

import random
from collections import deque

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.stream import StreamRegister, connect_stream
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.descriptor import DESCRIPTOR
from bitfabric.hdl.dtqatten.fetcher import Fetcher
from bitfabric.hdl.dtqatten.token_table import TokenTable
from bitfabric.sim.cycles.dtqatten_fetch import FetchTimes
from bitfabric.sim.streams import simulate

START = 3


class Machine(wiring.Component):
    """The fetcher between its table and the registers at the machine's ports."""

    def __init__(self, config):
        self.config, self.fetcher = config, Fetcher(config)
        super().__init__(
            {
                "s": In(stream.Signature(beat_layout(config.axis_data_bits))),
                "desc": Out(stream.Signature(DESCRIPTOR)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetcher = fetcher = self.fetcher
        m.submodules.table = table = TokenTable(self.config)
        m.submodules.s_register = s_register = StreamRegister(beat_layout(self.config.axis_data_bits))
        m.submodules.desc_register = desc_register = StreamRegister(DESCRIPTOR)
        m.d.comb += [
            s_register.i.payload.eq(self.s.payload),
            s_register.i.valid.eq(self.s.valid),
            self.s.ready.eq(s_register.i.ready),
            self.desc.payload.eq(desc_register.o.payload),
            self.desc.valid.eq(desc_register.o.valid),
            desc_register.o.ready.eq(self.desc.ready),
            table.fetch_en.eq(fetcher.table_read_en),
            table.fetch_position.eq(fetcher.table_read_position),
            fetcher.table_read_id.eq(table.fetch_id),
            fetcher.table_read_high.eq(table.fetch_high),
            table.list_en.eq(fetcher.table_en),
            table.list_position.eq(fetcher.table_position),
            table.list_id.eq(fetcher.table_id),
            table.list_high.eq(fetcher.table_high),
        ]
        connect_stream(m, s_register.o, fetcher.s)
        connect_stream(m, fetcher.desc, desc_register.i)
        return m


def run(config, levels, listed, latency, hold):
    """Return the cycles of list_done, of each head's qk_loaded and v_loaded, and of its retire."""
    machine = Machine(config)
    fetcher, size = machine.fetcher, config.axis_bytes
    done, loaded, retired = [], ([], []), []

    async def testbench(ctx):
        for name, value in levels.items():
            ctx.set(getattr(fetcher, name), value)
        ctx.set(machine.desc.ready, 1)
        beats, rng, cycle = deque(), random.Random(latency), 0
        while len(retired) < levels["heads"]:
            assert cycle < 20000
            leaves = False
            if len(loaded[1]) > len(retired):
                leaves = cycle >= loaded[1][len(retired)] + hold[len(retired)]
            if leaves:
                retired.append(cycle)
            ctx.set(fetcher.retire, leaves)
            ctx.set(fetcher.start, cycle == START)
            offered = bool(beats) and beats[0][0] <= cycle
            ctx.set(machine.s.valid, offered)
            if offered:
                ctx.set(machine.s.payload, {"data": beats[0][1], "last": beats[0][2]})
            _, _, ready, valid, length, *strobes = await ctx.tick().sample(
                machine.s.ready,
                machine.desc.valid,
                machine.desc.payload.length,
                fetcher.list_done,
                fetcher.qk_loaded,
                fetcher.v_loaded,
            )
            if offered and ready:
                beats.popleft()
            if valid:
                content = rng.randbytes(length)
                if not (levels["carry"] or done):
                    content = b"".join(id.to_bytes(2, "little") + bytes([bits, 0]) for id, bits in listed)
                count = -(-length // size)
                for index in range(count):
                    part = content[size * index : size * (index + 1)]
                    beats.append((cycle + latency, int.from_bytes(part, "little"), index == count - 1))
            for cycles, strobe in zip((done, *loaded), strobes, strict=True):
                if strobe:
                    cycles.append(cycle)
            cycle += 1

    simulate(machine, testbench)
    return done, loaded, retired


# rows, columns, line elements, stream bits, outstanding, latency
SHAPES = [
    (3, 5, 4, 64, 4, 3),
    (16, 4, 8, 128, 16, 20),
    (1, 1, 1, 64, 1, 1),
    (8, 3, 8, 64, 3, 1),
    (5, 18, 2, 128, 8, 11),
    (12, 2, 4, 64, 16, 40),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head_size", [1, 7, 8, 33])
def test_every_head(shape, head_size):
    rows, columns, elements, bits, outstanding, latency = shape
    rng = random.Random(rows * head_size)
    config = DtqattenConfig.preset(
        "tiny",
        rows=rows,
        columns=columns,
        line_elements=elements,
        axis_data_bits=bits,
        outstanding=outstanding,
        head_size_max=40,
    )
    entries = rng.randrange(1, 9)
    precisions = [rng.choice([0, 4, 8]) for _ in range(entries - 1)] + [rng.choice([4, 8])]
    kept, heads = sum(p > 0 for p in precisions), 4
    levels = {
        **{"carry": 0, "per_token": rng.randrange(2), "reorder": rng.randrange(2), "entries": entries},
        **{"tokens": config.tokens_max, "kept": kept, "kept_high": precisions.count(8)},
        **{"head_size": head_size, "heads": heads, "stride": 256},
    }
    listed = list(zip(rng.sample(range(config.tokens_max), entries), precisions, strict=True))
    hold = [rng.choice([0, 1, 50, 120]) for _ in range(heads)]
    done, loaded, retired = run(config, levels, listed, latency, hold)
    times = FetchTimes(
        config,
        start=START,
        kept=kept,
        head_size=head_size,
        latency=latency,
        entries=entries,
        per_token=bool(levels["per_token"]),
    )
    assert done == [times.list_done]
    for head, found in enumerate(zip(*loaded, strict=True)):
        assert times.head(retired[head - 2] if head >= 2 else -1) == found, head


def test_a_carried_list_begins_at_once():
    config = DtqattenConfig.preset("tiny")
    levels = {"carry": 1, "kept": 1, "head_size": 1, "heads": 1}
    done, loaded, _ = run(config, levels, [], 2, [0])
    # Enters at 4, is asked for at the port at 8, comes there at 10; K, Q, V are taken at 11, 12, 13.
    assert done == []
    assert loaded == ([14], [15])
    times = FetchTimes(config, start=START, kept=1, head_size=1, latency=2)
    assert times.list_done is None
    assert times.head() == (14, 15)


def test_a_stream_without_latency_is_filled():
    """Enough packets under way hide the latency: a word a cycle."""
    config = DtqattenConfig.preset("paper")
    times = FetchTimes(config, start=0, kept=128, head_size=64, latency=20)
    first, second = times.head(), times.head()
    assert second[0] - first[0] == second[1] - first[1] == 3 * 128 * 64 // config.axis_bytes
