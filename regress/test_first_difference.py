# SPDX-License-Identifier: Apache-2.0
"""What `nncosim.regress.j3dai_first_difference` runs beside networks: other programs of the host, and packets at the
entry port. On the right RTL nothing differs; on one with bugs in what no network uses, each is found where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from nncosim.hdl import registers
from nncosim.hdl.j3dai import control, entry, soc
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.entry_sessions import SESSIONS, compared
from nncosim.regress.first_difference import beside
from nncosim.regress.harness import compile_case, random_inputs
from nncosim.regress.host_programs import host_programs
from nncosim.regress.planted import planted
from nncosim.tb.backend import RunResult
from nncosim.tb.j3dai import build
from nncosim.tb.lockstep import Difference

SMALL = PLATFORM.with_parameters(clusters=1, ncbs_per_cluster=8, pes_per_ncb=4, dmpa_bits=256)
CASE = "conv3x3_16"
PROGRAMS = ("counters and registers read", "registers written", "lists at the end of L2",
            "trap of a cluster armed twice", "trap of a list beyond L2", "trap of a list that runs beyond L2",
            "trap of a list that does not begin on a line", "trap of more lists than the queue has places")  # fmt: skip


def run_with(program: str) -> tuple[RunResult, list[Difference]]:
    case = compile_case(CASE, 0, SMALL)
    image = dict(host_programs(case, SMALL))[program]
    outcome, found = beside(program, replace(case, image=image), [random_inputs(case.network, 0)])
    return outcome.result, found


def test_all_programs() -> None:
    assert [name for name, _ in host_programs(compile_case(CASE, 0, SMALL), SMALL)] == list(PROGRAMS)


def test_lists_at_the_end_are_whole_lines() -> None:
    """The DMPA reads lines: of what an image leaves out, RTL and simulator have different poison."""
    platform = PLATFORM.with_parameters(clusters=1)
    assert platform.line_descriptors > 1
    image = dict(host_programs(compile_case(CASE, 0, platform), platform))["lists at the end of L2"]
    last = max(image.segments, key=lambda each: each.address)
    end = L2_BASE + platform.l2_bytes
    assert last.address + len(last.data) == end and len(last.data) % platform.line_bytes == 0


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_host(program: str) -> None:
    """RTL and simulator do the same, and what is to trap does."""
    result, found = run_with(program)
    assert [each.lines() for each in found] == []
    assert (result.diagnosis.kind if result.diagnosis else "") == ("trap" if program.startswith("trap") else "")
    events = {each.name: len(each.events) for each in result.channels}
    assert events["traps"] == program.startswith("trap") and events["host bus"] > 3


@pytest.mark.parametrize("name", SESSIONS)
def test_packets(name: str) -> None:
    assert compared(build.build_soc(SMALL, inside=True), SMALL, name) == []


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """RTL with three bugs at once: nobody hears of the trap of the DMPA, registers lack a bit, and the entry port
    counts the words of a packet with a bit less."""
    port = planted(entry, "Signal(21), Signal(16)", "Signal(21), Signal(15)")
    chip = planted(soc, "control.cluster_trap.any() | dmpa.trap |", "control.cluster_trap.any() |")
    narrow = planted(registers, "Signal(32, name=entry.reg", "Signal(31, name=entry.reg")
    monkeypatch.setattr(chip, "Entry", port.Entry)
    monkeypatch.setattr(control, "stored_registers", narrow.stored_registers)
    right = chip.emit_soc(SMALL)
    monkeypatch.setattr(build, "emitted", lambda design, platform, emit: right)
    yield


def test_bugs_that_no_network_shows(wrong: None) -> None:
    found = {program: run_with(program)[1] for program in ("registers written", "trap of a list beyond L2")}
    assert found["registers written"][0].block == "control registers"
    assert found["trap of a list beyond L2"][0].block == "soc"
    built = build.build_soc(SMALL, inside=True)
    (first,) = compared(built, SMALL, "a long packet")
    assert first.block == "entry" and first.cycle > 1000
    assert compared(built, SMALL, "every memory, with pauses") == []
