"""Words out of beats of a stream."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value

PARAM_BEATS = 3  # of a word of requantization parameters: bias, multiplier, shift


def assemble(m: Module, beat_data: Value, fire: Value, beat: Value, slices: int) -> Signal:
    """Return the word whose last beat is on the stream; lanes that no beat carried are stale.

    Parameters
    ----------
    m : Module
        Gets the registers of all beats but the last.
    beat_data : Value
        The stream's data.
    fire, beat : Value
        A beat is taken, and which of its word it is.
    slices : int
        Beats of a word, most.
    """
    width = len(beat_data)
    word = Signal(slices * width)
    for index in range(slices):
        part = word[index * width : (index + 1) * width]
        if index == slices - 1:  # never kept: nothing follows it
            m.d.comb += part.eq(beat_data)
            continue
        kept = Signal(width, name=f"kept{index}", reset_less=True)
        with m.If(fire & (beat == index)):
            m.d.sync += kept.eq(beat_data)
        m.d.comb += part.eq(Mux(beat == index, beat_data, kept))
    return word
