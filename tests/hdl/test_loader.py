"""The loader: what it writes into the buffers, against a stream put together from its documented order."""

import random

import pytest

from bitfabric.hdl.gemm.loader import Loader
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.sim.streams import simulate


def ws(**overrides):
    return SystolicWsConfig.preset("tiny", **overrides)


def os(**overrides):
    return SystolicOsConfig.preset("tiny", **overrides)


CONFIGS = {
    "ws-32": ws(),
    "ws-32-uneven": ws(rows=5, columns=7, acc_depth=4, act_depth=9, act_bits=5, weight_bits=3),
    "ws-64": ws(rows=9, columns=3, acc_depth=3, act_depth=6, axis_data_bits=64),
    "ws-128": ws(rows=2, columns=33, acc_depth=5, act_depth=5, axis_data_bits=128),
    "ws-512": ws(rows=4, columns=17, acc_depth=2, act_depth=8, axis_data_bits=512),
    "os-32": os(),
    "os-64": os(rows=9, columns=5, weight_depth=9, act_depth=20, axis_data_bits=64),
    "os-256": os(rows=2, columns=9, weight_depth=2, act_depth=4, axis_data_bits=256),
}


NOTHING = {"data": 0, "last": 1}  # what is on the stream while it is not valid


class Traffic:
    """Hold a GEMM's random data, the beats that carry them and the writes that they must become.

    An item is ``(port, words)``, a word ``(address, lanes, done)``; lanes beyond those in use are not compared.
    """

    def __init__(self, config, tiles, rng, m, k, n, requantize, resident):
        self.beat_bytes = config.axis_data_bits // 8
        self.items, self.beats, self.beats_of_item = [], [], []
        act_bits, weight_bits = config.act_bits, config.weight_bits
        acts = [[rng.getrandbits(act_bits) for _ in range(k)] for _ in range(m)]
        weights = [[rng.getrandbits(weight_bits) for _ in range(n)] for _ in range(k)]
        channels = [(rng.getrandbits(32), rng.getrandbits(31), rng.getrandbits(6)) for _ in range(n)]
        act_address = 0
        for tile in tiles:
            columns = range(tile["n0"], tile["n0"] + tile["n_valid"])
            depth = range(tile["k0"], tile["k0"] + tile["k_valid"])
            rows = range(tile["m0"], tile["m0"] + tile["m_valid"])
            if requantize and tile["k0"] == 0:
                lanes = config.drain_lanes
                groups = [columns[i : i + lanes] for i in range(0, len(columns), lanes)]
                for group in groups:
                    for index in range(3):
                        word = b"".join(channels[c][index].to_bytes(4, "little") for c in group)
                        self.send(word)
                words = [[channels[c] for c in group] for group in groups]
                self.item("params", 0, words, 3 * len(groups))
            words = [[weights[row][column] for column in columns] for row in depth]
            self.item("weights", 0, words, sum(self.send_bytes(w, rng, weight_bits) for w in words))
            if tile["n0"] == 0 or not resident:
                if config.m_innermost:
                    words = [[acts[row][element] for element in depth] for row in rows]
                else:
                    words = [[acts[row][element] for row in rows] for element in depth]
                count = sum(self.send_bytes(w, rng, act_bits) for w in words)
                self.item("acts", act_address, words, count)
                act_address += len(words)
                bank = not resident or tile["k0"] + tile["k_valid"] == k
                self.items[-1] = ("bank" if bank else "tile", self.items[-1][1])
                act_address = 0 if bank else act_address

    def item(self, port, address, words, beats):
        done = [False] * (len(words) - 1) + [True]
        numbered = zip(range(address, address + len(words)), words, done, strict=True)
        self.items.append((port, list(numbered)))
        self.beats_of_item.append(beats)

    def send_bytes(self, word, rng, bits):
        """Send elements sign-extended to bytes, or with other upper bits, which do not count."""
        upper = rng.choice([0, -1, rng.getrandbits(8)])
        return self.send(bytes((value | upper << bits) & 0xFF for value in word))

    def send(self, raw):
        count = -(-len(raw) // self.beat_bytes)
        raw = raw.ljust(count * self.beat_bytes, b"\0")
        self.beats += [
            int.from_bytes(raw[i : i + self.beat_bytes], "little")
            for i in range(0, len(raw), self.beat_bytes)
        ]
        return count


async def load(ctx, config, block, traffic, rng, *, stall, busy, lasts=None):
    """Run one GEMM; return the items written, the cycle of the last beat and where framing errors were."""
    lasts = {len(traffic.beats) - 1} if lasts is None else lasts
    items, words = [], []
    sent, cycle, offered, errors = 0, 0, False, []
    occupied = {"params": 0, "weights": 0, "acts": 0}
    ctx.set(block.start, 1)
    await ctx.tick()
    ctx.set(block.start, 0)
    while len(items) < len(traffic.items) and cycle < 20000:
        for name, left in occupied.items():
            ctx.set(getattr(block, f"{name}_free"), left == 0)
            occupied[name] = max(left - 1, 0)
        offered = offered or (sent < len(traffic.beats) and rng.random() >= stall)
        ctx.set(block.i.valid, offered)
        ctx.set(block.i.payload, {"data": traffic.beats[sent], "last": sent in lasts} if offered else NOTHING)
        p, w, a = (
            [getattr(block, f"{name}_{field}") for field in ("en", "addr", "data")]
            for name in ("params", "weights", "acts")
        )
        done = [block.params_done, block.weights_done, block.acts_tile_done, block.acts_bank_done]
        sampled = await ctx.tick().sample(block.i.ready, block.framing_error, *p, *w, *a, *done)
        _, _, ready, framing_error, *rest = sampled
        ports = dict(zip(("params", "weights", "acts"), (rest[0:3], rest[3:6], rest[6:9]), strict=True))
        params_done, weights_done, tile_done, bank_done = rest[9:]
        if framing_error:
            assert offered
            assert ready
            errors.append(sent)
        finished = {"params": params_done, "weights": weights_done, "acts": tile_done}
        assert tile_done or not bank_done
        for name, (en, address, data) in ports.items():
            assert en or not finished[name]
            if en:
                assert not occupied[name], f"{name} written while its bank was not free"
                words.append((address, plain(config, name, data), bool(finished[name])))
            if finished[name]:
                items.append((name if name != "acts" else "bank" if bank_done else "tile", words))
                words = []
                occupied[name] = rng.randint(1, 6) if rng.random() < busy else 0
        if offered and ready:
            offered = False
            sent += 1
        cycle += 1
    ctx.set(block.i.valid, 0)
    await ctx.tick().repeat(2)
    assert sent == len(traffic.beats)
    return items, cycle, errors


def plain(config, name, data):
    """Return a written word as its lanes."""
    if name == "params":
        return [(c.bias, c.multiplier, c.shift) for c in (data[i] for i in range(config.drain_lanes))]
    bits, lanes = (
        (config.weight_bits, config.columns) if name == "weights" else (config.act_bits, config.rows)
    )
    return [data >> bits * lane & ((1 << bits) - 1) for lane in range(lanes)]


def compare(items, expected):
    assert [name for name, _ in items] == [name for name, _ in expected]
    for (name, words), (_, wanted) in zip(items, expected, strict=True):
        used = [
            (address, lanes[: len(want[1])], done)
            for (address, lanes, done), want in zip(words, wanted, strict=True)
        ]
        assert used == wanted, name


def setup(ctx, block, m, k, n, requantize, resident):
    for name, value in (("m", m), ("k", k), ("n", n), ("requantize", requantize), ("resident", resident)):
        ctx.set(getattr(block, name), value)


def gemms(config, rng, count):
    """Return sizes around the steps of the loops."""
    steps = (config.m_step, config.k_step, config.columns)
    sizes = [(1, 1, 1), steps, tuple(step + 1 for step in steps)]
    while len(sizes) < count:
        sizes.append(tuple(rng.randint(1, 2 * step + 1) for step in steps))
    return sizes


@pytest.mark.parametrize(("stall", "busy"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.7), (0.5, 0.7)])
@pytest.mark.parametrize("name", CONFIGS)
def test_writes(name, stall, busy, tile_nest):
    config = CONFIGS[name]
    block = Loader(config)
    rng = random.Random(name)

    async def testbench(ctx):
        for number, (m, k, n) in enumerate(gemms(config, rng, 7)):
            for resident in {False, config.resident(m, k)}:
                requantize = (number + resident) % 2 == 0
                setup(ctx, block, m, k, n, requantize, resident)
                tiles = list(tile_nest(config, m, k, n))
                traffic = Traffic(config, tiles, rng, m, k, n, requantize, resident)
                items, cycles, errors = await load(ctx, config, block, traffic, rng, stall=stall, busy=busy)
                compare(items, traffic.items)
                assert errors == []
                if not stall and not busy:
                    # A cycle to plan an item, one to see that there are no parameters, and one per beat.
                    skipped = len(tiles) - sum(item[0] == "params" for item in items)
                    assert cycles == len(traffic.beats) + len(traffic.items) + skipped

    simulate(block, testbench)


def test_both_kinds_of_gemm_are_among_them():
    for config in CONFIGS.values():
        sizes = gemms(config, random.Random(0), 7)
        assert any(config.resident(m, k) for m, k, _ in sizes)
        assert any(n > config.columns for _, _, n in sizes)
        assert any(k > config.k_step for _, k, _ in sizes)
    uneven = [
        c
        for c in CONFIGS.values()
        if c.columns % (c.axis_data_bits // 8) and c.columns * 8 > c.axis_data_bits
    ]
    assert uneven, "no row ends inside its second beat"


@pytest.mark.parametrize("name", ["ws-32", "os-64"])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_framing_errors(name, stall, tile_nest):
    config = CONFIGS[name]
    block = Loader(config)
    rng = random.Random(9)
    m, k, n = config.m_step + 1, config.k_step + 1, config.columns + 1

    async def testbench(ctx):
        setup(ctx, block, m, k, n, 1, 0)
        traffic = Traffic(config, list(tile_nest(config, m, k, n)), rng, m, k, n, True, False)
        final = len(traffic.beats) - 1
        early = [0, final - 1, sum(traffic.beats_of_item[:3]) - 1]  # the last one ends a tile
        for lasts, wrong in [
            ({final}, []),
            *(({beat, final}, [beat]) for beat in early),
            (set(), [final]),
            ({2}, [2, final]),
            ({final}, []),  # an error leaves nothing behind
        ]:
            items, _, errors = await load(ctx, config, block, traffic, rng, stall=stall, busy=0, lasts=lasts)
            assert errors == wrong
            compare(items, traffic.items)

    simulate(block, testbench)


def test_nothing_is_taken_before_the_start():
    block = Loader(CONFIGS["ws-32"])

    async def testbench(ctx):
        setup(ctx, block, 1, 1, 1, 0, 0)
        for port in ("params", "weights", "acts"):
            ctx.set(getattr(block, f"{port}_free"), 1)
        ctx.set(block.i.valid, 1)
        for _ in range(5):
            assert not ctx.get(block.i.ready)
            await ctx.tick()

    simulate(block, testbench)
