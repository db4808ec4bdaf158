"""Read the registers as a block's job, and say why it cannot be started."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data

from bitfabric.hdl.common.axi_lite import AxiLiteRegisters
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.job import ADDRESSES, COUNTS, OPTIONS, job_layout

SCORE_SHIFT_MAX = 47


def held_layout(config: DtqattenConfig) -> data.StructLayout:
    """Return what is known of the list that a block leaves for the next one."""
    return data.StructLayout(dict.fromkeys(("tokens", "kept", "kept_high"), config.count_bits))


class Start:
    """Read the registers; combinational.

    Parameters
    ----------
    m : Module
        Takes the logic.
    config : DtqattenConfig
        Every parameter of the design.
    registers : AxiLiteRegisters
        The machine's registers.
    held, held_valid : Signal
        The list in the machine, see ``held_layout``.

    Members
    -------
    job : Signal(job_layout)
        What the registers say.
    bad_dimension, bad_counts, bad_format : Signal
        Why it cannot be started.
    """

    def __init__(
        self,
        m: Module,
        config: DtqattenConfig,
        registers: AxiLiteRegisters,
        held: Signal,
        held_valid: Signal,
    ):
        self.job = Signal(job_layout(config), name="start_job")
        names = {name: f"control_{name}" for name in OPTIONS}
        names |= {name: name for name in (*COUNTS, "head_size", "heads", *ADDRESSES)}
        names |= {name: name for name in self.job.shape().members if name not in names}
        for field, register in names.items():
            m.d.comb += self.job[field].eq(getattr(registers, register))
        self.bad_dimension, self.bad_counts, self.bad_format = Signal(), Signal(), Signal()
        carry = registers.control_carry

        def outside(value: Value, most: int) -> Value:
            return (value == 0) | (value > most)

        bad_list = (registers.entries == 0) | (registers.entries > registers.tokens)
        not_held = (
            (registers.kept != held.kept)
            | (registers.kept_high != held.kept_high)
            | (registers.tokens != held.tokens)
        )
        m.d.comb += [
            self.bad_dimension.eq(
                outside(registers.tokens, config.tokens_max)
                | outside(registers.head_size, config.head_size_max)
                | outside(registers.heads, config.heads_max)
            ),
            self.bad_counts.eq(
                (~carry & bad_list)
                | (registers.kept == 0)
                | (registers.kept > registers.tokens)
                | (registers.kept_high > registers.kept)
                | (registers.next_kept == 0)
                | (registers.next_kept > registers.kept)
                | (registers.next_high > registers.next_kept)
                | (carry & held_valid & not_held)
            ),
            self.bad_format.eq(
                (~registers.control_per_token & (registers.score_multiplier == 0))
                | outside(registers.score_shift, SCORE_SHIFT_MAX)
                | (registers.result_multiplier == 0)
                | (registers.result_shift == 0)
                | (carry & ~held_valid)
            ),
        ]
