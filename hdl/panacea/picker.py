"""Pick the next products with an HO slice: the part of the workload scheduler that matches indices."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.work import pick_layout
from bitfabric.quant.errors import check_range

MOST = 5  # products of one K position: top by two dense, two dense by top, top by top

# A product: its position along K (T_K is 32 at most), the HO vectors kept there, its number among theirs.
FOUND = data.StructLayout({"position": 5, "weight": 1, "act": 1, "order": MOST.bit_length()})


class ProductPicker(Block):
    """Pick up to ``limit`` of a sub-tile's products with an HO slice, by K position.

    Combinational but for what has been taken: all of the first positions, some of the next one. At a position the
    weight's HO vector, if kept, meets every dense activation slice, the activation's HO vector, if kept, every dense
    weight slice, and the two meet each other [paper, III-D]. The order within a position is that one [ours].

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
        # Positions are taken in their order: some are gone, of the next one ``rest`` products may be left.
        gone = Signal(size, reset_less=True)
        begun, rest = (Signal(range(MOST + 1), name=name, reset_less=True) for name in ("begun", "rest"))
        before, taken = Signal.like(gone, name="before"), Signal.like(begun, name="taken")
        m.d.comb += [before.eq(Mux(self.fresh, 0, gone)), taken.eq(Mux(self.fresh, 0, begun))]
        partly = Signal()
        m.d.comb += partly.eq(taken != 0)
        wholes = [self._whole(m, f"whole{n}", Const(n & 1, 1), Const(n >> 1, 1)) for n in range(4)]
        lefts = []
        for index in range(size):
            left = Signal(range(MOST + 1), name=f"left{index}")
            next_ = partly & before[index - 1] if index else partly
            weight, act = self.weight_mask[index], self.act_mask[index]
            whole = Mux(act, Mux(weight, wholes[3], wholes[2]), Mux(weight, wholes[1], 0))
            m.d.comb += left.eq(Mux(before[index], 0, Mux(next_, rest, whole)))
            lefts.append(left)
        sums = self._sums(m, lefts)
        founds: list[Any] = []
        for rank in range(width + 1):
            ends = Cat(value > rank for value in sums)
            founds.append(self._find(m, rank, ends, founds[-1] if founds else None, taken))
            if rank < width:
                self._pick(m, rank, founds[rank], ends[-1])
        # The first product that stays says what is left.
        stays = Signal(size)
        first = Signal(FOUND)
        m.d.comb += [
            stays.eq(Cat(value > self.limit for value in sums)),
            first.eq(Array(founds)[self.limit]),
            self.done.eq(~stays[-1]),
            self.count.eq(Mux(self.done, sums[-1], self.limit)),
        ]
        with m.If(self.en):
            m.d.sync += [
                gone.eq(~stays),
                begun.eq(first.order),
                rest.eq(self._whole(m, "first_whole", first.weight, first.act) - first.order),
            ]
        return m

    def _whole(self, m: Module, name: str, weight: Value, act: Value) -> Signal:
        """Return how many products a position has."""
        whole = Signal(range(MOST + 1), name=name)
        m.d.comb += whole.eq(Mux(weight, self.act_dense, 0) + Mux(act, self.weight_dense, 0) + (weight & act))
        return whole

    def _sums(self, m: Module, counts: list[Signal]) -> list[Value]:
        """Return the running sums of ``counts``; those above ``width`` may be wrong, but are above it.

        A class of operators waits for few products: Brent and Kung's tree does. Where there is an operator for any
        product the sums are what is slow: Sklansky's tree is 1.4 ns faster in osu018 and takes 8 % more scheduler.
        """
        bits = max(self._width.bit_length(), MOST.bit_length())

        def add(a: Value, b: Value, name: str) -> Signal:
            # The top bit stays set once the others have overflown: no sum is cut, only forgotten.
            total, exact = Signal(bits + 1, name=name), Signal(bits + 1, name=f"{name}_exact")
            m.d.comb += [
                exact.eq(a[:bits] + b[:bits]),
                total.eq(Cat(exact[:bits], exact[bits] | a[bits] | b[bits])),
            ]
            return total

        sums: list[Value] = [Cat(count, Const(0, bits + 1 - len(count))) for count in counts]
        step = 1
        while step < len(sums):
            if self._config.flexible:
                for i in range(len(sums)):
                    if i // step % 2:
                        sums[i] = add(sums[i], sums[(i // step) * step - 1], f"rank{step}_{i}")
            else:
                for i in range(2 * step - 1, len(sums), 2 * step):
                    sums[i] = add(sums[i], sums[i - step], f"up{step}_{i}")
            step *= 2
        while step > 1 and not self._config.flexible:
            step //= 2
            for i in range(3 * step - 1, len(sums), 2 * step):
                sums[i] = add(sums[i], sums[i - step], f"down{step}_{i}")
        return sums

    def _find(
        self, m: Module, rank: int, ends: Value, previous: Any, taken: Signal
    ) -> data.View[data.StructLayout]:
        """Return the product of one rank, or anything if there is none.

        ``ends`` are the positions whose running sums exceed the rank.
        """
        size = self._config.tile_k
        hits, found = Signal(size, name=f"hits{rank}"), Signal(FOUND, name=f"found{rank}")
        m.d.comb += hits.eq(ends & ~(ends << 1))
        bits = [
            Cat(hits[i] for i in range(size) if i >> bit & 1).any() for bit in range((size - 1).bit_length())
        ]
        m.d.comb += [
            found.position.eq(Cat(*bits)),
            found.weight.eq((hits & self.weight_mask).any()),
            found.act.eq((hits & self.act_mask).any()),
        ]
        if previous is None:
            m.d.comb += found.order.eq(taken)
        else:
            m.d.comb += found.order.eq(Mux(found.position == previous.position, previous.order + 1, 0))
        return found

    def _pick(self, m: Module, rank: int, found: Any, there: Value) -> None:
        """Say which slices a product takes."""
        pick = self.picks[rank]
        after = Signal.like(found.order, name=f"after{rank}")
        of_weight, of_act = Signal(name=f"of_weight{rank}"), Signal(name=f"of_act{rank}")
        m.d.comb += [
            after.eq(found.order - Mux(found.weight, self.act_dense, 0)),
            of_weight.eq(found.weight & (found.order < self.act_dense)),
            of_act.eq(~of_weight & found.act & (after < self.weight_dense)),
            pick.valid.eq(there & (self.limit > rank)),
            pick.position.eq(found.position),
            pick.weight_top.eq(~of_act),
            pick.weight_slice.eq(of_act & after[0]),
            pick.act_top.eq(~of_weight),
            pick.act_slice.eq(of_weight & found.order[0]),
        ]
