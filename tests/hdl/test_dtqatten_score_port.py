"""The score port: every score, every maximum and every strobe, in every cycle."""

import numpy as np
import pytest

from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import SCORE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.score_lane import ScoreLane
from bitfabric.hdl.dtqatten.score_maximum import ScoreMaximum
from bitfabric.hdl.dtqatten.score_port import ScorePort
from bitfabric.hdl.emit import emit
from bitfabric.quant.dtqatten_attention import attend
from bitfabric.quant.dtqatten_parameters import AttentionParameters
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.softmax import MASKED, SCORE_LIMIT
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

LATENCY = 5  # from the bus to the write; binding for the machine's cycle model
ODD = {"rows": 3, "columns": 5, "tokens_max": 32, "head_size_max": 9}
WIDE = {"rows": 16, "columns": 18, "tokens_max": 48, "head_size_max": 32}
ONE = {"rows": 1, "columns": 1, "tokens_max": 7, "head_size_max": 1}
FULL_SUMS = {"rows": 4, "columns": 3, "tokens_max": 13, "head_size_max": 256, "unload_ports": 1}


def pack(values, bits):
    return sum((int(value) & ((1 << bits) - 1)) << (lane * bits) for lane, value in enumerate(values))


class Bench:
    """Present tiles of products, read scores and maxima at random, and say what has to come."""

    def __init__(self, config, port, rng):
        self.config, self.port, self.rng = config, port, rng
        self.cycle = 0
        self.inputs, self.outputs = [], []
        columns = config.columns
        # What is known of a word: values, and which lanes are.
        known = np.ones(columns, bool)
        self.memory = {
            (band, slot): (np.zeros(columns, int), known)
            for band in range(config.bands_max)
            for slot in range(config.slots_max)
        }
        self.maxima = {}
        self.read, self.asked = None, (0, None)
        self.pending = {}  # by cycle: what leaves the lanes
        self.busy = {}  # bands whose maxima are under way, and until when
        self.running = None
        self.reads = 0

    def tick(self, **driven):
        """Spend a cycle: noise where nothing is driven, and reads at random."""
        config, rng, cycle = self.config, self.rng, self.cycle
        bands, slots = config.bands_max, config.slots_max
        values = {
            "i_next_band": rng.integers(bands),
            "i_next_position": rng.integers(config.tokens_max),
            "i_valid": 0,
            "i_data": int.from_bytes(rng.bytes(config.columns * config.acc_bits // 8), "little"),
            "i_band": rng.integers(bands),
            "i_slot": rng.integers(slots),
            "i_row_valid": rng.integers(2),
            "i_first": rng.integers(2),
            "i_last": rng.integers(2),
            "read_en": rng.integers(2),
            "read_band": rng.integers(bands),
            "read_slot": rng.integers(slots),
            "max_en": rng.random() < 0.15,
            "max_band": rng.integers(bands),
            **driven,
        }
        now = self.pending.pop(cycle, None)
        ahead = self.pending.get(cycle + 1)
        done = self.pending.pop(("done", cycle), None)
        if (
            now and rng.random() < 0.5 and "read_en" not in driven
        ):  # the word that is being written: the old one
            values.update(read_en=1, read_band=now["band"], read_slot=now["slot"])
        if done is not None and rng.random() < 0.5:  # as early as can be
            values.update(max_en=1, max_band=done)
        if self.busy.get(int(values["max_band"]), -1) >= cycle or (
            ahead and ahead["band"] == values["max_band"]
        ):
            values["max_en"] = 0
        self.inputs.append({name: int(value) for name, value in values.items()})
        valid, maximum = self.asked
        self.outputs.append(
            {
                "tile_done": (int(done is not None), 1),
                "tile_done_band": (done or 0, 0 if done is None else -1),
                "read_data": self.packed(self.read),
                "max_valid": (valid, 1),
                "max_data": self.packed(maximum if valid else None),
            }
        )
        if ahead and ahead["first"]:
            before = self.maxima.get(ahead["band"])
            self.running = before or (np.full(config.columns, MASKED), np.ones(config.columns, bool))
        if values["max_en"]:
            maximum = self.maxima.pop(int(values["max_band"]), None)
            self.asked = int(maximum is not None), maximum
        if values["read_en"]:
            self.read = self.memory[int(values["read_band"]), int(values["read_slot"])]
            self.reads += 1
        if now:
            self.write(now)
        self.cycle += 1

    def packed(self, word):
        if word is None:
            return 0, 0
        return pack(word[0], SCORE_BITS), pack(-word[1].astype(int), SCORE_BITS)

    def write(self, row):
        if row["row_valid"]:
            self.memory[row["band"], row["slot"]] = row["scores"], row["real"]
            values, real = self.running
            self.running = np.maximum(values, row["scores"]), real & row["real"]
        if row["last"]:
            self.maxima[row["band"]] = self.running

    def scan(self, ids, scales):
        config = self.config
        for position in self.rng.permutation(len(ids)):
            band, lane = divmod(int(position), config.columns)
            place = {"position": position, "band": band, "lane": lane}
            driven = {f"scan_{name}": value for name, value in place.items()}
            driven |= {f"scale_{name}": value for name, value in place.items()}
            q, k = scales[:, position]
            self.tick(scan_en=1, scan_id=ids[position], scale_en=1, scale_q=q, scale_k=k, **driven)

    def tile(self, levels, acc, scores, band, tile):
        """Put a tile's rows on the bus, the last one first."""
        config, rng = self.config, self.rng
        rows, columns, size = config.rows, config.columns, len(acc)
        queries = np.arange(band * columns, (band + 1) * columns)
        real = queries < size
        asked = np.minimum(queries, size - 1)
        self.tick(
            i_next_band=band, i_next_position=min(tile * rows + rows - 1, config.tokens_max - 1), **levels
        )
        for k in range(rows):
            row = rows - 1 - k
            key = tile * rows + row
            valid = key < size
            limit = 1 << (config.acc_bits - 1)
            data = rng.integers(-limit, limit, columns)
            if valid:
                data = np.where(real, acc[asked, key], data)
            slot = tile // config.unload_ports * rows + row
            mark = {
                "band": band,
                "slot": slot,
                "row_valid": valid,
                "first": k == 0,
                "last": row == 0,
                "scores": np.where(real, scores[asked, key], 0) if valid else None,
                "real": real,
            }
            self.pending[self.cycle + LATENCY] = mark
            self.busy[band] = self.cycle + LATENCY + (row > 0) * 100
            if row == 0:
                self.pending["done", self.cycle + LATENCY + 1] = band
            following = (
                {"i_next_band": band, "i_next_position": min(key - 1, config.tokens_max - 1)} if row else {}
            )
            self.tick(
                i_valid=1,
                i_data=pack(data, config.acc_bits),
                i_band=band,
                i_slot=slot,
                i_row_valid=valid,
                i_first=k == 0,
                i_last=row == 0,
                **following,
                **levels,
            )

    def job(self):
        names = {name for values in self.inputs for name in values}
        inputs = {name: [values.get(name, 0) for values in self.inputs] for name in names}
        expected, mask = {}, {}
        widths = {
            "tile_done": 1,
            "max_valid": 1,
            "tile_done_band": address_bits(self.config.bands_max),
        }
        for name in self.outputs[0]:
            bits = widths.get(name, SCORE_BITS * self.config.columns)
            expected[name] = [values[name][0] for values in self.outputs]
            mask[name] = [values[name][1] & ((1 << bits) - 1) for values in self.outputs]
        return VectorJob(inputs=inputs, expected=expected, mask=mask)


def block(bench, size, causal, per_token, score_shift, score_multiplier=1):
    """Do all tiles of a block in a random order, twice, then read everything."""
    config, rng = bench.config, bench.rng
    d = config.head_size_max
    ids = rng.permutation(config.tokens_max)[:size]
    q, k, v = rng.integers(-128, 128, (3, 1, size, d))
    q[0, 0], k[0, 0], k[0, -1] = -128, -128, 127
    scales = rng.choice([1, 65535, *rng.integers(1, 65536, 4)], (3, size))
    parameters = AttentionParameters(
        score_shift=score_shift,
        score_multiplier=score_multiplier,
        out_multiplier=1,
        out_shift=1,
        **(dict(zip(("sq", "sk", "sv"), scales, strict=True)) if per_token else {}),
    )
    scores = attend(q, k, v, bits=np.full(size, 8), parameters=parameters, ids=ids, causal=causal).scores[0]
    acc = q[0] @ k[0].T
    levels = {
        "per_token": per_token,
        "causal": causal,
        "shift": score_shift,
        "multiplier": rng.integers(1, 65536) if per_token else score_multiplier,
    }
    bench.scan(ids, scales[:2])
    tiles = range(bench.port, -(-size // config.rows), config.unload_ports)
    order = [(band, tile) for band in range(-(-size // config.columns)) for tile in tiles]
    for _ in range(2):
        for index in rng.permutation(len(order)):
            bench.tile(levels, acc, scores, *order[index])
            for _ in range(rng.integers(3) * rng.integers(6)):
                bench.tick(**levels)
    for _ in range(2 * LATENCY):
        bench.tick(**levels)
    for band in range(config.bands_max):
        bench.tick(max_en=1, max_band=band)
        for slot in range(config.slots_max):
            bench.tick(read_en=1, read_band=band, read_slot=slot)
    return scores


@pytest.mark.parametrize(
    ("parameters", "port", "blocks"),
    [
        (
            ODD,
            0,
            [
                (32, False, False, 9, 40000),
                (29, True, True, 7),
                (8, True, False, 1, 65535),
                (1, False, True, 5),
            ],
        ),
        (ODD, 1, [(31, True, False, 6, 3000), (2, False, False, 5, 1000), (32, False, True, 1)]),
        (WIDE, 1, [(45, True, True, 14)]),
        (ONE, 0, [(7, True, True, 1), (6, False, False, 1, 65535)]),
        ({**ONE, "tokens_max": 1}, 0, [(1, True, False, 1, 1)]),
        (FULL_SUMS, 0, [(13, False, True, 20), (13, True, False, 47, 65535)]),
    ],
)
def test_scores(parameters, port, blocks):
    config = DtqattenConfig.preset("tiny", **parameters)
    bench = Bench(config, port, np.random.default_rng([port, len(blocks), config.columns]))
    seen = [block(bench, *one) for one in blocks]
    verdict = run_vectors(emit(ScorePort(config), "dut"), bench.job())
    assert verdict["steps"][0]["problem"] is None
    assert bench.reads > 50 or config.tokens_max == 1
    if parameters is ODD:
        flat = np.concatenate([scores.ravel() for scores in seen])
        assert {MASKED, SCORE_LIMIT, -SCORE_LIMIT} <= set(flat.tolist())  # corners were among them


def test_latency():
    assert ScorePort.LATENCY == ScoreLane.LATENCY == LATENCY


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ScoreLane(33, 4), "acc_bits=33 is not allowed; it must be an integer in [8, 32]"),
        (lambda: ScoreLane(20, 0), "id_bits=0 is not allowed; it must be an integer of at least 1"),
        (lambda: ScoreMaximum(0, 4), "columns=0 is not allowed; it must be an integer of at least 1"),
        (lambda: ScoreMaximum(4, 0), "bands=0 is not allowed; it must be an integer of at least 1"),
    ],
)
def test_construction_errors(make, text):
    with pytest.raises(ParameterError) as error:
        make()
    assert str(error.value) == text


@pytest.mark.parametrize("parameters", [ODD, {**ONE, "tokens_max": 1}], ids=str)
def test_lint(parameters, tmp_path, lint):
    path = tmp_path / "dut.v"
    path.write_text(emit(ScorePort(DtqattenConfig.preset("tiny", **parameters)), "dut").verilog)
    assert lint(path) == []
