# SPDX-License-Identifier: Apache-2.0
"""The entry port in the J3DAI SoC: words for L2 while the DMPA works there, words for the host beside its core, what
the registers and the probes tell. What the port does by itself is in test_j3dai_entry."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from nncosim.hdl.j3dai import soc as soc_module
from nncosim.regress.planted import planted
from nncosim.regress.test_j3dai_dmpa_cycles import episode
from nncosim.regress.test_j3dai_entry import DMEM, FRAME, GO, HEADER_ERROR, IMEM, L2, LOAD, header
from nncosim.regress.test_j3dai_soc_wires import PLATFORM, InSoc, SocAsDmpa, simulated

WORD = PLATFORM.word_bytes
ENTRY_ENGINE = 14
"""By hand, from the manual."""


@pytest.fixture(scope="module")
def soc() -> Iterator[SocAsDmpa]:
    with simulated() as soc:
        yield soc


class WithEntry(InSoc):
    """The DMPA's bench, with packets for L2 coming in all the time, until `silent`."""

    silent = False

    def reset(self) -> None:
        super().reset()
        self.silent = False
        self.beats: deque[int] = deque()
        self.sent: list[tuple[int, int]] = []
        self.written: list[tuple[int, int]] = []

    def step(self, push: int | None = None, signals: int = 0) -> None:
        top, rng = self.model.soc, self.rng
        if not self.silent and not self.beats and rng.random() < 0.3:
            count = rng.choice([1, 2, 5])
            at = rng.choice([0, PLATFORM.l2_words - count, rng.randrange(PLATFORM.l2_words - count)])
            words = [rng.getrandbits(8 * WORD) for _ in range(count)]
            self.sent += [(at + k, word) for k, word in enumerate(words)]
            self.beats += [header(LOAD, L2 + at * WORD, count), *words]
        top.entry__valid = valid = bool(self.beats) and not self.silent
        top.entry__payload = self.beats[0] if valid else rng.getrandbits(8 * WORD)
        taken = valid and top.entry__ready
        super().step(push, signals)
        if taken:
            self.beats.popleft()

    def _memories(self, expected: dict[str, Any]) -> None:
        super()._memories(expected)
        top = self.model.soc
        if top.probe_entry_write:
            assert not expected["l2_re"] and not expected["l2_we"], "the DMPA has L2's port in this cycle"
            self.written.append((top.probe_entry_addr, top.probe_entry_data))
            self.l2[top.probe_entry_addr] = top.probe_entry_data


def words_come_in(soc: SocAsDmpa, episodes: int) -> int:
    """Random lists beside random packets: every word once, in order, and in L2 in the end; gives how many came."""
    bench, came = WithEntry(soc, PLATFORM, 3), 0
    for number in range(episodes):
        episode(bench, calm=number % 2 == 0)
        bench.silent = True
        for _ in range(12):  # what was taken is written, and what the DMPA had under way
            bench.step()
        assert bench.written == bench.sent[:len(bench.written)]
        words = [int.from_bytes(soc.banks[a % 4][a // 4].tobytes(), "little") for a in range(PLATFORM.l2_words)]
        assert words == [bench.word(a) for a in range(PLATFORM.l2_words)]
        came += len(bench.written)
    return came


def test_words_for_l2_beside_the_dmpa(soc):
    assert words_come_in(soc, 30) > 500


def send(soc: SocAsDmpa, *beats: int, limit: int = 60) -> None:
    """Beats, as fast as they are taken."""
    top = soc.soc
    for beat in beats:
        top.entry__valid, top.entry__payload = 1, beat
        for _ in range(limit):
            taken = top.entry__ready
            soc.tick()
            if taken:
                break
        else:
            raise AssertionError("a beat is not taken")
    top.entry__valid = 0


def booting(soc: SocAsDmpa) -> None:
    soc.reset()
    soc.soc.boot = 1
    soc.soc.eval()


def test_boot(soc, seed):
    """Both of the host's memories, first and last word; the core waits for GO."""
    rng, top, core = random.Random(seed), soc.soc, soc.core
    booting(soc)
    for name, base, size in (("imem", IMEM, PLATFORM.host_imem_bytes), ("dmem", DMEM, PLATFORM.host_dmem_bytes)):
        for at in (0, size - 2 * WORD):
            words = [rng.getrandbits(8 * WORD) for _ in range(2)]
            send(soc, header(LOAD, base + at, 2), *words)
            soc.soc.tick(8)
            stored = top.stack(f"host.{name}")[at // 4:][:2 * WORD // 4]
            assert [int(word) for word in stored] == [w >> 32 * k & 0xFFFFFFFF for w in words for k in range(2)], name
        assert (core["fetch_enable_i"], top.probe_run) == (0, 0)
    send(soc, header(GO))
    soc.soc.tick(3)
    assert (core["fetch_enable_i"], top.probe_run) == (1, 1) and not top.trap
    soc.reset()
    assert (core["fetch_enable_i"], top.probe_run) == (1, 1), "without the strap it runs from reset"


def test_the_core_goes_first(soc, seed):
    """While it accesses its data memory in each cycle, no word gets in; then they do."""
    rng, top, core = random.Random(seed), soc.soc, soc.core
    booting(soc)
    memory, word = top.stack("host.dmem"), rng.getrandbits(64)
    memory[:2] = 0
    core["data_req_o"], core["data_we_o"], core["data_addr_o"] = 1, 0, DMEM + 8
    send(soc, header(LOAD, DMEM, 1), word)
    soc.soc.tick(30)
    assert list(memory[:2]) == [0, 0]
    core["data_req_o"] = 0
    soc.soc.tick(4)
    assert [int(part) for part in memory[:2]] == [word & 0xFFFFFFFF, word >> 32]


def test_frames_and_inputs(soc):
    """FRAME counts as the port `frame` does; words for the input wait for INPUTS_FREE."""
    top = soc.soc
    soc.reset()
    soc.tick()
    assert top.input_free == 1
    for number in range(1, 3):
        asked = 0
        send(soc, header(FRAME))
        for _ in range(5):
            top.eval()
            asked += top.probe_frame
            soc.tick()
        assert asked == 1 and soc.read("FRAMES_REQUESTED") == number and top.input_free == 0
        assert [cluster["in_frame"] for cluster in soc.clusters] == [1] * PLATFORM.clusters
        send(soc, header(LOAD, L2, 1, wait=1), 77 + number)
        soc.soc.tick(10)
        assert int.from_bytes(soc.banks[0][0].tobytes(), "little") != 77 + number
        soc.write("INPUTS_FREE", number)
        soc.soc.tick(8)
        assert top.input_free == 1 and int.from_bytes(soc.banks[0][0].tobytes(), "little") == 77 + number


def test_status_and_counters(soc):
    """A wrong packet is told by the register, the port and the probe; the five counters are those of the probe."""
    top = soc.soc
    soc.reset()
    assert soc.read("ENTRY_STATUS") == 0
    send(soc, header(FRAME), header(LOAD, L2, 3, wait=1), 1)
    soc.soc.tick(9)
    assert soc.read("ENTRY_STATUS") == 1 << 8, "in a packet"
    soc.write("INPUTS_FREE", 1)
    soc.soc.tick(5)
    send(soc, 2, 3, header(FRAME, magic=0))
    soc.soc.tick(5)
    assert soc.read("ENTRY_STATUS") == HEADER_ERROR | 1 << 8 | 1 << 16
    assert (top.trap, top.probe_trap) == (1, 1 << 9)
    shown = [top.probe_entry >> 32 * k & 0xFFFFFFFF for k in range(5)]
    assert shown[:2] == [6, 3] and shown[4] > 5, "headers and words; waits for the input"
    for kind, value in enumerate(shown):
        soc.write("COUNTER_SELECT", ENTRY_ENGINE | kind << 4)
        assert soc.read("COUNTER_VALUE") == value


BUGS = {
    "the entry port's word goes nowhere": ("port.entry_addr.eq(entry.l2_addr)", "port.entry_addr.eq(0)"),
    "it does not wait for the DMPA": ("entry.l2_busy.eq(port.busy)", "entry.l2_busy.eq(0)"),
    "it does not wait for the core": ("entry.host_ready.eq(host.load_ready)", "entry.host_ready.eq(1)"),
    "the host runs from reset": ("host.run.eq(entry.run)", "host.run.eq(1)"),
    "FRAME does not count": ("control.entry_frame.eq(entry.frame)", "control.entry_frame.eq(0)"),
    "the input is always free": ("entry.input_free.eq(control.input_free)", "entry.input_free.eq(1)"),
    "its trap is not told": ("| entry.trap << 9", ""),
    "no strap": ("entry.boot.eq(self.boot)", "entry.boot.eq(0)"),
    "the status is not connected": ("control.entry_status.eq(entry.status)", "control.entry_status.eq(0)"),
}


@pytest.mark.parametrize("bug", [
    pytest.param(bug, marks=[] if number < 1 else pytest.mark.slow) for number, bug in enumerate(BUGS)])
def test_planted_bug_is_noticed(bug):
    with simulated(planted(soc_module, *BUGS[bug])) as soc, pytest.raises(AssertionError):
        test_boot(soc, 1)
        test_the_core_goes_first(soc, 1)
        test_frames_and_inputs(soc)
        test_status_and_counters(soc)
        words_come_in(soc, 10)
