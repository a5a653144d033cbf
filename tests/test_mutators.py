# SPDX-License-Identifier: Apache-2.0
"""Mistakes that are planted in hardware: each kind on small sources, what is left alone, and samples."""

import ast
import textwrap
from pathlib import Path

import pytest
from nncosim.tb.mutation.mutant import Mutant, mutants_of, sampled
from nncosim.tb.mutation.mutators import KINDS, Edit, edits

HDL = Path(__file__).parents[1] / "hdl"
ENUMS = {"Why": ("DATA", "PORT", "HOST")}


def block(*lines: str, method: str = "elaborate(self, platform)") -> str:
    """A block whose method has these lines."""
    head = f"class Block(wiring.Component):\n    def {method}:\n        m = Module()\n"
    rest = "" if method.startswith("elaborate") else "\n    def elaborate(self, platform):\n        return Module()\n"
    return head + textwrap.indent("\n".join(lines), " " * 8) + "\n" + rest


def found(*lines: str, **options: str) -> list[tuple[str, str]]:
    """Kind and changed line of each mistake."""
    source = block(*lines, **options)
    out = []
    for edit in edits(source, ENUMS):
        wrong = edit.applied(source)
        ast.parse(wrong)
        changed = [(old, new) for old, new in zip(source.splitlines(), wrong.splitlines(), strict=True) if old != new]
        assert len(changed) == 1 and changed[0][0] == source.splitlines()[edit.line - 1]
        out.append((edit.kind, changed[0][1].strip()))
    return out


def of(kind: str, *lines: str) -> list[str]:
    return [text for each, text in found(*lines) if each == kind]


@pytest.mark.parametrize(("kind", "line", "wrong"), [
    ("off-by-one", "x = a[3]", ["x = a[4]", "x = a[2]"]),
    ("off-by-one", "x = a[0]", ["x = a[1]"]),
    ("off-by-one", "x = a < b", ["x = a <= b"]),
    ("off-by-one", "x = a >= b", ["x = a > b"]),
    ("off-by-one", "x = a[LOW:]", ["x = a[LOW + 1:]", "x = a[LOW - 1:]"]),
    ("lost-term", "x = self.valid & ready", ["x = self.valid", "x = ready"]),
    ("lost-term", "x = (a | b) & c", ["x = (a | b)", "x = c", "x = (a) & c", "x = (b) & c"]),
    ("both-events", "x = a & (b | c)", ["x = a | (b | c)", "x = a & (b & c)"]),
    ("inverted", "x = ~ready", ["x = ready"]),
    ("inverted", "x = ~(a ^ b)", ["x = (a ^ b)"]),
    ("inverted", "x = Mux(a, b, c)", ["x = Mux(a, c, b)"]),
    ("saturation", "x = up & ~value.all()", ["x = up"]),
    ("saturation", "x = up & (value < 9)", ["x = up"]),
    ("saturation", "x = Mux(v > top, top, v)", ["x = v"]),
    ("sign", "x = a.as_signed()", ["x = a"]),
    ("sign", "x = Signal(signed(8))", ["x = Signal((8))"]),
    ("sign", "x = a[1:] + b", ["x = a[1:].as_signed() + b"]),
    ("stale", "m.d.sync += x.eq(0)", ["m.d.sync += []"]),
    ("stale", "m.d.sync += [x.eq(y), z.eq(y)]", ["m.d.sync += [[], z.eq(y)]", "m.d.sync += [x.eq(y), []]"]),
    ("timing", "m.d.comb += x.eq(y)", ["m.d.sync += x.eq(y)"]),
    ("timing", "m.d.sync += x.eq(y)", ["m.d.comb += x.eq(y)"]),
    ("timing", "m.d.sync += x.eq(x + 1)", []),
    ("rounding", "x = tie & odd", ["x = tie", "x = odd", "x = tie | odd"]),
    ("rounding", "up = half > low", ["up = half >= low"]),
    ("lane", "x = [a[k] for k in range(n)]", ["x = [a[k ^ 1] for k in range(n)]"]),
    ("lane", "x = [a[8 * k:] for k in range(n)]", []),
    ("lane", "x = [a.word_select(k, 8) for k in range(n)]", ["x = [a.word_select(k ^ 1, 8) for k in range(n)]"]),
    ("lane", "x = [a[2 * k] for k in range(n)]", ["x = [a[2 * (k ^ 1)] for k in range(n)]"]),
    ("lane", "x = Cat(a, b)", ["x = Cat(b, a)"]),
    ("lane", "x = Cat(f(k) for k in range(n))", ["x = Cat(f(k) for k in range(n)[::-1])"]),
    ("category", "x = a == Why.DATA", ["x = a == Why.PORT"]),
    ("category", "x = a == Why.HOST", ["x = a == Why.DATA"]),
    ("category", "x = a == Other.DATA", []),
    ("short", "x = Signal(8)", ["x = Signal(7)"]),
    ("short", "x = register(BITS, name='x')", ["x = register(BITS - 1, name='x')"]),
    ("short", "x = Signal(range(n))", ["x = Signal(range(n // 2))"]),
    ("short", "x = Signal()", []),
    ("short", "x = Signal(Descriptor)", []),
])  # fmt: skip
def test_each_kind_says_what_it_says(kind, line, wrong):
    assert sorted(of(kind, line)) == sorted(wrong)


def test_conditions():
    lines = ("with m.If(a):", "    m.d.sync += x.eq(1)", "with m.Elif(b):", "    m.d.sync += x.eq(y)")
    assert of("inverted", *lines) == ["with m.If((a) == 0):", "with m.Elif((b) == 0):"]
    assert of("priority", *lines) == ["with m.If(b):"]


def test_a_loop_of_which_the_last_wins():
    lines = ("for k in range(n):", "    with m.If(a[k]):", "        m.d.comb += x.eq(k)")
    assert of("priority", *lines) == ["for k in [*range(n)][::-1]:"]


@pytest.mark.parametrize("target", ["x[k]", "part", "y.word_select(k, 8)"])
def test_a_loop_over_parts_of_which_each_has_its_own(target):
    lines = ("for k, part in enumerate(parts):", "    with m.If(a[k]):", f"        m.d.comb += {target}.eq(1)")
    assert of("priority", *lines) == []


def test_a_register_that_its_condition_reads_does_not_become_a_loop():
    assert of("timing", "with m.If(x != 0):", "    m.d.sync += x.eq(0)") == []


@pytest.mark.parametrize("line", [
    "assert n == 4, 'four & five'", "raise ValueError(f'{n & 3}')", "x: Signal", "x = f'{a[1]}'",
    "x = Signal(name=f'part{3}')", "self.probe_busy += a & b", "m.d.comb += self.probe_pc.eq(pc)", "'''a & b < 3'''",
    "if n < 3: raise ValueError",
])  # fmt: skip
def test_what_is_left_alone(line):
    assert found(line) == []


def test_ports_and_functions_without_hardware_are_left_alone():
    assert found("super().__init__({'x': In(8)})", method="__init__(self)") == []
    assert found("return 8 + 1", method="cycles(self, n: int) -> int") == []
    assert found("return x & y", method="_both(self, x: Value) -> Value") != []
    assert edits("def emit_it(m: Module) -> None:\n    x = m[1]\n", {}) == []
    assert edits("def part(m: Module) -> None:\n    x = m[1]\n", {}) != []
    assert edits("def count(n: int) -> int:\n    return n + 1\n", {}) == []


def test_a_change_over_two_lines_is_none():
    assert of("lost-term", "x = (a &", "     b)") == []
    assert of("both-events", "x = (a &", "     b)") == []


def test_columns_count_characters():
    source = block("x = f(ä='ö') & b")
    assert {edit.applied(source).splitlines()[3].strip() for edit in edits(source, {})} >= {
        "x = f(ä='ö')", "x = b", "x = f(ä='ö') | b"}


def test_every_mistake_in_the_project_parses_and_changes_one_line():
    for path in (HDL / "logic.py", HDL / "j3dai/settle.py", HDL / "j3dai/requantizer.py", HDL / "aie_ml/srs.py"):
        source = path.read_text()
        some = edits(source, ENUMS)
        assert len(some) > 15
        for edit in some:
            wrong = edit.applied(source)
            ast.parse(wrong)
            assert sum(a != b for a, b in zip(source.splitlines(), wrong.splitlines(), strict=True)) == 1


# ---- samples

def mutants(folder: Path) -> list[Mutant]:
    (folder / "a.py").write_text(block("x = a & b & c & d", "y = a[1] + a[2] + a[3]"))
    (folder / "b.py").write_text(block("x = ~b", "x = ~b"))
    return mutants_of(folder, {"first": folder / "a.py", "second": folder / "b.py"})


def test_mutants_know_their_place(tmp_path):
    some = mutants(tmp_path)
    last = some[-1]
    assert (last.block, last.file, last.kind, last.place) == ("second", "b.py", "inverted", "b.py:5")
    assert (last.before, last.after, last.nth) == ("x = ~b", "x = b", 1)
    assert len({each.key for each in some}) == len(some)
    text = (tmp_path / "b.py").read_text()
    assert last.source(text).splitlines()[3:] == ["        x = ~b", "        x = b"]


def test_a_key_does_not_depend_on_the_line(tmp_path):
    before = {each.key for each in mutants(tmp_path)}
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("# one more\n" + (tmp_path / name).read_text())
    moved = mutants_of(tmp_path, {"first": tmp_path / "a.py", "second": tmp_path / "b.py"})
    assert {each.key for each in moved} == before


def test_samples_are_the_same_for_a_seed_and_grow_at_the_end(tmp_path):
    some = mutants(tmp_path)
    assert sampled(some, 6, 1) == sampled(some, 6, 1) == sampled(some, 9, 1)[:6]
    assert any(sampled(some, 6, seed) != sampled(some, 6, 0) for seed in range(1, 5))
    assert sorted(each.key for each in sampled(some, 1000, 3)) == sorted(each.key for each in some)


def test_each_block_and_each_kind_has_its_share(tmp_path):
    some = mutants(tmp_path)
    assert [each.block for each in sampled(some, 4, 0)].count("second") == 2
    first = [each for each in sampled(some, len(some), 0) if each.block == "first"]
    assert len({each.kind for each in first[:3]}) == 3


def test_kinds_are_described():
    assert all(KINDS.values()) and Edit(1, 0, 1, "b", "sign").applied("a\n") == "b\n"
