# SPDX-License-Identifier: Apache-2.0
"""Gates that count: how often each net changes, in how many cycles any bit of a register does, and the accesses to
memories; of all instances of a module together.

A net is counted once a clock, when all gates have settled, against the clock before: there are no delays, and so no
glitches. Counts come as records of the event log, one for each span of cycles (`counted.h`); spans end where the
stream of marks has grown, or after a number of cycles (plusargs ``count_from=N``: cycles that do not count at first;
``count_every=N``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nncosim.hdl.sram import SRAM_MODULE
from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.gates import Gates, Port
from nncosim.tb.netlist.sliced import Slice, own, prefix, shell_verilog, slice_cpp
from nncosim.tb.netlist.verilog import Naming, identifier, module_verilog

__all__ = ["COUNT_STREAM", "Counter", "Memory", "counted_module", "counted_slice", "counter_of"]

COUNT_STREAM = 1000
"""Of the event log: the stream of the first counter of a design; each further one has the next. A record is the cycles
that have counted up to its end, and the counts since the one before, in the order of `Counter`: all 32 bits."""

_RUNTIME = Path(__file__).with_name("counted.h")


@dataclass(frozen=True)
class Memory:
    """An SRAM macro in a module."""

    name: str
    words: int
    bits: int


@dataclass(frozen=True)
class Counter:
    """What one stream counts.

    Attributes:
        module: whose nets they are. instances: in the design, of which one record has all counts; 0: an instance has
            records of its own.
        nets: in the order of their counts: how often each changes. Every net of a module that a cell or something
            outside drives is in one of its counters, but for the clock.
        groups: registers, by name without the index of a bit: in how many cycles any of their bits takes another value
            (in a slice it counts at the clock that brings it, a cycle before the nets' own changes are seen).
        memories: two counts each: cycles in which it is read, and in which it is written.
    """

    module: str
    stream: int
    instances: int
    nets: tuple[int, ...]
    groups: tuple[str, ...] = ()
    memories: tuple[Memory, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `counter_of` takes it."""
        return asdict(self)


def counter_of(data: Mapping[str, Any]) -> Counter:
    """From what `Counter.to_json` gave."""
    memories = tuple(Memory(**each) for each in data["memories"])
    return Counter(data["module"], data["stream"], data["instances"], tuple(data["nets"]), tuple(data["groups"]),
                   memories)  # fmt: skip


@dataclass
class _Groups:
    """Registers by name: the names, and of each bit which one it is of."""

    names: list[str] = field(default_factory=list)
    of: list[int] = field(default_factory=list)

    @classmethod
    def of_gates(cls, gates: Gates) -> _Groups:
        numbers: dict[str, int] = {}
        of = [numbers.setdefault(re.sub(r"\[\d+\]$", "", each.name), len(numbers)) for each in gates.registers]
        return cls(list(numbers), of)


def _driven(gates: Gates) -> tuple[int, ...]:
    """Nets of a module that is Verilog: what comes in, registers, cells' outputs."""
    come = [net for port in gates.ports if port.direction == "input" for net in port.nets]
    come += [net for child in gates.children for port in child.ports if port.direction == "output" for net in port.nets]
    registers = [each.output for each in gates.registers]
    cells = [net for cell in gates.cells for pin, net in cell.pins.items() if pin in cell.model.outputs]
    apart = {gates.clock_net, *registers}
    nets = dict.fromkeys(net for net in (*come, *cells) if isinstance(net, int) and net not in apart)
    return (*registers, *nets)


def _memories(gates: Gates) -> dict[Memory, tuple[Port, Port]]:
    """With their enables."""
    found = {}
    for child in gates.children:
        if child.module == SRAM_MODULE:
            ports = {port.name: port for port in child.ports}
            memory = Memory(child.name, child.parameters["DEPTH"], child.parameters["WIDTH"])
            found[memory] = (ports["r_en"], ports["w_en"])
    return found


@dataclass(frozen=True)
class _Verilog:
    """A counter of nets that Verilog has, of one instance of a module."""

    gates: Gates
    counter: Counter
    group_of: Sequence[int]
    marks: int
    clock: str

    @property
    def name(self) -> str:
        return f"{prefix(self.gates.name)}_count"

    def lines(self, naming: Naming) -> Iterator[str]:
        """In the module."""
        nets = Port("counted_nets", "output", self.counter.nets or ("0",))
        enables = [f"|{naming.vector(port)}" for ports in _memories(self.gates).values() for port in ports] or ["1'b0"]
        widths = len(nets.nets), len(enables)
        yield f'  import "DPI-C" function void {self.name}(input chandle counter, input bit [{widths[0] - 1}:0] nets,'
        yield f"    input bit [{widths[1] - 1}:0] ones);"
        yield f'  import "DPI-C" function chandle {self.name}_new(input int unsigned from, input int unsigned every);'
        yield f'  import "DPI-C" function void {self.name}_end(input chandle counter);'
        names = ("counted_nets", "counted_ones", "counter", "count_from", "count_every")
        values, ones, counter, begin, every = map(own, names)
        yield f"  wire [{widths[0] - 1}:0] {values} = {naming.vector(nets)};"
        joined = ", ".join(reversed(enables))
        yield f"  wire [{widths[1] - 1}:0] {ones} = {{{joined}}};"
        yield from f"""  chandle {counter};
  integer {begin}, {every};
  initial begin
    if (!$value$plusargs("count_from=%d", {begin})) {begin} = 0;
    if (!$value$plusargs("count_every=%d", {every})) {every} = 0;
    {counter} = {self.name}_new({begin}, {every});
  end
  final {self.name}_end({counter});
  always @(posedge {self.clock}) {self.name}({counter}, {values}, {ones});""".split("\n")

    def cpp(self, config: bool = False) -> str:
        """Its functions. config: they set what the slice in the same file counts."""
        counter = self.counter
        table = ", ".join(map(str, self.group_of)) or "0"
        first = "counting = {from, every}; " if config else ""
        arguments = (f"{{from, every}}, {counter.stream}, {self.marks}, {len(counter.nets)}, 0, {len(self.group_of)}, "
                     f"{self.name}_groups, {len(counter.groups)}, {2 * len(counter.memories)}")
        return f"""static const std::uint32_t {self.name}_groups[] = {{{table}}};
extern "C" {{
void* {self.name}_new(unsigned from, unsigned every) {{ {first}return new BitTally({arguments}); }}
void {self.name}(void* counter, const svBitVecVal* nets, const svBitVecVal* ones) {{
    static_cast<BitTally*>(counter)->clock(nets, ones);
}}
void {self.name}_end(void* counter) {{ delete static_cast<BitTally*>(counter); }}
}}
"""


def counted_module(gates: Gates, stream: int, marks: int, above: Gates | None = None
                   ) -> tuple[list[str], str, list[Counter]]:
    """A module as Verilog that counts.

    Args:
        marks: stream of the event log. above: the module that it is in; one without a clock counts by that one's.

    Returns:
        Lines of Verilog, C++, and what is counted.

    Raises:
        BenchError: neither has a clock.
    """
    if gates.clock:
        clock = identifier(gates.clock)
    elif above is not None and above.clock:
        clock = f"{identifier(above.name)}.{identifier(above.clock)}"  # such a name is looked for upwards
    else:
        raise BenchError(f"{gates.name} has no clock to count by, nor has what it is in")
    groups = _Groups.of_gates(gates)
    counter = Counter(gates.name, stream, 0, _driven(gates), tuple(groups.names), tuple(_memories(gates)))
    made = _Verilog(gates, counter, groups.of, marks, clock)
    return list(module_verilog(gates, made.lines)), _RUNTIME.read_text() + made.cpp(), [counter]


def counted_slice(whole: Slice, instances: int, stream: int, marks: int) -> tuple[list[str], str, list[Counter]]:
    """A slice that counts, as `counted_module`."""
    counters = [Counter(whole.gates.name, stream, 0, _in_shell(whole), (), tuple(_memories(whole.gates)))]
    shell = _Verilog(whole.gates, counters[0], (), marks, identifier(whole.gates.clock))
    counted = {}
    for each, count in ((whole, instances),
                        *((inner, instances * sum(child.module == name for child in whole.inside))
                          for name, inner in whole.inner.items())):  # fmt: skip
        groups = _Groups.of_gates(each.gates)
        counters.append(Counter(each.gates.name, stream + len(counters), count, each.counted, tuple(groups.names)))
        members = list(_members(each, counters[-1], groups, marks))
        counted[each.gates.name] = members
    before = _RUNTIME.read_text() + "namespace { Counting counting; }\n"
    cpp = slice_cpp(whole, instances, before, shell.cpp(config=True), counted)
    return list(shell_verilog(whole, shell.lines)), cpp, counters


def _in_shell(whole: Slice) -> tuple[int, ...]:
    """Nets of the cells that the shell alone has."""
    inside = set(whole.counted)
    nets = [net for cell in whole.through for pin, net in cell.pins.items() if pin in cell.model.outputs]
    return tuple(net for net in dict.fromkeys(nets) if isinstance(net, int) and net not in inside)


def _members(whole: Slice, counter: Counter, groups: _Groups, marks: int) -> Iterator[str]:
    """Of the slice's struct, in the order of `Slice.counted`; `count` is called when all gates have settled."""
    sizes = {"in": len(whole.inputs), "q": len(whole.gates.registers), "x": len(whole.between), "n": len(whole.driven)}
    number = len(groups.names)
    yield from (f"Tally<W, {size}> {name}_tally;" for name, size in sizes.items())
    yield f"Tally<W, {number}, true> group_tally;"
    yield f"W x[{max(1, sizes['x'])}], changed[{max(1, number)}];"
    yield "Spans spans;"
    table = ", ".join(map(str, groups.of)) or "0"
    yield f"static constexpr std::uint32_t GROUPS[] = {{{table}}};"
    yield "void count() {"
    yield "  std::memset(changed, 0, sizeof changed);"
    yield f"  for (int k = 0; k < {sizes['q']}; ++k) changed[GROUPS[k]] |= q[k] ^ d[k];"
    yield from (f"  x[{k}] = {whole.places[net]};" for k, net in enumerate(whole.between))
    yield from (f"  {name}_tally.add({name}, lanes);" for name in sizes)
    yield "  group_tally.add(changed, lanes);"
    yield f"  const Spans::At at = spans.clock(counting, {marks});"
    yield "  if (at == Spans::At::BEGINS) {"
    yield from (f"    {name}_tally.clear();" for name in (*sizes, "group"))
    yield "  } else if (at == Spans::At::ENDS) {"
    yield "    std::vector<std::uint32_t> words(1);"
    yield from (f"    {name}_tally.take(words);" for name in (*sizes, "group"))
    yield f"    record({counter.stream}, spans, words);"
    yield "  }"
    yield "}"

