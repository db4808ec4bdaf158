"""Say whether a run was right: the one judgement of the Python and the C++ testbenches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitfabric.sim.job import Beats, Step


def compare(received: bytes | None, expected: Beats) -> str | None:
    """Return what is wrong with a packet (None: it never ended), or None."""
    if received is None:
        return "no complete packet came before the timeout"
    if len(received) != expected.size:
        return f"{len(received)} bytes came, {expected.size} were expected"
    got = np.frombuffer(received, np.uint8).reshape(expected.shape)
    wrong = np.argwhere((got != expected).any(axis=1))
    if not len(wrong):
        return None
    beat = int(wrong[0, 0])
    return (
        f"{len(wrong)} of {len(expected)} beats differ, first beat {beat}: "
        f"got {got[beat].tobytes().hex()}, expected {expected[beat].tobytes().hex()}"
    )


def verdict(name: str, problem: str | None, registers: Mapping[str, int]) -> dict[str, Any]:
    """Return a step's entry in a verdict."""
    return {"name": name, "passed": problem is None, "problem": problem, "registers": dict(registers)}


def judge(
    step: Step, received: bytes | None, registers: Mapping[str, int], *, stalled: bool
) -> dict[str, Any]:
    """Return the verdict on a step.

    Parameters
    ----------
    step : Step
        What was run.
    received : bytes, optional
        The packet that came out, or all of them with ``step.wait``; None if it did not end in time.
    registers : mapping of str to int
        What was read, by name.
    stalled : bool
        Streams stalled at random: the cycle counters are then not compared. The status does not depend on stalls.
    """
    problem = compare(received, step.expected)
    if received is None and step.wait is not None:
        problem = "the machine was not done before the timeout"
    if problem is None:
        for name, value in step.counters.items():
            if registers[name] != value and not (stalled and name.endswith("_cycles")):
                problem = f"register {name} holds {registers[name]}, expected {value}"
                break
    return verdict(step.name, problem, registers)
