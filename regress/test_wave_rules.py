# SPDX-License-Identifier: Apache-2.0
"""Protocol rules on waveforms of the whole SoC: a right machine breaks none, a planted bug the one it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
from nncosim.compiler.compile import Compiled
from nncosim.hdl.j3dai import controller, dmpa_paths, soc
from nncosim.hdl.j3dai.isa import Opcode, Space
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress.harness import compile_digits, digits_images
from nncosim.regress.planted import plant, some
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai import build
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.sim.waves import Trace
from nncosim.tb.waves.rules import Access, Violation, check, never, no_unwritten_reads, ordered, within
from nncosim.tb.waves.samples import Clock
from nncosim.tb.waves.wave import Wave

SMALL = replace(PLATFORM, clusters=1)
DMPA, CLUSTER = "j3dai_tb.soc.dmpa", "j3dai_tb.soc.cluster0"


@dataclass(frozen=True)
class Bug:
    """A line of a module, planted; the rule that is to find it."""

    module: ModuleType
    right: str
    wrong: str
    rule: str

    def emitted(self, platform: J3dai) -> Mapping[str, str]:
        with pytest.MonkeyPatch.context() as patch:
            plant(patch, self.module, self.right, self.wrong)
            return soc.emit_soc(platform, soc.Cluster)


BUGS = {
    "a store without its second word": Bug(
        dmpa_paths, "first.mask.eq(self.mask)", "first.mask.eq(self.mask & ~2)", "no_unwritten_reads"),
    "a WAIT that does not wait": Bug(controller, "positive[k].eq(value != 0)", "positive[k].eq(1)", "ordered"),
    "a LOAD beyond L1": Bug(
        dmpa_paths, "self.wr_addr.eq(read.addr)", "self.wr_addr.eq(read.addr | 1 << 13)", "within"),
}  # fmt: skip


def recorded(path: Path, compiled: Compiled) -> Clock:
    """The cycles of a run on the digits; how it ends does not matter."""
    try:
        run_built(build.build_soc(SMALL, trace="fst"), SMALL, compiled.image.to_bytes(), digits_images(compiled, 0),
                  driver="direct", limit_cycles=20_000, trace=Trace(path))  # fmt: skip
    except BenchError:
        assert path.is_file()
    return Wave.open(path).clocked("j3dai_tb.clk", count="j3dai_tb.probe_cycle")


def words(address: int, size: int) -> range:
    """Of L2, from a physical address and bytes."""
    first = (address - L2_BASE) // SMALL.word_bytes
    return range(first, first - -size // SMALL.word_bytes)


def broken(clock: Clock, compiled: Compiled) -> list[Violation]:
    """What the rules find, in their order."""
    image, signals = compiled.image, {name: clock[f"{DMPA}.{name}"] for name in (
        "l2_re", "l2_we", "l2_addr", "l2_mask", "wr_valid", "wr_addr", "wr_mask", "rd_valid", "rd_addr")}  # fmt: skip
    loaded = {f"segment {s.address:#x}": words(s.address, len(s.data)) for s in image.segments if s.memory == "l2"}
    places = {name: [words(f.address, place.size_of(f)) for f in place.fragments if f.memory == "l2"]
              for name, place in image.tiles.items()}  # fmt: skip
    tensors = {f"{name} {k}": each for name, found in places.items() for k, each in enumerate(found)}
    inputs = [each for name, place in image.tiles.items() if place.role == "input" for each in places[name]]
    reads = Access(signals["l2_re"], signals["l2_addr"], mask=signals["l2_mask"])
    writes = Access(signals["l2_we"], signals["l2_addr"], mask=signals["l2_mask"])
    found = [
        *within(reads, loaded | tensors), *within(writes, tensors),
        *no_unwritten_reads([writes], [reads], [word for each in (*loaded.values(), *inputs) for word in each]),
        *within(Access(signals["rd_valid"], signals["rd_addr"]), {"L1": range(SMALL.l1_words)}),
        *never(clock["j3dai_tb.trap"]), *never(clock[f"{CLUSTER}.controller.trap"]),
    ]  # fmt: skip
    space = clock[f"{DMPA}.wr_space"].typed(Space)
    for each, size in ((Space.L1, SMALL.l1_words), (Space.WMEM, SMALL.wmem_words), (Space.IMEM, SMALL.imem_words)):
        beats = Access(signals["wr_valid"] & (space == each), signals["wr_addr"], mask=signals["wr_mask"])
        found += within(beats, {each.name: range(size)})
    take, index = clock[f"{DMPA}.semaphores.take0"], clock[f"{DMPA}.semaphores.index"]
    for k in range(8):
        found += ordered(clock[f"{DMPA}.signal_in"][k], clock[f"{CLUSTER}.controller.taken{k}"], most=255)
        found += ordered(clock[f"{CLUSTER}.signal_out"][k], take & (index == k), most=255)
    return found


def test_a_right_machine(tmp_path: Path) -> None:
    """No rule is broken, and none is empty: beats, tokens and instructions there are."""
    compiled = compile_digits(SMALL)
    clock = recorded(tmp_path / "run.fst", compiled)
    check(broken(clock, compiled))
    assert {Space(each) for each in set(clock[f"{DMPA}.wr_space"].values[clock[f"{DMPA}.wr_valid"].values == 1])} == {
        *Space}
    assert clock[f"{DMPA}.l2_we"].values.sum() and clock[f"{DMPA}.signal_in"].changed.true.any()
    assert clock[f"{CLUSTER}.signal_out"].changed.true.any()
    steps = len(compiled.image.notes.steps)
    controller = f"{CLUSTER}.controller"
    halts = clock[f"{controller}.done"] & (clock[f"{controller}.opcode"].typed(Opcode) == Opcode.HALT)
    assert len(halts.cycles) == steps, "a program ends in each step"
    assert len(clock[f"{DMPA}.list_done"].nonzero.cycles) == steps


@pytest.mark.parametrize("name", some(BUGS, 1))
def test_a_planted_bug(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule about it finds it."""
    bug, compiled = BUGS[name], compile_digits(SMALL)
    monkeypatch.setattr(build, "emitted", lambda design, platform, emit: bug.emitted(platform))
    found = broken(recorded(tmp_path / "run.fst", compiled), compiled)
    assert bug.rule in {each.rule for each in found}, [str(each) for each in found[:5]]
