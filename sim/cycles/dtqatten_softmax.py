"""Cycle model of DTQAtten's softmax unit: bands in order through two passes that overlap."""

from __future__ import annotations

from dataclasses import dataclass

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.softmax_unit import SoftmaxUnit
from bitfabric.quant.errors import check_range


@dataclass(frozen=True, kw_only=True)
class BandTimes:
    """Hold the cycles of a band in the softmax unit.

    Members
    -------
    taken : int
        It is taken.
    begins : int
        The second pass asks for its first exponents.
    importance_done, numerators_done, factors_done : int
        The strobes; the last addition is in the cycle of the first, the last numerators and the last
        factor come a cycle before theirs.
    """

    taken: int
    begins: int
    importance_done: int
    numerators_done: int
    factors_done: int


class SoftmaxTimer:
    """Follow bands through the unit, exactly as the hardware does.

    Parameters
    ----------
    config : DtqattenConfig
        Gives the bounds.
    positions : int
        m, keys of a row, 1 to ``tokens_max``.
    per_token : bool
        Whether values have a scale for each token.

    Members
    -------
    earliest : int
        First cycle in which the next band can be taken.

    Raises
    ------
    ParameterError
        If ``positions`` is out of range.
    """

    def __init__(self, config: DtqattenConfig, positions: int, per_token: bool) -> None:
        self._positions = check_range("positions", positions, 1, config.tokens_max)
        self._columns_max = min(config.columns, positions)
        self._per_token = per_token
        self._begins = [-positions, -positions]  # of the two bands before
        self.earliest = 0

    def take(self, offered: int, columns: int) -> BandTimes:
        """Return the times of the next band.

        Parameters
        ----------
        offered : int
            First cycle in which it is offered; it stays offered until it is taken.
        columns : int
            C', its queries, 1 to C and at most m.

        Raises
        ------
        ParameterError
            If ``columns`` is out of range.
        """
        check_range("columns", columns, 1, self._columns_max)
        m, unit = self._positions, SoftmaxUnit
        taken = max(offered, self.earliest)
        begins = max(taken + m + columns + unit.START, self._begins[1] + m)
        done = begins + m + unit.NUMERATORS
        if self._per_token:
            factors = taken + m + unit.FACTORS_TOKEN + columns
        else:
            factors = done + unit.FACTORS + columns
        # The buffer's other bank is there to be written when the band before this one begins to leave it.
        self.earliest = max(taken + max(m, columns + 2), self._begins[1])
        self._begins = [self._begins[1], begins]
        return BandTimes(
            taken=taken,
            begins=begins,
            importance_done=begins + m + unit.IMPORTANCE,
            numerators_done=done,
            factors_done=factors,
        )
