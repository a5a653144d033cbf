# SPDX-License-Identifier: Apache-2.0
"""What a waveform of the J3DAI SoC shows first: host, lists and descriptors, then each cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from nncosim.compiler.image.image import Image
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.hdl.j3dai.asm import decode_descriptors, disassemble, words_of
from nncosim.hdl.j3dai.isa import DESCRIPTOR_BYTES, DmpaOp, MacOp, Opcode, Space
from nncosim.hdl.j3dai.regs import L2_BASE, Reg
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.j3dai.inside import scope_of
from nncosim.tb.sim.waves import Line, SignalGroup, Trace, Waveform, trace_format, write_save_file
from nncosim.tb.waves.cause import cause_group
from vcd.gtkw import GTKWColor

__all__ = ["groups", "instruction_words", "show_first", "trace_conditions"]

_SOC = "j3dai_tb.soc"


def trace_conditions(trace: Trace | None, steps: int) -> dict[str, tuple[int, int]]:
    """A waveform's window as conditions on ports of the top. `steps`: lists of an inference.

    The cycles of a step are those of its `nncosim.tb.backend.Interval`: the last one lasts until the frame is done.
    """
    if trace is None:
        return {}
    conditions, step = trace.cycles("probe_cycle"), trace.step
    if step is not None:  # a step is a list
        conditions |= {"step": (step, step + 1 + (step == steps - 1)), "frames_done": (0, 1)}
    return conditions


def show_first(trace: Trace, platform: J3dai, image: Image) -> Waveform:
    """Write the save file of a finished waveform of an image's run; markers stand where steps begin, or as it says.

    A waveform with marks of its own, of a few cycles, gets rows of words, which come first.
    """
    shown = groups(platform, image)
    if trace.about:
        scope = scope_of(platform, trace.about)
        engine = {"control": "host", "l2": "dmpa"}.get(scope, scope).partition(".")[0]
        shown.sort(key=lambda group: group.title != engine)
        cause = cause_group(trace.path, f"{_SOC}.{scope}".rstrip("."), scope or trace.about)
        shown = [cause, *(replace(each, closed=each.title != engine) for each in shown)]
    if trace.marks and trace_format(trace.path) == "fst":
        from nncosim.tb.j3dai.rows import write_rows  # with a library that nothing else needs

        shown = [write_rows(trace.path, platform, image), *shown]
    return write_save_file(trace.path, shown, clock="j3dai_tb.clk", marks="j3dai_tb.step",
                           cycle="j3dai_tb.probe_cycle", open_scopes=("j3dai_tb", _SOC), at=trace.marks)


def groups(platform: J3dai, image: Image) -> list[SignalGroup]:
    """Signals worth seeing first, of an image's run."""
    code = instruction_words(image, platform)
    return [_run(), _host(), _dmpa(), *(_cluster(index, code) for index in range(platform.clusters))]


def _run() -> SignalGroup:
    top = "j3dai_tb"
    return SignalGroup("run", [
        Line(f"{top}.clk"), Line(f"{top}.probe_cycle", "cycle", "dec"), Line(f"{top}.frame"),
        Line(f"{top}.lists_done", "lists done", "dec"), Line(f"{top}.frames_done", "frames done", "dec"),
        Line(f"{top}.trap", color=GTKWColor.red), Line(f"{top}.error", color=GTKWColor.red),
    ])  # fmt: skip


def _host() -> SignalGroup:
    host = f"{_SOC}.host"
    return SignalGroup("host", [
        Line(f"{host}.pc", "host pc"), Line(f"{host}.sleeping"), Line(f"{host}.irq"),
        Line(f"{host}.mmio_w_en", color=GTKWColor.yellow), Line(f"{host}.mmio_r_en", color=GTKWColor.yellow),
        Line(f"{host}.mmio_addr", "register", words={reg.value: reg.name for reg in Reg}),
        Line(f"{host}.mmio_w_data"), Line(f"{host}.mmio_r_data"),
    ])  # fmt: skip


def _dmpa() -> SignalGroup:
    dmpa = f"{_SOC}.dmpa"
    operations = {op.value: op.name for op in DmpaOp}
    spaces = {space.value: space.name for space in Space}
    return SignalGroup("dmpa", [
        Line(f"{dmpa}.current_list", "list", "dec", color=GTKWColor.yellow), Line(f"{dmpa}.running"),
        Line(f"{dmpa}.current_addr", "descriptor at"), Line(f"{dmpa}.current.op", "op", words=operations),
        Line(f"{dmpa}.issue", color=GTKWColor.yellow), Line(f"{dmpa}.port_wait", color=GTKWColor.red),
        Line(f"{dmpa}.probe_waiting", "waits for clusters", "bin", color=GTKWColor.red),
        Line(f"{dmpa}.probe_semaphore", "waits for semaphore", "dec"),
        Line(f"{dmpa}.walk.l2", "l2 word"), Line(f"{dmpa}.paths.space", "space", words=spaces),
        Line(f"{dmpa}.walk.local", "local word"), Line(f"{dmpa}.walk.mask", "words", "bin"),
        Line(f"{dmpa}.current.clusters", "clusters", "bin"), Line(f"{dmpa}.signal_in", "signals to clusters"),
        Line(f"{dmpa}.signal_out", "signals from clusters"), Line(f"{dmpa}.list_done"),
        Line(f"{dmpa}.l2_re"), Line(f"{dmpa}.l2_we"), Line(f"{dmpa}.l2_addr"), Line(f"{dmpa}.l2_rdata"),
        Line(f"{dmpa}.l2_wdata"),
    ])  # fmt: skip


def _cluster(index: int, code: Mapping[int, str]) -> SignalGroup:
    at = f"{_SOC}.cluster{index}"
    control, sequence, fetch, drain = f"{at}.controller", f"{at}.sequencer", f"{at}.fetch", f"{at}.drain"
    opcodes = {op.value: op.name for op in Opcode}
    operations = {op.value: op.name for op in MacOp}
    lines = [
        Line(f"{control}.running"), Line(f"{control}.armed"), Line(f"{control}.trap", color=GTKWColor.red),
        Line(f"{control}.pc", "pc", "dec"), Line(f"{control}.opcode", "opcode", words=opcodes),
        Line(f"{control}.ir", "instruction", words=code, color=GTKWColor.yellow),
        Line(f"{control}.done", "executes"),
        Line(f"{control}.waits", color=GTKWColor.red), Line(f"{control}.waited", "waits for", "dec"),
        *(Line(f"{control}.semaphore{k}", format="dec") for k in range(8)),
        Line(f"{sequence}.busy", "mac busy"), Line(f"{sequence}.mac.op", "mac", words=operations),
        Line(f"{sequence}.jobs", "jobs left", "dec"), Line(f"{fetch}.go", "window fetch"),
        Line(f"{fetch}.address", "window at"), Line(f"{fetch}.staged"),
        Line(f"{sequence}.issue", color=GTKWColor.yellow), Line(f"{sequence}.first"),
        Line(f"{sequence}.lane", format="dec"), Line(f"{sequence}.pointer", "weight word"),
        Line(f"{sequence}.drain", "drain", color=GTKWColor.orange),
        Line(f"{at}.drain_ahead"), Line(f"{drain}.write", "drain writes", color=GTKWColor.orange),
        Line(f"{drain}.address", "drain at"), Line(f"{drain}.slots", "pixels", "bin"),
        Line(f"{at}.line.results", "results"),
        Line(f"{at}.signal_out", "signals", "bin"), Line(f"{at}.wr_valid", "load beat"),
        Line(f"{at}.wr_addr", "load at"), Line(f"{at}.rd_valid", "store beat"), Line(f"{at}.rd_addr", "store at"),
    ]  # fmt: skip
    return SignalGroup(f"cluster{index}", lines, closed=index > 0)


def instruction_words(image: Image, platform: J3dai) -> dict[int, str]:
    """Every instruction word of the image's cluster programs as a line of assembly."""
    found: dict[int, str] = {}
    for each in j3dai_notes(image).lists:
        raw = _l2(image, each.word * platform.word_bytes, each.descriptors * DESCRIPTOR_BYTES)
        for fields in decode_descriptors(raw):
            if fields["op"] != DmpaOp.LOAD.value or fields["local"] >> 14 != Space.IMEM:
                continue
            words = words_of(_l2(image, fields["l2"] * platform.word_bytes, fields["n0"] * platform.word_bytes))
            found |= {word: text for word, text in zip(words, _texts(words), strict=True) if word not in found}
    return found


def _texts(words: Iterable[int]) -> list[str]:
    return [disassemble([word])[0].partition(": ")[2].strip() for word in words]


def _l2(image: Image, offset: int, size: int) -> bytes:
    """Bytes of L2 as the image loads them; b"" where it loads none."""
    address = L2_BASE + offset
    for segment in image.segments:
        inside = address - segment.address
        if 0 <= inside < len(segment.data):
            return segment.data[inside:inside + size]
    return b""
