# SPDX-License-Identifier: Apache-2.0
"""Random programs of the AIE-ML core that every rule allows, and runs of a program on RTL and simulator.

A program first gives every register a value; then come straight lines and nested loops of instructions with random
slots. What writes one file with different latencies has registers of its own, so that no two writes meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from nncosim.compiler.aie_ml.loops import Line, assembled
from nncosim.compiler.aie_ml.notes import AieMlNotes, EarlyReads, tile_address
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.notes import Notes
from nncosim.hdl.aie_ml.config import CORE_AT, PROGRAM_AT
from nncosim.hdl.aie_ml.isa import (
    AguRegister,
    Control,
    ControlOp,
    Load,
    Move,
    MoveOp,
    MoveSet,
    Post,
    Set,
    Srs,
    Store,
    StoreOp,
    Vector,
)
from nncosim.hdl.aie_ml.srs import RoundingCode
from nncosim.hdl.formats import encode
from nncosim.platforms.aie_ml import PLATFORM, AieMl
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation
from nncosim.tb.aie_ml.build import feed, load_image, run_once, write_beats
from nncosim.tb.aie_ml.frames import STATE, store_of
from nncosim.tb.aie_ml.hazards import HAZARD, found_hazards
from nncosim.tb.aie_ml.iss import Tile
from nncosim.tb.aie_ml.rtl import STATES, STORES
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel

__all__ = ["Records", "core_image", "issue_order", "on_iss", "on_rtl", "random_lines", "random_program"]

@dataclass(frozen=True, eq=False)
class Records:
    """Cycles since the first instruction. stores: as `nncosim.tb.aie_ml.frames.store_of`. idle: when it had ended.
    hazards: of the RTL, what ended the run, as `nncosim.tb.aie_ml.hazards.HAZARD`."""

    stores: npt.NDArray[np.void]
    idle: int
    hazards: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, HAZARD))


_LOAD_POINTERS, _STORE_POINTERS = {"load_a": (0, 1, 2), "load_b": (3, 4)}, (5, 6, 7)


def _targets(generation: Generation) -> dict[str, range]:
    """Which vectors each kind of operation writes: a third for each load, half of the rest for SRS and for MAX."""
    count = generation.vectors
    bounds = (0, count // 3, count // 3 * 2, count // 6 * 5, count)
    return {name: range(*each) for name, each in
            zip(("load_a", "load_b", "srs", "max"), pairwise(bounds), strict=True)}


def issue_order(lines: Sequence[Line]) -> list[int]:
    """The numbers of the instructions in the order in which the manual has them issued, up to the last."""
    out: list[int] = []
    loops: list[tuple[int, int, int]] = []  # first, last, turns left
    at = 0
    while at < len(lines):
        out.append(at)
        following = at + 1
        if loops and loops[-1][1] == at:
            first, _, turns = loops.pop()
            if turns > 1:
                loops.append((first, at, turns - 1))
                following = first
        for slot, word in lines[at].slots:
            if slot == "control" and word & 15 == ControlOp.LOOP.value:
                payload = word >> 4
                loops.append((at + 1, at + (payload >> 11), payload & 2047))
        at = following
    return out


def _line(**slots: int) -> Line:
    return Line(tuple(sorted(slots.items())))


def _setting(which: AguRegister, pointer: int, value: int) -> int:
    payload = encode(Set, register=which << 3 | pointer, value=value)
    return encode(Control, op=ControlOp.SET.value, payload=payload)


def _prologue(rng: np.random.Generator, generation: Generation) -> list[Line]:
    """Every register gets a value."""
    lines = []
    for pointer in range(8):
        values = {AguRegister.POINTER: rng.integers(0, generation.pointers), AguRegister.INC: rng.integers(-3, 4),
                  AguRegister.N1: rng.integers(0, 5), AguRegister.S1: rng.integers(-40, 40),
                  AguRegister.N2: rng.integers(0, 4), AguRegister.S2: rng.integers(-600, 600)}  # fmt: skip
        lines += [_line(control=_setting(which, pointer, int(value))) for which, value in values.items()]
    for vector in range(generation.vectors):
        lines.append(_line(load_a=encode(Load, valid=1, vector=vector, pointer=0, post=Post.ADD.value, step=17)))
    lines += [Line()] * 7
    for acc in range(generation.accumulators):
        lines.append(_line(move=encode(Move, op=MoveOp.BIAS.value, dest=acc, source=acc, wide=int(acc % 2))))
    lines.append(_line(control=_srs(rng)))
    return [*lines, Line(), Line(), Line()]


def _srs(rng: np.random.Generator) -> int:
    rounding = int(rng.choice([each.value for each in RoundingCode]))
    payload = encode(Srs, shift=int(rng.integers(0, 40)), rounding=rounding, saturation=int(rng.integers(0, 3)),
                     signed=int(rng.integers(2)))  # fmt: skip
    return encode(Control, op=ControlOp.SRS.value, payload=payload)


def _instruction(
    rng: np.random.Generator, generation: Generation, accs: tuple[int | None, int | None]
) -> tuple[Line, int | None]:
    """One with random slots, and the accumulator that its MAC writes. `accs`: those of the two before."""
    slots: dict[str, int] = {}
    used: set[int] = set()
    vectors, accumulators, targets_of = generation.vectors, generation.accumulators, _targets(generation)
    for name, pointers in _LOAD_POINTERS.items():
        if rng.random() < 0.6:
            pointer = int(rng.choice(pointers))
            used.add(pointer)
            slots[name] = encode(Load, valid=1, vector=int(rng.choice(targets_of[name])), pointer=pointer,
                                 post=int(rng.integers(3)), step=int(rng.integers(-64, 64)))  # fmt: skip
    fused = False
    if rng.random() < 0.5:
        pointer, fused = int(rng.choice(_STORE_POINTERS)), bool(rng.random() < 0.7)
        used.add(pointer)
        op, source = ((StoreOp.VST_SRS, rng.integers(accumulators)) if fused
                      else (StoreOp.VST, rng.integers(vectors)))
        slots["store"] = encode(
            Store, op=op.value, source=int(source), form=int(rng.integers(4)), half=int(rng.integers(2)),
            pointer=pointer, post=int(rng.integers(3)), step=int(rng.integers(-64, 64)),
        )
    acc = int(rng.integers(accumulators)) if rng.random() < 0.7 else None
    if acc is not None:
        slots["vector"] = encode(
            Vector, op=int(rng.integers(1, 4)), a=int(rng.integers(vectors)), b=2 * int(rng.integers(vectors // 2)),
            acc=acc, clear=int(rng.random() < 0.2), a_signed=int(rng.integers(2)), b_signed=int(rng.integers(2)),
            b_half=int(generation.wide_words and rng.integers(2)),
        )
    slots |= _move(rng, generation, used, fused, accs[0])
    if rng.random() < 0.1:
        slots["control"] = _srs(rng)
    return _line(**slots), acc


def _move(
    rng: np.random.Generator, generation: Generation, used: set[int], fused: bool, meets: int | None
) -> dict[str, int]:
    """`meets`: an accumulator that something else writes when BIAS would."""
    op, vectors, accumulators = MoveOp(int(rng.integers(len(MoveOp)))), generation.vectors, generation.accumulators
    common = dict(form=int(rng.integers(4)), half=int(rng.integers(2)), wide=int(rng.integers(2)))
    if op == MoveOp.SET:
        free = [p for p in range(8) if p not in used]
        register = int(rng.choice([r << 3 | p for p in free for r in (AguRegister.POINTER, AguRegister.INC)]))
        return {"move": encode(MoveSet, op=op.value, register=register, value=int(rng.integers(0, 4)))}
    if op == MoveOp.BIAS and meets != -1:
        dest = int(rng.choice([k for k in range(accumulators) if k != meets]))
        return {"move": encode(Move, op=op.value, dest=dest, source=int(rng.integers(vectors)), **common)}
    if op == MoveOp.SRS and not fused:
        dest, source = int(rng.choice(_targets(generation)["srs"])), int(rng.integers(accumulators))
        return {"move": encode(Move, op=op.value, dest=dest, source=source, **common)}
    if op == MoveOp.MAX:
        dest, source = int(rng.choice(_targets(generation)["max"])), int(rng.integers(vectors))
        return {"move": encode(Move, op=op.value, dest=dest, source=source, **common)}
    return {}


def _block(rng: np.random.Generator, generation: Generation, level: int) -> list[Line]:
    """A straight line, with a loop in it where there is a level left."""
    lines: list[Line] = []
    accs: list[int | None] = [-1, -1]  # what comes before the first two depends on the way to them: no BIAS there

    def straight(count: int) -> None:
        for _ in range(count):
            line, acc = _instruction(rng, generation, (accs[-2], accs[-1]))
            lines.append(line)
            accs.append(acc)

    straight(int(rng.integers(3, 9)))
    if level and rng.random() < 0.8:
        body = _block(rng, generation, level - 1)
        head = Line(tuple((slot, word) for slot, word in lines[-1].slots if slot != "control"))
        lines[-1] = head.with_loop(int(rng.integers(1, 5)), len(body))
        lines += body
        accs += [-1, -1]
        straight(int(rng.integers(3, 9)))
    # A body ends in an instruction that belongs to no other loop, and does not begin one.
    return [*lines, Line(), Line()]


def random_lines(
    rng: np.random.Generator, blocks: int, generation: Generation = AIE_ML
) -> tuple[list[Line], list[list[Line]]]:
    """What gives every register a value; then blocks with up to three levels of loops."""
    return _prologue(rng, generation), [_block(rng, generation, 3) for _ in range(blocks)]


def random_program(seed: int, blocks: int = 8, generation: Generation = AIE_ML) -> bytes:
    """With HALT behind it."""
    prologue, rest = random_lines(np.random.default_rng(seed), blocks, generation)
    lines = [*prologue, *(line for block in rest for line in block)]
    lines.append(_line(control=encode(Control, op=ControlOp.HALT.value)))
    return assembled(lines)


def on_iss(
    program: bytes, memory: npt.NDArray[np.uint8], limit: int = 100_000, platform: AieMl = PLATFORM
) -> tuple[Records, npt.NDArray[np.uint8], tuple[object, ...]]:
    """Stores, and in which cycle the core was idle (-1: never); memory at the end, rules that were broken.

    Args:
        memory: (2, 65536): the west neighbour's, the own; so is what comes out.
    """
    tile = Tile(platform.generation, seed=1)
    tile.load_program(program)
    tile.west_memory[:], tile.memory[:] = memory
    tile.start()
    tile.run(limit)
    found = tile.writes()
    stores = np.zeros(len(found), store_of(platform.generation))
    for name in ("cycle", "beat", "data"):
        stores[name] = found[name]
    stores["tile"] = 1
    whole = np.stack([tile.west_memory, tile.memory])
    return Records(stores, tile.cycle if tile.halted else -1), whole, tile.problems


def core_image(program: bytes, columns: int = 1, early_reads: Sequence[int] = ()) -> Image:
    """A program for the last tile of a row, beside others that do nothing. early_reads: those that are meant, numbers
    of `nncosim.compiler.aie_ml.notes.early_read`."""
    place = columns - 1, 1
    run, tile = np.array([1], "<u4").tobytes(), tile_address(*place)
    segments = (Segment("program", tile + PROGRAM_AT, program, 5), Segment("config", tile + CORE_AT, run))
    reads = (EarlyReads((place,), tuple(early_reads)),)
    return Image(segments, 0, notes=Notes(own=AieMlNotes(columns, early_reads=reads)))


def on_rtl(
    built: BuiltModel, programs: Sequence[bytes], memory: npt.NDArray[np.uint8], limit: int = 100_000,
    early_reads: Sequence[Sequence[int]] | None = None, platform: AieMl = PLATFORM, further: int = 0,
) -> list[Records]:
    """The same of each program on the RTL, each after a reset.

    Args:
        built: an array of one row. memory: of its tiles, (columns, 65536); the core of the last one runs.
        early_reads: of each program, those that are meant; None: none are. further: cycles that are run when it has
            ended, or a hazard has ended it.
    """
    columns, generation = len(memory), platform.generation
    out = []
    for number, program in enumerate(programs):
        image = core_image(program, columns, () if early_reads is None else early_reads[number])
        with Model(built, seed=number) as model:
            model.poison(number)
            writes = load_image(model, platform, image)
            for column, content in enumerate(memory):
                write_beats(model, (column, 1), 0, content.tobytes(), generation)
            feed(model, columns, {})
            run_once(model, {"config_writes": writes, "settle": 0, "result_words": 0, "gap_seed": 0}, limit)
            model.tick(further)
            stores = model.log(STORES, store_of(generation), clear=True)
            states = model.log(STATES, STATE, clear=True)
            hazards = found_hazards(model)
        states = states[states["tile"] == columns - 1]
        issues = states["cycle"][states["state"] == 1]
        idle = states["cycle"][(states["state"] == 0) & (states["cycle"] > issues[0])] if len(issues) else issues
        stores["cycle"] -= issues[0] if len(issues) else 0
        out.append(Records(stores, int(idle[0] - issues[0]) if len(idle) else -1, hazards))
    return out
