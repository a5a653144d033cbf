# SPDX-License-Identifier: Apache-2.0
"""Rows of words in an FST file: they say what they are to, and all else stays."""

import pytest
from nncosim.hdl.emit import emit_design
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.trace_file import TraceFile, Variable
from nncosim.tb.sim.verilate import build
from nncosim.tb.waves.rows import Row, add_rows
from nncosim.tb.waves.wave import Wave
from test_names import Outer


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "run.fst"
    with Model(build(emit_design(Outer(), "outer"), "outer", trace="fst"), period_ps=1000) as model:
        model.trace(found)
        for cycle in range(40):
            model.i, model.kind = cycle, cycle % 4
            model.tick()
    return found


def test_rows(path):
    """At times of the file's, between them and after them."""
    before = TraceFile(path)
    values = before.changes(before.variables)
    said = {"layer": [(0, "conv 0"), (5000, "a b"), (5250, "?"), (99_000, "over")], "none": [],
            "late": [(39_000, "x")]}  # fmt: skip
    add_rows(path, [Row(name, [(at, text.replace("?", "ä")) for at, text in texts]) for name, texts in said.items()])
    after = TraceFile(path)
    rows = {f"rows.{name}": Variable(f"rows.{name}", "rows", None) for name in said}
    assert after.variables == {**rows, **before.variables} and after.unit == before.unit
    assert after.changes(before.variables) == values
    assert after.changes(["rows.layer"])["rows.layer"] == said["layer"]
    assert after.changes(["rows.late"])["rows.late"][-1] == said["late"][0]
    assert Wave.open(path)["rows.layer"].at(5100) == "a b"
    assert [each.name for each in path.parent.iterdir()] == ["run.fst"]


def test_samples_at_given_times(path):
    now = Wave.open(path).at_times([1000, 2500, 3000], [4, 5, 7])
    assert now["outer.i"].values.tolist() == [1, 2, 3] and now["outer.i"].at(7) == 3
    assert (now["outer.i"] > 0).spans == [(4, 6), (7, 8)]


def test_what_is_no_fst_file(tmp_path):
    path = tmp_path / "x.fst"
    path.write_text("no waveform")
    with pytest.raises(BenchError, match=r"x\.fst cannot be read as FST"):
        add_rows(path, [])
    assert path.read_text() == "no waveform"
