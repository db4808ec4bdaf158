import pytest

from bitfabric.hdl.common.register_map import Field, Register, RegisterMap
from bitfabric.quant.errors import ParameterError

EXAMPLE = RegisterMap(
    "example",
    [
        Register(
            "control",
            "Starts and configures.",
            [Field("start", 1, "pulse", "Start."), Field("mode", 3, "rw", "Mode.", 5)],
        ),
        Register.value("rows", "rw", "Rows.", width=16),
        Register(
            "events",
            "What happened.",
            [Field("done", 1, "w1c", "Done."), Field("errors", 2, "w1c", "Errors.", lsb=8)],
            offset=0x40,
        ),
        Register.value("cycles", "ro", "Cycles."),
    ],
)


def test_offsets_follow_each_other_from_the_last_explicit_one():
    assert [EXAMPLE.offset(name) for name in ("control", "rows", "events", "cycles")] == [0, 4, 0x40, 0x44]
    assert EXAMPLE.size == 0x48


def test_constants():
    assert EXAMPLE.constants() == {
        "CONTROL_OFFSET": 0,
        "CONTROL_START_SHIFT": 0,
        "CONTROL_START_MASK": 0x1,
        "CONTROL_MODE_SHIFT": 1,
        "CONTROL_MODE_MASK": 0xE,
        "ROWS_OFFSET": 4,
        "ROWS_SHIFT": 0,
        "ROWS_MASK": 0xFFFF,
        "EVENTS_OFFSET": 0x40,
        "EVENTS_DONE_SHIFT": 0,
        "EVENTS_DONE_MASK": 1,
        "EVENTS_ERRORS_SHIFT": 8,
        "EVENTS_ERRORS_MASK": 0x300,
        "CYCLES_OFFSET": 0x44,
        "CYCLES_SHIFT": 0,
        "CYCLES_MASK": 0xFFFFFFFF,
    }


def test_markdown():
    assert EXAMPLE.markdown() == (
        "| offset | register | bits | field | access | reset | meaning |\n"
        "|---|---|---|---|---|---|---|\n"
        "| 0x000 | `control` | | | | | Starts and configures. |\n"
        "| | | 0 | `start` | pulse |  | Start. |\n"
        "| | | 3:1 | `mode` | rw | 0x5 | Mode. |\n"
        "| 0x004 | `rows` | | | | | Rows. |\n"
        "| | | 15:0 | `value` | rw | 0x0 | Rows. |\n"
        "| 0x040 | `events` | | | | | What happened. |\n"
        "| | | 0 | `done` | w1c |  | Done. |\n"
        "| | | 9:8 | `errors` | w1c |  | Errors. |\n"
        "| 0x044 | `cycles` | | | | | Cycles. |\n"
        "| | | 31:0 | `value` | ro |  | Cycles. |\n"
        "\n"
        "rw: read, write. ro: read only. pulse: writing 1 gives a strobe of one cycle; reads 0. "
        "w1c: set by hardware, cleared by writing 1.\n"
    )


def test_plain_data():
    plain = EXAMPLE.to_dict()
    assert plain["name"] == "example"
    assert [(entry["name"], entry["offset"]) for entry in plain["registers"]] == [
        ("control", 0),
        ("rows", 4),
        ("events", 0x40),
        ("cycles", 0x44),
    ]
    assert plain["registers"][0]["fields"][1] == {
        "name": "mode",
        "lsb": 1,
        "width": 3,
        "access": "rw",
        "reset": 5,
        "doc": "Mode.",
    }


def test_documentation_does_not_change_the_canonical_text():
    def make(doc):
        return RegisterMap("m", [Register("a", doc, [Field("b", 1, "rw", f"{doc} at 0x10")])])

    assert repr(make("one")) == repr(make("two"))


def value(name, **keywords):
    return Register.value(name, "rw", "", **keywords)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Field("a", 0, "rw", ""), "width=0 is not allowed; it must be an integer in [1, 32]"),
        (lambda: Field("a", 33, "rw", ""), "width=33 is not allowed; it must be an integer in [1, 32]"),
        (
            lambda: Field("a", 1, "wo", ""),
            "access='wo' is not allowed; it must be one of 'rw', 'ro', 'pulse', 'w1c'",
        ),
        (lambda: Field("a", 2, "rw", "", 4), "reset=4 is not allowed; it must be an integer in [0, 3]"),
        (lambda: Field("a", 2, "ro", "", 1), "reset=1 is not allowed; it must be an integer in [0, 0]"),
        (lambda: Field("a", 8, "rw", "", lsb=25), "lsb=25 is not allowed; it must be an integer in [0, 24]"),
        (
            lambda: Field("A", 1, "rw", ""),
            "field='A' is not allowed; it must be lower_case letters and digits joined by single underscores",
        ),
        (
            lambda: value("a__b"),
            "register='a__b' is not allowed; it must be lower_case letters and digits joined by single underscores",
        ),
        (
            lambda: Register("r", "", []),
            "r: number of fields=0 is not allowed; it must be an integer of at least 1",
        ),
        (
            lambda: Register("r", "", [Field("a", 1, "rw", ""), Field("a", 1, "rw", "")]),
            "field='a' is not allowed; it must be a name used once in r",
        ),
        (
            lambda: Register("r", "", [Field("a", 4, "rw", ""), Field("b", 4, "rw", "", lsb=3)]),
            "r.b: lsb=3 is not allowed; it must be outside the bits of a",
        ),
        (
            lambda: Register("r", "", [Field("a", 20, "rw", ""), Field("b", 13, "rw", "")]),
            "r.b: highest bit=32 is not allowed; it must be at most bit 31",
        ),
        (lambda: value("r", offset=6), "offset=6 is not allowed; it must be a multiple of 4"),
        (lambda: value("r", offset=-4), "offset=-4 is not allowed; it must be an integer of at least 0"),
        (
            lambda: RegisterMap("m", []),
            "m: number of registers=0 is not allowed; it must be an integer of at least 1",
        ),
        (
            lambda: RegisterMap("m", [value("r"), value("r")]),
            "register='r' is not allowed; it must be a name used once in m",
        ),
        (
            lambda: RegisterMap("m", [value("r", offset=4), value("s", offset=0), value("t")]),
            "t: offset=4 is not allowed; it must be another one than that of r",
        ),
        (
            lambda: RegisterMap("m", [Register("a", "", [Field("b_c", 1, "rw", "")]), value("a_b_c")]),
            "a_b_c.value: port='a_b_c' is not allowed; it must be another one than that of a.b_c",
        ),
        (
            lambda: RegisterMap("m", [Register.value("a", "w1c", ""), value("a_state")]),
            "a_state.value: port='a_state' is not allowed; it must be another one than that of a.value",
        ),
        (
            lambda: EXAMPLE.offset("columns"),
            "register='columns' is not allowed; it must be one of 'control', 'rows', 'events', 'cycles'",
        ),
    ],
)
def test_errors(make, text):
    with pytest.raises(ParameterError) as error:
        make()
    assert str(error.value) == text
