# SPDX-License-Identifier: Apache-2.0
"""Registers that a host sees: one table for RTL, simulators, the C header and the manual."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, Value, ValueLike
from amaranth.hdl._ast import Statement

__all__ = ["Register", "c_header", "connect_reads", "connect_writes", "packed", "stored_registers"]


@dataclass(frozen=True)
class Register:
    """One of 32 bits, accessed as a whole. `reg`: byte offset. `access`: "ro", "rw" or "wo"."""

    reg: enum.IntEnum
    access: str
    text: str


def stored_registers(registers: Iterable[Register]) -> dict[enum.IntEnum, Signal]:
    """A signal for each register that keeps what the host writes."""
    return {entry.reg: Signal(32, name=entry.reg.name.lower()) for entry in registers if entry.access == "rw"}


def packed(fields: Mapping[int, Value]) -> Value:
    """A register's value from its fields by their lowest bit."""
    value: list[Value] = []
    at = 0
    for low, field in fields.items():
        value += [Const(0, low - at), field]
        at = low + len(field)
    return Cat(value)


def connect_reads(m: Module, addr: Value, r_en: Value, r_data: Value, values: Mapping[enum.IntEnum, ValueLike]) -> None:
    """The register at byte address `addr` is in `r_data` after a cycle with `r_en`; 0 where there is none."""
    with m.If(r_en):
        with m.Switch(addr[2:]):
            for reg, value in values.items():
                with m.Case(reg >> 2):
                    m.d.sync += r_data.eq(value)
            with m.Default():
                m.d.sync += r_data.eq(0)


def connect_writes(
    m: Module, addr: Value, w_en: Value, w_data: Value, stored: Mapping[enum.IntEnum, Signal],
    effects: Mapping[enum.IntEnum, Statement],
) -> None:
    """A write in a cycle with `w_en`: `stored` registers keep it; `effects` hold in that cycle."""
    with m.If(w_en):
        with m.Switch(addr[2:]):
            for reg, register in stored.items():
                with m.Case(reg >> 2):
                    m.d.sync += register.eq(w_data)
            for reg, effect in effects.items():
                with m.Case(reg >> 2):
                    m.d.comb += effect


def c_header(
    prefix: str, title: str, constants: Mapping[str, int], registers: Iterable[Register], base: int
) -> str:
    """Text of a C header: registers as lvalues ``<PREFIX>_<REG>``, constants as ``<PREFIX>_<NAME>``.

    Read-only registers are `const volatile`.

    Args:
        title: of the first line. base: address of the registers.
    """
    lines = [f"/* Generated: {title}. */", f"#ifndef {prefix}_H", f"#define {prefix}_H", "#include <stdint.h>", ""]
    lines += [f"#define {prefix}_{name} {value:#x}u" for name, value in constants.items()]
    for entry in registers:
        const = "const " if entry.access == "ro" else ""
        lines += ["", f"/* {entry.text} ({entry.access}) */",
                  f"#define {prefix}_{entry.reg.name} (*(volatile {const}uint32_t *){base + entry.reg:#010x}u)"]
    return "\n".join([*lines, "", "#endif", ""])
