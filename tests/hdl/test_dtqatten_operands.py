"""Line buffers and operand bus: random writes and commands in every cycle, against matrices."""

import numpy as np
import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.line_buffer import PositionBuffer, TokenBuffer
from bitfabric.hdl.dtqatten.operands import Operands
from bitfabric.hdl.emit import emit
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

LATENCY = 2  # from a command to the bus; binding for the machine's cycle model
TAILS = {"rows": 3, "columns": 5, "tokens_max": 26, "head_size_max": 21}
WIDE = {
    **{"rows": 16, "columns": 18, "tokens_max": 48, "head_size_max": 40},
    **{"line_elements": 8, "axis_data_bits": 128},
}
SINGLE = {"rows": 2, "columns": 3, "tokens_max": 7, "head_size_max": 10, "line_elements": 1}
WHOLE_BEATS = {"rows": 5, "columns": 1, "tokens_max": 33, "head_size_max": 16, "line_elements": 8}
ONE = {"rows": 1, "columns": 1, "tokens_max": 1, "head_size_max": 1}
VARIANTS = [TAILS, WIDE, SINGLE, WHOLE_BEATS, ONE]


class Bench:
    """Hold what the buffers hold: matrices by token and channel, negative until written."""

    def __init__(self, config, rng):
        self.config, self.rng = config, rng
        elements = config.line_elements
        self.words = -(-config.head_size_max // config.axis_bytes)
        channels = self.words * config.axis_bytes
        positions = config.token_groups_max * elements
        self.keys = np.full((2, config.tiles_max * config.rows, channels), -1)
        self.queries = np.full((2, config.bands_max * config.columns, channels), -1)
        self.values = np.full((2, positions, config.channel_tiles_max * config.rows), -1)
        self.numerators = np.full((positions, config.bands_max * config.columns), -1)
        self.high = np.full(max(positions, len(self.keys[0]), len(self.queries[0])), -1)

    def some(self, count):
        return int(self.rng.integers(count))

    def token(self):
        """A position; the last one often, for there are the tails."""
        return self.some(self.config.tokens_max) if self.some(3) else self.config.tokens_max - 1

    def write(self):
        """Return inputs of a cycle, and the change that they make after it."""
        config, rng = self.config, self.rng
        rows, columns, elements = config.rows, config.columns, config.line_elements
        changes = []
        place, key, value, probability = self.token(), self.token(), self.token(), self.token()
        high = self.some(2)
        inputs = {"scan_en": self.some(2), "scan_high": high, "kq_en": self.some(4), "kq_bank": self.some(2)}
        inputs |= {"scan_tile": place // rows, "scan_lane": place % rows, "scan_band": place // columns}
        inputs |= {"scan_band_lane": place % columns, "scan_group": place // elements}
        inputs |= {"scan_slot": place % elements, "kq_word": self.some(self.words)}
        inputs |= {"kq_tile": key // rows, "kq_lane": key % rows}
        inputs |= {"kq_band": key // columns, "kq_band_lane": key % columns}
        inputs |= {
            "v_en": self.some(2),
            "v_bank": self.some(2),
            "v_tile": self.some(config.channel_tiles_max),
        }
        inputs |= {"v_position": value, "a_en": self.some(2), "a_band": self.some(config.bands_max)}
        inputs |= {"a_position": probability}
        data = {
            name: rng.bytes(size)
            for name, size in (("kq_data", config.axis_bytes), ("v_data", rows), ("a_data", columns))
        }
        inputs |= {name: int.from_bytes(raw, "little") for name, raw in data.items()}
        octets = {name: np.frombuffer(raw, np.uint8) for name, raw in data.items()}
        if inputs["scan_en"]:
            changes.append((self.high, (place,), high))
        run = slice(inputs["kq_word"] * config.axis_bytes, (inputs["kq_word"] + 1) * config.axis_bytes)
        for bit, matrix in enumerate((self.keys, self.queries)):
            if inputs["kq_en"] >> bit & 1:
                changes.append((matrix, (inputs["kq_bank"], key, run), octets["kq_data"]))
        if inputs["v_en"]:
            tile = slice(inputs["v_tile"] * rows, (inputs["v_tile"] + 1) * rows)
            changes.append((self.values, (inputs["v_bank"], value, tile), octets["v_data"]))
        if inputs["a_en"]:
            band = slice(inputs["a_band"] * columns, (inputs["a_band"] + 1) * columns)
            changes.append((self.numerators, (probability, band), octets["a_data"]))
        return inputs, changes

    def command(self):
        """Return inputs of a command and what is on the bus for it: row and column words, and flags."""
        config = self.config
        rows, columns, elements = config.rows, config.columns, config.line_elements
        pv, bank = self.some(2), self.some(2)
        tile = self.some(config.channel_tiles_max if pv else config.tiles_max)
        band = self.some(config.bands_max)
        group = self.some(config.token_groups_max if pv else config.head_groups_max)
        inputs = {"read_pv": pv, "read_bank": bank, "read_tile": tile, "read_band": band, "read_group": group}
        along = slice(group * elements, (group + 1) * elements)
        lanes, queries = slice(tile * rows, (tile + 1) * rows), slice(band * columns, (band + 1) * columns)
        if pv:
            row, column = self.values[bank, along, lanes], self.numerators[along, queries]
            row_high = np.repeat(self.high[along, None], rows, axis=1)
            column_high = np.ones((elements, columns), int)
        else:
            row, column = self.keys[bank, lanes, along].T, self.queries[bank, queries, along].T
            row_high, column_high = (
                np.repeat(self.high[None, part], elements, axis=0) for part in (lanes, queries)
            )
        # Element-major: all lanes of element 0, then all of element 1.
        return inputs, {
            "row_data": packed(row, 8),
            "column_data": packed(column, 8),
            "row_high": packed(row_high, 1),
            "column_high": packed(column_high, 1),
        }


def packed(values, bits):
    """Return values as an integer, the first one lowest, and which of its bits are known."""
    flat = [int(value) for value in values.ravel()]
    known = sum(((1 << bits) - 1) << (index * bits) for index, value in enumerate(flat) if value >= 0)
    return sum(value << (index * bits) for index, value in enumerate(flat) if value >= 0), known


@pytest.mark.parametrize("parameters", VARIANTS, ids=str)
def test_operands(parameters):
    config = DtqattenConfig.preset("tiny", **parameters)
    bench = Bench(config, np.random.default_rng(list(parameters.values())))
    inputs, answers = [], []
    answer = None
    for _ in range(600):
        driven, changes = bench.write()
        command, word = bench.command()
        reads = bench.some(5) > 0
        answer = word if reads else answer
        inputs.append(driven | command | {"read_en": int(reads)})
        answers.append(answer)
        for matrix, place, value in changes:
            matrix[place] = value
    ports = ("row_data", "column_data", "row_high", "column_high")
    shown = [None] * LATENCY + answers[:-LATENCY]
    job = VectorJob(
        inputs={name: [one[name] for one in inputs] for name in inputs[0]},
        expected={name: [word[name][0] if word else 0 for word in shown] for name in ports},
        mask={name: [word[name][1] if word else 0 for word in shown] for name in ports},
    )
    assert run_vectors(emit(Operands(config), "dut"), job)["steps"][0]["problem"] is None


def test_latency():
    assert Operands.LATENCY == LATENCY


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TokenBuffer(0, 4, 8, 2, 8), "lanes=0 is not allowed; it must be an integer of at least 1"),
        (lambda: TokenBuffer(2, 3, 8, 2, 8), "line_elements=3 is not allowed; it must be a power of two"),
        (lambda: TokenBuffer(2, 4, 12, 2, 8), "write_elements=12 is not allowed; it must be a power of two"),
        (
            lambda: TokenBuffer(2, 4, 2, 2, 8),
            "write_elements=2 is not allowed; it must be an integer of at least 4",
        ),
        (lambda: TokenBuffer(2, 4, 8, 0, 8), "tiles=0 is not allowed; it must be an integer of at least 1"),
        (
            lambda: TokenBuffer(2, 4, 8, 2, 0),
            "channels=0 is not allowed; it must be an integer of at least 1",
        ),
        (lambda: PositionBuffer(0, 4, 2, 8), "lanes=0 is not allowed; it must be an integer of at least 1"),
        (lambda: PositionBuffer(2, 6, 2, 8), "line_elements=6 is not allowed; it must be a power of two"),
        (lambda: PositionBuffer(2, 4, 0, 8), "tiles=0 is not allowed; it must be an integer of at least 1"),
        (
            lambda: PositionBuffer(2, 4, 2, 0),
            "positions=0 is not allowed; it must be an integer of at least 1",
        ),
        (
            lambda: PositionBuffer(2, 4, 2, 8, 0),
            "banks=0 is not allowed; it must be an integer of at least 1",
        ),
    ],
)
def test_construction_errors(make, text):
    with pytest.raises(ParameterError) as error:
        make()
    assert str(error.value) == text


@pytest.mark.parametrize("parameters", [WIDE, SINGLE, ONE], ids=str)
def test_lint(parameters, tmp_path, lint):
    path = tmp_path / "dut.v"
    path.write_text(emit(Operands(DtqattenConfig.preset("tiny", **parameters)), "dut").verilog)
    assert lint(path) == []
