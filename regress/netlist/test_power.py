# SPDX-License-Identifier: Apache-2.0
"""What gates count, against a waveform of another simulator; what it costs, against OpenSTA; and both in a run."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.j3dai.soc import SOC_MODULE
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress.harness import compile_digits, digits_images, run_compiled
from nncosim.regress.netlist.machines import SMALL
from nncosim.regress.netlist.opensta_power import opensta_power
from nncosim.regress.netlist.toggles import counted, seen, stimuli, unit_gates
from nncosim.tb.j3dai.build import soc_verilog
from nncosim.tb.j3dai.netlist import BLOCKS, block_of, soc_modules
from nncosim.tb.j3dai.power import energy_run
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.netlist.sliced import Slice
from nncosim.tb.power.account import KINDS, Process
from nncosim.tb.power.gates import Wiring, module_energy
from nncosim.tb.power.run import EnergyRun
from nncosim.tb.power.tables import power_library
from nncosim.tb.timing.sta import OSU018

CYCLES, RESET, FIRST = 300, 8, 40
"""Of a unit: all its registers are known by the cycle `FIRST`, from which changes count."""


@pytest.mark.parametrize("unit", ["counters", "sequencer"])
def test_each_net_changes_as_often_as_in_a_waveform(unit: str, seed: int, tmp_path: Path) -> None:
    gates = unit_gates(unit)
    given = stimuli(gates, CYCLES, RESET, seed)
    ours, theirs = counted(gates, given, FIRST, tmp_path), seen(unit, gates, given, FIRST, tmp_path)
    assert theirs.keys() - ours.keys() == {gates.clock_net}
    assert {net: (count, theirs.get(net)) for net, count in ours.items() if count != theirs.get(net)} == {}
    assert sum(count > 0 for count in ours.values()) > len(ours) / 2 or unit == "counters"
    assert sum(ours.values()) > 1000


@pytest.mark.parametrize("wrong", ["dropped", "doubled", "no reset of what was counted before"])
def test_a_wrong_count_is_noticed(wrong: str, seed: int, tmp_path: Path) -> None:
    gates = unit_gates("counters")
    given = stimuli(gates, CYCLES, RESET, seed)
    right = seen("counters", gates, given, FIRST, tmp_path)
    whole = Slice(gates)
    net = next(net for net in whole.driven if isinstance(net, int) and right[net] > 1)
    at, word = whole.driven.index(net), 1 + whole.counted.index(net)
    change = {
        "dropped": (" n_tally.add(n, lanes);", f" n[{at}] = W{{}}; n_tally.add(n, lanes);"),
        "doubled": (" n_tally.take(words);", f" n_tally.take(words); words[{word}] *= 2;"),
        "no reset of what was counted before": (" n_tally.clear();", ""),
    }[wrong]
    found = counted(gates, given, FIRST, tmp_path, change)
    differ = [each for each, count in found.items() if count != right.get(each)]
    assert differ == [net] if wrong.startswith("d") else len(differ) > 1


@pytest.mark.parametrize("unit", ["counters", "sequencer", "pe_column"])
def test_energies_as_opensta_has_them(unit: str, tmp_path: Path) -> None:
    """Of one change of every net. Both interpolate the same tables between the same points; only how changes of an
    output are shared among a cell's inputs is another assumption, and edges that differ by it."""
    gates, models = unit_gates(unit), cell_models(OSU018)
    energy = module_energy(gates, models, power_library(OSU018), Wiring(clock_slew=0.0))  # an ideal clock
    theirs = opensta_power(unit, tmp_path)
    driven = [net for cell in gates.cells for pin, net in cell.pins.items() if pin in cell.model.outputs]
    driven += [each.output for each in gates.registers]
    inside, switching = (sum(getattr(energy.nets[net], part) for net in driven if net in energy.nets)
                         for part in ("inside", "switching"))  # fmt: skip
    data = sum(each.sinks for each in energy.nets.values())
    assert inside == pytest.approx(theirs.inside, rel=0.05)
    assert switching == pytest.approx(theirs.switching, rel=0.01)
    assert data == pytest.approx(theirs.data, rel=0.01)
    assert inside + switching + data == pytest.approx(theirs.inside + theirs.switching + theirs.data, rel=0.05)
    assert energy.clock_inside == pytest.approx(theirs.clock, rel=0.01)
    assert energy.leakage == pytest.approx(theirs.leakage, rel=0.01)


def _scaled(found: re.Match[str]) -> str:
    return found[1] + re.sub(r"-?\d+\.\d+", lambda number: f"{1.2 * float(number[0]):.6f}", found[2])


WRONG_LIBRARIES: dict[str, tuple[str, Any]] = {
    "switching": (r"voltage : 1\.8", "voltage : 2.0"),
    "inside": (r"((?:rise|fall)_power\([^{]*\{[^}]*?values \()([^}]*)", _scaled),
}
"""What comes out wrong, and what is another in the library that ours is computed with."""


@pytest.mark.parametrize("part", WRONG_LIBRARIES)
def test_wrong_energies_are_noticed(part: str, tmp_path: Path) -> None:
    """A voltage of 2 V instead of 1.8; a fifth more within cells."""
    (tmp_path / "other.lib").write_text(re.sub(*WRONG_LIBRARIES[part], OSU018.read_text()))
    gates, models = unit_gates("sequencer"), cell_models(OSU018)
    theirs = opensta_power("sequencer", tmp_path)
    driven = [net for cell in gates.cells for pin, net in cell.pins.items() if pin in cell.model.outputs]
    driven += [each.output for each in gates.registers]

    def ours(library: Path) -> float:
        energy = module_energy(gates, models, power_library(library), Wiring(clock_slew=0.0))
        return sum(getattr(energy.nets[net], part) for net in driven if net in energy.nets)

    assert ours(OSU018) == pytest.approx(getattr(theirs, part), rel=0.05)
    assert ours(tmp_path / "other.lib") != pytest.approx(getattr(theirs, part), rel=0.1)


@functools.cache
def digits(platform: J3dai) -> EnergyRun:
    compiled = compile_digits(platform)
    (image,) = digits_images(compiled, 7)
    process = Process(power_library(OSU018), 180, platform.clock_hz)
    run = energy_run(platform, compiled.image.to_bytes(), image, process, OSU018, limit_cycles=4 * compiled.iss_cycles,
                     quick=platform == SMALL)  # fmt: skip
    right = run_compiled(compiled, "iss", inputs=[image]).result.frames[0]
    (frame,) = run.result.frames
    assert frame.cycles == compiled.iss_cycles
    assert [name for name, values in right.tensors.items() if not np.array_equal(values, frame.tensors[name])] == []
    return run


def test_digits_by_block_and_step() -> None:
    """Every block takes energy, of the clock as much in each cycle; spans are those of the steps."""
    run = digits(SMALL)
    ends, frame = np.array(run.account.ends), run.result.frames[0]
    begin = ends[-1] - frame.cycles
    assert [step for step in dict.fromkeys(run.steps) if step >= 0] == [each.step for each in frame.intervals]
    for each in frame.intervals:
        last = max(end for end, step in zip(ends, run.steps, strict=True) if step == each.step)
        assert last - begin == each.end
    assert [block.name for block in run.account.blocks] == list(BLOCKS)
    clock = KINDS.index("clock")
    for block in run.account.blocks:
        assert (block.energy.sum(axis=0)[:2] > 0).all(), block.name
        per_cycle = block.energy[:, clock] / np.diff(ends, prepend=0)
        assert per_cycle == pytest.approx(per_cycle[0])
        total, bits, registers = block.bit_cycles
        assert 0 <= bits <= registers <= total == block.flip_flops * ends[-1]


def test_every_cell_is_counted_once() -> None:
    """Of all modules of the netlist, as often as each is in the design."""
    modules = soc_modules({name: str(text) for name, text in soc_verilog(SMALL).items()})
    times = dict.fromkeys(modules, 0)

    def visit(name: str) -> None:
        times[name] += 1
        for child in (each for each in modules[name].children if each.module in modules):
            visit(child.module)

    visit(SOC_MODULE)
    cells = sum(block.cells for block in digits(SMALL).account.blocks)
    assert cells == sum(modules[name].count() * count for name, count in times.items())


def test_modules_are_of_blocks() -> None:
    assert block_of("j3dai_cluster.l1") == "cluster"
    assert block_of("j3dai_ncb_group") == "ncb"
    assert {block_of(f"j3dai_soc.{name}") for name in ("l2.bank3", "l2")} == {"l2"}
    assert [block_of(f"j3dai_soc{name}") for name in ("", ".host.imem", ".entry")] == ["soc", "host", "entry"]


@pytest.mark.slow
def test_digits_on_the_default_machine() -> None:
    """Counts of all NCBs together: six clusters of sixteen."""
    run = digits(PLATFORM)
    blocks = {block.name: block for block in run.account.blocks}
    assert blocks["ncb"].flip_flops % (PLATFORM.clusters * PLATFORM.ncbs_per_cluster) == 0
    assert blocks["ncb"].energy.sum() > blocks["control"].energy.sum()
