# SPDX-License-Identifier: Apache-2.0
"""Who waits for whom: the probes of a stopped SoC in words."""

from __future__ import annotations

from collections.abc import Mapping

from nncosim.hdl.j3dai.isa import DmpaOp, Opcode
from nncosim.platforms.j3dai import J3dai

__all__ = ["describe"]


def describe(platform: J3dai, probes: Mapping[str, int]) -> str:
    """One line an engine, from the top's probe ports (see `nncosim.hdl.j3dai.soc.Soc`)."""
    lines = [_host(probes), _dmpa(platform, probes)]
    if probes["probe_trap"] >> 9 & 1:
        lines.append("entry port: trap: a wrong packet (see EntryError in regs.py)")
    if not probes["probe_run"]:
        lines[0] = "host: waits since reset for the entry port's GO"
    lines += [_cluster(probes, k) for k in range(platform.clusters)]
    return "\n".join(lines)


def _host(probes: Mapping[str, int]) -> str:
    doing = "sleeps until a list or a frame is done" if probes["probe_host_sleeping"] else "runs"
    error = f", error code {probes['error']}" if probes["error"] else ""
    return (
        f"host: {doing} (pc {probes['probe_host_pc']:#x}{error}); {probes['frames_done']} frames and "
        f"{probes['lists_done']} lists done"
    )


def _dmpa(platform: J3dai, probes: Mapping[str, int]) -> str:
    word = probes["probe_dmpa"]
    descriptor, op, semaphore, idle, waiting = (
        word & 0xFFFFF, word >> 20 & 0xF, word >> 24 & 7, word >> 27 & 1, word >> 32 & 0xFF,
    )  # fmt: skip
    if probes["probe_trap"] >> 8 & 1:
        return f"dmpa: trap at descriptor {descriptor:#x}"
    if idle:
        return "dmpa: idle, waits for the host to queue a list"
    name = DmpaOp(op).name if op in {o.value for o in DmpaOp} else f"operation {op}"
    if waiting:
        names = ", ".join(f"cluster{k}" for k in range(platform.clusters) if waiting >> k & 1)
        return f"dmpa: {name} at descriptor {descriptor:#x} waits for output semaphore {semaphore} of {names}"
    return f"dmpa: {name} at descriptor {descriptor:#x} in progress"


def _cluster(probes: Mapping[str, int], k: int) -> str:
    word = probes["probe_cluster"] >> 32 * k & 0xFFFFFFFF
    pc, opcode, semaphore, waits = word & 0x1FF, word >> 9 & 0x3F, word >> 15 & 7, word >> 18 & 1
    try:
        name = Opcode(opcode).name
    except ValueError:
        name = f"unknown opcode {opcode}"
    if probes["probe_trap"] >> k & 1:
        return f"cluster{k}: trap at pc {pc} ({name})"
    if not probes["probe_running"] >> k & 1:
        if probes["probe_armed"] >> k & 1:
            return f"cluster{k}: armed, waits for its program (input semaphore 7, from the DMPA)"
        return f"cluster{k}: idle"
    if waits:
        return f"cluster{k}: pc {pc} waits for input semaphore {semaphore} (from the DMPA)"
    return f"cluster{k}: pc {pc}, {name} in progress"
