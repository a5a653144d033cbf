# SPDX-License-Identifier: Apache-2.0
"""Random single-bit flips in instruction words (of the clusters, and the DMPA's descriptors): simulator and RTL do the
same, whatever the program has become.

A flipped image either runs to its end with the same writes to L2 in the same cycles on both, or traps on both, or
never ends on both (the limit is 4 times the ISS's cycles). Both begin with the same contents in all memories, so that
even what a broken program reads from where nothing was ever written is the same.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from nncosim.compiler.compile import Compiled
from nncosim.hdl.j3dai.asm import disassemble, disassemble_descriptors
from nncosim.hdl.j3dai.isa import Descriptor
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.cases import random_inputs
from nncosim.regress.harness import compile_case
from nncosim.regress.j3dai_target import simulation
from nncosim.tb.errors import SimulationError, SimulationTimeout
from nncosim.tb.j3dai.build import (
    FRAME_DONE,
    FRAME_DONE_STREAM,
    L2_WRITE_STREAM,
    LIST_DONE,
    LIST_DONE_STREAM,
    SOC,
    l2_rows,
    l2_write_dtype,
    read_host,
)
from nncosim.tb.j3dai.iss import Machine
from nncosim.tb.j3dai.records import take_records
from nncosim.tb.j3dai.rtl import load_image, write_inputs
from nncosim.tb.run.flow import HANG_FACTOR
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.model import Model

CASES = ("conv3x3_16", "conv1x1_odd", "conv_groups_small", "conv_dilated", "dw3x3_odd", "dw5x5_s2", "maxpool2",
         "avgpool3_pad", "add_mixed_signs", "requantize", "concat_shifted", "resize_2x2",
         "table_few_channels", "chain")  # fmt: skip
FLIPS = 1000  # of all cases together, in `make test`
MORE_FLIPS = 5000
DESCRIPTOR_BYTES = 32


@dataclass(frozen=True)
class Flip:
    """Bit `bit` of the instruction or descriptor at byte `at` of L2. `before`, `after`: what it says."""

    at: int
    bit: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"bit {self.bit} of the word at L2 byte {self.at:#x}: {self.before}  ->  {self.after}"


@dataclass(frozen=True)
class FlipOutcome:
    """How a run ended ("done", "trap", "hang", or "check": a protocol check failed), when, and what it wrote.

    `cycles`: of each list's completion, and of the frame's. `l2`: bytes written, by address; where a byte is written
    more than once the last counts. `text`: diagnosis.
    """

    kind: str
    cycles: tuple[int, ...] = ()
    writes: tuple[tuple[int, bytes], ...] = ()
    text: str = field(default="", compare=False)


def instruction_words(compiled: Compiled) -> list[tuple[int, int]]:
    """(byte address in L2, word) of every instruction of an image's cluster programs."""
    found = []
    for buffer in compiled.lowered.buffers:
        if buffer.kind == "program" and buffer.content:
            words = np.frombuffer(buffer.content, "<u8")
            used = np.flatnonzero(words)[-1] + 1  # without the filling of the last line
            at = compiled.placement.address[buffer.name]
            found += [(at + 8 * i, int(word)) for i, word in enumerate(words[:used])]
    return found


def descriptor_words(compiled: Compiled) -> list[tuple[int, bytes]]:
    """(byte address in L2, contents) of every DMPA descriptor of an image."""
    found = []
    for buffer in compiled.lowered.buffers:
        if buffer.kind == "list":
            at = compiled.placement.address[buffer.name]
            segment = next(s for s in compiled.image.segments if 0 <= L2_BASE + at - s.address < len(s.data))
            raw = segment.data[L2_BASE + at - segment.address :][: buffer.size]
            parts = [raw[n : n + DESCRIPTOR_BYTES] for n in range(0, len(raw), DESCRIPTOR_BYTES)]
            found += [(at + DESCRIPTOR_BYTES * n, part) for n, part in enumerate(parts) if any(part)]
    return found


def program_flips(compiled: Compiled, name: str, seed: int, count: int) -> list[Flip]:
    """`count` different flips in cluster programs, chosen by seed and name."""
    words = instruction_words(compiled)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    out = []
    for number in rng.permutation(len(words) * 64)[:count]:
        (at, word), bit = words[number // 64], int(number % 64)
        before, after = (disassemble([w])[0].partition(" ")[2].strip() for w in (word, word ^ 1 << bit))
        out.append(Flip(at, bit, before, after))
    return out


def descriptor_flips(compiled: Compiled, name: str, seed: int, count: int) -> list[Flip]:
    """`count` different flips in descriptors, chosen by seed and name."""
    words = descriptor_words(compiled)
    used = dict(iter(Descriptor.as_shape()))["pad"].offset
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), 1])
    out = []
    for number in rng.permutation(len(words) * used)[:count]:
        (at, raw), bit = words[number // used], int(number % used)
        changed = (int.from_bytes(raw, "little") ^ 1 << bit).to_bytes(DESCRIPTOR_BYTES, "little")
        before, after = (disassemble_descriptors(r)[0].partition(" ")[2].strip() for r in (raw, changed))
        out.append(Flip(at, bit, before, after))
    return out


Maker = Callable[[Compiled, str, int, int], list[Flip]]


def written(address: np.ndarray, mask: np.ndarray, data: np.ndarray) -> tuple[tuple[int, bytes], ...]:
    """All words written, in order."""
    lanes = np.arange(8)
    valid = (mask[:, None] >> lanes & 1).astype(bool)
    where = (address.astype(np.int64)[:, None] + lanes)[valid]
    return tuple((int(word), bytes(row)) for word, row in zip(where, data[valid], strict=True))


class Rtl:
    """The SoC right after reset with an image and its inputs in place; every run starts from there."""

    def __init__(self, compiled: Compiled, inputs: dict[str, np.ndarray], seed: int):
        self.compiled, self.inputs, self.seed = compiled, inputs, seed
        self.model = self._started()
        self.state = self.model.save()

    def _started(self) -> Model:
        platform = self.compiled.platform
        assert isinstance(platform, J3dai)
        model = Model(simulation(platform), seed=self.seed)
        model.poison(self.seed)
        load_image(model, platform, self.compiled.image)
        model.monitor_enable = 1
        model.reset(cycles=4)
        write_inputs(model, self.compiled.image, self.inputs)
        return model

    def close(self) -> None:
        self.model.close()

    def run(self, flip: Flip | None, limit: int) -> FlipOutcome:
        """One inference with a bit flipped (or none)."""
        model, platform = self.model, self.compiled.platform
        assert isinstance(platform, J3dai)
        model.restore(self.state)
        take_records(model, platform, self.compiled.image, 0, {})
        if flip is not None:
            word, byte = divmod(flip.at + flip.bit // 8, 16)
            l2_rows(model, platform)[word % 8][word // 8, byte] ^= 1 << flip.bit % 8
        model.frame = 1
        model.tick()
        model.frame = 0
        kind, text = "done", ""
        try:
            model.run_until("stopped", 1, limit)
            if model["trap"] or model["error"]:
                kind, text = "trap", f"probe_trap {model['probe_trap']:#x} at cycle {model['probe_cycle']}"
        except SimulationTimeout:
            kind = "hang"
        except SimulationError as error:
            kind, text = "check", str(error)
        outcome = self._outcome(kind, text)
        if kind == "check":  # the model has stopped for good
            model.close()
            self.model = self._started()
            self.model.restore(self.state)
        return outcome

    def _outcome(self, kind: str, text: str) -> FlipOutcome:
        if kind != "done":
            return FlipOutcome(kind, text=text)
        model = self.model
        writes = model.log(L2_WRITE_STREAM, l2_write_dtype())
        lists = model.log(LIST_DONE_STREAM, LIST_DONE)["cycle"]
        (end,) = model.log(FRAME_DONE_STREAM, FRAME_DONE)["cycle"]
        cycles = (*map(int, lists), int(end))
        return FlipOutcome(kind, cycles, written(writes["address"], writes["mask"], writes["data"]))


def cluster_memory(model: Backdoor, platform: J3dai, name: str) -> np.ndarray:
    """A memory of all clusters, shape (clusters, bytes), words in the order of their addresses."""
    out = []
    for cluster in range(platform.clusters):
        banks = [model.memory(f"{SOC}.cluster{cluster}.{name}.bank{k}", np.uint8) for k in range(8)]
        out.append(np.stack(banks, axis=1).reshape(-1))
    return np.stack(out)


class Iss:
    """The simulator with the same memory contents as an `Rtl` after reset."""

    def __init__(self, rtl: Rtl):
        model, platform = rtl.model, rtl.compiled.platform
        assert isinstance(platform, J3dai)
        self.platform, self.image = platform, rtl.compiled.image.to_bytes()
        model.restore(rtl.state)
        self.l2 = np.stack([np.asarray(bank) for bank in l2_rows(model, platform)], axis=1).reshape(-1)
        self.host = {name: read_host(model, name) for name in ("imem", "dmem")}
        self.memories = {name: cluster_memory(model, platform, name) for name in ("l1", "wmem", "imem")}

    def run(self, flip: Flip | None, limit: int) -> FlipOutcome:
        """One inference with a bit flipped (or none)."""
        machine = Machine(self.platform, log_writes=True)
        machine.load_elf(self.image)
        machine.l2[:] = self.l2
        machine.host_imem[:], machine.host_dmem[:] = self.host["imem"], self.host["dmem"]
        for name, contents in self.memories.items():
            getattr(machine.core, name)[:] = contents
        if flip is not None:
            machine.l2[flip.at + flip.bit // 8] ^= 1 << flip.bit % 8
        result = machine.run_frame(limit)
        if result.diagnosis is not None:
            return FlipOutcome(result.diagnosis.kind, text=result.diagnosis.text)
        if result.error:
            return FlipOutcome("trap", text=f"the host reports error {result.error}")
        writes = machine.core.l2_writes()
        cycles = (*(entry.end for entry in result.lists), result.cycles)
        return FlipOutcome("done", cycles, written(writes["address"], writes["mask"], writes["data"]))


def disagreement(rtl: FlipOutcome, iss: FlipOutcome) -> str:
    """What two outcomes differ in, or ""."""
    if rtl.kind != iss.kind:
        return f"rtl {rtl.kind} {rtl.text}, iss {iss.kind} {iss.text}"
    if rtl.cycles != iss.cycles:
        return f"cycles: rtl {rtl.cycles}, iss {iss.cycles}"
    if rtl.writes == iss.writes:
        return ""
    pairs = enumerate(zip(rtl.writes, iss.writes, strict=False))
    first = next((n for n, (ours, theirs) in pairs if ours != theirs), None)
    if first is None:
        return f"rtl writes {len(rtl.writes)} words, iss {len(iss.writes)}"
    ours, theirs = rtl.writes[first], iss.writes[first]
    return (f"write {first} of {len(rtl.writes)}: rtl word {ours[0]:#x} {ours[1].hex()}, "
            f"iss word {theirs[0]:#x} {theirs[1].hex()}")


def compare(name: str, seed: int, first: int, last: int, make: Maker) -> tuple[Counter[str], list[str]]:
    """Flips number `first` to `last` of a case: how they ended, and where simulator and RTL disagree."""
    compiled = compile_case(name, seed)
    limit = HANG_FACTOR * compiled.iss_cycles
    rtl = Rtl(compiled, random_inputs(compiled.network, seed), seed)
    iss = Iss(rtl)
    ends: Counter[str] = Counter()
    found = []
    healthy = rtl.run(None, limit)
    problem = disagreement(healthy, iss.run(None, limit))
    if problem:
        found.append(f"{name} without a flip: {problem}")
    for flip in make(compiled, name, seed, last)[first:]:
        ours, theirs = rtl.run(flip, limit), iss.run(flip, limit)
        ends["the same" if ours == healthy else "another result" if ours.kind == "done" else ours.kind] += 1
        problem = disagreement(ours, theirs)
        if problem:
            found.append(f"{name}, {flip}: {problem}")
    rtl.close()
    return ends, found


def share(count: int) -> int:
    """Of `count` flips, those of one case."""
    return -(-count // len(CASES))


def check(name: str, seed: int, first: int, last: int, make: Maker = program_flips) -> None:
    ends, found = compare(name, seed, first, last, make)
    print(f"{name}: {last - first} flips, {dict(ends)}, {len(found)} disagreements")
    again = f"repeat with: pytest regress/test_bitflips.py -k {name} --seed {seed}"
    assert not found, "\n".join([f"{len(found)} of {last - first} flips, seed {seed}", *found, again])
    assert ends["the same"] < last - first, "no flip changed anything: the programs are not where the flips are"


@pytest.mark.parametrize("name", CASES)
def test_flips(name, seed):
    check(name, seed, 0, share(FLIPS))


@pytest.mark.parametrize("name", ("dw3x3_odd", "concat_shifted", "chain", "packed3x3_s2"))
def test_flips_in_descriptors(name, seed):
    check(name, seed, 0, 70, descriptor_flips)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_more_flips(name, seed):
    check(name, seed, share(FLIPS), share(FLIPS + MORE_FLIPS))


def test_a_flip_that_only_one_sees_is_a_disagreement(seed):
    """The comparison notices most flips if only the RTL gets them."""
    compiled = compile_case("conv3x3_16", seed)
    limit = HANG_FACTOR * compiled.iss_cycles
    rtl = Rtl(compiled, random_inputs(compiled.network, seed), seed)
    iss = Iss(rtl)
    healthy = iss.run(None, limit)
    tried = program_flips(compiled, "conv3x3_16", seed, 16)
    seen = [bool(disagreement(rtl.run(flip, limit), healthy)) for flip in tried]
    changed = [iss.run(flip, limit) != healthy for flip in tried]
    rtl.close()
    assert seen == changed and sum(seen) >= 4
