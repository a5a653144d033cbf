# SPDX-License-Identifier: Apache-2.0
"""Hazards as a user meets them: networks whose images do not say what they mean, and cores that keep no latency."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from nncosim.compiler.aie_ml.loops import Line, assembled
from nncosim.compiler.aie_ml.notes import AieMlNotes, acc_part
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml import access, core, tile, vmac
from nncosim.hdl.aie_ml.isa import Control, ControlOp, MoveOp, Srs, StoreOp
from nncosim.hdl.formats import encode
from nncosim.platforms.aie_ml import PLATFORM, AieMl
from nncosim.regress.aie_ml_hazards import early_reads_of
from nncosim.regress.aie_ml_lines import HALT, line, load, mac, move, set_pointer, store
from nncosim.regress.aie_ml_programs import core_image, on_iss, on_rtl
from nncosim.regress.dense_models import DenseSpec, compiled, dense_network, frames_of
from nncosim.regress.planted import planted, some
from nncosim.tb.aie_ml.bench import BENCH
from nncosim.tb.aie_ml.build import build_array
from nncosim.tb.aie_ml.hazards import HazardKind, hazard_text
from nncosim.tb.aie_ml.streaming import stream_rtl
from nncosim.tb.cli.main import invoke
from nncosim.tb.errors import SimulationError
from nncosim.tb.run.program import seal

ARRAY = AieMl(columns=4, rows=4, memory_rows=1)
SPEC = DenseSpec((64, 64, 64), batch=16)
SPLITS = [(2, 2), (2, 2)]


@pytest.fixture(scope="module")
def made():
    return compiled(SPEC, ARRAY, splits=SPLITS)


def forgetful(image: Image, number: int) -> Image:
    """The image, which does not say of some of its tiles what is meant."""
    own = image.notes.own_as(AieMlNotes)
    kept = (*own.early_reads[:number], *own.early_reads[number + 1 :])
    return replace(image, notes=replace(image.notes, own=replace(own, early_reads=kept)))


@pytest.mark.parametrize("driver", ["direct", "cocotb"])
def test_a_run_ends_as_a_failed_check(made, driver):
    """What programs mean is in their image; without that, it is a hazard."""
    own, given = made.image.notes.own_as(AieMlNotes), frames_of(SPEC, made.network, 2)
    numbers = range(len(own.early_reads)) if driver == "direct" else [0]
    for number in numbers:
        image = forgetful(made.image, number).to_bytes()
        run = BENCH.run(ARRAY, image, given, backend="rtl", driver=driver)
        assert run.diagnosis is not None and run.diagnosis.kind == "check" and len(run.frames) == 1
        tiles, layers = own.early_reads[number].tiles, {(s.column, s.row): s.step for s in own.sites}
        begins, text = [f"tile {tile}, layer dense{layers[tile]}, cycle " for tile in tiles], run.diagnosis.text
        assert text.startswith(tuple(begins)) and "too early: a write of it is in flight" in text
        ignored = BENCH.run(ARRAY, image, given, backend="rtl", driver="direct", hazards=False)
        assert ignored.diagnosis is None and [each.cycles for each in ignored.frames] == [made.iss_cycles] * 2


def test_a_stream_of_batches_ends_so_too(made):
    given = frames_of(SPEC, made.network, 3)
    for seed in (0, 5):  # words with gaps: cores that wait
        assert len(stream_rtl(ARRAY, made.image.to_bytes(), given, gap_seed=seed).ends) == 3
    with pytest.raises(SimulationError, match=r"^tile \(\d, \d\), layer dense\d, cycle [\d,]+, pc \d+: .* in flight"):
        stream_rtl(ARRAY, forgetful(made.image, 0).to_bytes(), given)


@pytest.mark.parametrize(("options", "status"), [((), 1), (("--ignore-hazards",), 0)])
def test_on_the_command_line(made, tmp_path, capfd, options, status):
    """An image that says nothing of what is meant; the status is that of any failed check."""
    model, folder = tmp_path / "dense.onnx", tmp_path / "out"
    model.write_bytes(dense_network(SPEC).SerializeToString())
    settings = [f"--set={name}={value}" for name, value in (("columns", 4), ("rows", 4), ("memory_rows", 1))]
    assert invoke(["compile", str(model), "--platform", "aie_ml", *settings, "--out", str(folder)]) == 0
    image = Image.load(folder / "image.elf")
    own = replace(image.notes.own_as(AieMlNotes), early_reads=())
    path = tmp_path / "image.elf"
    path.write_bytes(seal(replace(image, notes=replace(image.notes, own=own))).to_bytes())
    capfd.readouterr()
    assert invoke(["run", str(path), "--driver", "direct", *options]) == status
    text = capfd.readouterr().out
    assert ("too early: a write of it is in flight" in " ".join(text.split())) == (status == 1)
    if options:
        assert invoke(["run", str(path), "--backend", "iss", *options]) == 2
        assert "no check of latencies (--ignore-hazards); use --backend rtl" in capfd.readouterr().err


# Cores that are early or late, by themselves; with a program that gives each result all the time it can take.

class Change(NamedTuple):
    """A line of a module that is replaced; what of it is then exchanged, and where."""

    module: ModuleType
    right: str
    wrong: str
    holder: ModuleType
    name: str


class Bug(NamedTuple):
    """What is told first, and of which register. right: what is stored is what it should be, nevertheless."""

    changes: tuple[Change, ...]
    kind: HazardKind
    register: int
    right: bool = True


def slow(head: str, **cycles: int) -> tuple[str, str]:
    """A line of imports, with other latencies behind it."""
    return head, f"{head}LATENCY = {{**LATENCY, {', '.join(f'{name!r}: {value}' for name, value in cycles.items())}}}\n"


ACCESS = "from nncosim.hdl.aie_ml.isa import LATENCY\n"
CORE = "from nncosim.hdl.logic import delayed, register, view\n"
RESULT = "            m.d.sync += self.result.eq(\n"
LATE_RESULT = f"""            late = register(1024, "late")
            m.d.sync += self.result.eq(late)
{RESULT.replace("self.result", "late")}"""
BUGS = {
    "load a cycle late": Bug(
        (Change(access, *slow(ACCESS, load_memory=5), core, "LoadPath"),), HazardKind.MISSING, 5),
    "BIAS a cycle early": Bug((Change(core, *slow(CORE, bias=2), tile, "Core"),), HazardKind.SOON, acc_part(1, 0, 2)),
    "MAC a cycle late": Bug(
        (Change(vmac, RESULT, LATE_RESULT, vmac, "VectorMac"), Change(core, *slow(CORE, mac=6), tile, "Core")),
        HazardKind.MISSING, acc_part(1, 0, 2)),
    "SRS a cycle early": Bug((Change(core, *slow(CORE, srs=3), tile, "Core"),), HazardKind.SOON, 9, right=False),
    "a load is written while the core stands": Bug((Change(
        core, "vectors.write[number].eq(path.write & advance)", "vectors.write[number].eq(path.write)", tile, "Core"),),
        HazardKind.STANDING, 5),
}  # fmt: skip


def slack() -> bytes:
    """Each kind of operation, with eight instructions between those that depend on each other. Two loads of a bank,
    issued at once, make the core stall when the one before them is written."""
    both = Line((*load(0).slots, *load(1, "load_b", 1).slots))
    steps = [load(2), load(3), load(4), move(MoveOp.BIAS, 1, 0), mac(1, 2, 1), mac(0, 3, 1),
             move(MoveOp.SRS, 9, 1), store(1, StoreOp.VST_SRS), move(MoveOp.MAX, 10, 9), store(10)]  # fmt: skip
    srs = line(control=encode(Control, op=ControlOp.SRS.value, payload=encode(Srs, shift=8, saturation=1, signed=1)))
    lines = [set_pointer(0, 0), set_pointer(1, 1), set_pointer(7, 100), srs, load(5), Line(), both, *[Line()] * 8]
    for step in steps:
        lines += [step, *[Line()] * 8]
    return assembled([*lines, HALT])


@pytest.fixture(scope="module")
def pair():
    """The core of the second tile runs."""
    return build_array(PLATFORM, 2, 1)


@pytest.mark.parametrize("name", some(BUGS, 2))
def test_a_core_that_keeps_no_latency_is_told(monkeypatch, pair, name):
    """The same stores, and it is told nevertheless."""
    program, bug = slack(), BUGS[name]
    words = np.random.default_rng(1).integers(-2048, 2048, (2, 16384), dtype=np.int32)  # bias of the size of sums
    content = words.view(np.uint8)
    expected, _, problems = on_iss(program, content)
    assert problems == () and early_reads_of(program) == () and len(expected.stores) == 2
    (run,) = on_rtl(pair, [program], content)
    assert not len(run.hazards) and (run.stores == expected.stores).all() and len(np.unique(run.stores["data"])) > 20
    for module, right, wrong, holder, changed in bug.changes:
        monkeypatch.setattr(holder, changed, getattr(planted(module, right, wrong), changed))
    built = build_array(PLATFORM, 2, 1, tile=tile.emit_tile(PLATFORM.instructions))
    (run,) = on_rtl(built, [program], content, further=500)
    first = run.hazards[0]
    assert (first["kind"], first["register"]) == (bug.kind, bug.register), hazard_text(run.hazards, core_image(program))
    assert (run.stores["beat"] == expected.stores["beat"]).all()
    assert (run.stores["data"] == expected.stores["data"]).all() == bug.right
