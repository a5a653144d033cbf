# SPDX-License-Identifier: Apache-2.0
"""The RTL of a module beside its gates in one simulation: every register and output of the one, and what goes into its
memories, is held against the other's in every cycle, and the first that differs is told.

Registers have the same names in both. Under reset the gates take over what the RTL's hold, for those without reset hold
anything then; from there on they must agree. Memories are the gates' alone: the RTL is given what they give.

A test bench may load registers of the gates when reset ends (plusarg ``load_registers=FILE``, lines of a module, a
lane, a register's number and a bit), and those of the RTL are not: what differs from it says nothing then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.tb.netlist.gates import Child, Port
from nncosim.tb.netlist.sliced import Slice, own, prefix, shell_verilog, slice_cpp
from nncosim.tb.netlist.verilog import Naming, identifier, modules_of

__all__ = ["DIFFERENCE", "DIFFERENCE_STREAM", "Twin", "told", "twin_cpp", "twin_of", "twin_shell", "twin_sources"]

DIFFERENCE_STREAM = 12
"""Of the event log: the first difference of each module that has a twin; a record of `DIFFERENCE`."""
DIFFERENCE = np.dtype([("cycle", "<u8"), ("module", "<u4"), ("lane", "<u4"), ("register", "<u4"), ("rtl", "<u4")])
"""cycle: since reset. module: index of the slice in the design. register: index in `Twin.names`, behind
which those of outputs stand. rtl: the RTL's bit."""

_SUFFIX = "~rtl"


@dataclass
class _Module:
    registers: set[str] = field(default_factory=set)
    instances: dict[str, str] = field(default_factory=dict)  # name to module


@dataclass(frozen=True)
class Twin:
    """Attributes:
        within: modules of the RTL that are slices in this one, with what is in them.
        names: of all registers of the gates, in the order in which C++ visits them: of the module, then of each
            instance in it; "" if the RTL has none of that name, which is not compared.
        outputs: names of the bits that go out, and of those that go into memories.
    """

    module: str
    within: frozenset[str]
    names: tuple[str, ...]
    outputs: tuple[str, ...]


def told(differences: np.ndarray, twins: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines on the first differences of modules, records of `DIFFERENCE`, the earliest first, and of a cycle's that of
    a module in another before that of the other. twins: names of the registers and outputs of each slice of the design
    (`nncosim.tb.netlist.design.GateDesign`)."""
    modules = list(twins)
    lines = []
    for record in sorted(differences, key=lambda each: (each["cycle"], -len(modules[each["module"]]))):
        module, right = modules[record["module"]], int(record["rtl"])
        lines.append(f"cycle {record['cycle']}: {module}, lane {record['lane']}: {twins[module][record['register']]} "
                     f"is {1 - right}, in the RTL {right}")  # fmt: skip
    return lines


def twin_of(whole: Slice, rtl: Mapping[str, str]) -> Twin:
    """rtl: file name to Verilog of the design, as Amaranth writes it."""
    modules = _parsed(rtl)
    names = [each.name for each in whole.gates.registers]
    for child in sorted(whole.inside, key=lambda each: list(whole.inner).index(each.module)):
        names += [f"{child.name}.{each.name}" for each in whole.inner[child.module].gates.registers]
    known = [name if _is_register(modules, whole.gates.name, name) else "" for name in names]
    within: set[str] = set()
    pending = list(whole.inner)
    while pending:
        module = pending.pop()
        if module in modules and module not in within:
            within.add(module)
            pending += modules[module].instances.values()
    outputs = [f"output {port.name}[{k}]" for port in _outputs(whole) for k in range(len(port.nets))]
    outputs += [f"input {child.name}.{port.name}[{k}]" for child, port in _memory_inputs(whole)
                for k in range(len(port.nets))]  # fmt: skip
    return Twin(whole.gates.name, frozenset(within), tuple(known), tuple(outputs))


def _outputs(whole: Slice) -> list[Port]:
    return [port for port in whole.gates.ports if port.direction == "output"]


def _memory_inputs(whole: Slice) -> list[tuple[Child, Port]]:
    """Of SRAM macros in the shell, and of modules of the same block that hold some."""
    clock = whole.gates.clock_net
    return [(child, port) for child in whole.outside
            if child.module == SRAM_MODULE or child.module.startswith(f"{whole.gates.name}.")
            for port in child.ports if port.direction == "input" and clock not in port.nets]  # fmt: skip


def twin_sources(twin: Twin, rtl: Mapping[str, str]) -> str:
    """Verilog of the twin: the RTL's module and what is below it in the hierarchy of names, all under other names; and
    what is in it besides and is gates."""
    found = []
    for text in rtl.values():
        for name, body in modules_of(text):
            if name == twin.module or name.startswith(f"{twin.module}."):
                found.append(_renamed(_given_memories(body, twin.module, name), twin.module))
            elif name in twin.within:
                found.append(body)
    return "\n".join(found) + "\n"


def twin_shell(twin: Twin, whole: Slice) -> Iterator[str]:
    """`nncosim.tb.netlist.sliced.shell_verilog` with the twin."""
    given = ", ".join([own("lane"), own("cycle"), "rst", own("expected"), own("gone")])
    held = own("held")
    load = f"if ({held} & {own('load')} & ~rst) {_load(twin)}({own('lane')}, {own('file')}); {held} <= rst; "
    return shell_verilog(whole, lambda naming: _shell_lines(twin, whole, naming), f"{_function(twin)}({given}); {load}")


def twin_cpp(twin: Twin, whole: Slice, instances: int, number: int) -> str:
    """`nncosim.tb.netlist.sliced.slice_cpp` with what compares. number: of the slice in the design."""
    known = ", ".join(str(int(bool(name))) for name in twin.names)
    before = f'#include "eventlog.h"\n#define NNCOSIM_DIFFERENCES {DIFFERENCE_STREAM}'
    after = f"""static const char known[] = {{{known}}};
extern "C" void {_function(twin)}(void* lane, long long cycle, svBit reset, const svBitVecVal* values,
        const svBitVecVal* outputs) {{
    const auto at = static_cast<std::uint64_t>(cycle);
    Machine::check(lane, at, reset, values, known, outputs, {len(twin.outputs)}, {number});
}}
extern "C" void {_load(twin)}(void* lane, const char* file) {{ Machine::load(lane, "{twin.module}", file); }}"""
    return slice_cpp(whole, instances, before, after)


def _function(twin: Twin) -> str:
    return f"{prefix(twin.module)}_check"


def _load(twin: Twin) -> str:
    return f"{prefix(twin.module)}_load"


def _shell_lines(twin: Twin, whole: Slice, naming: Naming) -> Iterator[str]:
    outputs = {port.name: identifier(port.name + _SUFFIX) for port in _outputs(whole)}
    yield from (f"  wire [{len(port.nets) - 1}:0] {outputs[port.name]};" for port in _outputs(whole))
    ports = ", ".join(f".{identifier(port.name)}({outputs.get(port.name) or identifier(port.name)})"
                      for port in whole.gates.ports)  # fmt: skip
    yield f"  {identifier(twin.module + _SUFFIX)} {own('twin')} ({ports});"
    bits = [f"{own('twin')}.{_path(name)}" for name in reversed(twin.names) if name]
    memories = _memory_inputs(whole)
    theirs = [f"{own('twin')}.{_path(_macro_input(child, port))}" for child, port in memories]
    bits = [*reversed(theirs), *reversed(outputs.values()), *bits]
    count = len(twin.outputs) + sum(map(bool, twin.names))
    yield f"  wire [{count - 1}:0] {own('expected')} = {{"
    yield ",\n".join(", ".join(bits[at:at + 16]) for at in range(0, len(bits), 16)) + "};"
    ours = [naming.vector(port) for _, port in memories]
    gone, most = ", ".join([*reversed(ours), *map(identifier, reversed(outputs))]), len(twin.outputs) - 1
    yield f"  wire [{most}:0] {own('gone')} = {{{gone}}};"
    yield f'  import "DPI-C" function void {_function(twin)}(input chandle lane, input longint cycle, input bit reset,'
    yield f"    input bit [{count - 1}:0] values, input bit [{most}:0] outputs);"
    yield f'  import "DPI-C" function void {_load(twin)}(input chandle lane, input string file);'
    yield f"  longint {own('cycle')};"
    yield f"  bit {own('load')}, {own('held')};"
    yield f"  string {own('file')};"
    yield f'  initial {own("load")} = $value$plusargs("load_registers=%s", {own("file")});'
    yield f"  always @(posedge {identifier(whole.gates.clock)}) {own('cycle')} <= rst ? 0 : {own('cycle')} + 1;"


def _macro_input(child: Child, port: Port) -> str:
    """What the twin calls an input of a memory: of a macro, which it does not have, it has a wire for each."""
    return f"{child.name}~{port.name}" if child.module == SRAM_MODULE else f"{child.name}.{port.name}"


def _parsed(rtl: Mapping[str, str]) -> dict[str, _Module]:
    modules = {}
    for text in rtl.values():
        for name, body in modules_of(text):
            module = modules[name] = _Module()
            module.registers = {_name(each) for each in re.findall(
                r"^\s*reg (?:signed )?(?:\[[^]]*\] )?(\\\S+|\w+)", body, re.MULTILINE)}  # fmt: skip
            module.instances = {_name(each): _name(kind) for kind, each in re.findall(
                r"^  (\\\S+|\w+)\s+(?:#\(.*?^  \)\s+)?(\\\S+|\w+)\s+\($", body, re.MULTILINE | re.DOTALL)}  # fmt: skip
    return modules


def _name(text: str) -> str:
    return text.removeprefix("\\")


def _is_register(modules: Mapping[str, _Module], module: str, name: str) -> bool:
    *path, leaf = re.sub(r"\[\d+\]$", "", name).split(".")
    for part in path:
        module = modules[module].instances.get(part, "") if module in modules else ""
    return module in modules and leaf in modules[module].registers


def _given_memories(body: str, module: str, name: str) -> str:
    """A module of the twin whose memories are those of the shell that it is in: a name that begins with a module's is
    looked for upwards."""
    above = ".".join([identifier(module), *map(identifier, filter(None, name.removeprefix(module).split(".")))])
    pattern = rf"^  {SRAM_MODULE} #\(.*?^  \)\s+(\\\S+|\w+)\s+\(\n(.*?)^  \);"

    def given(found: re.Match[str]) -> str:
        memory, pins = _name(found[1]), dict(re.findall(r"\.(\w+)\((.*?)\)(?=,?\n)", found[2]))
        lines = [f"  assign {pins.pop('r_data')} = {above}.{identifier(memory)}.r_data;"]
        lines += [f"  wire [$bits({text})-1:0] {identifier(f'{memory}~{port}')} = {text};"
                  for port, text in pins.items()]  # fmt: skip
        return "\n".join(lines)

    return re.sub(pattern, given, body, flags=re.MULTILINE | re.DOTALL)


def _renamed(body: str, module: str) -> str:
    pattern = rf"^(module\s+|  )\\?({re.escape(module)}(?:\.[\w.$]+)?)(?=[\s(])"
    return re.sub(pattern, lambda found: f"{found[1]}\\{found[2].replace(module, module + _SUFFIX, 1)} ", body,
                  flags=re.MULTILINE)  # fmt: skip


def _path(name: str) -> str:
    """A hierarchical name as Verilog takes it, with its index; escaped, for SystemVerilog has words that are names in
    Verilog."""
    found = re.fullmatch(r"(.*?)(\[\d+\])?", name)
    assert found is not None
    return ".".join(f"\\{part} " for part in found[1].split(".")) + (found[2] or "")
