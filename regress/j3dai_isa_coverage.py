# SPDX-License-Identifier: Apache-2.0
"""What the benches of J3DAI's cluster and controller are to have seen of its instruction set, and what there is no way
to see."""

from __future__ import annotations

from nncosim.hdl.j3dai.isa import INSTRUCTIONS, Opcode
from nncosim.hdl.j3dai.regs import Counter
from nncosim.tb.coverage.points import InstructionCoverage

__all__ = ["CONTROLLER_VALUED", "NEEDS", "cluster_coverage", "controller_coverage"]

NEEDS: dict[Opcode, tuple[str, ...]] = {
    Opcode.NOP: (), Opcode.LOOP: (), Opcode.HALT: ("sequencer_busy", "in_flight"),
    Opcode.FENCE: ("sequencer_busy", "in_flight"), Opcode.LDP: ("sequencer_busy", "set_busy"),
}  # fmt: skip
"""What an instruction waits for (MANUAL.md); all others wait for `sequencer_busy`."""
CONTROLLER_VALUED = (Opcode.LOOP, Opcode.WAIT, Opcode.SIGNAL)
"""Whose fields the controller itself understands."""

_ENDS = "a HALT ends its program: none follows it"
_TRAPS = "a LOOP of no turns, or without a body, traps: see test_traps"
_LOOPS = {"HALT > *": _ENDS, "LOOP.count zero": _TRAPS, "LOOP.body zero": _TRAPS}


def controller_coverage() -> InstructionCoverage:
    """Of the controller's bench, where the rest of the cluster is random: all opcodes, pairs, fields of those that it
    executes itself, and each thing that holds one up."""
    held = [f"{opcode.name} held by {name}" for opcode in Opcode for name in NEEDS.get(opcode, ("sequencer_busy",))]
    others = [*held, "WAIT held by its semaphore", "start held by its semaphore"]
    return InstructionCoverage("controller", INSTRUCTIONS, CONTROLLER_VALUED, _LOOPS, others)


def cluster_coverage() -> InstructionCoverage:
    """Of the cluster's bench, where results are compared: all opcodes, pairs, and fields of all but the controller's
    own; and each category of cycles, which the back-pressure of L1's ports and of the drain is."""
    valued = [opcode for opcode in Opcode if opcode not in CONTROLLER_VALUED]
    others = [f"cycle that counts as {each.name}" for each in Counter]
    return InstructionCoverage("cluster", INSTRUCTIONS, valued, {"HALT > *": _ENDS}, others)
