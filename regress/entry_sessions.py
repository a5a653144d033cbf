# SPDX-License-Identifier: Apache-2.0
"""Packets at the entry port of J3DAI's RTL, right ones with pauses and each wrong one, laid beside the port's model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.boundaries.kinds import Records
from nncosim.tb.boundaries.layouts import FIRST_STREAM
from nncosim.tb.errors import SimulationTimeout
from nncosim.tb.j3dai.build import build_soc
from nncosim.tb.j3dai.entry_model import DMEM, FRAME, GO, IMEM, L2, LOAD, MMIO, entry_channels, header
from nncosim.tb.j3dai.taps import tap_layouts
from nncosim.tb.lockstep import Difference, differences
from nncosim.tb.run.drive import RESET_CYCLES
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel

__all__ = ["SESSIONS", "compared", "entry_difference", "session"]

_LOOP = 0x0000_006F
"""``j .`` for the host."""
_MANY = 40_000
"""Words of a packet, more than half of what it can have."""
_AFTER = 40
"""Cycles in which what was taken is dealt with."""

SESSIONS = (
    "every memory, with pauses", "a long packet", "an input that waits", "no magic number", "a bit that must be 0",
    "no such operation", "no memory", "no words", "no whole word", "over a memory's end", "over L2's end",
    "go twice", "instructions while the host runs",
)  # fmt: skip


def session(name: str, platform: J3dai) -> list[int]:
    """The beats of one of `SESSIONS`."""
    p, word = platform, platform.word_bytes
    boots = [*_load(p, IMEM, 2, _LOOP), *_load(p, DMEM, 3), *_load(p, L2, 2), header(GO)]
    ends = (p.host_imem_bytes, DMEM + p.host_dmem_bytes, L2 + p.l2_bytes)
    every = [beat for end in ends for count in (1, 3) for beat in _load(p, end - count * word, count)]
    wrong = {
        "no magic number": [header(FRAME, magic=0xE6)], "a bit that must be 0": [header(FRAME, pad=4)],
        "no such operation": [header(5)], "no memory": _load(p, MMIO, 1), "no words": [header(LOAD, L2)],
        "no whole word": _load(p, L2 + word // 2, 1), "over a memory's end": _load(p, ends[1] - word, 2),
        "over L2's end": _load(p, ends[2] - word, 2), "go twice": [header(GO)],
        "instructions while the host runs": _load(p, IMEM + 4 * word, 1),
    }
    right = {
        "every memory, with pauses": [*every, *boots, header(FRAME), *_load(p, DMEM + 8 * word, 5)],
        "a long packet": _load(p, L2, min(_MANY, p.l2_words)),
        "an input that waits": [*boots, *_load(p, L2, 2, wait=1), header(FRAME), *_load(p, L2, 2, wait=1)],
    }
    return right[name] if name in right else [*boots, *wrong[name], *_load(p, L2, 2)]


def _load(platform: J3dai, address: int, count: int, first: int | None = None, wait: int = 0) -> list[int]:
    """A packet of words that are all different."""
    rng = np.random.default_rng([address, count])
    words = [int.from_bytes(rng.bytes(platform.word_bytes), "little") for _ in range(count)]
    if first is not None:
        words[0] = first
    return [header(LOAD, address, count, wait=wait), *words]


def entry_difference(platform: J3dai) -> tuple[str, Difference] | None:
    """The first session in which the port does not do what its model does, and where; None without one.

    Raises:
        NncosimError: the RTL cannot be built.
    """
    built = build_soc(platform, inside=True)
    for name in SESSIONS:
        found = compared(built, platform, name)
        if found:
            return name, found[0]
    return None


def compared(built: BuiltModel, platform: J3dai, name: str) -> list[Difference]:
    """Where the port parts from its model in one of `SESSIONS`."""
    sides = entry_channels(platform, _recorded(built, platform, session(name, platform), "pauses" in name))
    return differences(sides[:1], sides[1:]) if sides is not None else []


def _recorded(built: BuiltModel, platform: J3dai, beats: Sequence[int], pauses: bool) -> Records:
    """What the taps record while beats come in, all at once or with pauses; the host waits for GO."""
    rng = np.random.default_rng(len(beats))
    number = list(tap_layouts(platform)).index("entry")
    with Model(built, seed=1) as model:
        model.poison(1)
        store = model.memory("sensor.store", np.uint8)
        data = b"".join(beat.to_bytes(platform.word_bytes, "little") for beat in beats)
        store[:len(beats)] = np.frombuffer(data, np.uint8).reshape(len(beats), -1)
        model.boot, model.sensor_limit, model.monitor_enable, model.monitor_l1 = 1, 0, 0, 1
        model.reset(cycles=RESET_CYCLES)
        sent = 0
        while sent < len(beats):
            sent = min(sent + int(rng.integers(1, 4)), len(beats)) if pauses else len(beats)
            model.sensor_limit = sent
            with contextlib.suppress(SimulationTimeout):  # it does not take what comes behind a wrong packet
                model.run_until("sensor_sent", sent, 4 * len(beats) + _AFTER)
            model.tick(int(rng.integers(1, 9)) if pauses else _AFTER)
        model.tick(_AFTER)
        return model.log(FIRST_STREAM + number, tap_layouts(platform)["entry"])
