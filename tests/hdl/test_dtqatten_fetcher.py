"""The fetcher: what it asks for, where it puts every element, and how a list can be wrong."""

import itertools
import random
from collections import deque

import pytest

from bitfabric.hdl.block import flat_ports
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.fetcher import Fetcher
from bitfabric.hdl.emit import emit
from bitfabric.sim.streams import simulate
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

ERRORS = ("bad_index", "bad_precision", "bad_counts", "framing_error")
KINDS = ("k", "q", "v")
SAMPLED = (
    ("table_en", "table_position", "table_id", "table_high"),
    ("scale_en", "scale_position", "scale_band", "scale_lane", "scale_q", "scale_k", "scale_v"),
    ("kq_en", "kq_bank", "kq_word", "kq_data", "kq_tile", "kq_lane", "kq_band", "kq_band_lane"),
    ("v_en", "v_bank", "v_position", "v_tile", "v_data"),
    ("list_done", "qk_loaded", "v_loaded", *ERRORS),
)


class Block:
    """A block's tokens in the host's memory, and what the fetcher makes of them."""

    def __init__(self, config, seed, head_size, heads, bits, **levels):
        self.config, self.size, self.heads = config, head_size, heads
        rng = self.rng = random.Random(seed)
        self.listed = list(zip(rng.sample(range(config.tokens_max), len(bits)), bits, strict=True))
        kept = [(token, b) for token, b in self.listed if b]
        self.levels = {
            **{"carry": 0, "per_token": 0, "reorder": 0, "entries": len(bits), "tokens": config.tokens_max},
            **{"kept": len(kept), "kept_high": bits.count(8), "head_size": head_size, "heads": heads},
            **{"list_base": rng.getrandbits(32), "scale_base": rng.getrandbits(32)},
            **{f"{kind}_base": rng.getrandbits(32) for kind in KINDS},
            **{"stride": rng.randrange(heads * head_size, 1 << 16), **levels},
        }
        self.kept = sorted(kept, key=lambda token: token[1]) if self.levels["reorder"] else kept
        self.scales = {token: [rng.getrandbits(16) for _ in range(3)] for token, _ in kept}
        self.vectors = {}  # by kind, token and head: integers of the machine as bytes
        for key in itertools.product(KINDS, self.kept, range(heads)):
            corner = [0x80, 0x70, 0xF0, 0x00] if key[1][1] == 4 else [0x80, 0x7F, 0xFF, 0x00]
            draw = [rng.choice([*corner, rng.randrange(256)]) for _ in range(head_size)]
            self.vectors[key] = [v & 0xF0 for v in draw] if key[1][1] == 4 else draw

    def packets(self):
        """Return (address, bytes) of every packet, in order."""
        levels, result = self.levels, []
        if not levels["carry"]:
            content = b"".join(token.to_bytes(2, "little") + bytes([bits, 0]) for token, bits in self.listed)
            result.append((levels["list_base"], content))
        if levels["per_token"]:
            for token, _ in self.kept:
                content = b"".join(scale.to_bytes(2, "little") for scale in self.scales[token]) + bytes(2)
                # q, k, v, 0
                result.append((levels["scale_base"] + 8 * token, content))
        for head, kind, (token, bits) in itertools.product(range(self.heads), KINDS, self.kept):
            vector = self.vectors[kind, (token, bits), head]
            content = bytes(vector)
            if bits == 4:
                spare = self.rng.randrange(16) << 4  # the upper half of an odd vector's last byte
                pairs = itertools.zip_longest(vector[::2], vector[1::2], fillvalue=spare)
                content = bytes(low >> 4 | high for low, high in pairs)
            address = levels[f"{kind}_base"] + token * levels["stride"] + head * len(content)
            result.append((address % (1 << 32), content))
        return [(address % (1 << 32), content) for address, content in result]

    def table(self):
        """Return the table's writes in the list's order."""
        places = {token: position for position, (token, _) in enumerate(self.kept)}
        return [(1, places[token], token, bits == 8) for token, bits in self.listed if bits]

    def words(self, kind, bank, head):
        """Return a head's writes."""
        config, size = self.config, self.config.axis_bytes if kind != "v" else self.config.rows
        result = []
        for position, token in enumerate(self.kept):
            vector = self.vectors[kind, token, head]
            for word, start in enumerate(range(0, len(vector), size)):
                data = int.from_bytes(bytes(vector[start : start + size]), "little")
                if kind == "v":
                    result.append((1, bank, position, word, data))
                else:
                    places = (*divmod(position, config.rows), *divmod(position, config.columns))
                    result.append((1 + (kind == "q"), bank, word, data, *places))
        return result

    def trimmed(self, write):
        """Return a write of K or Q without what stands behind the vector."""
        enable, bank, word, data, *places = write
        used = min(self.config.axis_bytes, self.size - word * self.config.axis_bytes)
        return (enable, bank, word, data & ((1 << 8 * used) - 1), *places)


def run(block, stall=0.0, latency=3, hold=0, cycles=None, spoil=None, trace=None):
    """Answer the fetcher's descriptors until the heads have left; return what it wrote, and when.

    ``cycles`` is how long to go on, if not so long; ``spoil`` a packet whose ``last`` is a beat off;
    ``trace`` takes every port's value in every cycle.
    """
    fetcher, size, rng = Fetcher(block.config), block.config.axis_bytes, random.Random(1)
    writes = [[] for _ in SAMPLED[:-1]]
    asked, strobes, opened = [], {name: [] for name in SAMPLED[-1]}, []
    packets, kept = block.packets(), block.levels["kept"]
    before = len(packets) - 3 * kept * block.heads  # packets that are no head's

    signals = [getattr(fetcher, name) for group in SAMPLED for name in group]
    ports = [] if trace is None else [value for _, _, value in flat_ports(fetcher)]

    async def testbench(ctx):
        for name, value in block.levels.items():
            ctx.set(getattr(fetcher, name), value)
        positions = dict(enumerate(block.kept)) if block.levels["carry"] else {}
        beats, retired, stopped = deque(), 0, False
        under_way = offered = ready = 0
        for cycle in itertools.count():
            if cycle >= (cycles or 30000):
                assert cycles
                return
            loaded = strobes["v_loaded"]
            leaves = len(loaded) > retired and cycle >= loaded[retired] + hold
            retired += leaves
            ctx.set(fetcher.retire, leaves)
            ctx.set(fetcher.start, cycle == 2)
            offered = offered or (bool(beats) and beats[0][0] <= cycle and rng.random() >= stall)
            ctx.set(fetcher.s.valid, offered)
            if offered:
                ctx.set(fetcher.s.payload, {"data": beats[0][1], "last": beats[0][2]})
            ready = rng.random() >= stall
            ctx.set(fetcher.desc.ready, ready)
            _, _, taken, valid, payload, read, at, *values = await ctx.tick().sample(
                fetcher.s.ready,
                fetcher.desc.valid,
                fetcher.desc.payload,
                fetcher.table_read_en,
                fetcher.table_read_position,
                *signals,
                *ports,
            )
            if trace is not None:
                trace.append(values[len(signals) :])
            if offered and taken:
                under_way -= beats.popleft()[2]
                offered = False
            if valid and ready:
                assert not stopped
                content = packets[len(asked)][1]
                if (len(asked) - before) % (3 * kept) == 0 and len(asked) >= before:
                    opened.append((cycle, retired))
                asked.append((payload.address, payload.length))
                count, off = -(-len(content) // size), len(asked) - 1 == spoil
                for index in range(count):
                    part = content[size * index : size * (index + 1)]
                    part += rng.randbytes(size - len(part))
                    last = (index == count - 1) != off
                    beats.append((cycle + latency, int.from_bytes(part, "little"), last))
                under_way += 1
                assert under_way <= block.config.outstanding
            if read:
                token, bits = positions[at]
                ctx.set(fetcher.table_read_id, token)
                ctx.set(fetcher.table_read_high, bits == 8)
            values = iter(values)
            for group, found in zip(SAMPLED, [*writes, None], strict=True):
                row = tuple(itertools.islice(values, len(group)))
                if found is None:
                    for name, value in zip(group, row, strict=True):
                        if value:
                            strobes[name].append(cycle)
                elif row[0]:
                    found.append(row)
            if writes[0] and not positions.get(len(block.kept)):
                positions |= {place: (token, 8 if high else 4) for _, place, token, high in writes[0]}
            stopped = stopped or any(strobes[name] and strobes[name][-1] + 4 < cycle for name in ERRORS)
            if retired == block.heads:
                return

    simulate(fetcher, testbench)
    return asked, writes, strobes, opened


def check(block, found):
    asked, (table, scales, vectors, values), strobes, opened = found
    assert asked == [(address, len(content)) for address, content in block.packets()]
    assert table == ([] if block.levels["carry"] else block.table())
    expected = []
    if block.levels["per_token"]:
        for position, (token, _) in enumerate(block.kept):
            expected.append((1, position, *divmod(position, block.config.columns), *block.scales[token]))
    assert scales == expected
    heads = range(block.heads)
    assert [block.trimmed(write) for write in vectors] == [
        block.trimmed(write) for head in heads for kind in "kq" for write in block.words(kind, head % 2, head)
    ]
    assert values == [write for head in heads for write in block.words("v", head % 2, head)]
    assert len(strobes["list_done"]) == (not block.levels["carry"])
    assert len(strobes["qk_loaded"]) == len(strobes["v_loaded"]) == block.heads
    assert not any(strobes[name] for name in ERRORS)
    assert all(retired >= head - 1 for head, (_, retired) in enumerate(opened))


def draw_bits(rng, count):
    bits = [rng.choice([0, 4, 4, 8]) for _ in range(count)]
    bits[rng.randrange(count)] = rng.choice([4, 8])
    return bits


SHAPES = [
    {"rows": 3, "columns": 5, "line_elements": 4, "axis_data_bits": 64, "outstanding": 4},
    {"rows": 16, "columns": 18, "line_elements": 8, "axis_data_bits": 128, "outstanding": 5},
    {"rows": 1, "columns": 1, "line_elements": 1, "axis_data_bits": 64, "outstanding": 1},
    {"rows": 12, "columns": 2, "line_elements": 2, "axis_data_bits": 64, "outstanding": 7},
]


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize(("head_size", "stall"), [(1, 0.5), (7, 0.5), (8, 0.5), (33, 0.5), (33, 0.0)])
def test_every_element_comes_to_its_place(shape, head_size, stall):
    seed = 100 * shape + head_size + int(stall)
    rng = random.Random(seed)
    config = DtqattenConfig.preset("tiny", head_size_max=40, tokens_max=20, **SHAPES[shape])
    options = {name: rng.randrange(2) for name in ("carry", "per_token", "reorder")}
    block = Block(config, seed, head_size, 3, draw_bits(rng, rng.randrange(2, 8)), **options)
    check(block, run(block, stall, latency=rng.choice([1, 9]), hold=rng.choice([0, 40])))


@pytest.mark.parametrize(
    "bits", [[4], [8], [0, 0, 8, 0], [4] * 4, [8] * 4, [8, 4, 0] * 3, [0] * 15 + [4]], ids=str
)
@pytest.mark.parametrize(("carry", "reorder"), [(0, 0), (0, 1), (1, 1)])
def test_lists(bits, carry, reorder):
    block = Block(DtqattenConfig.preset("tiny"), 5, 5, 1, bits, carry=carry, reorder=reorder, per_token=1)
    check(block, run(block))


def test_extreme_sizes():
    """A full list, the longest head, all heads, a table of one token."""
    config = DtqattenConfig.preset("tiny", tokens_max=12, head_size_max=9, heads_max=3)
    block = Block(config, 7, 9, 3, [4, 8] * 6)
    check(block, run(block))
    smallest = {"rows": 1, "columns": 1, "line_elements": 1, "outstanding": 1}
    config = DtqattenConfig.preset("tiny", tokens_max=1, head_size_max=1, heads_max=1, **smallest)
    block = Block(config, 8, 1, 1, [8], per_token=1)
    check(block, run(block))


def test_a_third_head_waits_for_the_first_to_leave():
    block = Block(DtqattenConfig.preset("tiny"), 9, 3, 4, [4, 8, 8])
    found = run(block, hold=300)
    check(block, found)
    _, _, strobes, opened = found
    # retire, entry a cycle later, descriptor three later.
    for head in (2, 3):
        assert opened[head][0] == strobes["v_loaded"][head - 2] + 300 + 1 + 3


@pytest.mark.parametrize("tokens", [5, 4])
def test_nothing_is_asked_for_after_a_wrong_list(tokens):
    block = Block(DtqattenConfig.preset("tiny"), 11, 4, 1, [4, 8], tokens=tokens)
    block.listed = [(0, 4), (4, 8)]
    asked, _, strobes, _ = run(block, cycles=60)
    good = tokens == 5
    assert [bool(strobes[name]) for name in ("list_done", *ERRORS)] == [good, not good, 0, 0, 0]
    assert (len(asked) > 1) == good


@pytest.mark.parametrize("spoil", [0, 1, 2, 5, 9, 11])
def test_wrong_framing(spoil):
    """Of the list, scales, K, Q and V, of one beat and of two: nothing is asked for afterwards."""
    block = Block(DtqattenConfig.preset("tiny"), 13, 9, 4, [4, 8, 8], per_token=1)
    asked, _, strobes, _ = run(block, cycles=200, spoil=spoil)
    assert {name for name in ERRORS if strobes[name]} == {"framing_error"}
    assert strobes["framing_error"][-1] == 199
    assert len(asked) <= spoil + 1 + block.config.outstanding
    assert bool(strobes["list_done"]) == (spoil > 0)


def test_the_emitted_verilog_does_the_same():
    config = DtqattenConfig.preset("tiny", **SHAPES[0])
    block, trace = Block(config, 17, 7, 3, draw_bits(random.Random(3), 12), per_token=1, reorder=1), []
    check(block, run(block, stall=0.3, hold=20, trace=trace))
    fetcher = Fetcher(config)
    ports = list(flat_ports(fetcher))
    values = {port[0]: list(column) for port, column in zip(ports, zip(*trace, strict=True), strict=True)}
    inputs = [name for name, given, _ in ports if given]
    offered = [-valid & (1 << 48) - 1 for valid in values["desc__valid"]]
    job = VectorJob(
        inputs={name: values[name] for name in inputs},
        expected={name: column for name, column in values.items() if name not in inputs},
        mask={"desc__payload": offered},
    )
    result = run_vectors(emit(fetcher, "fetcher"), job)
    assert [step["problem"] for step in result["steps"]] == [None]
