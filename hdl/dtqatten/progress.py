"""What a block has behind it: when it may select, and when it has sent everything."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.dtqatten.config import DtqattenConfig


class Progress(Block):
    """Count what is under way.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    heads : In
        H.
    retired, dealt : In(1)
        Strobes: a head's last tile has been read; a tile of results was dealt.
    left : In(unload_ports)
        Strobes of the ports: a tile of results is stored.
    band_taken, importance_done : In(1)
        Strobes: a band goes into the softmax unit; it has added its last importance.
    scores_finished, results_finished : In(1)
        Levels: no band will go there any more.
    ids_done : In(1)
        Strobe: the next block's tokens are known.
    in_arrays : Out(1)
        Tiles of results are dealt and not stored.
    select : Out(1)
        Strobe in the cycle after the last importance.
    selecting, pv_left : Out(1)
        From the cycle after it on, until the tokens are known, and until all results are stored.
    finish : Out(1)
        Strobe: the list may be sent.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        super().__init__(
            {
                "heads": In(config.heads_max.bit_length()),
                "retired": In(1),
                "dealt": In(1),
                "left": In(config.unload_ports),
                "band_taken": In(1),
                "importance_done": In(1),
                "scores_finished": In(1),
                "results_finished": In(1),
                "ids_done": In(1),
                "in_arrays": Out(1),
                "select": Out(1),
                "selecting": Out(1),
                "pv_left": Out(1),
                "finish": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count up and down; each strobe comes once."""
        m = Module()
        config = self._config
        # An array has two tiles at most, one of them at its port.
        dealt = Signal(range(2 * config.arrays + config.unload_ports + 1))
        inside = Signal(4)  # short bands follow each other closely: five are in the softmax unit at most
        heads = Signal(len(self.heads))
        left = self.left[0]
        for strobe in self.left[1:]:
            left = left + strobe
        m.d.sync += [
            dealt.eq(dealt + self.dealt - left),
            inside.eq(inside + self.band_taken - self.importance_done),
            heads.eq(heads + self.retired),
        ]
        selected, known, finished = Signal(), Signal(), Signal()
        m.d.comb += [
            self.in_arrays.eq(dealt != 0),
            self.select.eq(self.scores_finished & (inside == 0) & ~selected),
            self.selecting.eq(selected & ~known),
            self.pv_left.eq(selected & ((heads != self.heads) | self.in_arrays)),
            self.finish.eq(self.results_finished & known & ~finished),
        ]
        with m.If(self.select):
            m.d.sync += selected.eq(1)
        with m.If(self.ids_done):
            m.d.sync += known.eq(1)
        with m.If(self.finish):
            m.d.sync += finished.eq(1)
        return m
