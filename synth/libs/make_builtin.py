"""Write ``builtin.lib``: run ``python synth/libs/make_builtin.py`` after a change and commit both.

Areas [ours]: transistors of the usual static CMOS circuit divided by 4, so that a NAND2 counts 1. Wells, wires and
drive strength are left out, which a ratio of two designs hardly feels.

Delays [ours]: logical effort, ``d = tau * (p + C_load / C_unit)`` for cells of unit drive, whose input pins weigh
``g * C_unit``; tau = 20 ps gives an inverter with a fan-out of 4 its 100 ps. They rank designs, no process has them.
"""

from __future__ import annotations

from pathlib import Path

TAU = 0.02  # ns
C_UNIT = 0.004  # pF, an inverter's input
LOADS = (0.0, 0.016, 0.064, 0.256)  # pF; linear in between, as the model is
SLEWS = (0.01, 1.0)  # ns; delays do not depend on it

# name: (transistors, logical effort g by pin, parasitic p in units of tau, function of Y)
GATES: dict[str, tuple[int, dict[str, float], float, str]] = {
    "INV": (2, {"A": 1}, 1, "!A"),
    "BUF": (4, {"A": 1}, 3, "A"),
    "NAND2": (4, {"A": 4 / 3, "B": 4 / 3}, 2, "!(A&B)"),
    "NAND3": (6, {"A": 5 / 3, "B": 5 / 3, "C": 5 / 3}, 3, "!(A&B&C)"),
    "NAND4": (8, {"A": 2, "B": 2, "C": 2, "D": 2}, 4, "!(A&B&C&D)"),
    "NOR2": (4, {"A": 5 / 3, "B": 5 / 3}, 2, "!(A|B)"),
    "NOR3": (6, {"A": 7 / 3, "B": 7 / 3, "C": 7 / 3}, 3, "!(A|B|C)"),
    "AND2": (6, {"A": 4 / 3, "B": 4 / 3}, 4, "A&B"),
    "OR2": (6, {"A": 5 / 3, "B": 5 / 3}, 4, "A|B"),
    "XOR2": (10, {"A": 4, "B": 4}, 4, "A^B"),
    "XNOR2": (10, {"A": 4, "B": 4}, 4, "!(A^B)"),
    "AOI21": (6, {"A": 2, "B": 2, "C": 5 / 3}, 7 / 3, "!((A&B)|C)"),
    "OAI21": (6, {"A": 2, "B": 2, "C": 4 / 3}, 7 / 3, "!((A|B)&C)"),
    "AOI22": (8, {"A": 2, "B": 2, "C": 2, "D": 2}, 4, "!((A&B)|(C&D))"),
    "OAI22": (8, {"A": 2, "B": 2, "C": 2, "D": 2}, 4, "!((A|B)&(C|D))"),
    "MUX2": (12, {"A": 2, "B": 2, "S": 3}, 5, "(A&!S)|(B&S)"),
}
# name: (transistors, logical effort by pin, parasitic and function by output)
# The mirror adder with an inverter at each output; the half adder of a NAND2, an OAI21 and two inverters.
ADDERS: dict[str, tuple[int, dict[str, float], dict[str, tuple[float, str]]]] = {
    "FA": (28, {"A": 5, "B": 5, "CI": 4}, {"CO": (6, "(A&B)|(A&CI)|(B&CI)"), "S": (9, "A^B^CI")}),
    "HA": (14, {"A": 3, "B": 3}, {"CO": (4, "A&B"), "S": (6, "A^B")}),
}
# name: (transistors, next state, asynchronous clear, asynchronous preset)
# Two transmission-gate latches with clocked feedback and the clock's own inverters: 24 transistors; an asynchronous
# input turns two inverters into two-input gates. Synchronous resets and enables become gates in front.
FLIP_FLOPS = {
    "DFF": (24, "D", "", ""),
    "DFFR": (28, "D", "!RN", ""),
    "DFFS": (28, "D", "", "!SN"),
    "DFFSR": (32, "D", "!RN", "!SN"),
}

HEADER = """\
/* Written by make_builtin.py: change that, not this.
   Areas are transistors / 4 [ours], so NAND2 = 1; delays are logical effort with tau = 20 ps [ours]. */
library (builtin) {
  delay_model : table_lookup;
  time_unit : "1ns";
  voltage_unit : "1V";
  current_unit : "1mA";
  pulling_resistance_unit : "1kohm";
  leakage_power_unit : "1nW";
  capacitive_load_unit (1, pf);
  slew_lower_threshold_pct_rise : 20;
  slew_upper_threshold_pct_rise : 80;
  slew_lower_threshold_pct_fall : 20;
  slew_upper_threshold_pct_fall : 80;
  input_threshold_pct_rise : 50;
  input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50;
  output_threshold_pct_fall : 50;
  nom_process : 1;
  nom_voltage : 1.8;
  nom_temperature : 25;
  lu_table_template (delays) {
    variable_1 : input_net_transition;
    variable_2 : total_output_net_capacitance;
    index_1 ("SLEWS");
    index_2 ("LOADS");
  }
  lu_table_template (checks) {
    variable_1 : related_pin_transition;
    variable_2 : constrained_pin_transition;
    index_1 ("SLEWS");
    index_2 ("SLEWS");
  }
"""


def numbers(values: tuple[float, ...]) -> str:
    """Return ``values`` as Liberty writes them."""
    return ", ".join(f"{value:.6g}" for value in values)


def table(kind: str, template: str, rows: list[tuple[float, ...]]) -> str:
    """Return one look-up table."""
    values = ", ".join(f'"{numbers(row)}"' for row in rows)
    return f"        {kind} ({template}) {{ values ({values}); }}\n"


def arc(related: str, parasitic: float, extra: str = "") -> str:
    """Return the timing group of one input-to-output arc."""
    delay = tuple(TAU * (parasitic + load / C_UNIT) for load in LOADS)
    slew = tuple(TAU * (1 + load / C_UNIT) for load in LOADS)
    text = f'      timing () {{\n        related_pin : "{related}";\n{extra}'
    for kind, row in (
        ("cell_rise", delay), ("cell_fall", delay), ("rise_transition", slew), ("fall_transition", slew)
    ):  # fmt: skip
        text += table(kind, "delays", [row] * len(SLEWS))
    return text + "      }\n"


def pin(name: str, body: str) -> str:
    """Return a pin group."""
    return f"    pin ({name}) {{\n{body}    }}\n"


def input_pin(name: str, effort: float, body: str = "") -> str:
    """Return an input pin that weighs ``effort`` unit inverters."""
    return pin(name, f"      direction : input;\n      capacitance : {effort * C_UNIT:.6g};\n{body}")


def gate(name: str) -> str:
    """Return the group of a combinational cell."""
    transistors, efforts, parasitic, function = GATES[name]
    text = f"  cell ({name}) {{\n    area : {transistors / 4:g};\n"
    for input_name, effort in efforts.items():
        text += input_pin(input_name, effort)
    body = (
        f'      direction : output;\n      function : "{function}";\n      max_capacitance : {LOADS[-1]};\n'
    )
    senses = {"XOR2": "non_unate", "XNOR2": "non_unate", "MUX2": "non_unate"}
    sense = senses.get(name, "negative_unate" if function.startswith("!") else "positive_unate")
    for input_name in efforts:
        own = "positive_unate" if name == "MUX2" and input_name != "S" else sense
        body += arc(input_name, parasitic, f"        timing_sense : {own};\n")
    return text + pin("Y", body) + "  }\n"


def adder(name: str) -> str:
    """Return the group of a cell with a sum and a carry."""
    transistors, efforts, outputs = ADDERS[name]
    text = f"  cell ({name}) {{\n    area : {transistors / 4:g};\n"
    for input_name, effort in efforts.items():
        text += input_pin(input_name, effort)
    for output, (parasitic, function) in outputs.items():
        body = f'      direction : output;\n      function : "{function}";\n'
        body += f"      max_capacitance : {LOADS[-1]};\n"
        sense = "non_unate" if output == "S" else "positive_unate"
        for input_name in efforts:
            body += arc(input_name, parasitic, f"        timing_sense : {sense};\n")
        text += pin(output, body)
    return text + "  }\n"


def flip_flop(name: str) -> str:
    """Return the group of a flip-flop: clock to output 6 tau unloaded, setup 4 tau, hold 0."""
    transistors, state, clear, preset = FLIP_FLOPS[name]
    text = f"  cell ({name}) {{\n    area : {transistors / 4:g};\n    ff (IQ, IQN) {{\n"
    text += f'      next_state : "{state}";\n      clocked_on : "CK";\n'
    text += f'      clear : "{clear}";\n' if clear else ""
    text += f'      preset : "{preset}";\n' if preset else ""
    text += "      clear_preset_var1 : L;\n      clear_preset_var2 : L;\n" if clear and preset else ""
    checks = ""
    for kind, limit in (("setup_rising", 4 * TAU), ("hold_rising", 0.0)):
        checks += f'      timing () {{\n        related_pin : "CK";\n        timing_type : {kind};\n'
        for edge in ("rise_constraint", "fall_constraint"):
            checks += table(edge, "checks", [(limit,) * len(SLEWS)] * len(SLEWS))
        checks += "      }\n"
    text += "    }\n" + input_pin("D", 1, checks) + input_pin("CK", 2, "      clock : true;\n")
    body = f'      direction : output;\n      function : "IQ";\n      max_capacitance : {LOADS[-1]};\n'
    body += arc("CK", 6, "        timing_type : rising_edge;\n        timing_sense : non_unate;\n")
    for condition, input_name, kind in ((clear, "RN", "clear"), (preset, "SN", "preset")):
        if condition:
            text += input_pin(input_name, 2)
            body += arc(
                input_name, 6, f"        timing_type : {kind};\n        timing_sense : positive_unate;\n"
            )
    return text + pin("Q", body) + "  }\n"


def latch() -> str:
    """Return the group of a transparent latch."""
    text = "  cell (LATCH) {\n    area : 3;\n"
    text += '    latch (IQ, IQN) {\n      data_in : "D";\n      enable : "G";\n    }\n'
    text += input_pin("D", 1) + input_pin("G", 2, "      clock : true;\n")
    body = f'      direction : output;\n      function : "IQ";\n      max_capacitance : {LOADS[-1]};\n'
    body += arc("D", 4, "        timing_sense : positive_unate;\n") + arc(
        "G", 4, "        timing_type : rising_edge;\n"
    )
    return text + pin("Q", body) + "  }\n"


def main() -> None:
    """Write builtin.lib beside this file."""
    text = HEADER.replace("SLEWS", numbers(SLEWS)).replace("LOADS", numbers(LOADS))
    text += (
        "".join(map(gate, GATES))
        + "".join(map(adder, ADDERS))
        + "".join(map(flip_flop, FLIP_FLOPS))
        + latch()
        + "}\n"
    )
    Path(__file__).with_name("builtin.lib").write_text(text)


if __name__ == "__main__":
    main()
