# SPDX-License-Identifier: Apache-2.0
"""J3DAI's control registers against a plain model, and the C header against the register table."""

import random
import re
import subprocess
import sys

import pytest
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.control import DMPA_ENGINE, HOST_ENGINE, ControlRegisters
from nncosim.hdl.j3dai.header import c_header
from nncosim.hdl.j3dai.regs import REGISTERS, Counter, Reg
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build

CLUSTERS = (1, 3, 8)
# By hand, from the manual: an independent witness of the table.
OFFSETS = {"ID": 0x00, "FRAMES_REQUESTED": 0x04, "FRAMES_DONE": 0x08, "ERROR": 0x0C, "DMPA_PUSH": 0x10,
           "DMPA_STATUS": 0x14, "LISTS_DONE": 0x18, "CLUSTER_START": 0x1C, "CLUSTER_STATUS": 0x20,
           "IRQ_LISTS_SEEN": 0x24, "IRQ_FRAMES_SEEN": 0x28, "COUNTER_SELECT": 0x2C, "COUNTER_VALUE": 0x30,
           "INPUTS_FREE": 0x34, "ENTRY_STATUS": 0x38}
# What the DMPA counts of LOADs, STOREs, SYNCs and line fetches; see the manual, section 4.
TRANSFERS = {*((0, k) for k in range(7)), *((1, k) for k in range(7)), (2, 0), (2, 4), (2, 5), (3, 1), (3, 6)}
STORED = ("FRAMES_DONE", "ERROR", "IRQ_LISTS_SEEN", "IRQ_FRAMES_SEEN", "COUNTER_SELECT", "INPUTS_FREE")


@pytest.fixture(scope="module", params=CLUSTERS)
def bench(request):
    vlt = 'public_flat_rw -module "control_bench" -var "requested"'
    with Model(build(emit_design(ControlRegisters(request.param), "control_bench"), "control_bench", vlt=vlt,
                     optimize="-O0")) as model:
        yield model


@pytest.fixture
def model(bench):
    """After a reset with everything else asserted."""
    for name, (direction, bits) in bench.ports.items():
        if direction == "in" and name not in ("clk", "rst"):
            bench[name] = (1 << bits) - 1
    bench.addr = OFFSETS["ERROR"]
    bench.reset()
    for name, (direction, _) in bench.ports.items():
        if direction == "in":
            bench[name] = 0
    return bench


def clusters_of(model: Model) -> int:
    return model.ports["running"][1]


class Registers:
    """The registers by the manual's words: state, and what each input of this cycle makes of it."""

    def __init__(self, clusters: int) -> None:
        self.clusters = clusters
        self.stored = dict.fromkeys(STORED, 0)
        self.requested = 0
        self.expected = None
        self.input_free = 0

    def value(self, name: str, inputs: dict[str, int]) -> int:
        """What a read in this cycle gives."""
        if name in self.stored:
            return self.stored[name]
        if name == "COUNTER_VALUE":
            engine, counter = self.stored["COUNTER_SELECT"] & 15, self.stored["COUNTER_SELECT"] >> 4 & 7
            if engine >= 10 and (engine - 10, counter) in TRANSFERS:
                return inputs["transfers"] >> (32 * (7 * (engine - 10) + counter)) & 0xFFFFFFFF
            if engine == 14:
                return inputs["entry_counters"] >> 32 * counter & 0xFFFFFFFF
            count = self.clusters
            position = {**{k: k for k in range(count)}, DMPA_ENGINE: count, HOST_ENGINE: count + 1}.get(engine)
            if position is None or counter >= len(Counter):
                return 0
            return inputs["counters"] >> (32 * (6 * position + counter)) & 0xFFFFFFFF
        running, armed, trap = inputs["running"], inputs["armed"], inputs["cluster_trap"]
        return {
            "ID": 0x4A334441, "FRAMES_REQUESTED": self.requested, "LISTS_DONE": inputs["lists_done"],
            "DMPA_STATUS": inputs["dmpa_free"] | inputs["dmpa_busy"] << 8 | inputs["dmpa_trap"] << 16,
            "CLUSTER_STATUS": running | armed | armed << 8 | trap << 16, "ENTRY_STATUS": inputs["entry_status"],
        }.get(name, 0)

    def irq(self, inputs: dict[str, int]) -> bool:
        return (inputs["lists_done"] != self.stored["IRQ_LISTS_SEEN"]
                or self.requested != self.stored["IRQ_FRAMES_SEEN"])


def drive(rng, model, inputs):
    """New values on some inputs, now and then all zeros or all ones."""
    for name in rng.sample(sorted(inputs), 2):
        bits = model.ports[name][1]
        inputs[name] = rng.choice([0, (1 << bits) - 1, rng.getrandbits(bits), rng.getrandbits(bits)])
    for name, value in inputs.items():
        model[name] = value


def cycle(model, registers, inputs, offset, *, read=False, write=False, frame=False, entry_frame=False,
          data=0, low=0):
    """One cycle: every output against `registers`, then the edge, then what was read."""
    name = {place: name for name, place in OFFSETS.items()}.get(offset, "")
    model.addr, model.r_en, model.w_en, model.w_data, model.frame = offset | low, read, write, data, frame
    model.entry_frame = entry_frame
    assert model.irq == registers.irq(inputs)
    assert model.in_frame == (registers.requested != registers.stored["FRAMES_DONE"])
    assert model.push == (write and name == "DMPA_PUSH") and (not model.push or model.push_addr == data)
    started = data % (1 << registers.clusters) if write and name == "CLUSTER_START" else 0
    assert model.start == started and (not started or model.start_pc == data >> 16 & 511)
    assert model.frames_done == registers.stored["FRAMES_DONE"] and model.error == registers.stored["ERROR"]
    assert model.input_free == registers.input_free
    registers.input_free = registers.requested == registers.stored["INPUTS_FREE"]
    if read:
        registers.expected = registers.value(name, inputs)
    if write and name in registers.stored:
        registers.stored[name] = data
    registers.requested = (registers.requested + frame + entry_frame) % (1 << 32)
    model.tick()
    if registers.expected is not None:  # also when nothing was read: the value is held
        assert model.r_data == registers.expected, f"register {name} at {offset:#x}"


def compare(model, registers, seed):
    """Drive random accesses and inputs, and hold every output and every word read against `registers`."""
    rng = random.Random(seed)
    inputs = {name: 0 for name, (direction, _) in model.ports.items() if direction == "in" and name not in (
        "clk", "rst", "addr", "r_en", "w_en", "w_data", "frame", "entry_frame")}
    for _ in range(2000):
        drive(rng, model, inputs)
        if rng.random() < 0.3:  # one bit off, or equal
            model.lists_done = inputs["lists_done"] = registers.stored["IRQ_LISTS_SEEN"] ^ rng.choice(
                [0, 1 << rng.randrange(32)])
        near = rng.choice([registers.requested, inputs["lists_done"]])
        data = rng.choice([rng.getrandbits(32), rng.randrange(128), 0xFFFFFFFF, near, near ^ 1 << rng.randrange(32)])
        cycle(model, registers, inputs, rng.choice([*OFFSETS.values(), 4 * rng.randrange(64)]), low=rng.randrange(4),
              read=rng.random() < 0.5, write=rng.random() < 0.4, frame=rng.random() < 0.1,
              entry_frame=rng.random() < 0.1, data=data)


def test_after_reset(model):
    """Every address reads as 0 where it is no constant and no input; what was read before is 0 too."""
    registers = Registers(clusters_of(model))
    inputs = {name: 0 for name, (direction, _) in model.ports.items() if direction == "in"}
    assert model.r_data == 0
    for offset in range(0, 256, 4):
        cycle(model, registers, inputs, offset, read=True)


def test_every_counter(model, seed):
    """All 128 selections, with bits of COUNTER_SELECT above that mean nothing."""
    rng, registers = random.Random(seed), Registers(clusters_of(model))
    inputs = {name: 0 for name, (direction, _) in model.ports.items() if direction == "in"}
    for name in ("counters", "transfers", "entry_counters"):
        model[name] = inputs[name] = rng.getrandbits(model.ports[name][1])
    for select in range(128):
        noise = rng.getrandbits(25) << 7
        cycle(model, registers, inputs, OFFSETS["COUNTER_SELECT"], write=True, data=select | noise)
        cycle(model, registers, inputs, OFFSETS["COUNTER_VALUE"], read=True)


def test_requests_wrap(model, seed):
    """FRAMES_REQUESTED has 32 bits, and so have the comparisons with it."""
    rng, registers = random.Random(seed), Registers(clusters_of(model))
    inputs = {name: 0 for name, (direction, _) in model.ports.items() if direction == "in"}
    for start in (0x7F, 0xFE, 0xFFFE, 0xFFFFFE, 0x7FFFFFFE, 0xFFFFFFFE):
        model.register("requested")[:] = registers.requested = start
        model.eval()
        for _ in range(4):
            for name in ("FRAMES_DONE", "IRQ_FRAMES_SEEN"):
                cycle(model, registers, inputs, OFFSETS[name], write=True, data=registers.requested)
                bit = 1 << rng.randrange(32)
                cycle(model, registers, inputs, OFFSETS[name], write=True, data=registers.requested ^ bit)
            cycle(model, registers, inputs, OFFSETS["FRAMES_REQUESTED"], read=True, frame=True)
            cycle(model, registers, inputs, OFFSETS["FRAMES_DONE"], write=True, data=registers.requested, frame=True)


def test_comparisons_look_at_every_bit(model):
    """The interrupt and `in_frame` at numbers that differ in one bit."""
    registers = Registers(clusters_of(model))
    inputs = {name: 0 for name, (direction, _) in model.ports.items() if direction == "in"}
    for bit in range(32):
        model.lists_done = inputs["lists_done"] = 1 << bit
        for name in ("IRQ_LISTS_SEEN", "IRQ_FRAMES_SEEN", "FRAMES_DONE"):
            for data in (1 << bit, 0):
                cycle(model, registers, inputs, OFFSETS[name], write=True, data=data)
                cycle(model, registers, inputs, 0xFC)
        cycle(model, registers, inputs, OFFSETS["IRQ_LISTS_SEEN"], write=True, data=1 << bit)
        cycle(model, registers, inputs, 0xFC)


def test_random_accesses(model, seed):
    compare(model, Registers(clusters_of(model)), seed)


@pytest.mark.parametrize(("name", "bit"), [(name, bit) for name in ("ID", "DMPA_STATUS", "LISTS_DONE", "COUNTER_VALUE")
                                           for bit in (0, 9)] + [("CLUSTER_STATUS", 9), ("FRAMES_REQUESTED", 0)])
def test_a_wrong_bit_of_a_register_is_noticed(model, seed, name, bit):
    class Wrong(Registers):
        def value(self, register, inputs):
            return super().value(register, inputs) ^ (register == name) << bit

    with pytest.raises(AssertionError, match="register"):
        compare(model, Wrong(clusters_of(model)), seed)


def test_an_interrupt_for_lists_alone_is_noticed(model, seed):
    class Wrong(Registers):
        def irq(self, inputs):
            return inputs["lists_done"] != self.stored["IRQ_LISTS_SEEN"]

    with pytest.raises(AssertionError):
        compare(model, Wrong(clusters_of(model)), seed)


def test_every_register_has_its_place():
    assert {reg.name: reg.value for reg in Reg} == OFFSETS
    assert [entry.reg for entry in REGISTERS] == list(Reg)
    assert {entry.reg.name for entry in REGISTERS if entry.access == "rw"} == set(STORED)


def test_c_header(tmp_path):
    """Compiles; offsets, sizes and `const` are as the table says."""
    text = c_header(PLATFORM)
    found = dict(re.findall(r"#define J3DAI_(\w+) \(\*\(volatile (?:const )?uint32_t \*\)(0x\w+)u\)", text))
    assert {name: int(address, 16) - 0x10000000 for name, address in found.items()} == OFFSETS
    (tmp_path / "j3dai.h").write_text(text)
    (tmp_path / "main.c").write_text(
        '#include "j3dai.h"\n'
        "_Static_assert((unsigned)&J3DAI_LISTS_DONE == 0x10000018, \"address\");\n"
        "_Static_assert(J3DAI_L2_WORDS == 327680 && J3DAI_CLUSTERS == 6, \"sizes\");\n"
        "_Static_assert(J3DAI_SPACE_WMEM == 0x4000 && J3DAI_COUNTER_IDLE == 0x50 && J3DAI_ENGINE_FETCH == 13 && "
        "J3DAI_ENGINE_ENTRY == 14 && "
        "J3DAI_TRANSFER_WAIT_PORT == 0x60, \"fields\");\n"
        "void f(void) { J3DAI_ERROR = J3DAI_ID; }\n")

    def compiles() -> bool:
        return subprocess.run([sys.executable, "-m", "ziglang", "cc", "-target", "riscv32-freestanding-none", "-c",
                               "-Werror", "main.c"], cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert compiles()
    (tmp_path / "main.c").write_text('#include "j3dai.h"\nvoid f(void) { J3DAI_ID = 1; }\n')
    assert not compiles()
