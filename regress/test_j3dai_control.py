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
from nncosim.tb.model import Model
from nncosim.tb.verilate import build

CLUSTERS = 3
# By hand, from the manual: an independent witness of the table.
OFFSETS = {"ID": 0x00, "FRAMES_REQUESTED": 0x04, "FRAMES_DONE": 0x08, "ERROR": 0x0C, "DMPA_PUSH": 0x10,
           "DMPA_STATUS": 0x14, "LISTS_DONE": 0x18, "CLUSTER_START": 0x1C, "CLUSTER_STATUS": 0x20,
           "IRQ_LISTS_SEEN": 0x24, "IRQ_FRAMES_SEEN": 0x28, "COUNTER_SELECT": 0x2C, "COUNTER_VALUE": 0x30}
# What the DMPA counts of LOADs, STOREs, SYNCs and line fetches; see the manual, section 4.
TRANSFERS = {*((0, k) for k in range(7)), *((1, k) for k in range(6)), (2, 0), (2, 4), (2, 5), (3, 1), (3, 6)}
STORED = ("FRAMES_DONE", "ERROR", "IRQ_LISTS_SEEN", "IRQ_FRAMES_SEEN", "COUNTER_SELECT")


@pytest.fixture
def model():
    with Model(build(emit_design(ControlRegisters(CLUSTERS), "control_bench"), "control_bench")) as model:
        model.reset()
        yield model


class Registers:
    """The registers by the manual's words: state, and what each input of this cycle makes of it."""

    def __init__(self) -> None:
        self.stored = dict.fromkeys(STORED, 0)
        self.requested = 0

    def value(self, name: str, inputs: dict[str, int]) -> int:
        """What a read in this cycle gives."""
        if name in self.stored:
            return self.stored[name]
        if name == "COUNTER_VALUE":
            engine, counter = self.stored["COUNTER_SELECT"] & 15, self.stored["COUNTER_SELECT"] >> 4 & 7
            if engine >= 10 and (engine - 10, counter) in TRANSFERS:
                return inputs["transfers"] >> (32 * (7 * (engine - 10) + counter)) & 0xFFFFFFFF
            position = {**{k: k for k in range(CLUSTERS)}, DMPA_ENGINE: CLUSTERS, HOST_ENGINE: CLUSTERS + 1}.get(engine)
            if position is None or counter >= len(Counter):
                return 0
            return inputs["counters"] >> (32 * (6 * position + counter)) & 0xFFFFFFFF
        running, armed, trap = inputs["running"], inputs["armed"], inputs["cluster_trap"]
        return {
            "ID": 0x4A334441, "FRAMES_REQUESTED": self.requested, "LISTS_DONE": inputs["lists_done"],
            "DMPA_STATUS": inputs["dmpa_free"] | inputs["dmpa_busy"] << 8 | inputs["dmpa_trap"] << 16,
            "CLUSTER_STATUS": running | armed | armed << 8 | trap << 16,
        }.get(name, 0)

    def irq(self, inputs: dict[str, int]) -> bool:
        return (inputs["lists_done"] != self.stored["IRQ_LISTS_SEEN"]
                or self.requested != self.stored["IRQ_FRAMES_SEEN"])


def compare(model, registers, seed):
    """Drive random accesses and inputs, and hold every output and every word read against `registers`."""
    rng, names = random.Random(seed), {offset: name for name, offset in OFFSETS.items()}
    widths = {name: bits for name, (direction, bits) in model.ports.items() if direction == "in"}
    expected = None
    inputs = {name: 0 for name in widths if name not in ("clk", "rst", "addr", "r_en", "w_en", "w_data", "frame")}
    for _ in range(4000):
        for name in rng.sample(sorted(inputs), 2):
            inputs[name] = rng.getrandbits(widths[name]) if name != "lists_done" else rng.randrange(4)
            model[name] = inputs[name]
        offset = rng.choice([*OFFSETS.values(), 0x34, 0xFC])
        name = names.get(offset, "")
        read, write, frame = rng.random() < 0.5, rng.random() < 0.4, rng.random() < 0.05
        data = rng.choice([rng.getrandbits(32), rng.randrange(128), rng.randrange(4)])
        model.addr, model.r_en, model.w_en, model.w_data, model.frame = offset, read, write, data, frame
        assert model.irq == registers.irq(inputs)
        assert model.in_frame == (registers.requested != registers.stored["FRAMES_DONE"])
        assert model.push == (write and name == "DMPA_PUSH") and (not model.push or model.push_addr == data)
        started = data % (1 << CLUSTERS) if write and name == "CLUSTER_START" else 0
        assert model.start == started and (not started or model.start_pc == data >> 16 & 511)
        assert model.frames_done == registers.stored["FRAMES_DONE"] and model.error == registers.stored["ERROR"]
        if read:
            expected = registers.value(name, inputs)
        if write and name in registers.stored:
            registers.stored[name] = data
        registers.requested += frame
        model.tick()
        if expected is not None:  # also when nothing was read: the value is held
            assert model.r_data == expected, f"register {name} at {offset:#x}"


def test_random_accesses(model, seed):
    compare(model, Registers(), seed)


@pytest.mark.parametrize(("name", "bit"), [(name, bit) for name in ("ID", "DMPA_STATUS", "LISTS_DONE", "COUNTER_VALUE")
                                           for bit in (0, 9)] + [("CLUSTER_STATUS", 9), ("FRAMES_REQUESTED", 0)])
def test_a_wrong_bit_of_a_register_is_noticed(model, seed, name, bit):
    class Wrong(Registers):
        def value(self, register, inputs):
            return super().value(register, inputs) ^ (register == name) << bit

    with pytest.raises(AssertionError, match="register"):
        compare(model, Wrong(), seed)


def test_an_interrupt_for_lists_alone_is_noticed(model, seed):
    class Wrong(Registers):
        def irq(self, inputs):
            return inputs["lists_done"] != self.stored["IRQ_LISTS_SEEN"]

    with pytest.raises(AssertionError):
        compare(model, Wrong(), seed)


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
        "J3DAI_TRANSFER_WAIT_PORT == 0x60, \"fields\");\n"
        "void f(void) { J3DAI_ERROR = J3DAI_ID; }\n")

    def compiles() -> bool:
        return subprocess.run([sys.executable, "-m", "ziglang", "cc", "-target", "riscv32-freestanding-none", "-c",
                               "-Werror", "main.c"], cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert compiles()
    (tmp_path / "main.c").write_text('#include "j3dai.h"\nvoid f(void) { J3DAI_ID = 1; }\n')
    assert not compiles()
