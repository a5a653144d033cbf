# SPDX-License-Identifier: Apache-2.0
"""Single wrong gates, one at a time, over all blocks of the netlist: does digits, or a layer, notice?

    python -m nncosim.regress.netlist.wrong_gates --platform j3dai --count 50 --seed 0 --json found.json

A wrong gate computes what another cell of the same pins does, in one instance of its module only. They are chosen at
random, blocks in turn, and are all in one simulation; which one is wrong is said when a run begins. The RTL runs beside
the gates, and says in which block a register differs first; whether a wrong gate is noticed, results alone decide:
tensors, cycles, and what the host reads of counters, also of those that the bench has given values to begin with.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from nncosim.compiler.compile import Compiled
from nncosim.hdl.j3dai.soc import CLUSTER_MODULE
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.cases import random_inputs
from nncosim.regress.harness import compile_case, compile_digits, digits_images
from nncosim.regress.j3dai_first_difference import FIRST
from nncosim.regress.j3dai_target import simulation
from nncosim.regress.netlist.loaded_counters import COUNTERS, LOADED, counters_apart, counters_said
from nncosim.tb.backend import Entering, Frame, RunResult
from nncosim.tb.cli.main import invoke
from nncosim.tb.cli.options import json_option, platform_option, resolve_platform, seed_option, write_json
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai.build import soc_verilog
from nncosim.tb.j3dai.netlist import (
    BLOCKS,
    CORE_BLOCK,
    TOP_BLOCK,
    block_of,
    block_parts,
    build_with_names,
    lane_of,
    soc_modules,
)
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.netlist.equivalence import part_equivalence
from nncosim.tb.netlist.gates import Cell, Gates, Net
from nncosim.tb.netlist.wrong import WrongGate, random_gates
from nncosim.tb.sim.verilate import BuiltModel
from nncosim.tb.timing.sta import OSU018

__all__ = ["Found", "Network", "choose", "first_register", "judge", "main", "networks", "reached"]

LONG = ("gemm_7x7x320", "conv1x1_128")
"""Single layers of 113,000 and 266,000 cycles on two small clusters, for upper bits of counters: last."""


class Network(NamedTuple):
    """A compiled network with inputs, how they come in, and what is right: the inferences on the RTL."""

    name: str
    compiled: Compiled
    inputs: Sequence[Mapping[str, np.ndarray]]
    entering: Entering
    right: Sequence[Frame]


class Found(NamedTuple):
    """What came of a wrong gate.

    Attributes:
        network, said: the one that noticed, and what it said; "" and "" if none did.
        first: the first register that is not as in the RTL beside it, in the network that noticed; if none did, in any;
            "" if none is. register_of: its block.
        reaches: registers and outputs that depend on the gate within a cycle; of one that nothing noticed.
        proved: which of them is shown to differ from the RTL by `nncosim.tb.netlist.equivalence`; of the same.
    """

    block: str
    gate: WrongGate
    network: str
    said: str
    first: str
    register_of: str
    reaches: Sequence[str]
    proved: str

    @property
    def text(self) -> str:
        """A line: what was noticed; or why nothing can have been."""
        head = f"{self.block:8} {self.gate}: "
        if self.network:
            return f"{head}{self.network}: {self.said}; first: {self.first or 'no register is wrong'}"
        what = f"only beside the RTL: {self.first}" if self.first else "NOT NOTICED: no register is ever wrong"
        more = f" and {len(self.reaches) - 3} more" if len(self.reaches) > 3 else ""
        return (f"{head}{what}; it goes to {', '.join(self.reaches[:3])}{more}; "
                f"equivalence: {self.proved or 'NOTHING'} differs")


def networks(platform: J3dai, names: Sequence[str] = (*FIRST, *LONG)) -> list[Network]:
    """Digits, and two of them over the entry port, and single layers."""
    compiled = compile_digits(platform)
    found = [("digits", compiled, digits_images(compiled, 7), Entering()),
             ("digits over the entry port", compiled, digits_images(compiled, 301, 7), Entering(bus=True))]  # fmt: skip
    for name in names:
        case = compile_case(name, 0, platform)
        found.append((name, case, [random_inputs(case.network, 1)], Entering()))
    return [Network(*each, _run(simulation(platform), platform, *each[1:]).frames) for each in found]


def _run(built: BuiltModel, platform: J3dai, compiled: Compiled, inputs: Sequence[Mapping[str, np.ndarray]],
         entering: Entering, plusargs: Sequence[str] = (), twins: Mapping[str, Sequence[str]] | None = None
         ) -> RunResult:
    return run_built(built, platform, compiled.image.to_bytes(), inputs, driver="direct", seed=1, entering=entering,
                     limit_cycles=4 * len(inputs) * compiled.iss_cycles, plusargs=plusargs, twins=twins)  # fmt: skip


def choose(platform: J3dai, count: int, seed: int) -> list[tuple[str, WrongGate]]:
    """Gates at random, blocks in turn, each with its block; none of the top, whose cells are of probes for benches, and
    none of the host's core, whose design is not ours to test."""
    modules = soc_modules({name: str(text) for name, text in soc_verilog(platform).items()})
    blocks = {block: [name for name, gates in modules.items() if gates.cells and block_of(name) == block]
              for block in BLOCKS if block not in (TOP_BLOCK, CORE_BLOCK)}  # fmt: skip
    models = cell_models(OSU018)
    found = []
    for number in range(count):
        block = list(blocks)[number % len(blocks)]
        gate, = random_gates(modules, models, blocks[block], 1, seed * 10_007 + number)
        found.append((block, gate))
    return found


def plusargs_of(number: int, lane: int) -> tuple[str, ...]:
    """What lets gate `number` of instance `lane` be wrong."""
    return (f"wrong_gate={number}", f"wrong_lane={lane}")


def judge(built: BuiltModel, platform: J3dai, number: int, lane: int, over: Sequence[Network],
          twins: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The first network that notices gate `number` in instance `lane`, and what it says."""
    plusargs = plusargs_of(number, lane)
    for network in (each for each in over if each.name not in LONG):
        if said := _noticed(built, platform, network, plusargs):
            return network.name, said
    if found := counters_said(built, platform, plusargs, twins):
        return found
    for network in (each for each in over if each.name in LONG):
        if said := _noticed(built, platform, network, plusargs):
            return network.name, said
    return "", ""


def _noticed(built: BuiltModel, platform: J3dai, network: Network, plusargs: Sequence[str]) -> str:
    """What a network says of a wrong gate; "" if nothing."""
    try:
        run = _run(built, platform, network.compiled, network.inputs, network.entering, plusargs)
    except BenchError as error:
        return str(error).splitlines()[0]
    said = run.diagnosis.text if run.diagnosis is not None else next(
        filter(None, (_difference(*each) for each in zip(network.right, run.frames, strict=True))), "")
    return said.splitlines()[0] if said else ""


def first_register(built: BuiltModel, platform: J3dai, plusargs: Sequence[str], over: Sequence[Network],
                   twins: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The first register that is not as in the RTL, in the first network where one is, the images that stream in last,
    and its block; "" and ""."""
    for network in over:
        try:
            run = _run(built, platform, network.compiled, network.inputs, network.entering, plusargs, twins)
        except BenchError:  # a monitor has stopped it, and nothing was read
            continue
        if (found := _first(run.diagnosis.text.splitlines() if run.diagnosis else [])) != ("", ""):
            return found
    return _first(counters_apart(built, platform, plusargs, twins))


def _first(lines: Sequence[str]) -> tuple[str, str]:
    for line in lines:
        if found := re.fullmatch(r"(cycle \d+): (\S+), lane \d+: (.+) is ., in the RTL .", line):
            group = "ncb" if found[2] == CLUSTER_MODULE and re.match(r"group\d+\.", found[3]) else ""
            return f"{found[1]}, {found[2]}: {found[3]}", group or block_of(found[2])
    return "", ""


def reached(gates: Gates, cell: str) -> list[str]:
    """Registers, outputs and inputs of instances that depend on a cell's output within a cycle, by name."""
    ends: dict[Net, list[str]] = {}
    for register in gates.registers:
        ends.setdefault(register.data, []).append(register.name)
    for where, ports in (("", gates.ports), *((f"{child.name}.", child.ports) for child in gates.children)):
        for port in (port for port in ports if (port.direction == "output") != bool(where)):
            for net in port.nets:
                ends.setdefault(net, []).append(f"{where}{port.name}")
    users: dict[Net, list[Cell]] = {}
    for each in gates.cells:
        for pin, net in each.pins.items():
            if pin not in each.model.outputs:
                users.setdefault(net, []).append(each)
    pending, nets, found = [each for each in gates.cells if each.name == cell], set(), dict[str, None]()
    while pending:
        at = pending.pop()
        for net in (at.pins[pin] for pin in at.model.outputs if pin in at.pins and at.pins[pin] not in nets):
            nets.add(net)
            found |= dict.fromkeys(ends.get(net, ()))
            pending += users.get(net, ())
    return list(found)


def proved_different(platform: J3dai, gate: WrongGate) -> str:
    """A register or output that the proof of equivalence finds to differ from the RTL for a wrong gate; "" if none."""
    sources = {name: str(text) for name, text in soc_verilog(platform).items()}
    (part,) = block_parts(sources, (block_of(gate.module),))
    found = part_equivalence(part, OSU018, (gate.module,), wrong=gate)[gate.module]
    return found.differences[0].name if found.differences else ""


def _difference(right: Frame, frame: Frame) -> str:
    wrong = [name for name, values in right.tensors.items() if not np.array_equal(values, frame.tensors[name])]
    if wrong:
        return f"{wrong[0]} is wrong"
    if frame.cycles != right.cycles:
        return f"{frame.cycles} cycles, not {right.cycles}"
    steps = [k for k, (a, b) in enumerate(zip(right.intervals, frame.intervals, strict=True)) if a != b]
    if steps:
        return f"cycles or counters of step {steps[0]} are wrong"
    return "" if right.passages == frame.passages else "the entry port's cycles are wrong"


def _judged(platform: J3dai, count: int, seed: int) -> Iterator[Found]:
    chosen, over = choose(platform, count, seed), networks(platform)
    modules = soc_modules({name: str(text) for name, text in soc_verilog(platform).items()})
    built, twins = build_with_names(platform, tuple(BLOCKS), wrong=tuple(gate for _, gate in chosen), beside_rtl=True)
    for number, (block, gate) in enumerate(chosen):
        lane = lane_of(platform, block, number)
        network, said = judge(built, platform, number, lane, over, twins)
        short = network in ("", COUNTERS)  # where results say nothing, the long layers are not run again
        shown = [each for each in over if (short and each.name not in LONG) or each.name == network]
        first, where = first_register(built, platform, plusargs_of(number, lane), shown, twins)
        if network == LOADED:  # the RTL's are not loaded; what the host reads wrong has its module
            first, where = said, block_of(said.split(",")[0]) if ", lane " in said else ""
        yield Found(block, gate, network, said, first, where,
                    [] if network else reached(modules[gate.module], gate.cell),
                    "" if network else proved_different(platform, gate))  # fmt: skip


@click.command("wrong_gates")
@platform_option
@click.option("--set", "settings", multiple=True, metavar="PARAMETER=VALUE", help="Of the platform; may be repeated.")
@click.option("--count", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="Gates.")
@seed_option("the choice of gates")
@json_option
def _command(
    platform_name: str | None, settings: tuple[str, ...], count: int, seed: int, json_file: Path | None
) -> int:
    """Which wrong gates digits and single layers notice. Exit status: 0, 2 bad input."""
    platform, _ = resolve_platform(platform_name, settings)
    if not isinstance(platform, J3dai):
        raise BenchError(f"platform {platform.name!r} has no netlist; j3dai has")
    found = []
    for each in _judged(platform, count, seed):
        click.echo(each.text)
        found.append(each)
    noticed = [each for each in found if each.network]
    beside = [each for each in found if each.first and not each.network]
    known = [each for each in found if each.first]
    named = sum(each.register_of == each.block for each in known)
    rest = [each for each in found if not each.network and not each.first]
    loaded = sum(each.network == LOADED for each in noticed)
    click.echo(f"{len(noticed)} of {len(found)} are noticed by results, {loaded} of them by counters that the bench "
               f"has loaded, {len(beside)} more beside the RTL; of the "
               f"other {len(rest)} equivalence sees {sum(bool(each.proved) for each in rest)}\n"
               f"{named} of the {len(known)} first registers are of the gate's block")
    write_json({"gates": [{**each._asdict(), "gate": str(each.gate), "reaches": list(each.reaches)} for each in found],
                "noticed": len(noticed), "loaded": loaded, "beside_the_rtl": len(beside), "named": named,
                "proved": sum(bool(each.proved) for each in rest)}, json_file)  # fmt: skip
    return 0


def main() -> None:
    """The command."""
    sys.exit(invoke(command=_command, name="wrong_gates"))


if __name__ == "__main__":
    main()
