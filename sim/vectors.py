"""Vector jobs: what every input of a block is in every cycle, and what its outputs must be."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.quant.errors import ParameterError
from bitfabric.sim.verdict import verdict

Words = NDArray[np.uint32]
Vector = NDArray[np.integer] | list[int]
_MAGIC = b"BFVEC1\n\0"
CLOCKS = ("clk", "aclk")
RESETS = {"rst": 1, "aresetn": 0}  # by name, with the active level


def words_of(name: str, values: Vector, width: int) -> Words:
    """Return a port's values as rows of little-endian 32-bit words.

    Parameters
    ----------
    name : str
        The port's, for messages.
    values : int array (cycles,) or list of int, or uint32 array (cycles, words)
        Negative ones are two's complement; packed words, as ``pack_lanes`` makes them, are taken as they are.
    width : int
        The port's, in bits.

    Raises
    ------
    ParameterError
        If the shape does not fit or a value is out of range.
    """
    words = -(-width // 32)
    if isinstance(values, np.ndarray) and values.ndim == 2:
        if values.dtype != np.uint32 or values.shape[1] != words:
            shape = f"{values.dtype}{values.shape}"
            raise ParameterError(name, shape, f"uint32 of shape (cycles, {words}) for {width} bits")
        return np.ascontiguousarray(values, dtype="<u4")
    numbers = values.tolist() if isinstance(values, np.ndarray) else [int(value) for value in values]
    low, high = -(1 << (width - 1)), 1 << width
    if numbers and (min(numbers) < low or max(numbers) >= high):
        bad = min(numbers) if min(numbers) < low else max(numbers)
        raise ParameterError(name, bad, f"within {width} bits")
    if width <= 62:
        flat = np.array(numbers, dtype=np.int64) & ((1 << width) - 1)
        return flat.astype("<u8").view("<u4").reshape(-1, 2)[:, :words].copy()
    raw = b"".join((number % high).to_bytes(words * 4, "little") for number in numbers)
    return np.frombuffer(raw, "<u4").reshape(-1, words)


def pack_lanes(lanes: NDArray[np.integer], bits: int) -> Words:
    """Return an array port's lanes as packed words: lane 0 lowest.

    Parameters
    ----------
    lanes : integer array (cycles, lanes)
        Two's complement; higher bits are dropped.
    bits : int
        Width of a lane, at most 32.
    """
    cycles, count = lanes.shape
    packed = np.zeros((cycles, -(-count * bits // 32) + 1), dtype=np.uint32)
    for lane in range(count):
        word, offset = divmod(lane * bits, 32)
        value = (lanes[:, lane].astype(np.int64) & ((1 << bits) - 1)).astype(np.uint64) << np.uint64(offset)
        packed[:, word] |= (value & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        packed[:, word + 1] |= (value >> np.uint64(32)).astype(np.uint32)
    return packed[:, :-1].copy()


def row_value(row: Words) -> int:
    """Return one row of words as an integer."""
    return int.from_bytes(row.astype("<u4").tobytes(), "little")


@dataclass(frozen=True, kw_only=True)
class VectorJob:
    """Hold the inputs of a block in every cycle, and its outputs.

    Cycle t is the time before the clock edge t: the inputs of cycle t are what the edge takes, the outputs of
    cycle t are what they are once those inputs have settled. Before cycle 0 the block is reset and its inputs are 0;
    an input that is not given stays 0.

    Members
    -------
    name : str
        What a report calls it.
    inputs, expected, mask : dict
        By port: integers, one per cycle, or packed words; see ``words_of``. ``mask`` says which bits of an output
        to compare; without it, all of them.
    """

    name: str = "vectors"
    inputs: Mapping[str, Vector]
    expected: Mapping[str, Vector]
    mask: Mapping[str, Vector] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        """Cycles that it takes."""
        return len(next(iter([*self.inputs.values(), *self.expected.values()]), ()))

    def packed(self, ports: Iterable[Mapping[str, Any]]) -> PackedJob:
        """Return the job as words, checked against the emitted port list.

        Raises
        ------
        ParameterError
            If a port does not exist, is of the other direction, or its values do not fit.
        """
        by_name = {port["name"]: port for port in ports}
        tables: dict[str, dict[str, Words]] = {"inputs": {}, "expected": {}, "mask": {}}
        for kind, table in tables.items():
            given: Mapping[str, Vector] = getattr(self, kind)
            direction = "input" if kind == "inputs" else "output"
            known = [
                n for n, p in by_name.items() if p["direction"] == direction and n not in (*CLOCKS, *RESETS)
            ]
            for name in sorted(given):
                if name not in known or (kind == "mask" and name not in self.expected):
                    raise ParameterError(kind, name, f"one of the {direction}s {', '.join(known)}")
                table[name] = words_of(name, given[name], by_name[name]["width"])
                if len(table[name]) != self.cycles:
                    raise ParameterError(name, len(table[name]), f"values for {self.cycles} cycles")
        return PackedJob(name=self.name, cycles=self.cycles, **tables)


@dataclass(frozen=True, kw_only=True)
class PackedJob:
    """Hold a vector job as arrays of words (cycles, words), by port."""

    name: str
    cycles: int
    inputs: dict[str, Words]
    expected: dict[str, Words]
    mask: dict[str, Words]

    def save(self, path: Path) -> None:
        """Write the job for the Python testbench."""
        kinds = {"inputs": self.inputs, "expected": self.expected, "mask": self.mask}
        arrays: dict[str, Any] = {f"{kind}.{n}": words for kind, t in kinds.items() for n, words in t.items()}
        head = {"name": self.name, "cycles": self.cycles}
        np.savez(path, job=np.array(json.dumps(head)), **arrays)

    @classmethod
    def load(cls, path: Path) -> PackedJob:
        """Read what ``save`` wrote."""
        tables: dict[str, dict[str, Words]] = {"inputs": {}, "expected": {}, "mask": {}}
        with np.load(path) as arrays:
            head = json.loads(str(arrays["job"]))
            for key in arrays.files:
                kind, _, name = key.partition(".")
                if name:
                    tables[kind][name] = arrays[key]
        return cls(name=head["name"], cycles=head["cycles"], **tables)

    def save_binary(self, path: Path, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        """Write the job for the C++ testbench, the ports in its order."""
        with path.open("wb") as file:
            file.write(_MAGIC + struct.pack("<Q", self.cycles))
            values = {**self.inputs, **self.expected}
            for name in [*inputs, *outputs]:
                for table in (values, self.mask):
                    file.write(struct.pack("<Q", name in table))
                    if name in table:
                        file.write(np.ascontiguousarray(table[name], dtype="<u4").tobytes())

    def judge(self, wrong: int, first: int, port: str, got: int | str) -> dict[str, Any]:
        """Return the verdict on a run.

        Parameters
        ----------
        wrong : int
            Cycles in which a compared bit differed.
        first : int
            The first of them.
        port : str
            The first output, by name, that differed in it.
        got : int or str
            What it was; text where bits were unknown.
        """
        problem = None
        if wrong:
            value = row_value(self.expected[port][first])
            mask = row_value(self.mask[port][first]) if port in self.mask else -1
            # What is not compared would differ between simulators.
            seen = f"0x{got & mask:x}" if isinstance(got, int) else got
            problem = (
                f"{wrong} of {self.cycles} cycles differ, first cycle {first}: "
                f"{port} is {seen}, expected 0x{value & mask:x}"
            )
        return verdict(self.name, problem, {})
