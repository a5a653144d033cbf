# SPDX-License-Identifier: Apache-2.0
"""C++ that saves and restores a model which Verilator generated without ``--savable``.

Verilator (V3Options) refuses that option together with coverage. What the option would generate writes each variable of
each module's class to a stream; here the same is read off the generated headers (V3EmitCHeaders): a class has its
variables between two comments. Counters of coverage are in no such class: a state that is restored takes none back.
"""

from __future__ import annotations

import re
from pathlib import Path

from nncosim.tb.errors import BenchError

__all__ = ["saved_state_source"]

_STATE = re.compile(r"// DESIGN SPECIFIC STATE\n(.*?)\n\s*// INTERNAL VARIABLES", re.DOTALL)
_CLASS = re.compile(r"^class alignas\(\w+\) (\w+) final", re.MULTILINE)
_INSTANCES = re.compile(r"// MODULE INSTANCE STATE\n(.*?)\n\n", re.DOTALL)
_VARIABLE = re.compile(r"VL_(?:IN|OUT|INOUT)\w*\((?P<port>\w+),.*\);|[A-Z]\w+.*?[\s>/](?P<own>\w+)(?:\[\d+\])*;")
_NONE = re.compile(r"//.*|struct \{|\};|static .*;|VlNBACommitQueue<.*;|")
"""Of a class's state: remarks, groups of variables without a name, constants; queues that are empty between two
evaluations, and that Verilator saves none of either."""

_TEXT = """\
#include "Vtop__Syms.h"
#include "verilated_save.h"
#include <type_traits>

namespace {

template <typename Value> void save(VerilatedSerialize& out, const Value& value) {
    if constexpr (std::is_trivially_copyable_v<Value>) out.write(&value, sizeof value);
    else out << value;
}
template <typename Value> void restore(VerilatedDeserialize& in, Value& value) {
    if constexpr (std::is_trivially_copyable_v<Value>) in.read(&value, sizeof value);
    else in >> value;
}
%(modules)s
}  // namespace

VerilatedSerialize& operator<<(VerilatedSerialize& out, Vtop& model) {
    auto& all = *model.rootp->vlSymsp;
    out << all._vm_contextp__;
    save(out, all.__Vm_didInit);
%(save)s
    return out;
}

VerilatedDeserialize& operator>>(VerilatedDeserialize& in, Vtop& model) {
    auto& all = *model.rootp->vlSymsp;
    in >> all._vm_contextp__;
    restore(in, all.__Vm_didInit);
%(restore)s
%(traced)s    return in;
}
"""


def saved_state_source(work: Path) -> str:
    """The operators that ``saved.h`` declares, for the generated code in a folder (prefix ``Vtop``).

    Raises:
        BenchError: the headers are not as expected: another version of Verilator.
    """
    classes: dict[str, list[str]] = {}
    for header in sorted(work.glob("Vtop*.h")):
        text = header.read_text()
        module, state = _CLASS.search(text), _STATE.search(text)
        if module is not None and state is not None:
            classes[module[1]] = _variables(state[1], header.name)
    symbols = (work / "Vtop__Syms.h").read_text()
    found = _INSTANCES.search(symbols)
    traced = "__Vm_activity" in symbols
    instances = [line.rstrip(";").split() for line in found[1].splitlines()] if found is not None else []
    if not instances or any(len(each) != 2 or each[0] not in classes for each in instances):
        raise BenchError("Verilator's symbol table Vtop__Syms.h is not as expected; a model that counts coverage "
                         "cannot save its state")  # fmt: skip
    modules = []
    for name, variables in classes.items():
        for verb, stream, const in (("save", "VerilatedSerialize", "const "), ("restore", "VerilatedDeserialize", "")):
            body = "".join(f"    {verb}(stream, module.{each});\n" for each in variables)
            modules.append(f"\nvoid {verb}_module({stream}& stream, {const}{name}& module) {{\n{body}}}\n")
    return _TEXT % {"modules": "".join(modules),
                    "save": "\n".join(f"    save_module(out, all.{name});" for _, name in instances),
                    "traced": "    all.__Vm_activity = true;\n" if traced else "",
                    "restore": "\n".join(f"    restore_module(in, all.{name});" for _, name in instances)}


def _variables(state: str, header: str) -> list[str]:
    names = []
    for line in map(str.strip, state.splitlines()):
        found = _VARIABLE.fullmatch(line)
        if _NONE.fullmatch(line) is not None:
            continue
        if found is not None:
            names.append(found["port"] or found["own"])
        else:
            raise BenchError(f"Verilator's header {header} has a variable of an unknown form: {line}; a model that "
                             "counts coverage cannot save its state")  # fmt: skip
    return names
