# SPDX-License-Identifier: Apache-2.0
"""The cache of emitted Verilog."""

import re
from pathlib import Path

import nncosim.hdl
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.array import INSIDE_TILES, tile_ports
from nncosim.hdl.emit import ports_of
from nncosim.platforms.aie_ml_generation import AIE_ML, AIE_ML_V2
from nncosim.tb.sim.emitted import emitted


def test_emits_once_for_each_design_and_parameters(tmp_path, monkeypatch):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path))
    calls = []

    def emit(tag):
        calls.append(tag)
        return {f"{tag}.v": f"module {tag}; endmodule"}

    first = emitted("a", (1, 2), lambda: emit("x"))
    assert emitted("a", (1, 2), lambda: emit("y")) == first == {"x.v": "module x; endmodule"}
    assert emitted("a", (1, 3), lambda: emit("z")) == {"z.v": "module z; endmodule"}
    assert emitted("b", (1, 2), lambda: emit("w")) == {"w.v": "module w; endmodule"}
    assert calls == ["x", "z", "w"]


def test_a_changed_source_is_emitted_again(tmp_path, monkeypatch):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    package = tmp_path / "hdl"
    package.mkdir()
    (package / "block.py").write_text("width = 8")
    monkeypatch.setattr("nncosim.hdl.__path__", [str(package)])
    before = emitted("a", (), lambda: {"a.v": "1"})
    (package / "block.py").write_text("width = 9")
    assert before == {"a.v": "1"}
    assert emitted("a", (), lambda: {"a.v": "2"}) == {"a.v": "2"}


def test_what_is_outside_may_change(tmp_path, monkeypatch):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    package = tmp_path / "hdl"
    package.mkdir()
    (package / "block.py").write_text("width = 8")
    (package / "top.py").write_text("blocks = 1")
    monkeypatch.setattr("nncosim.hdl.__path__", [str(package)])

    def made(text: str) -> str:
        return emitted("a", (), lambda: {"a.v": text}, outside=["block.py"])["a.v"]

    assert made("1") == "1"
    (package / "block.py").write_text("width = 9")
    assert made("2") == "1"
    (package / "top.py").write_text("blocks = 2")
    assert made("3") == "3"


class Shaped(wiring.Component):
    def __init__(self, bits: int, flow: type = In):
        super().__init__({"a": flow(bits), "b": Out(wiring.Signature({"c": Out(1), "d": In(2)}))})


def test_ports_tell_names_bits_and_directions():
    assert ports_of(Shaped(3)) == (("a", 3, "Input"), ("b__c", 1, "Output"), ("b__d", 2, "Input"))
    assert len({ports_of(Shaped(3)), ports_of(Shaped(4)), ports_of(Shaped(3, Out))}) == 3


def test_ports_of_the_tiles_depend_on_what_shapes_them():
    assert tile_ports(1024, AIE_ML) == tile_ports(1024, AIE_ML) != tile_ports(1024, AIE_ML_V2)


def test_an_array_takes_no_more_than_names_and_ports_from_its_tiles():
    """Of the files that may change without it being emitted again."""
    root = Path(nncosim.hdl.__path__[0])
    text = (root / "aie_ml" / "array.py").read_text()
    taken = {name: set(re.split(r"[,\s]+", names)) for name, names in
             re.findall(r"from nncosim\.hdl\.(aie_ml\.\w+) import (.+)", text)}
    inside = {name.replace("/", ".").removesuffix(".py") for name in INSIDE_TILES}
    assert {name: names for name, names in taken.items() if name in inside} == {
        "aie_ml.tile": {"TILE", "Tile"}, "aie_ml.memory_tile": {"MEMORY_TILE", "MemoryTile"}}
    assert all((root / name).is_file() for name in INSIDE_TILES)
    # What the others that it takes something from take in turn, and so on, is not inside either.
    pending, seen = set(taken) - inside, set()
    while pending:
        name = pending.pop()
        seen.add(name)
        source = (root / (name.replace(".", "/") + ".py")).read_text()
        found = set(re.findall(r"from nncosim\.hdl\.(aie_ml\.\w+) import", source))
        assert not found & inside, name
        pending |= found - seen
