# SPDX-License-Identifier: Apache-2.0
"""What the machine is: sizes, command format, address map, cycle counts."""

import ctypes
from dataclasses import dataclass
from typing import ClassVar

from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Op, Tensor
from nncosim.compiler.ir.operators import Conv
from nncosim.platforms.base import Engine, Memory, Platform

MATRIX, STREAM = "matrix", "stream"
WEIGHTS = Layout("O I H W")
BASES = {"data": 0x0000_0000, MATRIX: 0x1000_0000, STREAM: 0x2000_0000, "kernels": 0x3000_0000}
CONV, POOL_MAX, POOL_SUM, ADD, REQUANTIZE = range(1, 6)


@dataclass(frozen=True)
class Toy(Platform):
    """lanes: multipliers of the matrix engine. data_bytes: the one data memory, which both engines reach."""

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy: two engines, no host"
    movers = ()
    lanes: int = 16
    data_bytes: int = 32 * 1024

    @property
    def memories(self) -> tuple[Memory, ...]:
        sizes = {"data": self.data_bytes, MATRIX: 4096, STREAM: 4096, "kernels": 65536}
        return tuple(Memory(name, size, 8) for name, size in sizes.items())

    @property
    def engines(self) -> tuple[Engine, ...]:
        return (Engine(MATRIX, self.lanes), Engine(STREAM, 0))


TOY = Toy()


class Command(ctypes.LittleEndianStructure):
    """One command of either engine. `task` is reported when it ends; it starts when all in `waits` have been."""

    _fields_ = [(name, ctypes.c_uint32) for name in (
        "opcode", "task", "a", "b", "out", "weights", "records",
        "a_type", "b_type", "out_type",  # bits, plus 256 for signed
        "channels", "height", "width", "out_channels", "out_height", "out_width",
        "kernel_h", "kernel_w", "stride_h", "stride_w", "pad_top", "pad_left", "groups", "dilation_h", "dilation_w",
    )] + [("pad_value", ctypes.c_int32), ("waits", ctypes.c_uint64)]  # fmt: skip


class Record(ctypes.LittleEndianStructure):
    """Requantization of one channel: clip((a * m0 + b * m1 + c) >> s, lo, hi)."""

    _fields_ = [(name, ctypes.c_int64) for name in ("m0", "m1", "c", "s", "lo", "hi")]


def layout_of(tensor: Tensor) -> Layout:
    """Channel after channel; two elements a byte where they have 4 bits or less."""
    return Layout("C H W", 4 if tensor.type.bits <= 4 else 8)


def cycles_of(platform: Toy, command: Command) -> int:
    """The one cycle model, of compiler and machine alike."""
    elements = command.out_channels * command.out_height * command.out_width
    taps = command.kernel_h * command.kernel_w
    if command.opcode == CONV:
        return 12 + -(-elements * taps * (command.channels // command.groups) // platform.lanes)
    return 20 + 2 * elements * max(taps, 1)


def describe(op: Op, inputs: tuple[Tensor, ...], output: Tensor) -> Command:
    """The command of an operator, without addresses."""
    a, b, out = (layout_of(t).bits + 256 * t.type.signed for t in (inputs[0], inputs[-1], output))
    pool = POOL_SUM if op.kind == "pool" and op.mode == "sum" else POOL_MAX
    names = {"pool": pool, "add": ADD, "requantize": REQUANTIZE, "conv": CONV}
    command = Command(names[op.kind], a_type=a, b_type=b, out_type=out, kernel_h=1, kernel_w=1, groups=1)
    command.channels, command.height, command.width = inputs[0].shape
    command.out_channels, command.out_height, command.out_width = output.shape
    if op.kind in ("conv", "pool"):
        command.kernel_h, command.kernel_w = op.weights.shape[2:] if isinstance(op, Conv) else op.kernel
        command.stride_h, command.stride_w = op.stride
        command.pad_top, command.pad_left = op.pads[:2]
        command.pad_value = op.pad_value
    if isinstance(op, Conv):
        command.groups, (command.dilation_h, command.dilation_w) = op.groups, op.dilation
    return command
