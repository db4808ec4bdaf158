"""Count what Panacea moves: words over its streams, words in and out of its memories."""

from __future__ import annotations

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.sim.cycles.panacea_tiles import Layer, Modes, groups_of, output_words

MOVED = (
    "ema_words_in",
    "ema_words_out",
    "wmem_words_written",
    "wmem_words_read",
    "amem_words_written",
    "amem_words_read",
    "omem_words_written",
    "omem_words_read",
)


def traffic(config: PanaceaConfig, modes: Modes, layer: Layer) -> dict[str, int]:
    """Return words of ``axis_data_bits`` by where they cross.

    ``ema_words_in``, ``ema_words_out``: the streams from and to external memory, parameters included. ``wmem_words_written``,
    ``wmem_words_read`` and so on: the SRAMs. Headers, indices and forced vectors are all in these words; what is skipped
    is in none. OMEM is read once: by the stream, or, if it keeps the outputs, by the layer after, which counts it.
    """
    together = 2 if modes.dtp else 1
    steps = -(-len(layer.rows) // together)
    weights, acts = int(layer.weights.words.sum()), int(layer.acts.words.sum())
    loads = acts * (1 if modes.resident else steps)
    brought = weights * (len(layer.columns) if modes.stream_weights else 1)
    params = sum(groups_of(rows) for rows in layer.rows) * config.params_beats
    outputs = output_words(config, modes)
    through_omem = outputs if modes.next_slices else 0
    words = (
        params + brought + (0 if modes.from_omem else loads),
        0 if modes.keep else outputs,
        brought,
        weights * len(layer.columns),
        loads,
        acts * steps,
        through_omem,
        (0 if modes.keep else through_omem) + (loads if modes.from_omem else 0),
    )
    return dict(zip(MOVED, words, strict=True))
