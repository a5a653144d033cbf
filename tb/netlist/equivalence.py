# SPDX-License-Identifier: Apache-2.0
"""Whether a mapped netlist does what the RTL does: proved, module by module, with registers cut.

The RTL is read by Yosys and taken apart without optimisation (`nncosim.tb.netlist.rtl`); the netlist is what
simulations with gates are built from, its cells the functions of the liberty file. Registers keep their names, so that
equal outputs and equal next values of all registers, whatever they hold, make the modules equal in every cycle
(`nncosim.tb.netlist.relation`, also for registers that the netlist has not). Memories and modules that the netlist
keeps as modules are cut out of both.

Products of two wide operands are beyond SAT. If they are not proved in the time that is allowed, the RTL's are taken
apart by Yosys' Booth encoding, as the netlist's were; that such a product is one is then shown by vectors only.
"""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.netlist.circuit import Circuit, netlist_circuit, rtl_circuit, wires_of
from nncosim.tb.netlist.decide import Decided, decide, try_more
from nncosim.tb.netlist.gates import Gates
from nncosim.tb.netlist.mapping import Part, mapped, mapped_file, unpacked
from nncosim.tb.netlist.relation import Pair, Relation, relate
from nncosim.tb.netlist.rtl import rtl_modules
from nncosim.tb.netlist.wrong import WrongGate, made_wrong
from nncosim.tb.system.cache import content_key, obtain
from nncosim.tb.timing.liberty import require_liberty

__all__ = ["DIFFERS", "EQUAL", "NOT_PROVED", "VECTORS", "Difference", "Equivalence", "compare", "part_equivalence"]

EQUAL, DIFFERS, NOT_PROVED = "equal", "differs", "not proved"
VECTORS = "equal, products by vectors"
"""Proved with products taken apart alike; that they are products is shown by vectors."""
SECONDS = 60
"""Of CPU time, of a call of ABC."""


@dataclass(frozen=True)
class Difference:
    """An output or register whose next value differs. assignment: of what it depends on, of both; empty if it is not
    known."""

    name: str
    assignment: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Equivalence:
    """What is known of a module.

    Attributes:
        cells, flip_flops: of the netlist. points: pairs of functions, outputs and registers. proved: of these.
        how: pairs proved by each method. claims: registers that mapping removed, by what became of them.
        unread, missing: RTL registers of which the netlist has nothing, that nothing depends on, and others.
        unexplained: flip-flops that the RTL has not.
        unsettled: claims that reset does not make true. unproved: pairs of which nothing is known.
    """

    module: str
    verdict: str
    cells: int
    flip_flops: int
    points: int
    proved: int
    how: Mapping[str, int]
    claims: Mapping[str, int]
    unread: int = 0
    missing: tuple[str, ...] = ()
    unexplained: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    seconds: float = 0.0


def compare(rtl: Circuit, gates: Circuit, seconds: int = SECONDS, booth: Circuit | None = None) -> Equivalence:
    """Prove that two modules are equal, or not.

    Args:
        seconds: of each call of ABC, at most. booth: the RTL with wide products taken apart as in the netlist.

    Raises:
        BenchError: their ports or instances are not the same.
    """
    start = time.monotonic()
    relation = relate(rtl, gates)
    pairs = [pair for pair, _ in relation.pairs()]
    functions = [(pair.rtl, pair.gates) for pair in pairs]
    if booth is not None and len(booth.gates) == len(rtl.gates):
        booth = None  # there is no such product
    decided = decide(relation.graph, functions, seconds, easy=booth is not None)
    if booth is not None and None in decided.equal:
        try_more(relation.graph, functions, decided)
        _with_booth(decided, relation, relate(booth, gates), pairs, seconds)
    claims = set(relation.claims())
    unsettled = sorted(each.name for each in claims - relation.settled(seconds)) if claims else []
    return _reported(relation, pairs, decided, Counter(each.kind for each in claims), unsettled,
                     time.monotonic() - start)


def _reported(relation: Relation, pairs: list[Pair], decided: Decided, claims: Mapping[str, int], unsettled: list[str],
              seconds: float) -> Equivalence:
    nodes = {literal >> 1: name for name, literal in relation.variables.items()}
    differences = tuple(
        Difference(pairs[index].name, {nodes[node]: value for node, value in decided.witness[index].items()})
        for index, equal in enumerate(decided.equal) if equal is False)
    unproved = tuple(pair.name for pair, equal in zip(pairs, decided.equal, strict=True) if equal is None)
    how = dict(Counter(way for way, equal in zip(decided.how, decided.equal, strict=True) if equal))
    verdict = DIFFERS if differences else NOT_PROVED if unproved or unsettled else VECTORS if _BOOTH in how else EQUAL
    read, gates = relation.read_free(pairs), relation.gates
    return Equivalence(
        gates.name, verdict, len(gates.gates) + len(gates.flops), len(gates.flops), len(pairs), sum(how.values()), how,
        dict(claims), len(relation.free) - len(read), tuple(read) if verdict in (DIFFERS, NOT_PROVED) else (),
        tuple(gates.flops[net].names[0] for net in relation.unexplained), tuple(unsettled), unproved, differences,
        round(seconds, 1))


_BOOTH = "SAT, products alike"


def _with_booth(decided: Decided, relation: Relation, alike: Relation, pairs: list[Pair], seconds: int) -> None:
    """Decide what is left of pairs. alike: the relation of RTL with products as the netlist's."""
    found = {_key(pair): pair for pair, _ in alike.pairs()}
    left = [index for index, equal in enumerate(decided.equal) if equal is None and _key(pairs[index]) in found]
    functions = [(found[key].rtl, found[key].gates) for key in (_key(pairs[index]) for index in left)]
    again = decide(alike.graph, functions, seconds)
    names = {literal >> 1: name for name, literal in alike.variables.items()}
    for place, (index, equal) in enumerate(zip(left, again.equal, strict=True)):
        if equal:
            decided.equal[index], decided.how[index] = True, _BOOTH
        elif equal is False:
            witness = {relation.variables[names[node]] >> 1: value for node, value in again.witness[place].items()}
            one, two = relation.graph.evaluate(witness, [pairs[index].rtl, pairs[index].gates], 1)
            if one != two:
                decided.equal[index], decided.witness[index] = False, witness


def _key(pair: Pair) -> tuple[str, bool]:
    return pair.name, pair.output


def part_equivalence(part: Part, liberty: Path, modules: Collection[str] = (), seconds: int = SECONDS,
                     wrong: WrongGate | None = None) -> dict[str, Equivalence]:
    """Modules of a part's netlist against the RTL, by name; or found done before.

    Args:
        modules: which, with those in them that are kept as modules; all if there are none.
        wrong: a gate of the netlist that is to be so, to show that it is seen.

    Raises:
        BenchError, ToolCrash: as `nncosim.tb.netlist.mapping.mapped`, `nncosim.tb.netlist.rtl.rtl_modules`,
            `nncosim.tb.netlist.wrong.made_wrong` and `compare`.
        ToolError: no such cell library.
    """
    require_liberty(liberty)
    netlist = mapped_file(part, liberty)
    sources = [text for pair in part.sources.items() for text in pair]
    own = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    read = functools.cache(lambda: _Read(_gates(part, liberty, wrong), unpacked(netlist),
                                         rtl_modules(part), rtl_modules(part, booth=True)))
    names = [name for name, module in unpacked(netlist).items() if not module["attributes"].get("blackbox")]
    found = {}
    for name in names:
        if modules and not any(name == each or name.startswith(f"{each}.") for each in modules):
            continue

        def fill(folder: Path, name: str = name) -> None:
            each = read()
            compared = compare(rtl_circuit(name, each.rtl[name]), netlist_circuit(each.gates[name],
                               wires_of(each.netlist[name])), seconds, rtl_circuit(name, each.booth[name]))
            (folder / "equivalence.json").write_text(json.dumps(asdict(compared)))

        key = content_key(["equivalence", name, str(seconds), liberty.read_bytes(), netlist.read_bytes(), part.top,
                           *part.cut, *part.kept, *sources, *own,
                           *([repr(wrong)] if wrong is not None and name == wrong.module else [])])  # fmt: skip
        found[name] = _from_json(json.loads((obtain(key, fill, "netlists") / "equivalence.json").read_text()))
    return found


def _gates(part: Part, liberty: Path, wrong: WrongGate | None) -> Mapping[str, Gates]:
    models = cell_models(liberty)
    found = mapped(part, liberty, models)
    return found if wrong is None else {**found, wrong.module: made_wrong(found, models, wrong)}


class _Read(NamedTuple):
    gates: Mapping[str, Gates]
    netlist: Mapping[str, Any]
    rtl: Mapping[str, Any]
    booth: Mapping[str, Any]


def _from_json(entry: Mapping[str, Any]) -> Equivalence:
    differences = tuple(Difference(**each) for each in entry["differences"])
    lists = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    return Equivalence(**{**entry, **lists, "differences": differences})
