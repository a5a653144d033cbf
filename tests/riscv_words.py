# SPDX-License-Identifier: Apache-2.0
"""Instructions of a RISC-V as words, for tests that write a program by hand."""

T0, T1, T2, T3, T4 = 5, 6, 7, 28, 29
WFI = 0x10500073


def lui(rd: int, value: int) -> int:
    return value << 12 | rd << 7 | 0x37


def addi(rd: int, rs: int, value: int) -> int:
    return (value & 0xFFF) << 20 | rs << 15 | rd << 7 | 0x13


def lw(rd: int, offset: int, rs: int) -> int:
    return offset << 20 | rs << 15 | 2 << 12 | rd << 7 | 0x03


def sw(value: int, offset: int, rs: int) -> int:
    return (offset >> 5) << 25 | value << 20 | rs << 15 | 2 << 12 | (offset & 31) << 7 | 0x23


def branch(kind: int, a: int, b: int, offset: int) -> int:
    """kind 0: beq, 1: bne."""
    o = offset & 0x1FFF
    low = (o >> 1 & 15) << 8 | (o >> 11 & 1) << 7
    return (o >> 12) << 31 | (o >> 5 & 63) << 25 | b << 20 | a << 15 | kind << 12 | low | 0x63


def jump(offset: int) -> int:
    o = offset & 0x1FFFFF
    return (o >> 20) << 31 | (o >> 1 & 0x3FF) << 21 | (o >> 11 & 1) << 20 | (o >> 12 & 0xFF) << 12 | 0x6F
