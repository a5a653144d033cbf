# SPDX-License-Identifier: Apache-2.0
"""The entry port of J3DAI by the manual's words, cycle by cycle; and what passed it in a run, laid beside what this
model does with the same inputs.

The simulator has no such port. What comes into the port is recorded with what it does, so that a model of it alone can
say in each cycle what it should have done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.boundaries.kinds import Kind, Records, judged
from nncosim.tb.lockstep import Channel, Event

__all__ = [
    "ADDRESS_ERROR", "DMEM", "FRAME", "GO", "HEADER_ERROR", "IMEM", "L2", "LOAD", "MMIO", "OP_ERROR", "RUNNING_ERROR",
    "EntryReference", "entry_channels", "header",
]  # fmt: skip

LOAD, FRAME, GO = 1, 2, 3
IMEM, DMEM, MMIO, L2 = 0, 0x10_0000, 0x1000_0000, 0x8000_0000
HEADER_ERROR, OP_ERROR, ADDRESS_ERROR, RUNNING_ERROR = 1, 2, 3, 4


def header(op: int, address: int = 0, words: int = 0, *, wait: int = 0, magic: int = 0xE7, pad: int = 0) -> int:
    """By hand, from the manual."""
    return magic | op << 8 | wait << 12 | pad << 13 | words << 16 | address << 32


@dataclass
class EntryReference:
    """The entry port by the manual's words. `beats`: taken and not used up, two at most."""

    platform: J3dai
    boot: int
    beats: deque[int] = field(default_factory=deque)
    state: str = "header"
    error: int = 0
    started: bool = False
    op: int = 0
    left: int = 0
    at: int = 0  # byte address
    part: int = 0
    wait: int = 0
    head: int = 0
    counters: list[list[int]] = field(default_factory=lambda: [[0] * 5])
    waited: int = 0
    longest: int = 0

    @property
    def run(self) -> bool:
        return not self.boot or self.started

    def wrong(self, beat: int) -> int:
        """The error of a header, 0 if it has none."""
        p = self.platform
        if beat & 0xFF != 0xE7 or beat >> 13 & 7:
            return HEADER_ERROR
        op, words, at = beat >> 8 & 15, beat >> 16 & 0xFFFF, beat >> 32 & 0xFFFF_FFFF
        if op == LOAD:
            spaces = ((IMEM, p.host_imem_bytes), (DMEM, p.host_dmem_bytes), (L2, p.l2_bytes))
            end = at + words * p.word_bytes
            if at % p.word_bytes or not words or not any(base <= at and end <= base + n for base, n in spaces):
                return ADDRESS_ERROR
            return RUNNING_ERROR if at < DMEM and self.run else 0
        if op == GO:
            return RUNNING_ERROR if self.run else 0
        return 0 if op == FRAME else OP_ERROR

    def cycle(self, given: Mapping[str, int]) -> dict[str, int]:
        """The outputs in a cycle with these inputs; then the clock's edge."""
        p, word = self.platform, self.platform.word_bytes
        busy = given["r_en"] | given["w_en"]
        out = {
            "ready": len(self.beats) < 2, "run": self.run, "trap": self.error != 0, "frame": 0, "entry_write": 0,
            "status": self.error | (self.state != "header") << 8 | (self.error != 0) << 16, "host_valid": 0,
            "l2_r_en": given["r_en"], "l2_w_en": given["w_en"],
        }
        if busy:
            out |= {"l2_addr": given["addr"], "l2_mask": given["mask"], "l2_w_data": given["w_data"]}
        happened, pop, before = [0] * 5, False, self.state
        if before == "header" and self.beats:
            self.head, pop, self.state = self.beats[0], True, "act"
        elif before == "act":
            out["frame"], happened[4] = self._act(given["input_free"])
        elif before == "words" and self.beats:
            value = self.beats[0] & (1 << 8 * word) - 1
            if self.at >= L2:
                happened[2] = busy
                pop = not busy
                if pop:
                    out |= {"entry_write": 1, "l2_w_en": 1, "l2_addr": (self.at - L2) // word, "l2_mask": 1,
                            "word0": value}
            else:
                out |= {"host_valid": 1, "host_imem": self.at < DMEM, "host_data": value >> 32 * self.part & 0xFFFFFFFF,
                        "host_addr": (self.at % DMEM) // 4 + self.part}
                if given["host_ready"]:
                    self.part += 1
                    pop = self.part == p.word_bytes // 4
            if pop:
                happened[1], self.part = 1, 0
                self.at, self.left = self.at + word, self.left - 1
                self.state = "words" if self.left else "header"
        happened[0] = int(pop)
        out["counters"] = sum(value << 32 * k for k, value in enumerate(self._counted(happened)))
        if given["valid"] and out["ready"]:
            self.beats.append(given["payload"])
        if pop:
            self.beats.popleft()
        return {name: int(value) for name, value in out.items()}

    def _act(self, input_free: int) -> tuple[int, int]:
        """A header's second cycle; gives (frame, waits for the input)."""
        self.op, self.left = self.head >> 8 & 15, self.head >> 16 & 0xFFFF
        self.at, self.part = self.head >> 32 & 0xFFFF_FFFF, 0
        self.error = self.wrong(self.head)
        if self.error:
            self.state = "stopped"
        elif self.op == LOAD and self.head >> 12 & 1 and not input_free:
            return 0, 1
        elif self.op == LOAD:
            self.state = "words"
        else:
            self.started |= self.op == GO
            self.state = "header"
            return int(self.op == FRAME), 0
        return 0, 0

    def _counted(self, happened: list[int]) -> list[int]:
        """What the counters show: what happened up to two cycles ago."""
        self.waited = self.waited + 1 if happened[2] else 0
        self.longest = max(self.longest, self.waited)
        sums = [a + b for a, b in zip(self.counters[-1], happened, strict=True)]
        sums[3] = self.longest
        self.counters.append(sums)
        return self.counters[-3] if len(self.counters) > 2 else [0] * 5


_OFFERS = ("valid", "busy", "host_ready", "input_free", "boot")
_DOES = ("ready", "run", "trap", "frame", "host_valid", "host_imem", "entry_write")
"""Bits of the fields ``offers`` and ``does`` of a record, the lowest first."""
_SETTLES = 16
"""Cycles without a record after which all that came in has been dealt with, and is counted."""


def entry_channels(platform: J3dai, records: Records) -> tuple[Channel, Channel] | None:
    """What the port did, and what it should have done with what was offered; None where nothing came in.

    records: of the layout ``entry`` of `nncosim.tb.j3dai.taps`, of a whole run: of each cycle in which there was
    anything to do.
    """
    if not len(records):
        return None
    wanted = _wanted(platform, records)
    last = int(records["cycle"][-1])
    kind = Kind("entry", "entry port", "entry", {**dict.fromkeys(_OF_PORT, "entry"), **dict.fromkeys(_OF_HOST, "host")},
                _told)
    sides = (records, wanted[wanted["cycle"] <= last])
    found, right = (Channel(kind.name, each, lambda want, got: judged(kind, want, got), kind.text) for each in sides)
    return found, right


_OF_PORT = ("does", "l2", "word", "host", "host_data", "status", "counters")
_OF_HOST = ("memories", "memory_word", "memory_data")


def _wanted(platform: J3dai, records: Records) -> Records:
    """Of each cycle that was recorded what the model does in it; and of others in which it does something."""
    model = EntryReference(platform, int(records["offers"][0]) >> _OFFERS.index("boot") & 1)
    out, cycle, idle = [], 0, np.zeros(1, records.dtype)[0]
    for record in records:
        for k in range(min(int(record["cycle"]) - cycle, _SETTLES)):
            out += _step(platform, model, idle, cycle + k, False)
        cycle = int(record["cycle"])
        out += _step(platform, model, record, cycle, True)
        cycle += 1
    return np.array(out, records.dtype)


def _step(platform: J3dai, model: EntryReference, given: np.void, cycle: int, recorded: bool) -> list[np.void]:
    """A cycle of the model; its record, where there is one in the run too or it does what should have been recorded."""
    bits = {name: int(given["offers"]) >> k & 1 for k, name in enumerate(_OFFERS)}
    does = model.cycle({
        **bits, "r_en": bits["busy"], "w_en": 0, "addr": 0, "mask": 0, "w_data": 0,
        "payload": int.from_bytes(given["payload"].tobytes(), "little"),
    })
    if not (recorded or does["entry_write"] or does["host_valid"] or does["frame"]):
        return []
    out, size = given.copy(), platform.word_bytes
    out["cycle"], out["does"] = cycle, sum(does.get(name, 0) << k for k, name in enumerate(_DOES))
    out["l2"], out["word"] = does["l2_addr"] if does["entry_write"] else 0, 0
    if does["entry_write"]:
        out["word"] = np.frombuffer(does["word0"].to_bytes(size, "little"), np.uint8)
    valid = does["host_valid"]
    out["host"], out["host_data"] = (does["host_addr"], does["host_data"]) if valid else (0, 0)
    stored = valid and bits["host_ready"]
    words = (platform.host_imem_bytes if does.get("host_imem") else platform.host_dmem_bytes) // 4
    out["memories"] = (1 if does["host_imem"] else 0b11110) if stored else 0
    out["memory_word"], out["memory_data"] = (does["host_addr"] % words, does["host_data"]) if stored else (0, 0)
    out["status"] = does["status"]
    out["counters"] = [does["counters"] >> 32 * k & 0xFFFF_FFFF for k in range(5)]
    return [out]


_ERRORS = {HEADER_ERROR: "no header", OP_ERROR: "no such operation", ADDRESS_ERROR: "wrong address",
           RUNNING_ERROR: "the host runs"}  # fmt: skip


def _told(event: Event) -> str:
    does = {name: int(event["does"]) >> k & 1 for k, name in enumerate(_DOES)}
    out = [f"{event['word'].tobytes().hex(' ')} to L2 word {event['l2']}"] if does["entry_write"] else []
    if does["host_valid"]:
        memory = "instruction" if does["host_imem"] else "data"
        out.append(f"{event['host_data']:#x} for word {event['host']} of the host's {memory} memory")
    out += ["asks for an inference"] if does["frame"] else []
    out += [f"stopped: {_ERRORS.get(int(event['status']) & 7, 'an error')}"] if does["trap"] else []
    out += ["the host runs"] if does["run"] else []
    return f"entry port: {', '.join(out) or 'takes beats'}; counters {event['counters'].tolist()}"
