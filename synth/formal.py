"""Proofs that arithmetic blocks equal integer multiplication, by yosys and its SAT solver."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bitfabric.hdl.arith.bitgroup import ALIGNMENTS, COLUMNS
from bitfabric.hdl.arith.fusion_unit import FusionUnitConfig
from bitfabric.hdl.emit import Emitter
from bitfabric.hdl.yosys import YosysError, run_yosys
from bitfabric.quant.errors import BitfabricError, ParameterError
from bitfabric.synth.miters import (
    BitGroupPeMiter,
    BrickMiter,
    ColumnMiter,
    ElementMiter,
    FusionMiter,
    FusionPeMiter,
    Miter,
)

# A row of the counterexample that `sat` prints: step (if sequential), name, decimal, hexadecimal, binary.
_ROW = re.compile(r"^ +(?:(\d+) +)?\\(\S+) +\S+ +(\S+) +(\S+)$", re.MULTILINE)


class ProofError(BitfabricError):
    """Report a statement that does not hold, with inputs that refute it."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Name a statement and how to build it.

    Members
    -------
    name : str
        ``<block>[_<variant>].<part or mode>``.
    build : callable
        Returns the miter; called when the proof runs.
    cycles : int
        0: combinational. 1: ``ok`` is proved one clock edge after any state whatever.
    slow : bool
        Tests leave it out; it takes several seconds (a column of the bit-aligned group: about 25).
    """

    name: str
    build: Callable[[], Miter]
    cycles: int = 0
    slow: bool = False


@dataclass(frozen=True, kw_only=True)
class ProofResult:
    """Hold a proof's outcome.

    Members
    -------
    name : str
    proved : bool
    seconds : float
        Emission included.
    counterexample : dict[str, str]
        Inputs under which ``ok`` is 0, in binary, or from 33 bits on in hexadecimal; ``@step`` follows
        the name where there are several cycles. Empty if proved.
    """

    name: str
    proved: bool
    seconds: float
    counterexample: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raise unless the statement was proved.

        Raises
        ------
        ProofError
            With the counterexample.
        """
        if not self.proved:
            inputs = ", ".join(f"{name}={bits}" for name, bits in self.counterexample.items())
            raise ProofError(f"{self.name} does not hold: {inputs}")


FUSION_UNITS = {"8_2": 2, "8_4": 4}  # by min_bits


def proofs() -> list[Proof]:
    """Return every statement, the blocks in the order they are built from each other."""
    found = [Proof(name="bitbrick", build=BrickMiter)]
    for alignment in ALIGNMENTS:
        stem = f"bitgroup_{alignment}"
        for column in range(COLUMNS):
            found.append(
                Proof(
                    name=f"{stem}.column{column}",
                    build=partial(ColumnMiter, alignment, column),
                    slow=alignment == "bit",
                )
            )
        for act in (4, 8) if alignment == "nibble" else range(1, 9):
            for weight in (4, 8):
                found.append(
                    Proof(
                        name=f"{stem}.{act}x{weight}",
                        build=partial(ElementMiter, alignment, act, weight),
                    )
                )
        found.append(Proof(name=f"{stem}_pe", build=partial(BitGroupPeMiter, alignment), cycles=1))
    for unit, min_bits in FUSION_UNITS.items():
        for signs in ("signed", "any"):
            config = FusionUnitConfig(min_bits=min_bits, signs=signs)
            stem = f"fusion_unit_{unit}" + ("" if signs == "signed" else "_any")
            widths = [b for b in (2, 4, 8) if b >= min_bits]
            for act in widths:
                for weight in widths:
                    found.append(
                        Proof(
                            name=f"{stem}.{act}x{weight}",
                            build=partial(FusionMiter, config, act, weight),
                            slow=signs == "any" and 8 in (act, weight),
                        )
                    )
            found.append(Proof(name=f"{stem}_pe", build=partial(FusionPeMiter, config), cycles=1))
    return found


def run(name: str, timeout: float = 600) -> ProofResult:
    """Prove the statement ``name`` of ``proofs()``.

    Raises
    ------
    ParameterError
        If there is no such proof.
    YosysError
        If yosys fails or does not finish in ``timeout`` seconds.
    """
    known = {proof.name: proof for proof in proofs()}
    if name not in known:
        raise ParameterError("proof", name, "one of " + ", ".join(known))
    return prove(known[name], timeout=timeout)


def prove(proof: Proof, timeout: float = 600) -> ProofResult:
    """Show that ``ok`` is 1 for every input, or find inputs for which it is not.

    The emitted RTLIL is flattened and mapped to AND and XOR, which brings the solver from minutes to seconds.

    Raises
    ------
    YosysError
        If yosys fails or does not finish in ``timeout`` seconds: neither proved nor refuted.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bitfabric-") as scratch:
        source = Path(scratch, "miter.il")
        source.write_text(Emitter("miter").convert_top(proof.build()))
        # Nothing is assumed of the state before the one clock edge, not even what the reset would make it.
        steps = f"-seq {proof.cycles + 1} -prove-skip {proof.cycles} " if proof.cycles else ""
        log = run_yosys(
            [
                f"read_rtlil {source}",
                "hierarchy -check -top miter",
                "proc",
                "flatten",
                "setattr -unset init w:*",
                "opt -full",
                "techmap",
                "opt",
                "abc -g AND,XOR",
                "opt_clean",
                f"sat {steps}-prove ok 1 -show-inputs",
            ],
            timeout=timeout,
        )
    proved, refuted = "no model found: SUCCESS!" in log, " - model found: FAIL!" in log
    if proved == refuted:
        raise YosysError(f"yosys came to no verdict on {proof.name}")
    table = log[log.rindex("model found: FAIL!") :] if refuted else ""
    return ProofResult(
        name=proof.name,
        proved=proved,
        seconds=time.monotonic() - start,
        # Of more than 32 bits `sat` prints only the hexadecimal form.
        counterexample={
            name + (f"@{step}" if step else ""): bits if set(bits) <= set("01x") else f"0x{digits}"
            for step, name, digits, bits in _ROW.findall(table)
        },
    )
