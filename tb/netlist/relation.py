# SPDX-License-Identifier: Apache-2.0
"""Which register of the RTL each flip-flop of its netlist is, and the pairs of functions that are equal if the two
modules are.

A flip-flop keeps its register's name through mapping, and with equal values in both, what the registers take over next
must be equal, and all outputs. Mapping also removes registers. Their wires remain, and say what became of them:

- constant: a register that never leaves one value; duplicate: one that has always the value of another;
- retimed: the table that a register indexes is read a cycle earlier, and what it gives is kept instead of the index.
  The flip-flop is then that function of the RTL's registers, found by vectors.

Each such claim is a pair of its own (if all claims hold, they hold in the next cycle), and must come true by itself:
after some cycles of reset, whatever is in the registers before. A claim that is wrong makes pairs differ; it cannot
make equal what is not. RTL registers of which the netlist has nothing are free: pairs must be equal whatever they hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.aig import FALSE, TRUE, Aig
from nncosim.tb.netlist.circuit import Circuit, Logic
from nncosim.tb.netlist.decide import decide, vectors
from nncosim.tb.netlist.gates import Net

__all__ = ["Claim", "Pair", "Relation", "relate"]

_VECTORS = 4096
_CYCLES = 8
"""Of reset, after which claims must hold: more than registers stand behind each other without a reset of their own."""


@dataclass(frozen=True)
class Pair:
    """A function of the RTL and that of the netlist, literals. name: of an output, or of the register that takes it
    over, as `output` says."""

    name: str
    rtl: int
    gates: int
    output: bool = False


@dataclass(frozen=True)
class Claim:
    """What became of a register. kind: "constant", "duplicate" or "retimed". what: the value, the other register, or
    nothing."""

    kind: str
    name: str
    what: str = ""


@dataclass
class Relation:
    """Attributes:
        variables: label of an input, or name of a register, to its literal.
        owners: flip-flop of the netlist to the RTL's register.
        constants, duplicates: RTL register to its value, or to the register that it is equal to.
        retimed: flip-flop to the net of the RTL, and whether it is inverted.
        free: RTL registers that the netlist has not; unexplained: flip-flops that the RTL has not.
    """

    graph: Aig
    rtl: Circuit
    gates: Circuit
    variables: dict[str, int] = field(default_factory=dict)
    owners: dict[Net, Net] = field(default_factory=dict)
    constants: dict[Net, int] = field(default_factory=dict)
    duplicates: dict[Net, Net] = field(default_factory=dict)
    retimed: dict[Net, tuple[Net, bool]] = field(default_factory=dict)
    free: list[Net] = field(default_factory=list)
    unexplained: list[Net] = field(default_factory=list)
    _registers: dict[Net, int] = field(default_factory=dict)  # of the RTL: a variable each
    _flops: dict[Net, int] = field(default_factory=dict)  # likewise of those that only the netlist has

    def register(self, net: Net) -> str:
        """Name of an RTL register."""
        return self.rtl.flops[net].names[0]

    def claims(self) -> Iterator[Claim]:
        """All of them."""
        yield from (Claim("constant", self.register(net), str(value)) for net, value in self.constants.items())
        yield from (Claim("duplicate", self.register(net), self.register(of)) for net, of in self.duplicates.items())
        yield from (Claim("retimed", self.gates.flops[net].names[0]) for net in self.retimed)

    def pairs(self, held: frozenset[Claim] | None = None, reset: bool = False) -> Iterator[tuple[Pair, Claim | None]]:
        """Outputs, what registers take over next, and what claims say of it.

        Args:
            held: claims that are taken to hold; None: all. reset: whether the input ``rst`` is 1.
        """
        holds = {each.name for each in (self.claims() if held is None else held)}
        inputs = dict(self.variables)
        if reset and "rst[0]" in inputs:
            inputs["rst[0]"] = TRUE
        state = dict(self._registers)
        state |= {net: value for net, value in self.constants.items() if self.register(net) in holds}
        for net, of in self.duplicates.items():
            if self.register(net) in holds:
                state[net] = state[of]
        rtl = Logic(self.graph, self.rtl, {**self._given(self.rtl, inputs), **state})
        flops = {flop: state[register] for flop, register in self.owners.items()} | self._flops
        flops |= {flop: rtl(net) ^ inverted for flop, (net, inverted) in self.retimed.items()
                  if self.gates.flops[flop].names[0] in holds}
        gates = Logic(self.graph, self.gates, {**self._given(self.gates, inputs), **flops})
        yield from self._obligations(rtl, gates)

    def _obligations(self, rtl: Logic, gates: Logic) -> Iterator[tuple[Pair, Claim | None]]:
        after = {net: rtl(flop.data) for net, flop in self.rtl.flops.items()}
        for label, net in self.rtl.outputs.items():
            yield Pair(label, rtl(net), gates(self.gates.outputs[label]), True), None
        for flop, register in self.owners.items():
            yield Pair(self.register(register), after[register], gates(self.gates.flops[flop].data)), None
        for net, value in self.constants.items():
            name = self.register(net)
            yield Pair(name, after[net], value), Claim("constant", name, str(value))
        for net, of in self.duplicates.items():
            yield Pair(self.register(net), after[net], after[of]), Claim("duplicate", self.register(net),
                                                                         self.register(of))
        # What such a flip-flop holds is no function of inputs: whatever they are in the next cycle.
        fresh = {net: self.graph.input() for net in self.rtl.inputs.values()} if self.retimed else {}
        later = Logic(self.graph, self.rtl, {**fresh, **after})
        for flop, (net, inverted) in self.retimed.items():
            name = self.gates.flops[flop].names[0]
            yield Pair(name, later(net) ^ inverted, gates(self.gates.flops[flop].data)), Claim("retimed", name)

    @staticmethod
    def _given(circuit: Circuit, inputs: Mapping[str, int]) -> dict[Net, int]:
        return {net: inputs[label] for label, net in circuit.inputs.items()}

    def read_free(self, pairs: list[Pair]) -> list[str]:
        """Of the free registers, those that pairs depend on."""
        nodes = set(self.graph.cone([literal for pair in pairs for literal in (pair.rtl, pair.gates)])[0])
        return [self.register(net) for net in self.free if self._registers[net] >> 1 in nodes]

    def settled(self, seconds: int) -> frozenset[Claim]:
        """The claims that come true in reset, whatever the registers hold before."""
        held: frozenset[Claim] = frozenset()
        everything = set(self.claims())
        for _ in range(_CYCLES):
            if held == everything:
                break
            found = list(self.pairs(held, reset=True))
            todo = [index for index, (_, claim) in enumerate(found) if claim is not None and claim not in held]
            wanted = [*todo, *self._support(found, todo)]
            decided = decide(self.graph, [(found[index][0].rtl, found[index][0].gates) for index in wanted], seconds)
            equal = {found[index][0].name for index, true in zip(wanted, decided.equal, strict=True) if true}
            more = {claim for index in todo if (claim := found[index][1]) is not None and claim.name in equal
                    and (claim.kind != "retimed" or self._settles(claim.name, equal))}
            if not more:
                break
            held |= more
        return held

    def _support(self, found: list[tuple[Pair, Claim | None]], todo: list[int]) -> list[int]:
        """Pairs of the registers of which a retimed flip-flop is a function."""
        if not any(claim is not None and claim.kind == "retimed" for claim in (found[index][1] for index in todo)):
            return []
        names = {self.register(net) for flop in self.retimed for net in self._registers_of(flop)}
        return [index for index, (pair, claim) in enumerate(found) if claim is None and pair.name in names
                and not pair.output]

    def _settles(self, name: str, equal: set[str]) -> bool:
        flop = next(each for each in self.retimed if self.gates.flops[each].names[0] == name)
        return all(self.register(net) in equal or net in self.free or net in self.constants or net in self.duplicates
                   for net in self._registers_of(flop))

    def _registers_of(self, flop: Net) -> list[Net]:
        """The RTL registers of which a retimed flip-flop is a function."""
        given = {**self._given(self.rtl, self.variables), **self._registers}
        nodes = set(self.graph.cone([Logic(self.graph, self.rtl, given)(self.retimed[flop][0])])[0])
        return [net for net, literal in self._registers.items() if literal >> 1 in nodes]


def relate(rtl: Circuit, gates: Circuit) -> Relation:
    """Match registers and borders.

    Raises:
        BenchError: the two have other ports, or other instances of modules in them.
    """
    _same_border(rtl, gates)
    graph = Aig()
    made = Relation(graph, rtl, gates, {label: graph.input() for label in rtl.inputs})
    for net, register in rtl.flops.items():
        made._registers[net] = graph.input()
        made.variables.setdefault(register.names[0], made._registers[net])
        found = [gates.wires[name] for name in register.names if name in gates.wires]
        own = next((each for each in found if each in gates.flops), None)
        constant = next((each for each in found if each in ("0", "1")), None)
        if own is not None and own not in made.owners:
            made.owners[own] = net
        elif own is not None:
            made.duplicates[net] = made.owners[own]
        elif constant is not None:
            made.constants[net] = int(constant)
        else:
            made.free.append(net)
    alone = [flop for flop in gates.flops if flop not in made.owners]
    for flop in alone:
        made._flops[flop] = graph.input()
        made.variables.setdefault(f"netlist: {gates.flops[flop].names[0]}", made._flops[flop])
    if alone:
        made.retimed = _retimed(made, alone)
        made.unexplained = [flop for flop in alone if flop not in made.retimed]
    return made


def _same_border(rtl: Circuit, gates: Circuit) -> None:
    for what, one, two in (("input", rtl.inputs, gates.inputs), ("output", rtl.outputs, gates.outputs),
                           ("instance", rtl.instances, gates.instances)):  # fmt: skip
        apart = sorted(one.keys() ^ two.keys())
        if apart:
            only = "RTL" if apart[0] in one else "netlist"
            raise BenchError(f"{rtl.name}: only the {only} has the {what} {apart[0]}")
    for name, module in rtl.instances.items():
        if gates.instances[name] != module:
            raise BenchError(f"{rtl.name}: {name} is {module} in the RTL, and {gates.instances[name]} in the netlist")


def _retimed(relation: Relation, flops: list[Net]) -> dict[Net, tuple[Net, bool]]:
    """Flip-flops that hold what some net of the RTL is, a function of registers: the net that has, in each of many
    random next states, the value that the flip-flop takes over."""
    graph, rtl = relation.graph, relation.rtl
    inputs = relation._given(rtl, relation.variables)
    state = {**relation._registers, **relation.constants}
    for net, of in relation.duplicates.items():
        state[net] = state[of]
    before = Logic(graph, rtl, {**inputs, **state})
    given = {flop: state[register] for flop, register in relation.owners.items()} | relation._flops
    gates = Logic(graph, relation.gates, {**relation._given(relation.gates, relation.variables), **given})
    wanted = [gates(relation.gates.flops[flop].data) for flop in flops]
    nexts = [before(each.data) for each in rtl.flops.values()]
    words = graph.evaluate(vectors(graph, [*wanted, *nexts], _VECTORS), [*wanted, *nexts], _VECTORS)
    nets = list(rtl.gates)
    literals = [before(net) for net in nets]
    after = {relation._registers[net] >> 1: word
             for net, word in zip(rtl.flops, words[len(wanted):], strict=True)}
    of_inputs = graph.reached([relation.variables[label] >> 1 for label in rtl.inputs])
    ones = (1 << _VECTORS) - 1
    known: dict[int, Net] = {}
    for net, literal, word in zip(nets, literals, graph.evaluate(after, literals, _VECTORS), strict=True):
        if not of_inputs[literal >> 1] and literal not in (FALSE, TRUE):
            known.setdefault(word, net)
    found: dict[Net, tuple[Net, bool]] = {}
    for flop, word in zip(flops, words, strict=False):
        for inverted, value in ((False, word), (True, word ^ ones)):
            if value in known:
                found.setdefault(flop, (known[value], inverted))
    return found
