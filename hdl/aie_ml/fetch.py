# SPDX-License-Identifier: Apache-2.0
"""Fetch: the program counter, zero-overhead loops, the program memory, the instruction register."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.isa import INSTRUCTION_BYTES, LOOP_LEVELS, ControlOp, Instruction, Loop
from nncosim.hdl.logic import register, view
from nncosim.hdl.sram import Sram

__all__ = ["FETCH_CYCLES", "Fetch"]

FETCH_CYCLES = 3
"""From `start` to the issue of the first instruction."""


class Fetch(wiring.Component):
    """Three stages: the program memory's address; its data (where a LOOP is seen); the instruction register.

    Ports:
        start (In): begin at program counter 0 with no loop open. stop (In): what is issued now was the last.
        advance (In): all stages go on; else they hold.
        write (In, 4 bits), write_addr, write_data (In): words of 32 bits of the instruction at an address, for the
            configuration; only while nothing runs.
        valid (Out): an instruction is issued in this cycle if `advance`. instruction (Out, 128), issued_pc (Out).

    Args:
        instructions: That the program memory holds.
    """

    def __init__(self, instructions: int):
        self.instructions = instructions
        self.pc_bits = (instructions - 1).bit_length()
        super().__init__({
            "start": In(1), "stop": In(1), "advance": In(1), "write": In(4), "write_addr": In(self.pc_bits),
            "write_data": In(8 * INSTRUCTION_BYTES),
            "valid": Out(1), "instruction": Out(8 * INSTRUCTION_BYTES), "issued_pc": Out(self.pc_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.program = program = Sram(self.instructions, 8 * INSTRUCTION_BYTES, 32, ports=1)
        running, fetched = Signal(name="running"), Signal(name="fetched")
        pc, pc_d = Signal(self.pc_bits, name="pc"), register(self.pc_bits, "pc_d")
        instruction, issued_pc = register(8 * INSTRUCTION_BYTES, "ir"), register(self.pc_bits, "pc_e")
        m.d.comb += [
            program.addr.eq(Mux(self.write != 0, self.write_addr, pc)), program.r_en.eq(running & self.advance),
            program.w_en.eq(self.write), program.w_data.eq(self.write_data),
            self.instruction.eq(instruction), self.issued_pc.eq(issued_pc),
        ]
        with m.If(self.advance):
            m.d.sync += [
                fetched.eq(running), pc_d.eq(pc), self.valid.eq(fetched), instruction.eq(program.r_data),
                issued_pc.eq(pc_d),
            ]
            with m.If(self.stop):
                m.d.sync += [running.eq(0), fetched.eq(0), self.valid.eq(0)]
        with m.If(self.start):
            m.d.sync += [running.eq(1), fetched.eq(0), self.valid.eq(0)]
        self._loops(m, pc, view(Instruction, program.r_data).control, fetched)
        return m

    def _loops(self, m: Module, pc: Signal, control: Instruction, fetched: Signal) -> None:
        """The next program counter: the innermost loop's first one behind its last. A LOOP pushes."""
        level = Signal(range(LOOP_LEVELS + 1), name="level")
        first, last = (Array(register(self.pc_bits, f"{name}{k}") for k in range(LOOP_LEVELS))
                       for name in ("first", "last"))
        turns = Array(register(11, f"turns{k}") for k in range(LOOP_LEVELS))
        top, following = Signal(range(LOOP_LEVELS), name="top"), Signal(self.pc_bits, name="following")
        at_end, again = Signal(name="at_end"), Signal(name="again")
        loop = view(Loop, control.payload)
        m.d.comb += [
            top.eq(level - 1), following.eq(pc + 1), at_end.eq((level != 0) & (pc == last[top])),
            again.eq(at_end & (turns[top] != 1)),
        ]
        with m.If(self.advance):
            with m.If(again):
                m.d.sync += [pc.eq(first[top]), turns[top].eq(turns[top] - (turns[top] != 0))]
            with m.Else():
                m.d.sync += pc.eq(following)
            with m.If(at_end & ~again):
                m.d.sync += level.eq(level - 1)
            with m.Elif(fetched & (control.op == ControlOp.LOOP)):
                m.d.sync += [
                    level.eq(level + 1), first[level].eq(pc), last[level].eq(pc + loop.body - 1),
                    turns[level].eq(loop.count),
                ]
        with m.If(self.start):
            m.d.sync += [pc.eq(0), level.eq(0)]
