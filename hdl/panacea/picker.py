"""Pick the next products with an HO slice: the part of the workload scheduler that matches indices."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.work import pick_layout
from bitfabric.quant.errors import check_range

MOST = 5  # products of one K position: top by two dense, two dense by top, top by top


class ProductPicker(Block):
    """Pick up to ``limit`` of a sub-tile's products with an HO slice, by K position.

    Combinational but for what is left of each position. At a position the weight's HO vector, if kept, meets every
    dense activation slice, the activation's HO vector, if kept, every dense weight slice, and the two meet each
    other [paper, III-D]. The order within a position is that one [ours].

    Parameters
    ----------
    config : PanaceaConfig
        Gives T_K.
    width : int
        Most products of a cycle.

    Members
    -------
    weight_mask, act_mask : In(T_K)
        Positions whose HO vectors are kept.
    weight_dense, act_dense : In(2)
        Dense slices, 1 or 2.
    en : In(1)
        Take the products picked.
    fresh : In(1)
        The masks are those of another sub-tile than in the last cycle with ``en``.
    limit : In
        Most products to take.
    picks : Out(pick_layout).array(width)
        The products in their order, valid as far as they are taken.
    count : Out
        How many.
    done : Out(1)
        None is left behind them.

    Raises
    ------
    ParameterError
        If ``width`` is not positive.
    """

    def __init__(self, config: PanaceaConfig, width: int):
        self._config = config
        self._width = check_range("width", width, 1)
        super().__init__(
            {
                "weight_mask": In(config.tile_k),
                "act_mask": In(config.tile_k),
                "weight_dense": In(2),
                "act_dense": In(2),
                "en": In(1),
                "fresh": In(1),
                "limit": In(range(width + 1)),
                "picks": Out(pick_layout(config)).array(width),
                "count": Out(range(width + 1)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Rank the positions' products, choose by rank, keep what is left."""
        m = Module()
        size, width = self._config.tile_k, self._width
        most = 3 if self._config.weight_dense == self._config.act_dense == 1 else MOST
        wholes, lefts = [], []
        kept = [Signal(range(most + 1), name=f"kept{index}", reset_less=True) for index in range(size)]
        for index in range(size):
            weight, act = self.weight_mask[index], self.act_mask[index]
            whole = Signal(range(most + 1), name=f"whole{index}")
            left = Signal(range(most + 1), name=f"left{index}")
            m.d.comb += [
                whole.eq(Mux(weight, self.act_dense, 0) + Mux(act, self.weight_dense, 0) + (weight & act)),
                left.eq(Mux(self.fresh, whole, kept[index])),
            ]
            wholes.append(whole)
            lefts.append(left)
        ends = self._ranks(m, lefts)
        starts: list[Value] = [Const(0, len(ends[0])), *ends[:-1]]
        for index in range(size):
            with m.If(self.en):
                with m.If(ends[index] <= self.limit):
                    m.d.sync += kept[index].eq(0)
                with m.Elif(starts[index] >= self.limit):
                    m.d.sync += kept[index].eq(lefts[index])
                with m.Else():
                    m.d.sync += kept[index].eq(lefts[index] - (self.limit - starts[index]))
        m.d.comb += [
            self.done.eq(ends[-1] <= self.limit),
            self.count.eq(Mux(self.done, ends[-1], self.limit)),
        ]
        for rank in range(width):
            self._pick(m, rank, wholes, lefts, starts, ends)
        return m

    def _ranks(self, m: Module, counts: list[Signal]) -> list[Signal]:
        """Return the running sums of ``counts``, saturated above what a cycle can take (Sklansky's tree)."""
        top = self._width + 1

        def add(a: Value, b: Value, name: str) -> Signal:
            total = Signal(range(top + 1), name=name)
            exact = a + b
            m.d.comb += total.eq(Mux(exact > self._width, top, exact))
            return total

        sums: list[Signal] = [add(count, Const(0, 1), f"rank0_{i}") for i, count in enumerate(counts)]
        step = 1
        while step < len(sums):
            sums = [
                add(sums[i], sums[(i // step) * step - 1], f"rank{step}_{i}") if i // step % 2 else sums[i]
                for i in range(len(sums))
            ]
            step *= 2
        return sums

    def _pick(
        self,
        m: Module,
        rank: int,
        wholes: list[Signal],
        lefts: list[Signal],
        starts: list[Value],
        ends: list[Signal],
    ) -> None:
        """Find the position of the product of one rank, and which of its products it is."""
        size = self._config.tile_k
        pick = self.picks[rank]
        hits = Signal(size, name=f"hits{rank}")
        m.d.comb += hits.eq(Cat((starts[i] <= rank) & (ends[i] > rank) for i in range(size)))
        order_bits = MOST.bit_length()
        found = Signal(data.StructLayout({"order": order_bits, "weight": 1, "act": 1}), name=f"found{rank}")
        terms: dict[str, Value] = {"order": Const(0, order_bits), "weight": Const(0, 1), "act": Const(0, 1)}
        position: Value = Const(0, len(pick.position))
        for index in range(size):
            hit = hits[index]
            # Modulo 8: the product's number among those of its position.
            order = (wholes[index] - lefts[index] - starts[index] + rank)[:order_bits]
            terms["order"] = terms["order"] | Mux(hit, order, 0)
            terms["weight"] = terms["weight"] | (hit & self.weight_mask[index])
            terms["act"] = terms["act"] | (hit & self.act_mask[index])
            position = position | Mux(hit, index, 0)
        m.d.comb += [found[name].eq(value) for name, value in terms.items()]
        after = Signal(order_bits, name=f"after{rank}")
        of_weight, of_act = Signal(name=f"of_weight{rank}"), Signal(name=f"of_act{rank}")
        m.d.comb += [
            after.eq(found.order - Mux(found.weight, self.act_dense, 0)),
            of_weight.eq(found.weight & (found.order < self.act_dense)),
            of_act.eq(~of_weight & found.act & (after < self.weight_dense)),
            pick.valid.eq(hits.any() & (self.limit > rank)),
            pick.position.eq(position),
            pick.weight_top.eq(~of_act),
            pick.weight_slice.eq(of_act & after[0]),
            pick.act_top.eq(~of_weight),
            pick.act_slice.eq(of_weight & found.order[0]),
        ]
