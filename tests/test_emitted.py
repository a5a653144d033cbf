# SPDX-License-Identifier: Apache-2.0
"""The cache of emitted Verilog."""

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
