# SPDX-License-Identifier: Apache-2.0
"""Names in emitted Verilog: what a reader looks for keeps its name, what nobody named begins with an underscore."""

import re

from amaranth.hdl import Module, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.emit import emit, emit_design
from nncosim.regress.test_infrastructure import Pair


class Kind(enum.Enum, shape=2):
    """Of an `Order`."""

    READ = 0
    WRITE = 1


class Order(data.Struct):
    """A structure, whose fields are to be seen."""

    kind: Kind
    address: 6


class Inner(wiring.Component):
    """Has a port that is called as a signal and a submodule of its parent are."""

    busy: In(8)
    count: Out(8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.count.eq(self.count + self.busy)
        return m


class Outer(wiring.Component):
    """Everything that makes Amaranth invent names."""

    i: In(8)
    kind: In(2)
    o: Out(9)
    counter: Out(8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.counter = counter = Inner()
        m.submodules.count = count = Inner()
        m.submodules += (third := Inner())
        busy = Signal(8)
        first, second = Signal(8), Signal(8)
        twice = [Signal(8, name="twice") for _ in range(2)]
        order = Signal(Order)
        self._private = Signal(8)
        m.d.comb += [
            busy.eq(self.i ^ 1), counter.busy.eq(busy), count.busy.eq(self.i), third.busy.eq(first),
            self.counter.eq(counter.count), order.kind.eq(self.kind), order.address.eq(self.i),
        ]
        m.d.sync += [
            self._private.eq(count.count), first.eq(self._private), second.eq(first),
            twice[0].eq(second), twice[1].eq(twice[0]),
            self.o.eq(twice[1] + order.address + third.count),
        ]
        return m


def declared(text: str, module: str) -> set[str]:
    """Names of the wires and registers of one module."""
    body = re.search(rf"module \\?{re.escape(module)} ?\(.*?endmodule", text, re.S)
    assert body, f"no module {module}"
    return {name.lstrip("\\") for name in re.findall(r"^  (?:wire|reg)(?: signed)?(?: \[\d+:\d+\])? (\S+?) ?(?:=|;)",
                                                      body.group(), re.M)}


def test_own_names_come_first() -> None:
    """A module's own signals, a structure's fields; of equal names the second has a number; no dollar anywhere."""
    text = emit(Outer(), "outer")
    names = declared(text, "outer")
    assert {"busy", "i", "o", "counter", "order", "order.kind", "order.address", "twice", "twice_2", "private"} <= names
    assert not {name for name in names if "$" in name}
    assert "$" not in re.sub(r"\$signed|\$unsigned", "", text)


def test_nameless_signals_and_wires_of_submodules_begin_with_an_underscore() -> None:
    """The parent's wires at its submodules' ports are not to be traced twice."""
    text = emit(Outer(), "outer")
    names = declared(text, "outer")
    assert "_signal" in names
    assert not names & {"count", "busy_2", "count_2"}
    assert {"busy", "count"} <= declared(text, "outer.count")


def test_submodules_keep_their_names() -> None:
    """Unless a port has it."""
    text = emit(Outer(), "outer")
    assert re.search(r"outer\.count  ?count \(", text)
    assert re.search(r"outer\.counter_2  ?counter_2 \(", text), "port `counter` is there first"
    assert re.search(r"outer\.unnamed2  ?unnamed2 \(", text)


def test_blocks() -> None:
    """Instances of blocks are submodules like others."""
    text = emit_design(Pair(), "pair")["pair.v"]
    assert re.search(r"accumulate_block left \(", text)
    assert {name for name in declared(text, "pair") if not name.startswith("_")} == {
        "clk", "rst", *(f"{port}__{part}" for port in "abxy" for part in ("ready", "valid")),
        "a__payload", "a__payload.address", "a__payload.value", "b__payload", "b__payload.address", "b__payload.value",
        "x__payload", "y__payload"}


def test_the_same_text_each_time() -> None:
    """Names do not depend on what was emitted before."""
    assert emit(Outer(), "outer") == emit(Outer(), "outer")
