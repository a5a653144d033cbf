# SPDX-License-Identifier: Apache-2.0
"""The schedule that was chosen, readable: each layer's plan, and what lost against it and why."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Protocol, TypedDict, TypeVar

from nncosim.compiler.fusion.cut import Choice, Fuser
from nncosim.compiler.tiling.search import Alternative

__all__ = ["Explained", "schedule_files"]


class Explained(Protocol):
    """The code of a layer. line: its plan, for people; alternatives: what lost against it, and itself."""

    @property
    def name(self) -> str: ...

    @property
    def line(self) -> str: ...

    @property
    def cycles(self) -> int: ...

    @property
    def alternatives(self) -> tuple[Alternative, ...]: ...


E = TypeVar("E", bound=Explained)


class _Plan(TypedDict):
    """An `Alternative` in schedule.json."""

    plan: str
    estimate: int | None
    cycles: int | None
    verdict: str


class _Grouping(TypedDict):
    """Another way of grouping operators."""

    members: list[str]
    cycles: int | None
    verdict: str


class _Row(TypedDict):
    """A layer in schedule.json."""

    layer: str
    members: list[str]
    plan: str
    cycles_alone: int
    because: str
    plans: list[_Plan]
    groups: list[_Grouping]


def schedule_files(
    fuser: Fuser[E], chosen: Sequence[Choice[E]], avoid: frozenset[str], roomy: Collection[tuple[int, ...]],
    outer: str, inner: str,
) -> dict[str, str]:
    """schedule.txt and, with the same contents, schedule.json.

    Args:
        chosen: the layers. avoid: tensors that were to stay inside because the memory outside is full.
        roomy: operators of the layers that got another plan because that memory is full.
        outer, inner: what the memories outside of layers, and inside, are called.
    """
    layers = [_layer(fuser, chosen, each, avoid, each.ops in roomy, outer, inner) for each in chosen]
    return {
        "schedule.txt": "\n".join(line for layer in layers for line in _lines(layer)),
        "schedule.json": json.dumps({"layers": layers}, indent=1) + "\n",
    }


def _layer(
    fuser: Fuser[E], chosen: Sequence[Choice[E]], choice: Choice[E], avoid: frozenset[str], roomy: bool, outer: str,
    inner: str,
) -> _Row:
    code = choice.code
    kept = sorted(avoid & {fuser.ops[i].output for i in choice.ops[:-1]})
    why = ["fastest of those below, by the cycle model"]
    if kept:
        why = [f"{outer} is full, and {', '.join(kept)} can stay in {inner}"]
    if roomy:
        why.append(f"{outer} is full, and with this plan the result can lie over the input")
    return {
        "layer": code.name, "members": [fuser.ops[i].name for i in choice.ops], "plan": code.line,
        "cycles_alone": code.cycles, "because": "; ".join(why),
        "plans": [
            {"plan": other.plan, "estimate": other.estimate, "cycles": other.cycles, "verdict": other.verdict}
            for other in code.alternatives
        ],
        "groups": _groups(fuser, chosen, choice, outer if kept else "", inner),
    }  # fmt: skip


def _groups(
    fuser: Fuser[E], chosen: Sequence[Choice[E]], choice: Choice[E], full: str, inner: str
) -> list[_Grouping]:
    """Other ways of grouping a layer's operators that were looked at. full: the memory that decided; "": time did."""
    out: list[_Grouping] = []

    def add(members: Sequence[int], cycles: int | None, verdict: str) -> None:
        out.append({"members": [fuser.ops[i].name for i in members], "cycles": cycles, "verdict": verdict})

    if len(choice.ops) > 1:
        alone = sum(fuser.alone[i].cycles for i in choice.ops)
        add(choice.ops, alone, f"one by one: {_compared(alone, choice.code.cycles, full)}")
    for members, code in fuser.looked_at():
        if set(members) == set(choice.ops) or not set(members) & set(choice.ops):
            continue
        if code is None:
            add(members, None, f"does not fit {inner}, or saves nothing by estimate")
            continue
        parts = [c for c in chosen if set(c.ops) & set(members)]
        covered = {i for c in parts for i in c.ops}
        rest = sum(fuser.alone[i].cycles for i in covered - set(members))
        verdict = _compared(code.cycles + rest, sum(c.code.cycles for c in parts), full)
        add(members, code.cycles, f"fused{' (and what is beside it alone)' if rest else ''}: {verdict}")
    return out


def _compared(cycles: int, chosen: int, full: str) -> str:
    if cycles >= chosen:
        return f"slower by {cycles - chosen} cycles"
    return f"faster by {chosen - cycles} cycles, but {f'needs more {full}' if full else 'not together with the others'}"


def _figures(cycles: int | None, estimate: int | None = None) -> str:
    """What is known of a plan's time, "664 cycles (estimated 660): "; nothing of one that was not even estimated."""
    known = [] if cycles is None else [f"{cycles} cycles"]
    if estimate is not None:
        known.append(f"(estimated {estimate})" if known else f"estimated {estimate} cycles")
    return f"{' '.join(known)}: " if known else ""


def _lines(layer: _Row) -> list[str]:
    out = [layer["plan"], f"    {layer['cycles_alone']} cycles on its own; {layer['because']}"]
    for plan in layer["plans"]:
        if plan["verdict"] == "chosen":
            continue
        out.append(f"    not: {plan['plan']}")
        out.append(f"         {_figures(plan['cycles'], plan['estimate'])}{plan['verdict']}")
    for group in layer["groups"]:
        out.append(f"    not: {' + '.join(group['members'])}: {_figures(group['cycles'])}{group['verdict']}")
    return [*out, ""]
