"""The parts of the DTQAtten machine."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module

from bitfabric.hdl.block import place
from bitfabric.hdl.common.fifo import StreamFifo
from bitfabric.hdl.dtqatten.arrays import Arrays
from bitfabric.hdl.dtqatten.band_order import BandOrder
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.dealer import Dealer
from bitfabric.hdl.dtqatten.fetcher import Fetcher
from bitfabric.hdl.dtqatten.operands import Operands
from bitfabric.hdl.dtqatten.progress import Progress
from bitfabric.hdl.dtqatten.results import Results
from bitfabric.hdl.dtqatten.scan import Scan
from bitfabric.hdl.dtqatten.selection import Selection
from bitfabric.hdl.dtqatten.sender import Sender
from bitfabric.hdl.dtqatten.softmax_unit import SoftmaxUnit
from bitfabric.hdl.dtqatten.tile import TILE_DEPTH, tile_layout
from bitfabric.hdl.dtqatten.tile_list import TileList
from bitfabric.hdl.dtqatten.token_table import TokenTable


@dataclass(frozen=True)
class Parts:
    """Hold the parts, in the order of the data's way through them."""

    table: TokenTable
    fetcher: Fetcher
    scan: Scan
    operands: Operands
    tiles: TileList
    ahead: StreamFifo  # tiles that are listed and not dealt
    dealer: Dealer
    arrays: Arrays
    results: Results
    score_order: BandOrder
    softmax: SoftmaxUnit
    selection: Selection
    result_order: BandOrder
    sender: Sender
    progress: Progress


def place_parts(m: Module, config: DtqattenConfig) -> Parts:
    """Put the parts into ``m``, each under its name."""
    return Parts(
        table=place(m, "table", TokenTable(config)),
        fetcher=place(m, "fetcher", Fetcher(config)),
        scan=place(m, "scan", Scan(config)),
        operands=place(m, "operands", Operands(config)),
        tiles=place(m, "tiles", TileList(config)),
        ahead=place(m, "ahead", StreamFifo(tile_layout(config), TILE_DEPTH)),
        dealer=place(m, "dealer", Dealer(config)),
        arrays=place(m, "arrays", Arrays(config)),
        results=place(m, "results", Results(config)),
        score_order=place(m, "score_order", BandOrder(config)),
        softmax=place(m, "softmax", SoftmaxUnit(config)),
        selection=place(m, "selection", Selection(config)),
        result_order=place(m, "result_order", BandOrder(config)),
        sender=place(m, "sender", Sender(config)),
        progress=place(m, "progress", Progress(config)),
    )
