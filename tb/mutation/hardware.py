# SPDX-License-Identifier: Apache-2.0
"""Where a source describes hardware: its functions that build some, and what in them is not to be changed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

__all__ = ["Parents", "enums", "hardware_functions", "loop_names", "within"]

Parents = Mapping[ast.AST, ast.AST]

_BUILDS = re.compile(r"\b(?:Value|Signal|Module|Statement|Elaboratable)\b")
_BENCH_ONLY = re.compile(r"probe", re.IGNORECASE)
"""Signals that only a bench looks at are told by their names."""
_TOLD = ("name", "src_loc_at", "doc", "metadata")
"""Keyword arguments that are for people."""


def hardware_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions that build hardware: `elaborate`, methods beside one, functions that are given a module `m` or whose
    annotations name hardware. Not `__init__`: what it declares are ports, which the outside shares."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and _builds(node):
            yield node
        elif isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            if any(each.name == "elaborate" for each in methods):
                yield from (each for each in methods if each.name == "elaborate" or _is_part(each))


def _is_part(method: ast.FunctionDef) -> bool:
    return not (method.name.startswith("__") or method.name.startswith("emit")) and _builds(method)


def _builds(function: ast.FunctionDef) -> bool:
    if function.name.startswith("emit"):
        return False
    arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    notes = [each.annotation for each in arguments if each.annotation is not None]
    notes += [function.returns] if function.returns is not None else []
    return any(each.arg == "m" for each in arguments) or any(_BUILDS.search(ast.unparse(note)) for note in notes)


def within(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function's body that hardware is made of, from the outside in: no checks and no texts, no names, no
    annotations, nothing of signals for the bench."""
    for child in _inside(node):
        yield child
        yield from within(child)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.FunctionDef):
        children: Iterator[ast.AST] = iter(node.body)
    elif isinstance(node, ast.AnnAssign):
        children = iter([node.target, *([] if node.value is None else [node.value])])
    else:
        children = ast.iter_child_nodes(node)
    return (child for child in children if not _is_left_out(child))


def _is_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert | ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.ClassDef):
        return True
    if isinstance(node, ast.keyword):
        return node.arg in _TOLD
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring
    if isinstance(node, ast.If) and all(isinstance(each, ast.Raise | ast.Assert) for each in node.body):
        return True
    return isinstance(node, ast.AugAssign | ast.Assign) and _BENCH_ONLY.search(ast.unparse(node)) is not None


def loop_names(function: ast.FunctionDef) -> frozenset[str]:
    """Names that loops and comprehensions over numbers give values to: which of several equal parts."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.For | ast.comprehension):
            iterated = ast.unparse(node.iter)
            if isinstance(node.target, ast.Name) and iterated.startswith("range("):
                found.add(node.target.id)
            elif isinstance(node.target, ast.Tuple) and iterated.startswith("enumerate("):
                found |= {node.target.elts[0].id} if isinstance(node.target.elts[0], ast.Name) else set()
    return frozenset(found)


def enums(trees: Mapping[str, ast.Module]) -> dict[str, tuple[str, ...]]:
    """Enumerations that sources define: name to members, in their order."""
    found = {}
    for tree in trees.values():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
                members = tuple(target.id for each in node.body if isinstance(each, ast.Assign)
                                for target in each.targets if isinstance(target, ast.Name))
                if len(members) > 1:
                    found[node.name] = members
    return found
