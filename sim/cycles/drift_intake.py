"""When Drift's intake takes beats, reads them back from the staging memory, and is done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.intake import Intake
from bitfabric.quant.errors import ParameterError, check_range

WORD_UNITS = 8  # a word in units of a bit of every byte of a beat


@dataclass(frozen=True)
class IntakeTimes:
    """Hold cycles, counted from that of the start pulse, which is 0.

    Members
    -------
    taken : int
        The last beat is taken.
    done : int
        ``done`` is high.
    """

    taken: int
    done: int


def row_cycles(beats: int, bits: int) -> int:
    """Return the cycles in which a row is read from the staging memory.

    One per beat, and one for the rest that its last beat leaves behind a word that it completes: the word's fill before
    that beat is ``(beats - 1)·bits mod 8`` in units of a bit of every byte [derived].

    Parameters
    ----------
    beats : int
        Of a row.
    bits : int
        Stored width of its activations.
    """
    reach = (beats - 1) * bits % WORD_UNITS + bits
    return beats + (reach > WORD_UNITS)


def intake_cycles(
    config: DriftConfig,
    beats: int,
    rows: int,
    subtensor_rows: int,
    low: ArrayLike,
    high_bits: int = 8,
    low_bits: int = 4,
    offered: ArrayLike | None = None,
) -> IntakeTimes:
    """Return when ``Intake`` has taken all beats and when it is done.

    A beat is taken in the first cycle from 1 on in which it is offered, the one before has been taken, and the one
    that is ``staging_beats`` before it was read in an earlier cycle. A sub-tensor's beats are read one after the other
    (``row_cycles``) from ``TO_DECISION`` cycles after its last one was taken and after all of the sub-tensor before.

    Parameters
    ----------
    config : DriftConfig
        Gives alignment and staging memory.
    beats, rows, subtensor_rows : int
        Beats of a row, rows, rows of a sub-tensor.
    low : bool array
        Which of the ceil(rows / subtensor_rows) sub-tensors go to low precision.
    high_bits, low_bits : int
        hp and lp, or the widths at which they are stored.
    offered : int array, optional
        For each beat the first cycle in which ``i.valid`` is high with it; every beat in cycle 1 if absent.

    Raises
    ------
    ParameterError
        If an array has another length, or a sub-tensor does not fit the staging memory.
    """
    beats, rows = check_range("beats", beats, 1), check_range("rows", rows, 1)
    size = check_range("subtensor_rows", subtensor_rows, 1)
    chosen = np.asarray(low, bool)
    starts = range(0, rows, size)
    if chosen.shape != (len(starts),):
        raise ParameterError("low", chosen.shape, f"one entry for each of {len(starts)} sub-tensors")
    depth = config.staging_beats
    if min(size, rows) * beats > depth:
        raise ParameterError("subtensor_rows", size, f"at most {depth // beats} rows of {beats} beats")
    first = _offers(offered, rows * beats)
    row_steps = [row_cycles(beats, config.stored_bits(bits)) for bits in (high_bits, low_bits)]

    read = np.zeros(rows * beats, np.int64)
    taken, free = 0, 0
    for start, is_low in zip(starts, chosen, strict=True):
        count = min(size, rows - start)
        begin, end = start * beats, (start + count) * beats
        taken = _take(first, read, begin, end, depth, taken)
        step = row_steps[int(is_low)]
        at = max(free, taken + Intake.TO_DECISION)
        read[begin:end] = (at + np.arange(count)[:, None] * step + np.arange(beats)).reshape(-1)
        free = at + count * step
    return IntakeTimes(taken, free - 1 + Intake.TO_STORE + 1)


def _offers(offered: ArrayLike | None, count: int) -> NDArray[np.int64]:
    if offered is None:
        return np.ones(count, np.int64)
    given = np.maximum(np.asarray(offered, np.int64), 1)
    if given.shape != (count,):
        raise ParameterError("offered", given.shape, f"one entry for each of {count} beats")
    return given


def _take(
    first: NDArray[np.int64], read: NDArray[np.int64], begin: int, end: int, depth: int, before: int
) -> int:
    """Return when the last of beats ``begin`` to ``end - 1`` is taken; the one before them was in ``before``."""
    index = np.arange(begin, end)
    earliest = first[begin:end].copy()
    waits = index >= depth
    # A sub-tensor fits the staging memory: the beat whose place it takes belongs to an earlier one.
    earliest[waits] = np.maximum(earliest[waits], read[index[waits] - depth] + 1)
    latest = int((earliest + (end - 1 - index)).max())
    return max(latest, before + end - begin)
