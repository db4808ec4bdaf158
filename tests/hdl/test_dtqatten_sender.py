"""The sender: packets of results and the list with their descriptors, stalled or not, and when they leave."""

import random
from dataclasses import dataclass, field

import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.output_port import OutputPort
from bitfabric.hdl.dtqatten.sender import Sender
from bitfabric.sim.cycles.dtqatten_output import SenderTimes
from bitfabric.sim.streams import simulate

SHAPES = {
    "narrow_words": {"rows": 3, "columns": 3},  # R = 3, S = 8
    "equal": {"rows": 16, "columns": 18, "axis_data_bits": 128, "unload_ports": 1},
    "wide_words": {"rows": 16, "columns": 5},  # R = 16, S = 8
    "single": {"rows": 1, "columns": 1},  # R = 1
    "wide_beats": {"rows": 5, "columns": 4, "axis_data_bits": 512},
}


@dataclass
class Stream:
    """Take an output stream, check its protocol, and keep what came and when it was offered and taken."""

    port: object
    stall: float
    payloads: list = field(default_factory=list)
    offered: list = field(default_factory=list)
    taken: list = field(default_factory=list)
    held: object = None

    def drive(self, ctx, rng):
        self.ready = rng.random() >= self.stall
        ctx.set(self.port.ready, self.ready)

    def look(self, ctx, cycle):
        payload = None
        if ctx.get(self.port.valid):
            content = ctx.get(self.port.payload)
            payload = {name: content[name] for name, _ in content.shape()}
        assert self.held in (None, payload), "a payload changed before it was taken"
        if payload is not None and self.held is None:
            self.offered.append(cycle)
        self.held = None if self.ready else payload
        if payload is not None and self.ready:
            self.payloads.append(payload)
            self.taken.append(cycle)


class Bench:
    """A sender, the memories and the token table that it reads, and the bands of some heads.

    ``stall`` are the probabilities that a band (or ``finish``) comes late, and that ``o`` and ``desc`` are not taken.
    """

    def __init__(self, shape, m, d, heads, stall, seed):
        self.config = DtqattenConfig.preset("tiny", **SHAPES[shape])
        self.m, self.d, self.heads, self.stall = m, d, heads, stall
        self.rng = random.Random(seed)
        self.ids = self.rng.sample(range(self.config.tokens_max), m)
        self.entries = [
            (self.rng.choice([0, 1, 2]), self.rng.choice([0, 2**32 - 1, self.rng.getrandbits(32)]))
            for _ in range(m)
        ]
        columns = self.config.columns
        order = list(range(-(-m // columns)))
        self.bands = []
        for _ in range(heads):  # any order is right
            self.rng.shuffle(order)
            self.bands += [(band, min(columns, m - band * columns)) for band in order]
        self.levels = {
            **{"head_size": d, "kept": m, "out_stride": self.rng.randrange(1 << 16)},
            **{"out_base": self.rng.getrandbits(32), "list_base": self.rng.getrandbits(32)},
        }
        self.memory, self.rows, self.accepted, self.sent = {}, [], [], []
        self.done = self.finish = None

    def fill(self, band, queries, head):
        """Put results into the ports' memories; what lies beyond d is noise."""
        config = self.config
        for lane in range(queries):
            row = []
            for tile in range(-(-self.d // config.rows)):
                word = self.rng.randbytes(config.rows)
                place = tile % config.unload_ports, band, tile // config.unload_ports, lane
                self.memory[place] = word
                row += word
            position = band * config.columns + lane
            address = self.levels["out_base"] + head * self.d + self.ids[position] * self.levels["out_stride"]
            self.rows.append((address % 2**32, bytes(row[: self.d])))

    def packets(self):
        """Return (address, bytes) of all packets."""
        entries = b"".join(
            token.to_bytes(2, "little") + bytes([4 * code, 0]) + value.to_bytes(4, "little")
            for token, (code, value) in zip(self.ids, self.entries, strict=True)
        )
        return [*self.rows, (self.levels["list_base"], entries)]

    def read(self, ctx, dut, pipe):
        """Move the ports' pipeline and the table as ``OutputPort`` and ``TokenTable`` would, and return it."""
        config, size = self.config, 8 * self.config.rows
        if ctx.get(dut.table_read_en):
            self.token = self.ids[ctx.get(dut.table_read_position)]
        if not ctx.get(dut.read_advance):
            return pipe
        place = tuple(ctx.get(getattr(dut, f"read_{name}")) for name in ("band", "tile", "lane"))
        word = self.rng.getrandbits(config.unload_ports * size)
        for port in range(config.unload_ports):
            if ctx.get(dut.read_en) >> port & 1:
                mask = ((1 << size) - 1) << (port * size)
                content = int.from_bytes(self.memory[port, *place], "little") << (port * size)
                word = word & ~mask | content
        return [word, *pipe[:-1]]

    def run(self):
        """Run to ``done`` and some cycles more."""
        dut = self.dut = Sender(self.config)
        rng = self.rng
        stall, *out = self.stall
        self.o, self.desc = (Stream(port, share) for port, share in zip((dut.o, dut.desc), out, strict=True))

        async def testbench(ctx):
            for name, value in self.levels.items():
                ctx.set(getattr(dut, name), value)
            await self.write_list(ctx)
            pipe, offering, after, cycle, self.token = [0] * OutputPort.READ_LATENCY, False, 0, 0, 0
            free, waiting = set(range(self.config.bands_max)), list(self.bands)
            self.offers = []
            while after < 8:
                assert cycle < 20000
                ctx.set(dut.read_data, pipe[-1])
                ctx.set(dut.table_read_id, self.token)
                if not offering and waiting and waiting[0][0] in free and rng.random() >= stall:
                    band, queries = waiting.pop(0)
                    self.fill(band, queries, len(self.offers) * self.heads // len(self.bands))
                    self.offers.append(cycle)
                    offering = True
                    free.remove(band)
                    ctx.set(dut.band, band)
                    ctx.set(dut.band_columns, queries)
                    ctx.set(dut.first_position, band * self.config.columns)
                ctx.set(dut.band_valid, offering)
                last = len(self.accepted) == len(self.bands)
                finish = last and self.finish is None and rng.random() >= stall
                ctx.set(dut.finish, finish)
                self.finish = cycle if finish else self.finish
                for stream in (self.o, self.desc):
                    stream.drive(ctx, rng)
                for stream in (self.o, self.desc):
                    stream.look(ctx, cycle)
                if offering and ctx.get(dut.band_ready):
                    self.accepted.append(cycle)
                    offering = False
                if ctx.get(dut.band_sent):
                    band = ctx.get(dut.band_sent_band)
                    self.sent.append((band, cycle))
                    free.add(band)
                    for place in [place for place in self.memory if place[1] == band]:
                        del self.memory[place]
                pipe = self.read(ctx, dut, pipe)
                if ctx.get(dut.done):
                    assert self.done is None
                    self.done = cycle
                after += self.done is not None
                cycle += 1
                await ctx.tick()

        simulate(dut, testbench)

    async def write_list(self, ctx):
        dut, left = self.dut, range(self.m, self.config.tokens_max)
        order = self.rng.sample(range(self.m), self.m)
        for position in [*left, *order]:  # a longer list was there before
            known = position < self.m
            code, value = self.entries[position] if known else (3, 2**32 - 1)
            ctx.set(dut.list_valid, 1)
            ctx.set(dut.list_position, position)
            ctx.set(dut.list_id, self.ids[position] if known else self.config.tokens_max - 1)
            ctx.set(dut.list_bits, code)
            ctx.set(dut.list_value, value)
            await ctx.tick()
        ctx.set(dut.list_valid, 0)

    def check(self):
        """Compare packets, descriptors and the order of events."""
        wanted, size = self.packets(), self.config.axis_bytes
        descriptors = [{"address": address, "length": len(content)} for address, content in wanted]
        assert self.desc.payloads == descriptors
        beats, first_beats = [], []
        for _, content in wanted:
            first_beats.append(len(beats))
            padded = content + bytes(-len(content) % size)
            beats += [
                {"data": int.from_bytes(padded[at : at + size], "little"), "last": at + size >= len(content)}
                for at in range(0, len(content), size)
            ]
        assert self.o.payloads == beats
        for descriptor, beat in enumerate(first_beats):
            assert self.desc.offered[descriptor] <= self.o.offered[beat]
        assert [band for band, _ in self.sent] == [band for band, _ in self.bands]
        assert self.done == max(self.o.taken[-1], self.desc.taken[-1]) + 1

    def check_times(self):
        times = SenderTimes(self.config, self.d)
        for index, (offer, (_, queries)) in enumerate(zip(self.offers, self.bands, strict=True)):
            sent = times.band(offer, queries)
            assert (sent.accepted, sent.sent) == (self.accepted[index], self.sent[index][1])
        rows_end = self.o.taken[-1 - -(-8 * self.m // self.config.axis_bytes)]
        assert sent.last_beat == rows_end
        assert times.finish(self.finish, self.m) == self.done


# Shape, m, d, heads: C' tails, d = 1, tails of d in words, in beats and in both, m = 1.
CASES = [
    ("narrow_words", 7, 9, 3),
    ("narrow_words", 3, 16, 2),
    ("narrow_words", 16, 1, 2),
    ("narrow_words", 1, 7, 4),
    ("equal", 16, 16, 1),
    ("equal", 13, 1, 1),
    ("wide_words", 12, 16, 2),
    ("wide_words", 6, 9, 3),
    ("wide_words", 9, 5, 2),
    ("single", 4, 16, 1),
    ("single", 3, 9, 2),
    ("single", 4, 1, 4),
    ("wide_beats", 9, 16, 1),
    ("wide_beats", 1, 1, 1),
]


@pytest.mark.parametrize("stalls", ["none", "all", "one"])
@pytest.mark.parametrize(("shape", "m", "d", "heads"), CASES)
def test_packets(shape, m, d, heads, stalls):
    one = (0, 0.8, 0) if m % 2 else (0, 0, 0.8)
    stall = {"none": (0, 0, 0), "all": (0.5, 0.5, 0.5), "one": one}[stalls]
    bench = Bench(shape, m, d, heads, stall, seed=m + 16 * d)
    bench.run()
    bench.check()
    if stalls == "none":
        bench.check_times()
