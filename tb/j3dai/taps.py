# SPDX-License-Identifier: Apache-2.0
"""What passes the boundaries between J3DAI's blocks, recorded alike by the RTL and by the simulator.

The RTL's side is Verilog that looks into the hierarchy, so that the design needs no ports for it; a simulation has it
only if it is built with it. The simulator's side are structs of the same layout (`iss_seen.h`). A record has the cycle
in which the simulator knows of it: what the RTL shows some stages later is dated back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nncosim.hdl.j3dai.isa import KEPT_BITS, Descriptor, DmpaOp
from nncosim.hdl.j3dai.regs import EntryCounter, TransferKind
from nncosim.hdl.j3dai.requantizer import REQUANT_STAGES
from nncosim.hdl.j3dai.timing import STORE_TO_DATA, record_lines
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.boundaries import layouts
from nncosim.tb.boundaries.layouts import HEAD, MOST_BITS
from nncosim.tb.boundaries.taps import Tapping, Watch, flags, slices
from nncosim.tb.j3dai.wire_taps import WIRES, wire_groups

__all__ = ["LATE", "part_words", "seen_header", "seen_layouts", "tap_layouts", "watch"]

_OTHER_BITS = 96 + 32 + 16 * 16  # of a record with words of a line
_COPY_STAGE = 6  # in which accumulators are copied to the shadow registers
_OPERAND_STAGE = 3
_L2_DATA = 2  # cycles after the issue of a beat or a fetch: words of L2 in order


LATE = {
    "bus": 1, "list_read": _L2_DATA, "l2_read": _L2_DATA, "stored": STORE_TO_DATA, "window": _OPERAND_STAGE,
    "operation": _OPERAND_STAGE, "sums": _COPY_STAGE, "shadow": _COPY_STAGE + 1,
    "requantized": _COPY_STAGE + 1 + REQUANT_STAGES, "parameters": 2,
}  # fmt: skip
"""Cycles from an event's until it is recorded, by layout."""


def part_words(platform: J3dai) -> int:
    """Words of a line in a record: all where they fit, else half of them, and so on."""
    words = platform.banks
    while _OTHER_BITS + words * platform.word_bits > MOST_BITS:
        words //= 2
    return words


def seen_layouts(platform: J3dai) -> dict[str, np.dtype[np.void]]:
    """Layouts of the records as they are compared, by name; ``unit``: the cluster, or 0.

        control: levels of a cluster when one changes. execute: an instruction. fetch: a phase of a window is read.
        window: what enters the window register; `offered`: which words the fetch said are padding. operation: a
        micro-operation with its operands. sums: an NCB's accumulators when a job ends. shadow: its shadow registers
        then, as far as the copy says what they hold. requantized: a pixel's results, of NCB `ncb` of each requantizer,
        dated to its last partial product from the issue on. parameters: a line of LDP. result: a word of results at
        the drain.
        write: a word written to a memory of a cluster. l2_read: words for a LOAD. load, store: a beat at the clusters;
        stored: a STORE's words from a cluster. signal_in, signal_out: semaphores told. levels: of the DMPA when one
        changes. account: what it tells its counters, when that changes. list_read: a line of descriptors, fetched from
        L2. descriptor: is taken. beat: is issued. bus: the host's access. registers: what the control registers tell
        the others. trapped: who has, and whether the chip says so, when that changes; of the cycle before.
        wires: groups of `nncosim.tb.j3dai.wire_taps` that differ between their ends. entry: what is offered to the
        entry port and what it does, in each cycle in which there is anything; what the host's memories get of it.
    """
    word, pes, part = platform.word_bytes, platform.pes_per_ncb, part_words(platform)
    line: list[Any] = [("part", "<u4"), ("data", "u1", (part, word))]
    of_one: list[Any] = [("word", "<u4"), ("data", "u1", (word,))]
    fields: dict[str, list[Any]] = {
        "control": [("flags", "<u4"), ("semaphores", "u1", (8,))],
        "execute": [("pc", "<u4"), ("instruction", "<u8")],
        "fetch": [("address", "<u4")],
        "window": [("offered", "<u2"), ("padded", "<u2"), ("extend", "<u2"), ("negative", "<u2"), *line],
        "operation": [("lane", "<u2"), ("flags", "<u2"), ("pointer", "<u4"), ("operands", "<u2", (pes,)),
                      ("weights", "u1", (word,))],
        "sums": [("ncb", "<u2"), ("copy", "<u2"), ("sums", "<i4", (pes,))],
        "shadow": [("ncb", "<u2"), ("copy", "<u2"), ("values", "<i4", (pes,))],
        "requantized": [("pixel", "<u2"), ("ncb", "<u2"), ("data", "u1", (word,))],
        "parameters": [("set", "<u4"), *line],
        "result": of_one,
        "write": [("space", "<u4"), *of_one],
        "load": [("clusters", "<u4"), ("space", "<u4"), ("address", "<u4"), ("mask", "<u4"), *line],
        "store": [("clusters", "<u4"), ("address", "<u4")],
        "l2_read": line,
        "stored": line,
        "signal_in": [("semaphores", "<u4")],
        "signal_out": [("semaphores", "<u4")],
        "levels": [("flags", "<u4"), ("semaphores", "u1", (platform.clusters, 8))],
        "account": [("flags", "<u4"), ("words", "<u4"), ("copies", "<u4")],
        "list_read": [("address", "<u4"), *line],
        "descriptor": [("address", "<u4"), ("list", "<u4"), ("fields", "<u8", (4,))],
        "beat": [("kind", "<u4"), ("l2", "<u4"), ("local", "<u4"), ("mask", "<u4"), ("list", "<u4")],
        "bus": [("write", "<u4"), ("register", "<u4"), ("value", "<u4")],
        "registers": [("flags", "<u4"), ("start", "<u4"), ("start_pc", "<u4"), ("push_addr", "<u4")],
        "trapped": [("units", "<u4"), ("port", "<u4")],
        "wires": [("groups", "<u4")],
        "entry": [("offers", "<u4"), ("payload", "u1", (word,)), ("does", "<u4"), ("l2", "<u4"),
                  ("word", "u1", (word,)), ("host", "<u4"), ("host_data", "<u4"), ("memories", "<u4"),
                  ("memory_word", "<u4"), ("memory_data", "<u4"), ("status", "<u4"),
                  ("counters", "<u4", (len(EntryCounter),))],
    }  # fmt: skip
    return {name: np.dtype([*HEAD, *more]) for name, more in fields.items()}


def tap_layouts(platform: J3dai) -> dict[str, np.dtype[np.void]]:
    """Those of the RTL's records: words come a line, or a part of one, at a time; word i of ``data`` counts if bit i of
    ``mask`` is set, and lies at ``address`` + i, or at ``address[i]``."""
    words, part = part_words(platform), (part_words(platform), platform.word_bytes)
    lines: dict[str, list[Any]] = {
        "result": [("address", "<u4"), ("mask", "<u4"), ("data", "u1", part)],
        "write": [("space", "<u4"), ("mask", "<u4"), ("address", "<u2", (words,)), ("data", "u1", part)],
    }
    return {**seen_layouts(platform), **{name: np.dtype([*HEAD, *more]) for name, more in lines.items()}}


def seen_header(platform: J3dai) -> list[str]:
    """The structs of `seen_layouts` for the simulator, and `PART`: words of a line in a record."""
    return [f"constexpr int PART = {part_words(platform)};", *layouts.seen_header(seen_layouts(platform))]


class _Tapping(Tapping):
    """Builds the `Watch` of a platform."""

    def __init__(self, platform: J3dai, path: str):
        super().__init__(tap_layouts(platform))
        self.platform, self.path = platform, path

    def lines(self, name: str, unit: int, when: str, dated: int, words: Sequence[str], kept: str | None = None,
              **values: str) -> None:
        """Record the words of a line, in parts; with `kept` only those whose bit it has, and 0 for the others."""
        part = part_words(self.platform)
        for low in range(0, len(words), part):
            chosen = [words[i] if kept is None else f"{kept}[{i}] ? {words[i]} : 0" for i in range(low, low + part)]
            self.log(name, unit, when, dated, part=f"32'd{low}", data=chosen, **values)


def watch(platform: J3dai, path: str) -> Watch:
    """The RTL's taps. `path`: hierarchical name of the SoC."""
    tapping = _Tapping(platform, path)
    _host(tapping)
    _entry(tapping)
    _dmpa(tapping)
    for k in range(platform.clusters):
        _control(tapping, k, f"{path}.cluster{k}")
        _operands(tapping, k, f"{path}.cluster{k}")
        _results(tapping, k, f"{path}.cluster{k}")
    return tapping.out


def _host(t: _Tapping) -> None:
    host, control = f"{t.path}.host", f"{t.path}.control"
    address = f"{host}.mmio_addr"
    reads, where = t.out.delayed(f"{host}.mmio_r_en", 1, 1), t.out.delayed(address, 8, 1)
    t.log("bus", 0, reads, 1, write="0", register=where, value=f"{host}.mmio_r_data")
    t.log("bus", 0, f"{host}.mmio_w_en", 0, write="1", register=f"8'({address})", value=f"{host}.mmio_w_data")
    start, push = f"{control}.start", f"{control}.push"
    levels = flags(f"{control}.irq", f"{control}.in_frame")
    t.log("registers", 0, f"{start} != 0 || {push} || {t.out.changed(levels, 2)}", 0,
          flags=flags(f"{control}.irq", f"{control}.in_frame", push), start=start,
          start_pc=f"{start} != 0 ? 32'({control}.start_pc) : 0",
          push_addr=f"{push} ? {control}.push_addr : 0")  # fmt: skip
    units, port = flags(*(f"{t.path}.cluster{k}.trap" for k in range(t.platform.clusters))), f"{t.path}.trap"
    units = f"{{{t.path}.dmpa.trap, 8'({units})}}"
    now = f"{{{port}, {units}}}"
    t.log("trapped", 0, f"{now} != 0 && {t.out.changed(now, 10)}", 1, units=units, port=port)
    groups = t.out.wire(len(WIRES) + t.platform.clusters, flags(*wire_groups(t.platform, t.path)))
    t.log("wires", 0, f"{groups} != 0", 0, groups=groups)


def _entry(t: _Tapping) -> None:
    entry, port, host, bits = f"{t.path}.entry", f"{t.path}.l2_port", f"{t.path}.host", t.platform.word_bits
    valid, ready, status, counters = (f"{entry}.{name}" for name in ("i__valid", "i__ready", "status", "counters"))
    offers = flags(valid, *(f"{entry}.{name}" for name in ("l2_busy", "host_ready", "input_free", "boot")))
    does = flags(ready, *(f"{entry}.{name}" for name in ("run", "trap", "frame", "host_valid")),
                 f"({entry}.host_valid & {entry}.host_imem)", f"{port}.entry_write")
    stores = f"{entry}.host_valid && {entry}.host_ready"
    memory = [f"({entry}.host_imem ? {host}.imem.{name} : {host}.dmem.{name})" for name in ("w_addr", "w_data")]
    active = f"{valid} || !{ready} || {status} != 0 || {port}.entry_write || {entry}.host_valid || {entry}.frame"
    t.log("entry", 0, f"{active} || {t.out.changed(counters, 32 * len(EntryCounter))}", 0, offers=offers,
          payload=f"{valid} ? {entry}.i__payload : 0", does=does, l2=f"{port}.entry_write ? 32'({port}.l2_addr) : 0",
          word=f"{port}.entry_write ? {bits}'({port}.l2_w_data) : 0",
          host=f"{entry}.host_valid ? 32'({entry}.host_addr) : 0",
          host_data=f"{entry}.host_valid ? {entry}.host_data : 0",
          memories=f"{stores} ? 32'({flags(f'{host}.imem.w_en', f'{host}.dmem.w_en')}) : 0",
          memory_word=f"{stores} ? 32'({memory[0]}) : 0", memory_data=f"{stores} ? {memory[1]} : 0",
          status=status, counters=slices(counters, len(EntryCounter), 32))


def _dmpa(t: _Tapping) -> None:
    p, dmpa = t.platform, f"{t.path}.dmpa"
    walk, paths, fetch = f"{dmpa}.walk", f"{dmpa}.paths", f"{dmpa}.fetch"
    semaphores = [f"{dmpa}.semaphores.semaphore{c}_{i}" for c in range(p.clusters) for i in range(8)]
    levels = flags(f"{dmpa}.running", f"{dmpa}.trap", f"{dmpa}.idle", f"3'({dmpa}.free)",
                   f"{fetch}.next_valid", f"{fetch}.next_valid & {dmpa}.semaphores.ready")
    now = "{" + ", ".join([levels, *(f"8'({each})" for each in semaphores)]) + "}"
    t.log("levels", 0, t.out.changed(now, 8 + 8 * len(semaphores)), 0, flags=levels, semaphores=semaphores)
    t.lines("list_read", 0, f"{fetch}.arriving", _L2_DATA, slices(f"{fetch}.line", p.banks, p.word_bits),
            address=t.out.delayed(f"{fetch}.fetch_addr", 20, _L2_DATA))
    t.log("descriptor", 0, f"{dmpa}.take", 0, address=f"{fetch}.next_addr", list=f"{fetch}.next_list",
          fields=slices(f"{fetch}.next", 4, 64))
    _account(t, f"{dmpa}.transfer_counters")
    gathers, moves = _gathers(f"{dmpa}.current"), f"({paths}.load || {paths}.store)"
    reads = f"{paths}.load && !{gathers}"
    mask = t.out.wire(p.banks, t.out.delayed(f"{walk}.mask", p.banks, _L2_DATA))
    words = slices(f"{dmpa}.l2_rdata", p.banks, p.word_bits)
    t.lines("l2_read", 0, t.out.delayed(reads, 1, _L2_DATA), _L2_DATA, words, mask)
    t.log("beat", 0, f"{dmpa}.issue", 0, kind=flags(f"{paths}.load", f"{paths}.store", f"{dmpa}.finished"),
          l2=f"{moves} && !{gathers} ? 32'({walk}.l2) : 0", local=f"{moves} ? 32'({walk}.\\local ) : 0",
          mask=f"{moves} ? 32'({walk}.mask) : 0", list=f"{dmpa}.current_list")
    mask = f"{dmpa}.wr_mask"
    t.lines("load", 0, f"{dmpa}.wr_valid != 0", 0, slices(f"{dmpa}.wr_data", p.banks, p.word_bits), mask,
            clusters=f"{dmpa}.wr_valid", space=f"{dmpa}.wr_space", address=f"{dmpa}.wr_addr", mask=mask)
    t.log("store", 0, f"{dmpa}.rd_valid != 0", 0, clusters=f"{dmpa}.rd_valid", address=f"{dmpa}.rd_addr")
    wanted = t.out.wire(p.banks, t.out.delayed(f"{walk}.mask", p.banks, STORE_TO_DATA))
    for c in range(p.clusters):
        reads = t.out.delayed(f"{dmpa}.rd_valid >> {c}", 1, STORE_TO_DATA - 1)
        words = slices(f"{t.path}.cluster{c}.rd_data", p.banks, p.word_bits)
        t.lines("stored", c, reads, STORE_TO_DATA, words, wanted)
        told = f"{dmpa}.signal_in[{8 * c} +: 8]"
        t.log("signal_in", c, f"{told} != 0", 0, semaphores=told)
        told = f"{t.path}.cluster{c}.signal_out"
        t.log("signal_out", c, f"{told} != 0", 0, semaphores=told)


def _account(t: _Tapping, counters: str) -> None:
    """What the counters of transfers are told: kind, and words and clusters of a beat, where they count."""
    names = ("beat", "done", "wait_data", "wait_turn", "wait_port", "fetch", "fetch_wait")
    told = [f"{counters}.{name}" for name in names]
    kind = f"({flags(*told[:5])} != 0 ? {counters}.kind : 2'd0)"
    loads = f"{counters}.beat && {counters}.kind == {TransferKind.LOAD.value}"
    words, copies = f"({counters}.beat ? 16'({counters}.words) : 0)", f"({loads} ? 4'({counters}.copies) : 0)"
    bits = flags(kind, *told)
    now = f"{{16'{words}, 4'{copies}, {bits}}}"
    t.log("account", 0, t.out.changed(now, 29), 0, flags=bits, words=words, copies=copies)


def _gathers(descriptor: str) -> str:
    """Whether a descriptor, as bits, is a GATHER."""
    place = Descriptor.as_shape()["op"]
    return f"({descriptor}[{place.offset} +: {place.width}] == {DmpaOp.GATHER.value})"


def _control(t: _Tapping, k: int, at: str) -> None:
    control = f"{at}.controller"
    semaphores = [f"{control}.semaphore{i}" for i in range(8)]
    levels = flags(f"{control}.running", f"{control}.armed", f"{control}.trap", f"{at}.sequencer.busy",
                   f"{at}.settle.settled", f"2'({at}.drain.set_busy)", f"{at}.fetch.staged",
                   f"{at}.fetch.staged & {at}.fetch.staged_last", f"{control}.waits")
    now = "{" + ", ".join([levels, *(f"8'({each})" for each in semaphores)]) + "}"
    t.log("control", k, t.out.changed(now, 10 + 64), 0, flags=levels, semaphores=semaphores)
    t.log("execute", k, f"{control}.executes != 0", 0, pc=f"{control}.pc", instruction=f"{control}.ir")
    t.log("fetch", k, f"{at}.fetch.go", 0, address=f"{at}.fetch.address")


def _operands(t: _Tapping, k: int, at: str) -> None:
    p, window, seq = t.platform, f"{at}.window", f"{at}.sequencer"
    pes, stage = p.pes_per_ncb, _OPERAND_STAGE
    loaded = t.out.delayed(f"{window}.load_s2", 1, 1)
    t.lines("window", k, loaded, stage, [f"{window}.window{i}" for i in range(pes)],
            offered=_offered(t, at), padded=f"{window}.padded",
            extend=f"{window}.sext_s3", negative=f"{window}.one_s3")
    pointer, ends = t.out.delayed(f"{seq}.pointer", 14, stage), t.out.delayed(f"{seq}.drain", 1, stage)
    reads = t.out.delayed(f"{seq}.weight", 1, stage)
    own, weighted = f"{at}.own_s3", f"{at}.weighted_s3"
    levels = flags(own, weighted, f"{at}.first_s3", f"{at}.max_s3", f"{at}.table_s3", ends, reads)
    words = [f"{own} ? 0 : {each}" for each in slices(f"{window}.common_s3", pes, 9)]
    weights = [f"{weighted} ? {each} : 0" for each in slices(f"{at}.weights_s3", p.word_bytes, 8)]
    t.log("operation", k, f"{at}.issue_s3", stage, lane=f"{at}.lane_s3", flags=levels,
          pointer=f"{weighted} ? 32'({pointer}) : 0", operands=words, weights=weights)


def _offered(t: _Tapping, at: str) -> str:
    """Which words of the window in use the fetch said are padding, phase by phase."""
    pes, number = t.platform.pes_per_ncb, len(t.out.declarations)
    staged, current = f"staged{number}", f"current{number}"
    t.out.declarations.append(f"reg [{pes - 1}:0] {staged}, {current};")
    words, padded = (f"{at}.fetch.{name}" for name in ("words2", "padded2"))
    t.out.always += [f"{staged} <= ({words} & {padded}) | (~{words} & {staged});",
                     f"if ({at}.window.load_s2) {current} <= {staged};"]
    return current


def _results(t: _Tapping, k: int, at: str) -> None:
    p, drain, shared = t.platform, f"{at}.drain", t.platform.ncbs_per_requantizer
    copies = flags(f"{drain}.copy_s6", f"{drain}.copy_low_s6", f"{drain}.copy_high_s6")
    for n in range(p.ncbs_per_cluster):
        ncb = f"{at}.group{n // shared}.ncb{n % shared}"
        t.log("sums", k, f"{copies} != 0", _COPY_STAGE, ncb=f"32'd{n}", copy=copies,
              sums=[f"{ncb}.pe{i}_acc_s6" for i in range(p.pes_per_ncb)])
    copied = t.out.wire(3, t.out.delayed(copies, 3, 1))
    # Of a job that only keeps, the low halves mean nothing.
    kept = f"({copied} == 3'd4 ? 32'hffffffff << {KEPT_BITS} : 32'hffffffff)"
    for n in range(p.ncbs_per_cluster):
        ncb = f"{at}.group{n // shared}.ncb{n % shared}"
        t.log("shadow", k, f"{copied} != 0", _COPY_STAGE + 1, ncb=f"32'd{n}", copy=copied,
              values=[f"{ncb}.pe{i}_shadow_s7 & {kept}" for i in range(p.pes_per_ncb)])
    results = slices(f"{at}.line.results", p.word_bytes // shared, 8)
    t.log("requantized", k, f"{drain}.collect_en", _COPY_STAGE + 1 + REQUANT_STAGES, pixel=f"{drain}.collect_pixel",
          ncb=f"{drain}.collect_ncb" if shared > 1 else "0", data=[*results, *["0"] * (p.word_bytes - len(results))])
    lines, records = record_lines(p.pes_per_ncb), [f"{at}.wmem.bank{b}.r_data" for b in range(p.banks)]
    t.lines("parameters", k, f"{lines}'({at}.ldp_2) != 0", 2, records, set=f"{at}.ldp_set_1")
    part = part_words(p)
    words, rows = [f"{at}.writes.drain_words__{i}" for i in range(p.banks)], p.bank_bits
    for low in range(0, p.banks, part):
        # At the drain a cycle before the port.
        t.log("result", k, f"{drain}.write", -1, address=f"32'({drain}.address) + 32'd{low}",
              mask=f"{part}'({drain}.slots >> {low})", data=words[low:low + part])
        for space, name in enumerate(("l1", "wmem", "imem")):
            banks = [f"{at}.{name}.bank{b}" for b in range(low, low + part)]
            mask = flags(*(f"{bank}.w_en" for bank in banks))
            t.log("write", k, f"{mask} != 0", 0, space=f"32'd{space}", mask=mask,
                  address=[f"{{{bank}.w_addr, {rows}'d{b}}}" for b, bank in enumerate(banks, low)],
                  data=[f"{bank}.w_data" for bank in banks])


