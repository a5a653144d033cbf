# SPDX-License-Identifier: Apache-2.0
"""Gates as C++ on vectors of bits: every gate of a module is one operation for all instances of it.

A module that a design has n times is a *slice* of n lanes: a net is a word with a bit for each instance, in as many
bytes as it takes. A module in it that it has m times in its turn has m times those bytes a net. What stays Verilog is a
shell of the module for each instance: it holds the memories, gives what comes in to `put` when the clock rises, and
takes what goes out from `get` after all have.

Gates by which an input reaches an output within a cycle stay in the shell too; a module in a slice has none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.gates import Cell, Gates, Net, Port
from nncosim.tb.netlist.verilog import Naming, body, declared, header, identifier

__all__ = ["LANES", "Slice", "own", "prefix", "shell_verilog", "slice_cpp"]

LANES = 1024
"""Bits of a net that C++ has a word for: instances in a design, where those in others count each."""

_RUNTIME = Path(__file__).with_name("sliced.h")
_CHUNK = 600  # gates of a C++ function: a compiler takes more than twice as long for twice as many


@dataclass
class Slice:
    """A module as C++.

    Args:
        gates: The module. inner: modules of its children that are slices in it, each with all its instances; the
            others stay in its shell.

    Attributes:
        inputs, outputs: nets that come in from the shell and that go out to it, in the order of their bits. Nets that
            go out and are inputs, or constant, are connected by the shell itself.
        through: cells by which an input reaches an output within a cycle: they stay in the shell.
        of_state, of_outputs: cells that the next state depends on, with what goes to modules inside, and the outputs;
            in an order in which they can be evaluated.

    Raises:
        BenchError: an input of a module inside reaches its outputs within a cycle, or the netlist has a loop.
    """

    gates: Gates
    inner: Mapping[str, Slice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gates = self.gates
        self.inside = [child for child in gates.children if child.module in self.inner]
        self.outside = [child for child in gates.children if child.module not in self.inner]
        clock = gates.clock_net
        come = [net for port in gates.ports if port.direction == "input" for net in port.nets]
        around = [port for child in self.outside for port in child.ports]
        come += [net for port in around if port.direction == "output" for net in port.nets]
        go = [net for port in gates.ports if port.direction == "output" for net in port.nets]
        go += [net for port in around if port.direction == "input" for net in port.nets]
        self.inputs = [net for net in dict.fromkeys(come) if isinstance(net, int) and net != clock]
        self.outputs: list[Net] = []
        self._drivers = {cell.pins[pin]: cell for cell in gates.cells for pin in cell.model.outputs if pin in cell.pins}
        self.places = self._places()
        self.through, self.outputs = self._divide(self._ordered(go), go)
        self.of_outputs = self._ordered(self.outputs)
        self.fed = [net for net in dict.fromkeys(net for nets in self.sources().values() for each in nets.values()
                                                 for net in each) if net not in self.places]  # fmt: skip
        self.of_state = self._ordered([*(each.data for each in gates.registers), *self.fed])

    def _ordered(self, nets: Sequence[Net]) -> list[Cell]:
        """The cells that nets depend on, each after those it depends on itself; depth first, so that what is used
        together stands together."""
        done: dict[str, None] = {}
        order: list[Cell] = []
        for net in nets:
            pending: list[tuple[Net, bool]] = [(net, False)]
            while pending:
                at, ready = pending.pop()
                cell = self._drivers.get(at)
                if at in self.places or cell is None or cell.name in done:
                    continue
                if ready:
                    done[cell.name] = None
                    order.append(cell)
                    continue
                pending.append((at, True))
                pending += [(pin, False) for name, pin in cell.pins.items() if name not in cell.model.outputs]
                if len(pending) > 64 * len(self._drivers) + 64:
                    raise BenchError(f"{self.gates.name}: its gates form a loop through cell {cell.name!r}")
        return order

    def _divide(self, cells: Sequence[Cell], go: Sequence[Net]) -> tuple[list[Cell], list[Net]]:
        """Of the cells that outputs depend on: those that an input reaches, and what the others and the registers give
        to them or to the outputs."""
        reached: dict[Net, None] = dict.fromkeys(self.inputs)
        through = []
        for cell in cells:
            if any(net in reached for pin, net in cell.pins.items() if pin not in cell.model.outputs):
                through.append(cell)
                reached |= dict.fromkeys(net for pin, net in cell.pins.items() if pin in cell.model.outputs)
        wanted = [*go, *(net for cell in through for pin, net in cell.pins.items() if pin not in cell.model.outputs)]
        apart = {"0", "1", self.gates.clock_net, *reached}
        return through, [net for net in dict.fromkeys(wanted) if net not in apart]

    def _places(self) -> dict[Net, str]:
        """Where C++ finds each net that no gate drives."""
        places: dict[Net, str] = {"0": "W{}", "1": "~W{}"}
        places |= {net: f"in[{index}]" for index, net in enumerate(self.inputs)}
        places |= {each.output: f"q[{index}]" for index, each in enumerate(self.gates.registers)}
        for module, inner in self.inner.items():
            at = {net: index for index, net in enumerate(inner.outputs)}
            driven = {port.name: port.nets for port in inner.gates.ports if port.direction == "output"}
            for number, child in enumerate(each for each in self.inside if each.module == module):
                for port in child.ports:
                    for net, within in zip(port.nets, driven.get(port.name, ()), strict=False):
                        if within not in at:
                            raise BenchError(f"{module}: an input reaches its output {port.name} within a cycle, or a "
                                             "bit of it is constant; such a module cannot be simulated many at a time")
                        places[net] = f"taken<L>({_member(module)}.out[{at[within]}], {number})"
        return places

    def sources(self) -> dict[str, dict[int, list[Net]]]:
        """Of each module inside, index of its input to the net of each instance."""
        found: dict[str, dict[int, list[Net]]] = {}
        for module, inner in self.inner.items():
            at = {net: index for index, net in enumerate(inner.inputs)}
            nets: dict[int, list[Net]] = {}
            for child in (each for each in self.inside if each.module == module):
                given = {port.name: port.nets for port in child.ports}
                for port in (port for port in inner.gates.ports if port.direction == "input"):
                    for within, net in zip(port.nets, given[port.name], strict=True):
                        if within in at:
                            nets.setdefault(at[within], []).append(net)
            found[module] = nets
        return found

    @functools.cached_property
    def driven(self) -> tuple[Net, ...]:
        """Nets of the cells that are C++."""
        return tuple(dict.fromkeys(net for cell in (*self.of_state, *self.of_outputs)
                                   for pin, net in cell.pins.items() if pin in cell.model.outputs))  # fmt: skip

    @functools.cached_property
    def between(self) -> tuple[Net, ...]:
        """Nets that modules inside drive."""
        return tuple(net for net, place in self.places.items() if place.startswith("taken<"))

    @property
    def counted(self) -> tuple[int, ...]:
        """The nets that C++ has, in the order in which it counts them: inputs, registers, of modules inside, cells."""
        registers = [each.output for each in self.gates.registers]
        nets = (*self.inputs, *registers, *self.between, *self.driven)
        return tuple(net for net in nets if isinstance(net, int))

    def cpp(self, lanes: int, present: bytes = b"", counted: Mapping[str, Sequence[str]] | None = None
            ) -> Iterator[str]:
        """The module's struct, after those of the modules in it; see `sliced.h`. lanes: bytes of a net. present,
        counted: as `slice_cpp` has them."""
        for module, inner in self.inner.items():
            times = sum(child.module == module for child in self.inside)
            yield from inner.cpp(lanes * times, present * times, counted)
        made = _Body(self.places, self.driven if counted else ())
        sinks = [(f"d[{k}]", each.data) for k, each in enumerate(self.gates.registers)]
        next_ = made.functions("next", self.of_state, [*sinks, *((f"fed[{k}]", net) for k, net in enumerate(self.fed))])
        outs = made.functions("out", self.of_outputs, [(f"out[{k}]", net) for k, net in enumerate(self.outputs)])
        members = [_member(module) for module in self.inner]
        bits = len(self.gates.registers)
        sizes = {"in": len(self.inputs), "out": len(self.outputs), "q": bits, "d": bits, "fed": len(self.fed),
                 "n": made.crossing}  # fmt: skip
        yield f"struct {prefix(self.gates.name)} {{"
        yield f"  static constexpr int L = {lanes}, INPUTS = {len(self.inputs)}, OUTPUTS = {len(self.outputs)};"
        yield "  using W = Word<L>;"
        yield "  W " + ", ".join(f"{name}[{max(1, size)}]" for name, size in sizes.items()) + ";"
        yield "  Wrong<L> wrong;"
        yield from (f"  {prefix(module)} {member};" for module, member in zip(self.inner, members, strict=True))
        if counted:
            yield f"  W lanes{{{', '.join(map(str, present))}}};"
            yield from (f"  {line}" for line in counted[self.gates.name])
        for name, lines in (next_ | outs).items():
            yield f"  void {name}() {{"
            yield from (f"    {line}" for line in lines)
            yield "  }"
        bodies = {
            "void next()": [
                *(f"{name}();" for name in next_), *self._feeding(), *(f"{each}.next();" for each in members),
                *(["count();"] if counted else [])],
            "void show()": [f"{name}();" for name in outs],
            "void commit()": ["copy(q, d);", *(f"{each}.commit();" for each in members), "show();"],
            "void settle()": [*(f"{each}.settle();" for each in members), "show();"],
            "template <class Random> void power_up(Random& random, int gate, int lane)": [
                "wrong = {gate, lane};", "for (W& each : q) fill<L>(each, random);",
                *(f"{each}.power_up(random, gate, lane);" for each in members), "show();"],
            "template <class See> void visit(int slot, See see, int at = 0)": [
                "for (W& each : q) see(byte_of(each, at + slot / 8));" if bits else "", *self._visiting()],
        }  # fmt: skip
        for function, lines in bodies.items():
            yield f"  {function} {{ {' '.join(lines) if len(lines) < 8 else ''}"
            yield from (f"    {line}" for line in lines if len(lines) >= 8)
            yield "  }"
        yield "};"

    def _visiting(self) -> Iterator[str]:
        """Registers of the instances inside, in the order of the children."""
        for module in self.inner:
            count = sum(child.module == module for child in self.inside)
            yield f"for (int k = 0; k < {count}; ++k) {_member(module)}.visit(slot, see, at + k * L);"

    def _feeding(self) -> Iterator[str]:
        fed = {net: f"fed[{k}]" for k, net in enumerate(self.fed)} | self.places
        for module, nets in self.sources().items():
            for index, sources in nets.items():
                where = f"{_member(module)}.in[{index}]"
                if len(set(sources)) == 1:
                    yield f"spread<L, {len(sources)}>({where}, {fed[sources[0]]});"
                else:
                    yield from (f"given<L>({where}, {k}, {fed[net]});" for k, net in enumerate(sources))


class _Body:
    """Gates as functions of C++; nets that pass from one function to another are in the array ``n``, and first of all
    those that are `kept`."""

    def __init__(self, places: Mapping[Net, str], kept: Sequence[Net] = ()):
        self._places, self.crossing = places, len(kept)
        self._kept = {net: number for number, net in enumerate(kept)}

    def functions(self, name: str, cells: Sequence[Cell], sinks: Sequence[tuple[str, Net]]) -> dict[str, list[str]]:
        """Name to statements. sinks: what is assigned which net at last."""
        parts = [cells[at:at + _CHUNK] for at in range(0, len(cells), _CHUNK)]
        home = {net: number for number, part in enumerate(parts) for cell in part
                for pin, net in cell.pins.items() if pin in cell.model.outputs}  # fmt: skip
        used: dict[Net, set[int]] = {}
        for number, part in enumerate(parts):
            for cell in part:
                for pin, net in cell.pins.items():
                    if pin not in cell.model.outputs and net in home:
                        used.setdefault(net, set()).add(number)
        at = {net: self._kept[net] for net in home if net in self._kept}
        for net in (net for net, numbers in used.items() if numbers != {home[net]} and net not in at):
            at[net], self.crossing = self.crossing, self.crossing + 1
        ends: dict[int, list[str]] = {}
        for where, net in sinks:
            text = f"n{net}" if net in home else self._places[net]
            ends.setdefault(home.get(net, -1), []).append(f"{where} = {text};")
        found = {f"{name}{number}": self._statements(number, part, home, at) + ends.get(number, [])
                 for number, part in enumerate(parts)}
        rest = ends.get(-1, [])
        return found | {f"{name}_{k}": rest[k:k + _CHUNK] for k in range(0, len(rest), _CHUNK)}

    def _statements(self, number: int, part: Sequence[Cell], home: Mapping[Net, int], at: Mapping[Net, int]
                    ) -> list[str]:
        def read(net: Net) -> str:
            if net in self._places:
                return self._places[net]
            return f"n{net}" if home[net] == number else f"n[{at[net]}]"

        lines = []
        for cell in part:
            inputs = {pin: read(net) for pin, net in cell.pins.items() if pin not in cell.model.outputs}
            for pin, function in cell.model.outputs.items():
                if pin in cell.pins:
                    net, text = cell.pins[pin], function.format_map(inputs)
                    if cell.wrong is not None:
                        text = f"wrong.of({cell.wrong[0]}, {text}, {cell.wrong[1][pin].format_map(inputs)})"
                    lines.append(f"const W n{net} = {text};")
                    if net in at:
                        lines.append(f"n[{at[net]}] = n{net};")
        return lines


def slice_cpp(whole: Slice, instances: int, before: str = "", after: str = "",
              counted: Mapping[str, Sequence[str]] | None = None) -> str:
    """C++ of a slice with so many shells in a design, to be compiled into its simulation. before, after: more of it;
    `Machine` is then what is simulated.

    counted: by module, members of its struct, with a function `count` that is called when the gates have settled
    before a clock; `lanes` has a bit for each instance that there is, and `n` begins with the nets that are `driven`.

    Raises:
        BenchError: more instances, of it or in it, than C++ has words for.
    """
    lanes = -(-instances // 8)
    most = 8 * lanes * max([1, *(sum(child.module == module for child in whole.inside) for module in whole.inner)])
    if most > LANES:
        raise BenchError(f"{whole.gates.name}: {most} instances of a module; at most {LANES} are simulated at a time")
    name, next_lane = prefix(whole.gates.name), "return Machine::next_lane(seed, gate, lane);"
    present = bytes((1 << min(8, instances - 8 * k)) - 1 for k in range(lanes))
    machine = f"using Machine = Sliced<{name}, {instances}>;"
    return "\n".join([before, _RUNTIME.read_text(), "namespace {", *whole.cpp(lanes, present, counted), machine, "}",
                      *(f'extern "C" {line}' for line in (
                          f"void* {name}_new(unsigned seed, int gate, int lane) {{ {next_lane} }}",
                          f"void {name}_put(void* lane, const svBitVecVal* in) {{ Machine::put(lane, in); }}",
                          f"void {name}_get(void* lane, svBitVecVal* out) {{ Machine::get(lane, out); }}",
                          f"void {name}_end(void* lane) {{ Machine::end(lane); }}")), after, ""])  # fmt: skip


def shell_verilog(whole: Slice, more: Callable[[Naming], Iterable[str]] = lambda _: (), first: str = ""
                  ) -> Iterator[str]:
    """An instance in Verilog: its memories, and the way to the C++. more: lines of it, with its nets as they are named.
    first: what it does at a rising clock before it gives what comes in."""
    gates = replace(whole.gates, children=whole.outside, cells=whole.through, registers=[])
    name, naming = prefix(gates.name), Naming(gates)
    come, go = max(1, len(whole.inputs)), max(1, len(whole.outputs))
    yield from header(gates)
    for direction, function in (("void", f"{name}_put(input chandle lane, input bit [{come - 1}:0] values)"),
                                ("void", f"{name}_get(input chandle lane, output bit [{go - 1}:0] values)"),
                                ("chandle", f"{name}_new(input int unsigned seed, input int gate, input int at)"),
                                ("void", f"{name}_end(input chandle lane)")):
        yield f'  import "DPI-C" function {direction} {function};'
    for number, child in enumerate(gates.children):
        yield from declared(child, number)
    yield f"  wire [{come - 1}:0] {own('come')} = {naming.vector(Port('come', 'input', tuple(whole.inputs)))};"
    yield f"  bit [{go - 1}:0] {own('go')};"
    naming.add(Port("go", "output", tuple(whole.outputs)), own("go"))
    yield from body(gates, naming)
    yield from more(naming)
    lane, after, gate, at = map(own, ("lane", "after", "gate", "at"))
    yield from f"""  chandle {lane};
  bit {after} = 0;
  integer {gate}, {at};
  initial begin
    if (!$value$plusargs("wrong_gate=%d", {gate})) {gate} = -1;
    if (!$value$plusargs("wrong_lane=%d", {at})) {at} = 0;
    {lane} = {name}_new($urandom, {gate}, {at});
    {name}_get({lane}, {own('go')});
  end
  final {name}_end({lane});
  // All instances give what comes in before the first takes what goes out.
  always @(posedge {identifier(gates.clock)}) begin {first}{name}_put({lane}, {own('come')}); {after} <= ~{after}; end
  always @({after}) {name}_get({lane}, {own('go')});
endmodule""".split("\n")


def own(name: str) -> str:
    """What a shell calls its own; no name of the design's has such a mark."""
    return identifier(f"{name}~shell")


def prefix(module: str) -> str:
    """A module's name in C++."""
    return "S_" + re.sub(r"\W", "_", module)


def _member(module: str) -> str:
    return "m_" + re.sub(r"\W", "_", module)
