# SPDX-License-Identifier: Apache-2.0
"""Digits with all blocks as gates: the bits and cycles of the RTL; and whoever runs it notices what is wrong."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nncosim.hdl.cv32e40p import CORE
from nncosim.regress.harness import ComparedRun, compile_digits, digits_images, run_compiled
from nncosim.regress.netlist.loaded_counters import LOADED, counters_said
from nncosim.regress.netlist.machines import SMALL, gates
from nncosim.tb.j3dai.build import soc_verilog
from nncosim.tb.j3dai.netlist import BLOCKS, build_netlist, build_with_names, soc_gates, soc_modules
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.netlist.gates import Gates
from nncosim.tb.netlist.wrong import WrongGate, other_kinds
from nncosim.tb.sim.verilate import BuiltModel
from nncosim.tb.timing.sta import OSU018

IMAGES = (7, 301)


def digits(backend: str, driver: str | None = None, seed: int = 0) -> ComparedRun:
    compiled = compile_digits(SMALL)
    return run_compiled(compiled, backend, driver, seed=seed, inputs=digits_images(compiled, *IMAGES))


@pytest.mark.parametrize("driver", ["direct", "cocotb"])
def test_digits_as_on_rtl(driver: str, seed: int) -> None:
    ours, theirs = digits("netlist", driver, seed), digits("rtl", "direct", seed)
    assert ours.problems() == []
    for a, b in zip(ours.result.frames, theirs.result.frames, strict=True):
        assert a.tensors.keys() == b.tensors.keys()
        assert [name for name in a.tensors if not np.array_equal(a.tensors[name], b.tensors[name])] == []
        assert (a.cycles, a.intervals) == (b.cycles, b.intervals)


def notices(built: BuiltModel, plusargs: Sequence[str] = (), seed: int = 1) -> str:
    """What a run of digits on a netlist finds, "" if nothing."""
    compiled = compile_digits(SMALL)
    images = digits_images(compiled, IMAGES[0])
    run = run_built(built, SMALL, compiled.image.to_bytes(), images, driver="direct", seed=seed,
                    limit_cycles=4 * compiled.iss_cycles, plusargs=plusargs)  # fmt: skip
    if run.diagnosis is not None:
        return run.diagnosis.text
    right = run_compiled(compiled, "iss", inputs=images).result.frames[0]
    wrong = [name for name, values in right.tensors.items() if not np.array_equal(values, run.frames[0].tensors[name])]
    return ", ".join(wrong) or ("" if run.frames[0].cycles == compiled.iss_cycles else f"{run.frames[0].cycles} cycles")


@pytest.fixture(scope="module")
def another_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cells under other names."""
    liberty = tmp_path_factory.mktemp("library") / "other.lib"
    liberty.write_text(re.sub(r"\bcell \((\w+)\)", r"cell (MY_\1)", OSU018.read_text()))
    return liberty


def test_a_wrong_cell_model_is_noticed(another_library: Path) -> None:
    """A NAND of three inputs that computes a NOR, in the NCBs; the right ones are built for the other test too."""
    models = cell_models(OSU018)
    models["NAND3X1"] = replace(models["NAND3X1"], outputs=models["NOR3X1"].outputs)
    assert notices(build_netlist(SMALL, ("ncb",), another_library, quick=True)) == ""
    assert notices(build_netlist(SMALL, ("ncb",), models=models, quick=True))


@functools.cache
def core_with_wrong_gates() -> tuple[BuiltModel, Sequence[str]]:
    """And which can be wrong: each one before a bit of the state of the core's controller."""
    module = soc_modules({name: str(text) for name, text in soc_verilog(SMALL).items()}, blocks=("core",))[CORE]
    drivers = {cell.pins[pin]: cell for cell in module.cells for pin in cell.model.outputs if pin in cell.pins}
    data = [drivers[each.data].pins["D"] for each in module.registers if "ctrl_fsm_cs" in each.name]
    before = [drivers[net].name for net in data if net in drivers]  # some bits never change
    return build_netlist(SMALL, ("core",), quick=True, wrong=[WrongGate(CORE, name) for name in before]), before


def test_a_core_without_its_reset_is_noticed() -> None:
    """Flip-flops with a clear that do not look at it."""
    models = cell_models(OSU018)
    flip_flop = models["DFFSR"].flip_flop
    assert flip_flop is not None and flip_flop.next
    models["DFFSR"] = replace(models["DFFSR"], flip_flop=replace(flip_flop, next=""))
    assert notices(core_with_wrong_gates()[0]) == ""
    assert "host" in notices(build_netlist(SMALL, ("core",), models=models, quick=True))


def test_a_wrong_gate_of_the_core_is_noticed() -> None:
    """By turns."""
    built, before = core_with_wrong_gates()
    assert len(before) > 3
    assert notices(built) == ""
    assert [name for number, name in enumerate(before) if not notices(built, [f"wrong_gate={number}"])] == []


def test_gates_of_another_library(another_library: Path) -> None:
    """Nothing is known of a cell but what the file says."""
    sources = {name: str(text) for name, text in soc_verilog(SMALL).items()}
    cells = [cell.model.name for cell in soc_modules(sources, another_library, ("ncb",))["j3dai_ncb_group"].cells]
    assert cells and all(name.startswith("MY_") for name in cells)
    assert notices(build_netlist(SMALL, ("ncb",), another_library, quick=True)) == ""


def test_a_dropped_reset_is_noticed() -> None:
    """The flip-flop that says that a cluster runs, mapped from RTL in which reset does not reach it."""
    rtl = {name: str(text) for name, text in soc_verilog(SMALL).items()}
    text = rtl["j3dai_cluster.v"]
    begin = text.index("module \\j3dai_cluster.controller ")
    controller = text[begin:text.index("endmodule", begin)]
    (following,) = re.findall(r"(_\d+_) = running;", controller)
    wrong, count = re.subn(rf"(if \(rst\) begin\s+){following} = 1'h0;", rf"\1{following} = running;", controller)
    assert count == 1
    of_gates = {**rtl, "j3dai_cluster.v": text.replace(controller, wrong)}
    built = build_netlist(SMALL, ("cluster", "ncb"), of_gates=of_gates, quick=True)
    assert any(notices(built, seed=seed) for seed in range(8))  # half of the clusters are right by chance


WRONG_IN = {
    "dmpa": "j3dai_soc.dmpa", "control": "j3dai_soc.control", "l2": "j3dai_soc.l2.bank0", "cluster": "j3dai_cluster",
    "ncb": "j3dai_ncb_group"}
"""Blocks, and modules of theirs in which gates are wrong."""


GATES = 5  # of each block, at most
HIGH = [(module, f"{name}[{bit}]") for bit in (29, 30) for module, name in (
    ("j3dai_soc.dmpa", "transfer_counters.store_words"), ("j3dai_soc.host", "counter.busy"))]  # fmt: skip
"""Bits of counters that no run reaches, each with its module."""


@functools.cache
def with_wrong_gates() -> tuple[BuiltModel, Mapping[str, Sequence[str]], Sequence[tuple[str, WrongGate, str]]]:
    """All blocks as gates with the RTL beside them; names of registers; gates that can be wrong, each with its module
    and the register that it leads to: those of `HIGH` last. It runs some fifty times, so it is compiled for that."""
    models = cell_models(OSU018)
    modules = soc_modules({name: str(text) for name, text in soc_verilog(SMALL).items()})
    chosen = [(module, WrongGate(module, gate), register) for module in WRONG_IN.values()
              for gate, register in before_registers(modules[module])[::-1][:GATES]]  # fmt: skip
    for module, register in HIGH:
        net = {each.name: each.data for each in modules[module].registers}[register]
        (cell,) = [cell for cell in modules[module].cells if net in (cell.pins[pin] for pin in cell.model.outputs)]
        kinds = other_kinds(cell, models)
        chosen.append((module, WrongGate(module, cell.name, kinds[1 % len(kinds)]), register))
    built, twins = build_with_names(SMALL, tuple(BLOCKS), wrong=[gate for _, gate, _ in chosen], beside_rtl=True)
    return built, twins, chosen


def test_the_first_register_that_differs() -> None:
    """None; and with a wrong gate the register that it leads to, of its block."""
    built, twins, chosen = with_wrong_gates()
    compiled = compile_digits(SMALL)
    images = digits_images(compiled, *IMAGES)

    def said(*plusargs: str) -> list[str]:
        run = run_built(built, SMALL, compiled.image.to_bytes(), images, driver="direct", twins=twins,
                        plusargs=plusargs, limit_cycles=4 * compiled.iss_cycles)  # fmt: skip
        return [] if run.diagnosis is None else run.diagnosis.text.splitlines()

    assert said() == []
    told: Counter[str] = Counter()
    for number, (module, gate, register) in enumerate(chosen[:-len(HIGH)]):
        lines = said(f"wrong_gate={number}")
        if not lines or "cycle 0:" in lines[0]:  # it is not used, or a monitor stops the run before the first edge
            continue
        found = re.fullmatch(r"cycle \d+: (\S+), lane \d+: (.+) is ., in the RTL .", lines[1])
        assert found, lines
        assert found[1] == ("j3dai_cluster" if module == WRONG_IN["ncb"] else module), (gate, lines)
        assert re.sub(r"^group\d+\.", "", found[2]) == register, (gate, lines)
        told[module] += 1
    assert told.keys() == set(WRONG_IN.values())


def test_wrong_gates_of_counters_that_are_loaded() -> None:
    """Of the highest bits: some are noticed at once, the others by what the host reads of counters that begin high; and
    nothing by right gates."""
    built, twins, chosen = with_wrong_gates()
    assert counters_said(built, SMALL, (), twins) is None
    found: Counter[tuple[str, str]] = Counter()
    for number, (module, gate, register) in enumerate(chosen):
        if (module, register) in HIGH:
            what = counters_said(built, SMALL, (f"wrong_gate={number}",), twins)
            assert what is not None, gate
            if what[0] == LOADED:
                assert what[1].startswith(f"{module}, lane 0: "), (gate, what)
                assert re.split(r"[.\[]", register)[1].upper() in what[1], (gate, what)
            found[module, what[0]] += 1
    assert all(found[module, LOADED] for module, _ in HIGH), found


def before_registers(gates: Gates) -> list[tuple[str, str]]:
    """Gates whose output is the next value of a register, and nothing else; and the register's name. Not of counters,
    which a monitor adds up and says first, nor of the code that ends a run at once."""
    users = Counter(net for cell in gates.cells for pin, net in cell.pins.items() if pin not in cell.model.outputs)
    nexts = {each.data: each.name for each in gates.registers if not users[each.data]}
    outputs = [(cell.name, nexts.get(cell.pins[pin], "error")) for cell in gates.cells
               for pin in cell.model.outputs if pin in cell.pins]  # fmt: skip
    return [(name, register) for name, register in outputs if not re.search("count|error", register)]


@pytest.mark.parametrize("blocks", [
    ("cluster",), pytest.param(("dmpa", "l2"), marks=pytest.mark.slow),
    pytest.param(("host", "control", "entry"), marks=pytest.mark.slow)], ids="+".join)  # fmt: skip
def test_some_blocks_as_gates(blocks: tuple[str, ...]) -> None:
    assert notices(gates(*blocks)) == ""


def test_blocks_have_gates() -> None:
    made = soc_gates(SMALL, {name: str(text) for name, text in soc_verilog(SMALL).items()})
    modules = [modules[0] for modules in BLOCKS.values()]
    assert [name for name in modules if made.cells[name][0] < 100] == []
