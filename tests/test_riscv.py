# SPDX-License-Identifier: Apache-2.0
"""C for a RISC-V, compiled and run: constants, variables, several files, any addresses; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from nncosim.compiler.errors import CompileError
from nncosim.compiler.riscv import AddressRange, compile_c
from nncosim.tb.iss.hart import AddressMap, Reason, RiscvHost

CODE, DATA = AddressRange(0x1C00_0000, 4096), AddressRange(0x1C08_0000, 4096)
MMIO, DONE = 0x1A10_0000, 0x20
START = f"""
__attribute__((naked, section(".start"))) void _start(void) {{
    __asm__ volatile("li sp, {DATA.address + 2 * DATA.size}\\n call main\\n 1: j 1b");
}}
"""
KERNEL = """
#include "shape.h"
static const signed char weights[N] = {3, -5, 7, 11};
static int calls;
int dot(const signed char *x) {
    int sum = calls++;
    for (int i = 0; i < N; i++) sum += weights[i] * x[i];
    return sum;
}
"""
MAIN = f"""
#include "shape.h"
int dot(const signed char *x);
signed char x[N] = {{-128, 127, 1, 2}};
void main(void) {{ dot(x); *(volatile int *){MMIO + DONE:#x} = dot(x); }}
"""
FILES = {"start.c": START, "kernel.c": KERNEL, "main.c": MAIN, "shape.h": "#define N 4\n"}


class Mailbox:
    """A device with one register, which takes no time."""

    cycle, value = 0, None

    def run(self, until: int, asleep: bool = False) -> int:
        self.cycle = max(self.cycle, until)
        return Reason.REACHED

    def read(self, reg: int) -> int:
        return 0

    def write(self, reg: int, value: int) -> None:
        assert reg == DONE
        self.value = value


def test_a_program_of_several_files_gives_its_result() -> None:
    program = compile_c(FILES, CODE, DATA)
    imem, dmem = np.zeros(CODE.size, np.uint8), np.zeros(2 * DATA.size, np.uint8)
    for memory, contents in ((imem, program.code), (dmem, program.data)):
        assert len(contents) % 4 == 0
        memory[: len(contents)] = np.frombuffer(contents, np.uint8)
    device = Mailbox()
    host = RiscvHost(device, imem, dmem, AddressMap(CODE.address, DATA.address, MMIO, DONE), CODE.address)
    assert host.run(10_000) == Reason.REACHED and host.fault == ""
    expected = 3 * -128 - 5 * 127 + 7 + 22 + 1  # called once before
    assert device.value == expected & 0xFFFF_FFFF


def test_the_same_bytes_again() -> None:
    assert compile_c({**FILES, "shape.h": "#define N 4\n\n"}, CODE, DATA) == compile_c(FILES, CODE, DATA)


def test_a_program_without_data() -> None:
    program = compile_c({"start.c": START, "main.c": "void main(void) {}"}, CODE, DATA)
    assert program.code and not program.data


@pytest.mark.parametrize(("files", "code", "message"), [
    ({"a.c": "int x = ;"}, CODE, r"did not compile; .*a\.c:1"),
    ({"a.c": "void _start(void) {}"}, AddressRange(CODE.address, 0), "did not compile; .*imem"),
    ({"a.c": "int only_data = 1;"}, CODE, r"does not begin at 0x1c000000: it needs a _start"),
])  # fmt: skip
def test_what_is_refused(files: dict[str, str], code: AddressRange, message: str) -> None:
    with pytest.raises(CompileError, match=f"(?s){message}"):
        compile_c(files, code, DATA)
