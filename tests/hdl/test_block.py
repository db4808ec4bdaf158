import numpy as np
import pytest
from amaranth.hdl import Module, unsigned
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, flat_ports, place, placing, snake_case


class Adder(Block):
    def __init__(self, width: int, offset: int = 1):
        self.width = width
        self.offset = offset
        super().__init__({"a": In(width), "b": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.b.eq(self.a + int(self.offset))
        return m


class Child(Adder):
    """Keep the constructor of its parent."""


class OwnChild(Adder):
    def __init__(self, width: int):
        super().__init__(width, offset=3)


class Annotated(Block):
    a: In(3)
    b: Out(3)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.b.eq(self.a)
        return m


class Table(Block):
    def __init__(self, values):
        super().__init__({"a": In(1)})

    def elaborate(self, platform):
        return Module()


def key(block):
    block._MustUse__used = True
    return block.block_key


def test_key_is_the_class_with_all_arguments():
    assert key(Adder(4)) == (Adder, "width=4, offset=1")
    assert key(Adder(4)) == key(Adder(offset=1, width=4)) == key(Adder(4, np.int64(1)))
    assert key(Adder(4)) != key(Adder(4, 2))
    assert key(Adder(4)) != key(Adder(5))


def test_subclasses_have_keys_of_their_own():
    assert key(Child(4)) == (Child, "width=4, offset=1")
    assert key(OwnChild(4)) == (OwnChild, "width=4")
    assert key(Annotated())[0] is Annotated
    assert key(Annotated()) == key(Annotated())


def test_long_arrays_count_in_full():
    # numpy's own text leaves out the middle.
    one, two = np.zeros(5000, dtype=int), np.zeros(5000, dtype=int)
    two[2500] = 1
    assert repr(one) == repr(two)
    assert key(Table(one)) != key(Table(two))
    assert key(Table(one)) == key(Table(one.tolist()))


def test_argument_without_canonical_text():
    with pytest.raises(
        TypeError, match=r"^Table has an argument without a canonical text: values=<object object at 0x"
    ):
        Table(object())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SystolicWsArray", "systolic_ws_array"),
        ("Ram", "ram"),
        ("BitBrick", "bit_brick"),
        ("StreamFifo2", "stream_fifo2"),
        ("PE", "pe"),
    ],
)
def test_snake_case(name, text):
    assert snake_case(name) == text


def test_flat_ports_are_named_as_in_verilog():
    class Ports(Block):
        def __init__(self):
            shape = StructLayout({"data": 8, "last": 1})
            super().__init__(
                {"i": In(stream.Signature(shape)), "lanes": Out(unsigned(4)).array(2), "x": In(1)}
            )

    block = Ports()
    block._MustUse__used = True
    assert [(name, is_input, len(value)) for name, is_input, value in flat_ports(block)] == [
        ("i__payload", True, 9),
        ("i__valid", True, 1),
        ("i__ready", False, 1),
        ("lanes__0", False, 4),
        ("lanes__1", False, 4),
        ("x", True, 1),
    ]


def test_place_inlines_unless_a_placer_decides():
    class Recorder:
        def __init__(self):
            self.blocks = []

        def place(self, block):
            self.blocks.append(block)
            return Module()

    m, recorder, block = Module(), Recorder(), Adder(2)
    m._MustUse__used = True
    assert place(m, "inlined", block) is block
    assert recorder.blocks == []
    with placing(recorder):
        assert place(m, "placed", block) is block
    assert recorder.blocks == [block]
    place(m, "inlined_again", Adder(2))
    assert recorder.blocks == [block]
    for submodule in (m.submodules.inlined, m.submodules.placed, m.submodules.inlined_again):
        submodule._MustUse__used = True


def test_placing_ends_with_an_error_too():
    class Refuser:
        def place(self, block):
            raise RuntimeError("refused")

    m, block = Module(), Adder(2)
    m._MustUse__used = block._MustUse__used = True
    with pytest.raises(RuntimeError, match="refused"), placing(Refuser()):
        place(m, "one", block)
    place(m, "two", block)
