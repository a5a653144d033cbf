# SPDX-License-Identifier: Apache-2.0
"""J3DAI's performance counters as after a long time: a test bench gives those of the gates other values when reset
ends, and what the host then reads is as much more than without. Their upper bits need days of a machine otherwise."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nncosim.compiler.compile import compile_network
from nncosim.compiler.image.image import Image
from nncosim.compiler.j3dai.backend import BACKEND
from nncosim.hdl.counters import COUNTER_BITS
from nncosim.hdl.j3dai.control import DMPA_ENGINE, HOST_ENGINE
from nncosim.hdl.j3dai.regs import (
    ENTRY_ENGINE,
    TRANSFER_COUNTERS,
    TRANSFER_ENGINE,
    Counter,
    EntryCounter,
    TransferCounter,
    TransferKind,
)
from nncosim.hdl.j3dai.soc import CLUSTER_MODULE, SOC_MODULE
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.harness import digits_images, digits_network
from nncosim.regress.host_counters import place, with_reader
from nncosim.regress.host_programs import ENGINES, KINDS, READ
from nncosim.regress.j3dai_target import simulation
from nncosim.tb.backend import Entering
from nncosim.tb.j3dai.build import host_memory
from nncosim.tb.j3dai.records import RawFrame
from nncosim.tb.j3dai.rtl import SocRun
from nncosim.tb.netlist.twin import told
from nncosim.tb.run.drive import Driven, drive
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.verilate import BuiltModel

__all__ = ["COUNTERS", "LOADED", "CounterPlace", "counter_places", "counters_apart", "counters_said"]

COUNTERS = "counters"
LOADED = "counters, loaded"
"""What notices: what the host reads, from reset on, and when the bench has given counters values."""

_LOADS = 6


class CounterPlace(NamedTuple):
    """A counter: its number and kind in COUNTER_SELECT, its name, and where its bits are: module, lane, and registers'
    numbers, lowest first."""

    engine: int
    kind: int
    name: str
    module: str
    lane: int
    registers: Sequence[int]

    @property
    def at(self) -> int:
        """Where the host's reader has it."""
        return self.engine * KINDS + self.kind


def counter_places(platform: J3dai, twins: Mapping[str, Sequence[str]]) -> list[CounterPlace]:
    """All counters that the host can read, each once. twins: see `nncosim.tb.netlist.design.GateDesign`."""
    engines = [(cluster, CLUSTER_MODULE, cluster) for cluster in range(platform.clusters)]
    engines += [(DMPA_ENGINE, f"{SOC_MODULE}.dmpa", 0), (HOST_ENGINE, f"{SOC_MODULE}.host", 0)]
    found = [CounterPlace(engine, counter, counter.name, module, lane,
                          _registers(twins[module], rf"counters?(_\d+)?\.{counter.name.lower()}"))
             for engine, module, lane in engines for counter in Counter]  # fmt: skip
    for kind, counters in TRANSFER_COUNTERS.items():
        for which in counters:
            if (kind, which) != (TransferKind.STORE, TransferCounter.DELIVERED):  # the same registers as WORDS
                name, module = f"{kind.name}_{which.name}", f"{SOC_MODULE}.dmpa"
                registers = _registers(twins[module], rf"transfer_counters\.{name.lower()}")
                found.append(CounterPlace(TRANSFER_ENGINE + kind, which, name, module, 0, registers))
    module = f"{SOC_MODULE}.entry"
    found += [CounterPlace(ENTRY_ENGINE, which, which.name, module, 0,
                           _registers(twins[module], rf"{which.name.lower()}(_\d+)?")) for which in EntryCounter]
    return found


def _registers(names: Sequence[str], pattern: str) -> list[int]:
    bits = {}
    for number, name in enumerate(names):
        if found := re.fullmatch(rf"({pattern})\[(\d+)\]", name):
            bits[int(found[found.re.groups])] = number
    assert sorted(bits) == list(range(COUNTER_BITS)), (pattern, bits)
    return [bits[bit] for bit in range(COUNTER_BITS)]


def _loaded_values(places: Sequence[CounterPlace], seed: int) -> list[int]:
    """A value for each counter: upper bits at random, all below them ones but for a few counts, so that it soon carries
    into them. Of seed 0 there are no upper bits, and it wraps; of 1 there is the highest one, of 0."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in places:
        low = COUNTER_BITS - seed if seed < 2 else int(rng.integers(8, COUNTER_BITS))
        upper = int(rng.integers(1 << COUNTER_BITS)) if seed > 1 else 0
        values.append(upper >> low << low | ((1 << low) - int(rng.integers(1, 16))))
    return values


def _load_lines(places: Sequence[CounterPlace], values: Sequence[int]) -> Iterator[str]:
    """Lines of the file of `nncosim.tb.netlist.twin` that give counters these values."""
    for each, value in zip(places, values, strict=True):
        for bit, register in enumerate(each.registers):
            yield f"{each.module} {each.lane} {register} {value >> bit & 1}"


def _with_loaded(read: bytes, places: Sequence[CounterPlace], values: Sequence[int]) -> np.ndarray:
    """What the host reads, from what it read of counters that began at 0."""
    words = np.frombuffer(read, "<u4").copy()
    for each, value in zip(places, values, strict=True):
        if (each.engine, each.kind) == (ENTRY_ENGINE, EntryCounter.LONGEST_WAIT):
            words[each.at] = max(int(words[each.at]), value)
        else:
            words[each.at] = (int(words[each.at]) + value) % (1 << COUNTER_BITS)
    words[(TRANSFER_ENGINE + TransferKind.STORE) * KINDS + TransferCounter.DELIVERED] = words[
        (TRANSFER_ENGINE + TransferKind.STORE) * KINDS + TransferCounter.WORDS]
    return words


def _said_of(places: Sequence[CounterPlace], right: np.ndarray, read: bytes) -> str:
    """The first counter or register that the host reads wrong; "" if none."""
    if not read:
        return "the host does not report in time"
    words = np.frombuffer(read, "<u4")
    wrong = np.flatnonzero(words != right)
    if not len(wrong):
        return ""
    at = int(wrong[0])
    name = next((f"{each.module}, lane {each.lane}: {each.name}" for each in places if each.at == at),
                f"word {at} of counters and registers")  # fmt: skip
    return f"{name} is {words[at]:#x}, not {right[at]:#x}"


def _counters_read(built: BuiltModel, platform: J3dai, image: Image, inputs: Sequence[Mapping[str, np.ndarray]],
                   limit: int, plusargs: Sequence[str] = ()) -> bytes:
    """What the host has stored of all counters and registers when it reports the last inference done, of inputs that
    come in by the entry port; empty if it does not. Nothing checks the counters' sums."""
    words = slice(place(platform) // 4, place(platform) // 4 + ENGINES * KINDS + len(READ))
    read: list[bytes] = []
    driven = _streamed(built, platform, image, inputs, limit, plusargs,
                       lambda model: read.append(host_memory(model, "dmem")[words].tobytes()))
    return read[-1] if driven.probes["frames_done"] == len(inputs) else b""


def _streamed(built: BuiltModel, platform: J3dai, image: Image, inputs: Sequence[Mapping[str, np.ndarray]], limit: int,
              plusargs: Sequence[str], taken: Callable[[Backdoor], None] | None = None) -> Driven[RawFrame]:
    chip = SocRun(platform, image.to_bytes(), list(inputs), Entering(True, True), monitors=False, taken=taken)
    return drive(built, chip, "direct", limit, 1, plusargs=plusargs)


def counters_apart(built: BuiltModel, platform: J3dai, plusargs: Sequence[str], twins: Mapping[str, Sequence[str]]
                   ) -> list[str]:
    """Where the gates part from the RTL beside them in those inferences, from reset on
    (`nncosim.tb.netlist.twin.told`)."""
    raw = _streamed(built, platform, *_counted(platform), plusargs).raw
    return told(np.concatenate([each.differences for each in raw]), twins)


def counters_said(built: BuiltModel, platform: J3dai, plusargs: Sequence[str], twins: Mapping[str, Sequence[str]]
                  ) -> tuple[str, str] | None:
    """Whether the host reads other counters or registers than of the RTL after some inferences of digits: from reset
    on, and from when the bench has loaded those of the gates."""
    image, inputs, limit = _counted(platform)
    right = _right(platform)
    places = counter_places(platform, twins)
    if said := _said_of(places, _with_loaded(right, [], []), _counters_read(
            built, platform, image, inputs, limit, plusargs)):  # fmt: skip
        return COUNTERS, said
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(_LOADS):
            values = _loaded_values(places, seed)
            file = Path(folder) / f"{seed}.txt"
            file.write_text("\n".join(_load_lines(places, values)) + "\n")
            read = _counters_read(built, platform, image, inputs, limit, (*plusargs, f"load_registers={file}"))
            if said := _said_of(places, _with_loaded(right, places, values), read):
                return LOADED, said
    return None


@functools.cache
def _right(platform: J3dai) -> bytes:
    """What the host reads on the RTL, from reset on."""
    read = _counters_read(simulation(platform), platform, *_counted(platform))
    assert read
    return read


@functools.cache
def _counted(platform: J3dai) -> tuple[Image, Sequence[Mapping[str, np.ndarray]], int]:
    """Digits for inputs that stream in, with a host that reads the counters; images; cycles of an inference at most."""
    compiled = compile_network(digits_network(), platform, backend=BACKEND.streaming())
    image = with_reader(compiled, platform, range(ENGINES), KINDS, READ)
    return image, digits_images(compiled, 301, 7, 20), 4 * compiled.iss_cycles + ENGINES * KINDS * 100
