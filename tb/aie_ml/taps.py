# SPDX-License-Identifier: Apache-2.0
"""What passes the boundaries between the blocks of the array's tiles, recorded alike by the RTL and by the simulator.

The RTL's side is a module bound into each kind of tile, which is compiled by itself; a simulation has it only if it
is built with it. The simulator's side are structs of the same layout (`iss_seen.h`). A record has the cycle in which
the RTL does what it tells: data that memory gives in the cycle after the access is dated back by one, and registers
that the simulator sees written when the next cycle begins are dated back there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from nncosim.hdl.aie_ml.dma import DmaShape, tile_dma
from nncosim.hdl.aie_ml.dma_channel import DmaState
from nncosim.hdl.aie_ml.isa import LATENCY, Instruction, MoveOp, StoreOp
from nncosim.hdl.aie_ml.locks import LOCKS
from nncosim.hdl.aie_ml.memory import PAIRS
from nncosim.hdl.aie_ml.memory_tile import MEMORY_LOCKS, MEMORY_TILE, memory_dma
from nncosim.hdl.aie_ml.ports import MEMORY_PORTS, TILE_PORTS, Ports
from nncosim.hdl.aie_ml.registers import ACC_WRITES, PART_BITS, VECTOR_WRITES
from nncosim.hdl.aie_ml.tile import TILE
from nncosim.platforms.aie_ml_generation import Generation
from nncosim.tb.boundaries.layouts import HEAD
from nncosim.tb.boundaries.taps import Tapping, flags, slices

__all__ = ["SLOTS", "seen_layouts", "taps", "unit_of"]

SLOTS = ("load a", "load b", "store")
_LANE_BITS = 32  # that a memory writes or leaves
_OWN = 2  # requesters of a core tile's locks before its channels: its core, the east neighbour's


def unit_of(column: int, row: int) -> int:
    """Of a tile, in records."""
    return column << 4 | row


def seen_layouts(generation: Generation) -> dict[str, np.dtype[np.void]]:
    """Layouts of the records, by name; ``unit``: `unit_of` the tile.

        lock: is granted to `asker`, in the order of requests; what it holds `after` it. dma_state: a channel is in
        another state. descriptor: is loaded, with the offset of its iteration. moved: a word between a channel and its
        stream, with the address that it has in memory. access: a channel's to memory. write: what a bank is told to
        write, of a line. stream: a word enters the switch
        (`place` 0), crosses it (1), leaves it for a neighbour (2), at a port. state: of a core,
        when it is another one. issue: of an instruction; address: what its slots take from pointers. requantized: what
        the unit gives. cascade: a word goes to the east (`end` 0), or has come from the west (1). load, store: of the
        own memory. west: what is asked of the west neighbour's; east: what the east neighbour's core gets or puts here.
        vector, accumulator: registers are written, at the end of the cycle.
    """
    beat: list[Any] = [("data", "u1", (generation.beat_bytes,))]
    line: list[Any] = [("mask", "<u4"), ("data", "u1", (generation.line_bytes,))]
    word: list[Any] = [("data", "u1", (generation.word_bytes,))]
    fields: dict[str, list[Any]] = {
        "lock": [("asker", "<u2"), ("op", "<u2"), ("lock", "<u4"), ("amount", "<i4"), ("after", "<u4")],
        "dma_state": [("channel", "<u2"), ("state", "<u2"), ("descriptor", "<u4")],
        "descriptor": [("channel", "<u4"), ("offset", "<u4"), ("words", "<u4", (8,))],
        "moved": [("channel", "<u2"), ("padding", "<u2"), ("address", "<u4"), *word],
        "access": [("channel", "<u2"), ("write", "<u2"), ("line", "<u4"), *line],
        "write": [("line", "<u4"), *line],
        "stream": [("place", "<u2"), ("port", "<u2"), *word],
        "state": [("state", "<u4")],
        "issue": [("pc", "<u4"), ("instruction", "u1", (16,))],
        "address": [("used", "<u2"), ("load_a", "<u2"), ("load_b", "<u2"), ("store", "<u2")],
        "requantized": beat,
        "cascade": [("end", "<u4"), ("data", "u1", (PART_BITS // 8,))],
        "load": [("slot", "<u4"), ("beat", "<u4"), *beat],
        "store": [("beat", "<u4"), *beat],
        "west": [("asks", "<u4"), ("beats", "<u2", (4,)), *beat],
        "east": [("slot", "<u4"), ("beat", "<u4"), *beat],
        "vector": [("port", "<u4"), ("register", "<u4"), *beat],
        "accumulator": [("port", "<u2"), ("part", "<u2"), ("register", "<u4"), ("data", "u1", (PART_BITS // 8,))],
    }  # fmt: skip
    return {name: np.dtype([*HEAD, *more]) for name, more in fields.items()}


def taps(generation: Generation, memory_tile: bool) -> dict[str, str]:
    """Verilog beside a tile's, file name to text: a module that is bound into it."""
    tile = MEMORY_TILE if memory_tile else TILE
    t = Tapping(seen_layouts(generation))
    at = f"{tile}.tile"
    ports, shape = (MEMORY_PORTS, memory_dma(generation)) if memory_tile else (TILE_PORTS, tile_dma(generation))
    locks, requests = (MEMORY_LOCKS, shape.channels) if memory_tile else (LOCKS, _OWN + shape.channels)
    _locks(t, f"{at}.locks", locks, requests)
    _dma(t, at, shape)
    _writes(t, f"{at}.data", _memory_tile_banks(generation) if memory_tile else _tile_banks(generation), generation)
    _streams(t, f"{at}.switch", ports, generation)
    if not memory_tile:
        _core(t, f"{at}.core", generation)
        _accesses(t, at, generation)
        _registers(t, f"{at}.core", generation)
    return {f"{tile}_taps.sv": _module(tile, t)}


_UNIT = "{22'd0, column, row}"


def _module(tile: str, t: Tapping) -> str:
    declarations = "".join(f"    {line}\n" for line in t.out.declarations)
    always = "".join(f"        {line}\n" for line in t.out.always)
    recording = "".join(f"            {line}\n" for line in t.out.recording)
    return f"""// SPDX-License-Identifier: Apache-2.0
// Generated by nncosim.tb.aie_ml.taps.
/* verilator tracing_off */
module {tile}_taps (input clk, input rst, input [5:0] column, input [3:0] row);
    import "DPI-C" function void nncosim_log(input int stream, input int count, input bit [2047:0] record);

    reg [63:0] cycle;
    reg awake = 0;  // before reset, registers hold anything
{declarations}
    always @(posedge clk) begin
        cycle <= rst ? 0 : cycle + 1;
        if (rst) awake <= 1;
{always}        if (awake && !rst) begin
{recording}        end
    end
endmodule

bind {tile} {tile}_taps taps (.clk(clk), .rst(rst), .column(column), .row(row));
"""


def _chosen(conditions: Iterable[str], values: Iterable[str]) -> str:
    """The value whose condition holds, of which there is at most one."""
    return "(" + "".join(f"{when} ? {value} : " for when, value in zip(conditions, values, strict=True)) + "0)"


def _locks(t: Tapping, at: str, locks: int, requests: int) -> None:
    grants = [f"{at}.request__{k}__grant" for k in range(requests)]
    told = {
        "asker": _chosen(grants, (f"16'd{k}" for k in range(requests))),
        "op": _chosen(grants, (f"16'({at}.request__{k}__op)" for k in range(requests))),
        "lock": _chosen(grants, (f"32'({at}.request__{k}__lock)" for k in range(requests))),
        "amount": _chosen(grants, (f"{{{{25{{{at}.request__{k}__value[6]}}}}, {at}.request__{k}__value}}"
                                   for k in range(requests))),
    }  # fmt: skip
    bits = {"asker": 16, "op": 16, "lock": 32, "amount": 32}
    was = {name: t.out.wire(bits[name], t.out.delayed(text, bits[name], 1)) for name, text in told.items()}
    values = t.out.wire(6 * locks, flags(*(f"{at}.values__{k}" for k in range(locks))))
    served = t.out.delayed("(" + " || ".join(grants) + ")", 1, 1)
    t.log("lock", _UNIT, served, 1, after=f"{values}[6 * {was['lock']} +: 6]", **was)


def _dma(t: Tapping, at: str, shape: DmaShape) -> None:
    fmt, streams = shape.format, shape.streams
    load, idle = DmaState.LOAD.value, DmaState.IDLE.value
    for k in range(shape.channels):
        kind, index = ("mm2s", k - streams) if k >= streams else ("s2mm", k)
        own, memory, number = f"{at}.dma.{kind}{index}", f"{at}.dma.memory__{k}", f"16'd{k}"
        state = f"{own}.state"
        before = t.out.wire(3, t.out.delayed(state, 3, 1))
        t.log("dma_state", _UNIT, f"{state} != {before}", 0, channel=number, state=state,
              descriptor=f"{state} == {idle} ? 0 : 32'({own}.bd)")
        t.log("descriptor", _UNIT, f"{state} == {load}", 0, channel=f"32'd{k}", offset=f"{own}.fetch__offset",
              words=[f"{own}.fetch__words[{32 * i} +: 32]" if 32 * i < fmt.width else "0" for i in range(8)])
        goes, line = f"{memory}__valid && {memory}__grant", f"32'({memory}__addr)"
        if k < streams:
            t.log("moved", _UNIT, f"{own}.moves", 0, channel=number, address=f"{own}.at",
                  data=f"{at}.dma.s2mm__{index}__payload")
            words = slices(f"{memory}__w_data", 4, fmt.word)
            t.log("access", _UNIT, goes, 0, channel=number, write="1", line=line, mask=f"{memory}__w_mask",
                  data=[f"{memory}__w_mask[{i}] ? {word} : 0" for i, word in enumerate(words)])
        else:
            zero = f"{own}.zero"
            where = t.out.delayed(f"{zero} ? 0 : {own}.at", 32, 1)
            t.log("moved", _UNIT, t.out.delayed(f"{own}.moves", 1, 1), 1, channel=number,
                  padding=t.out.delayed(zero, 1, 1), address=where, data=f"{own}.out.i__payload")
            t.log("access", _UNIT, t.out.delayed(goes, 1, 1), 1, channel=number, line=t.out.delayed(line, 32, 1),
                  data=f"{memory}__r_data")


def _tile_banks(generation: Generation) -> list[tuple[int, int]]:
    """Of each bank, its first line and how many lines further the next row's is."""
    rows = generation.beats // PAIRS
    return [(2 * (bank // 2) * rows + bank % 2, 2) for bank in range(2 * PAIRS)]


def _memory_tile_banks(generation: Generation) -> list[tuple[int, int]]:
    return [(bank, generation.memory_banks) for bank in range(generation.memory_banks)]


def _writes(t: Tapping, at: str, banks: list[tuple[int, int]], generation: Generation) -> None:
    lanes = generation.line_bits // _LANE_BITS
    for number, (first, step) in enumerate(banks):
        bank = f"{at}.bank{number}"
        data = slices(f"{bank}.w_data", lanes, _LANE_BITS)
        t.log("write", _UNIT, f"{bank}.w_en != 0", 0, line=f"32'({bank}.w_addr) * {step} + {first}",
              mask=f"{bank}.w_en",
              data=[f"{bank}.w_en[{i}] ? {word} : 0" for i, word in enumerate(data)])


def _streams(t: Tapping, at: str, ports: Ports, generation: Generation) -> None:
    ends = [(0, f"{at}.in{port}.i", port) for port in range(ports.slaves)]
    ends += [(1, f"{at}.out{port}.i", port) for port in range(ports.masters)]
    ends += [(2, f"{at}.link{port}.o", port) for port in range(ports.local, ports.masters)]
    for place, end, port in ends:
        t.log("stream", _UNIT, f"{end}__valid && {end}__ready", 0, place=f"16'd{place}", port=f"16'd{port}",
              data=f"{end}__payload")


def _instruction(at: str, slot: str, name: str) -> str:
    """A field of the instruction that is next."""
    place = Instruction.as_shape()[slot]
    within = place.shape.as_shape()[name] if hasattr(place.shape, "as_shape") else place.shape[name]
    return f"{at}.fetch.instruction[{place.offset + within.offset} +: {within.width}]"


def _core(t: Tapping, at: str, generation: Generation) -> None:
    waits = f"{at}.waits"
    state = t.out.wire(3, f"{at}.issue ? 1 : {waits}[0] ? 2 : {waits}[2] ? 4 : {waits}[1] ? 3 : {at}.busy ? 5 : 0")
    t.log("state", _UNIT, f"{state} != {t.out.wire(3, t.out.delayed(f'rst ? 0 : {state}', 3, 1))}", 0, state=state)
    t.log("issue", _UNIT, f"{at}.issue", 0, pc=f"{at}.issued_pc",
          instruction=slices(f"{at}.fetch.instruction", 4, 32))
    stores = _instruction(at, "store", "op")
    used = [_instruction(at, "load_a", "valid"), _instruction(at, "load_b", "valid"), f"{stores} != 0"]
    t.log("address", _UNIT, f"{at}.issue && {flags(*used)} != 0", 0, used=flags(*used),
          **{name: f"{use} ? 16'({at}.agus.at__{k}) : 0"
             for k, (name, use) in enumerate(zip(("load_a", "load_b", "store"), used, strict=True))})
    moves = f"{_instruction(at, 'move', 'op')} == {MoveOp.SRS.value}"
    goes = f"{at}.issue && ({stores} == {StoreOp.VST_SRS.value} || {moves})"
    t.log("requantized", _UNIT, f"{_advancing(t, at, goes, LATENCY['srs'] - 1)} && {at}.advance", 0,
          data=f"{at}.srs.result")
    for end, name in enumerate(("to_east", "from_west")):
        link = f"{at}.{name}"
        t.log("cascade", _UNIT, f"{link}.i__valid && {link}.i__ready", 0, end=f"32'd{end}", data=f"{link}.i__payload")


def _advancing(t: Tapping, at: str, expression: str, cycles: int) -> str:
    """What a bit was so many cycles before in which the core advanced."""
    name = f"advanced{len(t.out.declarations)}"
    t.out.declarations.append(f"reg [{cycles - 1}:0] {name};")
    t.out.always.append(f"if (rst) {name} <= 0; else if ({at}.advance) {name} <= "
                        f"{{{name}[{cycles - 2}:0], 1'({expression})}};")
    return f"{name}[{cycles - 1}]"


def _accesses(t: Tapping, at: str, generation: Generation) -> None:
    core, east = f"{at}.core", f"{at}.from_east"
    for slot in range(2):
        for name, at_end, asks in (("load", core, "request"), ("east", east, "valid")):
            granted = t.out.delayed(f"{at_end}.{asks}__{slot} && {at_end}.grant__{slot}", 1, 1)
            t.log(name, _UNIT, granted, 1, slot=f"32'd{slot}",
                  beat=t.out.delayed(f"32'({at_end}.addr__{slot})", 32, 1), data=f"{at_end}.r_data__{slot}")
    t.log("store", _UNIT, f"{core}.request__2 && {core}.grant__2", 0, beat=f"{core}.addr__2", data=f"{core}.w_data")
    t.log("east", _UNIT, f"{east}.valid__2 && {east}.grant__2", 0, slot="32'd2", beat=f"{east}.addr__2",
          data=f"{east}.w_data")
    link = f"{core}.west_memory"
    asked = [f"{link}__ask__{k}" for k in range(3)]
    beats = [f"{ask} ? 16'({link}__addr__{k}) : 0" for k, ask in enumerate(asked)]
    t.log("west", _UNIT, f"{flags(*asked)} != 0", 0, asks=flags(*asked), beats=[*beats, "0"],
          data=f"{asked[2]} ? {link}__w_data : 0")


def _registers(t: Tapping, at: str, generation: Generation) -> None:
    for port in range(VECTOR_WRITES):
        file = f"{at}.vectors"
        t.log("vector", _UNIT, f"{file}.write__{port}", 0, port=f"32'd{port}", register=f"{file}.write_to__{port}",
              data=f"{file}.write_data__{port}")
    parts = generation.acc_parts
    names = ("low", "high") if parts == 2 else [f"part{k}" for k in range(parts)]
    for part, name in enumerate(names):
        for port in range(ACC_WRITES):
            file = f"{at}.accumulators.{name}"
            t.log("accumulator", _UNIT, f"{file}.write__{port}", 0, port=f"16'd{port}", part=f"16'd{part}",
                  register=f"{file}.write_to__{port}", data=f"{file}.write_data__{port}")
