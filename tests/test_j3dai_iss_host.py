# SPDX-License-Identifier: Apache-2.0
"""Images with RISC-V host code on the simulator: loading, WFI, several inferences, faults, cycles of instructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nncosim.compiler.image.image import Image, Segment
from nncosim.hdl.j3dai.asm import ClusterProgram, DescriptorList, address
from nncosim.hdl.j3dai.isa import Space
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, L2_BASE, Reg
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.iss.elf import IssError
from nncosim.tb.j3dai.cycles import PredictionError, predict
from nncosim.tb.j3dai.iss import Machine
from riscv_words import T0, T1, T2, T3, T4, WFI, addi, branch, jump, lui, lw, sw

PLATFORM = J3dai(clusters=1, l2_bytes=64 * 1024)


def firmware() -> list[int]:
    """Waits for a frame; pushes the list at L2 word 0, starts cluster 0; waits for the list; reports; again."""
    return [
        lui(T0, 0x10000),
        lw(T1, Reg.FRAMES_REQUESTED, T0), lw(T2, Reg.FRAMES_DONE, T0), branch(1, T1, T2, 12), WFI, jump(-16),
        sw(T1, Reg.IRQ_FRAMES_SEEN, T0), sw(0, Reg.DMPA_PUSH, T0), addi(T3, 0, 1), sw(T3, Reg.CLUSTER_START, T0),
        lw(T4, Reg.LISTS_DONE, T0), branch(0, T4, T1, 12), WFI, jump(-12),
        sw(T4, Reg.IRQ_LISTS_SEEN, T0), sw(T1, Reg.FRAMES_DONE, T0), jump(-60),
    ]  # fmt: skip


def image(code: list[int], extra: tuple[Segment, ...] = ()) -> bytes:
    p, lists = ClusterProgram(), DescriptorList()
    p.nop()
    p.signal(0)
    p.halt()
    lists.load(l2=64, clusters=1, local=address(Space.IMEM, 0), n0=2, signal_mask=1, signal_semaphore=7)
    lists.load(l2=128, clusters=1, local=5, n0=100)
    lists.store(l2=512, clusters=1, local=5, n0=100, wait_mask=1, wait_semaphore=0)
    raw = b"".join(word.to_bytes(4, "little") for word in code)
    return Image((
        Segment("host_imem", 0, raw, flags=5), Segment("host_dmem", HOST_DMEM_BASE, bytes(16)),
        Segment("l2", L2_BASE, lists.to_bytes()), Segment("l2", L2_BASE + 1024, p.to_bytes()), *extra,
    ), entry=0, machine=243).to_bytes()  # fmt: skip


def test_three_inferences_of_an_image(tmp_path: Path) -> None:
    path = tmp_path / "image.elf"
    path.write_bytes(image(firmware()))
    machine = Machine(PLATFORM, seed=3, log_writes=True)
    machine.load_elf(path)
    words = machine.l2.reshape(-1, 16)
    lengths = []
    for frame in range(3):
        words[128:228] = np.random.default_rng(frame).integers(0, 256, (100, 16))
        result = machine.run_frame(10_000)
        assert result.diagnosis is None and len(result.lists) == 1 and result.lists[0].index == frame
        np.testing.assert_array_equal(words[512:612], words[128:228])
        lengths.append(result.cycles)
    assert 60 < min(lengths) and max(lengths) - min(lengths) < 20
    writes = machine.core.l2_writes(clear=True)
    assert not len(machine.core.l2_writes())
    assert len(writes) == 39 and writes["list"].tolist() == [k // 13 for k in range(39)]
    np.testing.assert_array_equal(writes[-13]["data"], words[512:520])
    assert writes[-1]["mask"] == 0b1111 and writes[-1]["address"] == 608


def test_prediction_is_what_the_simulator_reports() -> None:
    raw = image(firmware())
    machine = Machine(PLATFORM)
    machine.load_elf(raw)
    for frames in (1, 2):
        result, timeline = machine.run_frame(10_000), predict(raw, PLATFORM, frames=frames)
        assert timeline.cycles == result.cycles and timeline.counters == result.counters
        assert [(layer.end, layer.counters) for layer in timeline.layers] == [(e.end, e.counters) for e in result.lists]


def test_waiting_for_ever_is_a_deadlock() -> None:
    """The firmware waits for a second list that nobody queues."""
    endless = [sw(T4, Reg.IRQ_LISTS_SEEN, T0), lw(T4, Reg.LISTS_DONE, T0), WFI, jump(-12)]
    with pytest.raises(PredictionError, match=r"deadlock[^$]*host: sleeps before 0x34; 0 of 1 frames done"):
        predict(image([*firmware()[:10], *endless]), PLATFORM)


def test_busy_host_ends_at_the_limit() -> None:
    with pytest.raises(PredictionError, match="no end within 5000 cycles"):
        predict(image([jump(0)]), PLATFORM, limit=5_000)


@pytest.mark.parametrize("code, text", [
    ([lui(T0, 0x80000), lw(T1, 0, T0)], "accesses 0x80000000"),
    ([lw(T1, 0, 0)], "accesses 0x0"),
    ([0], "the host stopped"),
    ([addi(T1, 0, 8), 0x30031073, WFI], "interrupts enabled"),  # csrw mstatus, t1
])  # fmt: skip
def test_host_faults(code: list[int], text: str) -> None:
    machine = Machine(PLATFORM)
    machine.load_elf(image(code))
    diagnosis = machine.run_frame(10_000).diagnosis
    assert diagnosis is not None and diagnosis.kind == "trap" and text in diagnosis.text


def test_images_that_cannot_be_loaded() -> None:
    machine = Machine(PLATFORM)
    with pytest.raises(IssError, match="not an ELF file"):
        machine.load_elf(b"nonsense")
    with pytest.raises(IssError, match="lies in none of the memories"):
        machine.load_elf(image(firmware(), (Segment("l2", L2_BASE + 65536 - 4, bytes(8)),)))
    with pytest.raises(IssError, match="EM_NONE"):
        machine.load_elf(Image((), machine=0).to_bytes())
    with pytest.raises(IssError, match="before running"):
        machine.run_frame(1)


def test_load_use_is_seen() -> None:
    """A load followed by its user takes a cycle more; the same without dependence does not."""
    def cycles(second: int) -> int:
        code = [*firmware()[:6], lw(T3, Reg.ID, T0), second, *firmware()[6:-1], jump(-68)]
        return predict(image(code), PLATFORM).cycles
    assert cycles(addi(T4, T3, 0)) == cycles(addi(T4, T2, 0)) + 1
