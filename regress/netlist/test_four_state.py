# SPDX-License-Identifier: Apache-2.0
"""From nothing known: under reset every register that has one is known, and no memory is written; in Icarus Verilog.

What has no reset is what the RTL says so of: the data of pipelines (`nncosim.hdl.logic.register`), which what is marked
valid overtakes. They are told by name.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import pytest
from nncosim.hdl.cv32e40p import CORE
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.regress.netlist.machines import SMALL
from nncosim.tb.j3dai.build import soc_verilog
from nncosim.tb.j3dai.netlist import BLOCKS, soc_modules
from nncosim.tb.netlist.four_state import UnderReset, under_reset
from nncosim.tb.netlist.gates import Gates

MODULES = [name for names in BLOCKS.values() for name in names if name != "j3dai_ncb"]
HOLD_MEMORIES = ["j3dai_cluster.l1", "j3dai_cluster.wmem", "j3dai_cluster.imem", "j3dai_soc.host.imem",
                 "j3dai_soc.host.dmem", "j3dai_soc.l2.bank0"]  # fmt: skip

DATA = {"rd_data", "r_data"}
"""Outputs that nobody looks at but when what is beside them, or was some cycles before, says so."""


@functools.cache
def modules() -> dict[str, Gates]:
    return soc_modules({name: str(text) for name, text in soc_verilog(SMALL).items()})


@functools.cache
def reset_in_rtl() -> frozenset[str]:
    """Registers with a reset, by module: in the Verilog that Amaranth writes, the next value of which it sets."""
    found = set()
    for text in map(str, soc_verilog(SMALL).values()):
        for module in re.finditer(r"^module (?:\\(\S+)|(\w+)).*?^endmodule", text, re.MULTILINE | re.DOTALL):
            at_reset = set(re.findall(r"if \(rst\) begin\s+(\S+) <?= ", module[0]))
            found |= {f"{module[1] or module[2]}.{name}" for name, value in re.findall(r"(\S+) <= (\S+);", module[0])
                      if value in at_reset or name in at_reset}  # fmt: skip
    return frozenset(found)


def unknown(seen: UnderReset) -> set[str]:
    """Registers with a bit that is unknown."""
    return {re.sub(r"\[\d+\]$", "", name) for name, value in seen.registers.items() if value not in ("0", "1")}


def test_core_is_known() -> None:
    """All of it: each of its registers has a reset."""
    assert unknown(under_reset(modules()[CORE])) == set()


def with_reset(module: str, names: set[str]) -> set[str]:
    """Those with a reset in the RTL, of names in a module; an NCB is in its group."""
    return {name for name in names if f"{module}.{name}" in reset_in_rtl()
            or (f"j3dai_ncb.{name.removeprefix('ncb0.')}" in reset_in_rtl() and name.startswith("ncb0."))}  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_registers_with_a_reset_are_known(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever comes in, that too being unknown."""
    gates = modules()[module]
    found = unknown(under_reset(gates))
    with capsys.disabled():
        print(f"\n{module}: {len(gates.registers)} bits; without reset: {', '.join(sorted(found)) or 'none'}")
    assert with_reset(module, found) == set()


@pytest.mark.parametrize("module", [name for name in MODULES if name not in ("j3dai_soc", "j3dai_soc.host")])
def test_outputs_are_known_but_data(module: str) -> None:
    """While nothing comes in; memories inside give what they like. Not of what the host's core is in, or all else: that
    is no gates, and may give anything."""
    seen = under_reset(modules()[module], inputs="0")
    assert {name for name, value in seen.outputs.items() if set(value) - {"0", "1"}} <= DATA


@pytest.mark.parametrize("module", HOLD_MEMORIES)
def test_no_memory_is_written(module: str) -> None:
    """Before the first edge under reset and after the last, whatever comes in, that being unknown."""
    gates = modules()[module]
    seen = under_reset(gates)
    enables = {name: values for name, values in seen.inside.items() if name.endswith(".w_en")}
    assert len(enables) == sum(child.module == SRAM_MODULE for child in gates.children) > 0
    assert {bit for values in enables.values() for value in values for bit in value} == {"0"}


def test_what_has_no_reset_is_seen() -> None:
    """A register of the controller whose input does not depend on reset any more."""
    module = "j3dai_soc.entry"
    gates = modules()[module]
    chosen = next(each for each in gates.registers if f"{module}.{each.name.split('[')[0]}" in reset_in_rtl())
    free = next(net for port in gates.ports if port.direction == "input" and port.name not in ("clk", "rst")
                for net in port.nets)  # fmt: skip
    wrong = [replace(each, data=free) if each is chosen else each for each in gates.registers]
    assert with_reset(module, unknown(under_reset(replace(gates, registers=wrong)))) == {chosen.name.split("[")[0]}


def test_a_write_under_reset_is_seen() -> None:
    module = "j3dai_cluster.l1"
    gates = modules()[module]
    enable = next(port.nets[0] for port in gates.ports if port.name == "r_en__0")
    children = [replace(child, ports=tuple(replace(port, nets=(enable,)) if port.name == "w_en" else port
                                           for port in child.ports)) for child in gates.children]  # fmt: skip
    seen = under_reset(replace(gates, children=children))
    assert {values for name, values in seen.inside.items() if name.endswith(".w_en")} == {("x", "x")}
