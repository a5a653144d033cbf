# SPDX-License-Identifier: Apache-2.0
"""Mistakes that designers make, each as a change of one place of a source, within a line."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from nncosim.tb.mutation.hardware import Parents, hardware_functions, loop_names, within

__all__ = ["KINDS", "Edit", "edits"]

KINDS = {
    "off-by-one": "a constant or a bound is one more or less, < is <= or the reverse",
    "lost-term": "a term of an AND or OR is left out: of a handshake, mostly",
    "inverted": "a ~ is lost, a condition inverted, the cases of a Mux exchanged",
    "saturation": "a bound is lost: a term that holds a value at its end, a Mux at a limit",
    "sign": "as_signed() lost or added, a signed shape made unsigned",
    "stale": "an assignment is left out",
    "priority": "an Elif is an If, a loop of which the last wins runs backwards",
    "timing": "an assignment is made a cycle later, or at once",
    "rounding": "in what rounds: a term, a tie, a comparison",
    "lane": "a neighbour's lane, two parts of a Cat exchanged, lanes in reverse",
    "category": "a member of an enumeration is its neighbour",
    "short": "a register or a shape has a bit less",
    "both-events": "an AND is an OR, or the reverse",
}
"""Kinds of mistakes, and what each is."""


@dataclass(frozen=True, order=True)
class Edit:
    """`line`: from 1. `begin`, `end`: characters of it that `text` replaces."""

    line: int
    begin: int
    end: int
    text: str
    kind: str

    def applied(self, source: str) -> str:
        """A source with this change."""
        lines = source.splitlines(keepends=True)
        lines[self.line - 1] = self.in_line(lines[self.line - 1])
        return "".join(lines)

    def in_line(self, old: str) -> str:
        """The line with this change."""
        return old[:self.begin] + self.text + old[self.end:]


def edits(source: str, enums: Mapping[str, tuple[str, ...]]) -> list[Edit]:
    """All mistakes in a source, by line; none twice. `enums`: see `hardware.enums`."""
    tree = ast.parse(source)
    found: dict[tuple[int, int, int, str], Edit] = {}
    for function in hardware_functions(tree):
        for edit in _Finder(source, function, enums).all():
            found.setdefault((edit.line, edit.begin, edit.end, edit.text), edit)
    return sorted(found.values())


_ROUNDS = re.compile(r"\b(?:tie|half|round\w*|guard|sticky|inexact)(?:_\w+)?\b|Rounding\.", re.IGNORECASE)
_HOLDS = re.compile(r"\.all\(\)|[^<>]<=?[^<]|[^<>]>=?[^>]|\b\w*(?:full|most|limit)\w*\b")
"""A term that holds a value within its bounds."""
_ATOMS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant)
_LAYOUT = re.compile(r"\b[A-Z]+[a-z]\w*$")
"""A shape that is a structure or an enumeration: no number."""
_SHAPED = ("Signal", "register", "signed", "unsigned")


class _Finder:
    """The mistakes in one function."""

    def __init__(self, source: str, function: ast.FunctionDef, enums: Mapping[str, tuple[str, ...]]):
        self.lines, self.function, self.enums = source.splitlines(), function, enums
        self.loops = loop_names(function)
        self.parents: Parents = {c: n for n in ast.walk(function) for c in ast.iter_child_nodes(n)}

    def all(self) -> Iterator[Edit]:
        ways: dict[type[ast.AST], tuple[Callable[..., Iterable[Edit | None]], ...]] = {
            ast.Constant: (self._constant,), ast.Compare: (self._compare,), ast.Slice: (self._slice,),
            ast.BinOp: (self._terms, self._operator, self._signs), ast.UnaryOp: (self._complement,),
            ast.Call: (self._call, self._mux, self._statement, self._shape, self._cat),
            ast.withitem: (self._condition,), ast.For: (self._order,), ast.AugAssign: (self._domain,),
            ast.Attribute: (self._member,), ast.Name: (self._lane,),
        }
        for node in within(self.function):
            for way in ways.get(type(node), ()):
                yield from (edit for edit in way(node) if edit is not None)

    # ---- places in the text

    def _column(self, line: int, offset: int) -> int:
        """The parser counts bytes."""
        return len(self.lines[line - 1].encode()[:offset].decode())

    def _edit(self, kind: str, node: ast.expr, text: str) -> Edit | None:
        """In place of a node, where it lies within a line."""
        if node.lineno != node.end_lineno:
            return None
        assert node.end_col_offset is not None
        begin, end = (self._column(node.lineno, at) for at in (node.col_offset, node.end_col_offset))
        return Edit(node.lineno, begin, end, text, kind)

    def _between(self, kind: str, left: ast.expr, right: ast.expr, old: str, new: str) -> Edit | None:
        """In place of the operator between two operands, where it lies on one line with both ends."""
        if left.end_lineno != right.lineno:
            return None
        assert left.end_col_offset is not None
        begin, end = self._column(right.lineno, left.end_col_offset), self._column(right.lineno, right.col_offset)
        at = self.lines[right.lineno - 1][begin:end].find(old)
        return None if at < 0 else Edit(right.lineno, begin + at, begin + at + len(old), new, kind)

    def _text(self, node: ast.expr) -> str:
        edit = self._edit("", node, "")
        return ast.unparse(node) if edit is None else self.lines[edit.line - 1][edit.begin:edit.end]

    def _operand(self, node: ast.expr) -> str:
        return self._text(node) if isinstance(node, _ATOMS) else f"({self._text(node)})"

    def _kind(self, kind: str, node: ast.expr) -> str:
        """"rounding" where the line is about that."""
        return "rounding" if _ROUNDS.search(self.lines[node.lineno - 1]) else kind

    # ---- the mistakes

    def _constant(self, node: ast.Constant) -> Iterator[Edit | None]:
        if type(node.value) is not int or isinstance(self.parents[node], ast.keyword):
            return
        kind = self._kind("off-by-one", node)
        yield self._edit(kind, node, str(node.value + 1))
        if node.value > 0:
            yield self._edit(kind, node, str(node.value - 1))

    def _compare(self, node: ast.Compare) -> Iterator[Edit | None]:
        turned = {ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")}
        if len(node.ops) == 1 and type(node.ops[0]) in turned:
            old, new = turned[type(node.ops[0])]
            yield self._between(self._kind("off-by-one", node), node.left, node.comparators[0], old, new)
            for side in (node.left, node.comparators[0]):
                if isinstance(side, ast.Subscript):
                    yield self._edit("sign", side, f"{self._text(side)}.as_signed()")

    def _slice(self, node: ast.Slice) -> Iterator[Edit | None]:
        for bound in (node.lower, node.upper):
            if isinstance(bound, ast.Name | ast.Attribute):
                yield self._edit(self._kind("off-by-one", bound), bound, f"{self._text(bound)} + 1")
                yield self._edit(self._kind("off-by-one", bound), bound, f"{self._text(bound)} - 1")

    def _is_logic(self, node: ast.BinOp) -> bool:
        """An AND or OR of signals, not of Python's numbers."""
        sides = (node.left, node.right)
        return isinstance(node.op, ast.BitAnd | ast.BitOr) and not any(isinstance(s, ast.Constant) for s in sides)

    def _terms(self, node: ast.BinOp) -> Iterator[Edit | None]:
        if not self._is_logic(node):
            return
        for kept, lost in ((node.left, node.right), (node.right, node.left)):
            kind = "saturation" if isinstance(node.op, ast.BitAnd) and _HOLDS.search(self._text(lost)) else "lost-term"
            yield self._edit(self._kind(kind, node), node, self._operand(kept))

    def _operator(self, node: ast.BinOp) -> Iterator[Edit | None]:
        if self._is_logic(node):
            old, new = ("&", "|") if isinstance(node.op, ast.BitAnd) else ("|", "&")
            yield self._between(self._kind("both-events", node), node.left, node.right, old, new)

    def _signs(self, node: ast.BinOp) -> Iterator[Edit | None]:
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult):
            for side in (node.left, node.right):
                if isinstance(side, ast.Subscript) and isinstance(side.slice, ast.Slice):
                    yield self._edit("sign", side, f"{self._text(side)}.as_signed()")

    def _complement(self, node: ast.UnaryOp) -> Iterator[Edit | None]:
        if isinstance(node.op, ast.Invert):
            yield self._edit(self._kind("inverted", node), node, self._operand(node.operand))

    def _call(self, node: ast.Call) -> Iterator[Edit | None]:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in ("as_signed", "as_unsigned"):
            yield self._edit("sign", node, self._text(function.value))
        if isinstance(function, ast.Name) and function.id == "signed" and node.args:
            yield self._edit("sign", node, f"({self._text(node.args[0])})")
        if isinstance(function, ast.Attribute) and function.attr == "Elif" and function.lineno == function.end_lineno:
            assert function.end_col_offset is not None
            end = self._column(function.lineno, function.end_col_offset)
            yield Edit(function.lineno, end - len("Elif"), end, "If", "priority")

    def _mux(self, node: ast.Call) -> Iterator[Edit | None]:
        if not (isinstance(node.func, ast.Name) and node.func.id == "Mux" and len(node.args) == 3):
            return
        condition, yes, no = (self._text(each) for each in node.args)
        yield self._edit(self._kind("inverted", node), node, f"Mux({condition}, {no}, {yes})")
        if _HOLDS.search(condition):
            yield self._edit("saturation", node, self._operand(node.args[2]))

    def _statement(self, node: ast.Call) -> Iterator[Edit | None]:
        above = self.parents[node]
        listed = isinstance(above, ast.List | ast.Tuple | ast.ListComp)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "eq" and (
                listed or isinstance(above, ast.AugAssign)):
            yield self._edit("stale", node, "[]")

    def _shape(self, node: ast.Call) -> Iterator[Edit | None]:
        if not (isinstance(node.func, ast.Name) and node.func.id in _SHAPED and node.args):
            return
        width = node.args[0]
        if isinstance(width, ast.Constant) and type(width.value) is int and width.value > 1:
            yield self._edit("short", width, str(width.value - 1))
        elif isinstance(width, ast.Call) and self._text(width.func) == "range" and len(width.args) == 1:
            yield self._edit("short", width.args[0], f"{self._operand(width.args[0])} // 2")
        elif isinstance(width, ast.Name | ast.Attribute | ast.BinOp) and not _LAYOUT.search(self._text(width)):
            yield self._edit("short", width, f"{self._text(width)} - 1")
        elif isinstance(width, ast.Call) and self._text(width.func) == "len":
            yield self._edit("short", width, f"{self._text(width)} - 1")

    def _cat(self, node: ast.Call) -> Iterator[Edit | None]:
        if not (isinstance(node.func, ast.Name) and node.func.id == "Cat" and node.args):
            return
        if len(node.args) >= 2 and not any(isinstance(each, ast.Starred) for each in node.args):
            first, second, *others = map(self._text, node.args)
            yield self._edit("lane", node, f"Cat({', '.join((second, first, *others))})")
        for each in node.args:
            if isinstance(each, ast.GeneratorExp | ast.ListComp) and self._is_range(each.generators[0].iter):
                iterated = each.generators[0].iter
                yield self._edit("lane", iterated, f"{self._text(iterated)}[::-1]")

    def _is_range(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and self._text(node.func) == "range"

    def _condition(self, node: ast.withitem) -> Iterator[Edit | None]:
        call = node.context_expr
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("If", "Elif"):
            yield self._edit("inverted", call.args[0], f"({self._text(call.args[0])}) == 0")

    def _order(self, node: ast.For) -> Iterator[Edit | None]:
        blocks = (each for each in node.body if isinstance(each, ast.With))
        conditions = [each for each in blocks if "m.If(" in self.lines[each.lineno - 1]]
        if any(self._is_shared(target, node) for each in conditions for target in _driven(each)):
            yield self._edit("priority", node.iter, f"[*{self._operand(node.iter)}][::-1]")

    def _is_shared(self, target: ast.expr, loop: ast.For) -> bool:
        """Whether a signal is the same one in every turn of a loop."""
        own = {each.id for each in ast.walk(loop) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        return not any(isinstance(each, ast.Name) and each.id in own for each in ast.walk(target))

    def _domain(self, node: ast.AugAssign) -> Iterator[Edit | None]:
        target = self._text(node.target)
        if target == "m.d.comb":
            yield self._edit("timing", node.target, "m.d.sync")
        elif target == "m.d.sync" and not self._feeds_itself(node):
            yield self._edit("timing", node.target, "m.d.comb")

    def _feeds_itself(self, node: ast.AugAssign) -> bool:
        """Whether what is assigned depends on its old value, here or by the conditions around: a loop without a
        register."""
        driven = {ast.unparse(target) for target in _driven(node)}
        used = [ast.unparse(argument) for each in ast.walk(node.value) if isinstance(each, ast.Call)
                for argument in each.args]  # fmt: skip
        above: ast.AST = node
        while above is not self.function:
            above = self.parents[above]
            used += [ast.unparse(item) for item in above.items] if isinstance(above, ast.With) else []
        return any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text) for name in driven for text in used)

    def _member(self, node: ast.Attribute) -> Iterator[Edit | None]:
        members = self.enums.get(node.value.id, ()) if isinstance(node.value, ast.Name) else ()
        if node.attr in members:
            following = members[(members.index(node.attr) + 1) % len(members)]
            yield self._edit(self._kind("category", node), node, f"{self._text(node.value)}.{following}")

    def _lane(self, node: ast.Name) -> Iterator[Edit | None]:
        if node.id not in self.loops:
            return
        above, below = self.parents[node], node
        while isinstance(above, ast.BinOp):
            above, below = self.parents[above], above  # type: ignore[assignment]
        indexed = isinstance(above, ast.Subscript) and above.slice is below
        selects = isinstance(above, ast.Call) and isinstance(above.func, ast.Attribute) and (
            above.func.attr in ("word_select", "bit_select") and bool(above.args) and above.args[0] is below)
        if indexed or selects:
            text = f"{node.id} ^ 1" if below is node else f"({node.id} ^ 1)"
            yield self._edit("lane", node, text)


def _driven(node: ast.AST) -> list[ast.expr]:
    """What statements in it assign to."""
    return [each.func.value for each in ast.walk(node) if isinstance(each, ast.Call)
            and isinstance(each.func, ast.Attribute) and each.func.attr == "eq"]  # fmt: skip
