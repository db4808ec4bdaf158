"""A job: what a testbench sends to a machine, what must come back, and what its counters must say."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.common.register_map import RegisterMap

Beats = NDArray[np.uint8]
MEMORY_LATENCY = 8  # cycles from a descriptor to its first beat, in a testbench without stalls
_MAGIC = b"BFJOB4\n\0"


_PLAIN = ("name", "writes", "reads", "counters", "wait", "latency")


@dataclass(frozen=True, kw_only=True)
class Step:
    """Describe one run of a machine.

    Members
    -------
    name : str
        What a report calls it.
    writes : list of (int, int)
        Byte offsets and words to write; the last one starts the machine.
    stream : (beats, bytes) uint8
        What goes into ``s_axis``, one packet.
    expected : (beats, bytes) uint8
        What must come out of ``m_axis``, one packet.
    reads : dict
        Byte offset of each register to read at the end, by name.
    counters : dict
        What the registers in ``reads`` must hold when no stream stalls.
    wait : (int, int), optional
        Byte offset and mask of a register. The step then ends when all bits of the mask are set there, not with the
        end of a packet, and ``expected`` is all that came out until then: nothing, of outputs that stay inside.
    memory : (bytes,) uint8, optional
        What a host's memory holds from address 0 on. A machine with descriptor streams then asks for its packets
        itself: ``stream`` is empty, ``wait`` is given, and ``expected`` ends with ``descriptor_rows``.
    latency : int
        Cycles from a descriptor to its first beat, at least 2.
    """

    name: str
    writes: list[tuple[int, int]]
    stream: Beats
    expected: Beats
    reads: dict[str, int]
    counters: dict[str, int] = field(default_factory=dict)
    wait: tuple[int, int] | None = None
    memory: NDArray[np.uint8] | None = None
    latency: int = MEMORY_LATENCY


@dataclass(frozen=True, kw_only=True)
class Job:
    """Describe the runs of one simulation.

    Members
    -------
    steps : list of Step
        Run one after the other, without a reset between them.
    seed : int
        Of the random stalls.
    stall : float
        Probability that a channel pauses in a cycle; 0 also checks the counters.
    timeout : int
        Cycles after which a step without its last beat has failed.
    """

    steps: list[Step]
    seed: int = 0
    stall: float = 0.0
    timeout: int = 1_000_000

    def save(self, path: Path) -> None:
        """Write the job for the Python testbench."""
        arrays: dict[str, Any] = {}
        texts = []
        for number, step in enumerate(self.steps):
            arrays[f"stream{number}"], arrays[f"expected{number}"] = step.stream, step.expected
            if step.memory is not None:
                arrays[f"memory{number}"] = step.memory
            texts.append({name: getattr(step, name) for name in _PLAIN})
        head = {"steps": texts, "seed": self.seed, "stall": self.stall, "timeout": self.timeout}
        np.savez(path, job=np.array(json.dumps(head)), **arrays)

    @classmethod
    def load(cls, path: Path) -> Job:
        """Read what ``save`` wrote."""
        with np.load(path) as arrays:
            head = json.loads(str(arrays["job"]))
            steps = [
                Step(
                    stream=arrays[f"stream{number}"],
                    expected=arrays[f"expected{number}"],
                    memory=arrays.get(f"memory{number}"),
                    **{
                        **text,
                        "writes": [(offset, word) for offset, word in text["writes"]],
                        "wait": None if text["wait"] is None else tuple(text["wait"]),
                    },
                )
                for number, text in enumerate(head["steps"])
            ]
        return cls(steps=steps, seed=head["seed"], stall=head["stall"], timeout=head["timeout"])

    def save_binary(self, path: Path) -> None:
        """Write the job for the C++ testbench: little-endian 64-bit words and raw beats."""
        with path.open("wb") as file:
            file.write(_MAGIC)
            stall = round(self.stall * (1 << 32))
            file.write(struct.pack("<4Q", len(self.steps), self.seed, stall, self.timeout))
            for step in self.steps:
                shapes = (*step.stream.shape, *step.expected.shape)
                # A mask of 0 waits for nothing.
                wait = step.wait or (0, 0)
                memory = np.zeros(0, np.uint8) if step.memory is None else step.memory
                file.write(struct.pack("<8Q", *shapes, len(step.writes), len(step.reads), *wait))
                file.write(struct.pack("<2Q", memory.size, step.latency))
                for offset, word in step.writes:
                    file.write(struct.pack("<2Q", offset, word))
                for offset in step.reads.values():
                    file.write(struct.pack("<Q", offset))
                file.write(np.ascontiguousarray(step.stream).tobytes())
                file.write(np.ascontiguousarray(step.expected).tobytes())
                file.write(memory.tobytes())


def descriptor_rows(
    reads: NDArray[np.integer[Any]], writes: NDArray[np.integer[Any]], beat_bytes: int
) -> Beats:
    """Return what a testbench adds to the packets that came out: the descriptors, each a beat, those of reads first.

    Parameters
    ----------
    reads, writes : integer arrays (count, 2)
        Byte address and length of each.
    beat_bytes : int
        Bytes of a beat, at least 8.

    Returns
    -------
    (count, beat_bytes) uint8
        Address (32 bits), length (16 bits) and the beats of its packet, 0 for reads (16 bits); zeros.
    """
    rows = np.zeros((len(reads) + len(writes), beat_bytes), np.uint8)
    words = np.zeros((len(rows), 4), np.uint16)
    both = np.concatenate([np.reshape(reads, (-1, 2)), np.reshape(writes, (-1, 2))]).astype(np.int64)
    words[:, 0], words[:, 1], words[:, 2] = both[:, 0] & 0xFFFF, both[:, 0] >> 16, both[:, 1]
    words[len(reads) :, 3] = -(-both[len(reads) :, 1] // beat_bytes)
    rows[:, :8] = words.astype("<u2").view(np.uint8)
    return rows


def start_writes(registers: RegisterMap, values: dict[str, dict[str, int]]) -> list[tuple[int, int]]:
    """Return the writes that put ``values`` (register, field, value) into a machine, in their order."""
    constants = registers.constants()
    writes = []
    for register, fields in values.items():
        word = 0
        for name, value in fields.items():
            stem = register.upper() if name == "value" else f"{register}_{name}".upper()
            word |= (value << constants[f"{stem}_SHIFT"]) & constants[f"{stem}_MASK"]
        writes.append((constants[f"{register.upper()}_OFFSET"], word))
    return writes
