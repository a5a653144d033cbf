# SPDX-License-Identifier: Apache-2.0
"""The schedule that was chosen, readable: each layer's plan, and what lost against it and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nncosim.compiler.j3dai.fusion import Choice, Fuser
from nncosim.compiler.j3dai.tiling import LayerCode

__all__ = ["schedule_files"]


def schedule_files(
    fuser: Fuser, chosen: Sequence[Choice], avoid: frozenset[str], roomy: Mapping[tuple[int, ...], LayerCode]
) -> dict[str, str]:
    """schedule.txt and, with the same contents, schedule.json.

    Args:
        chosen: the layers. avoid: tensors that were to stay in L1 because L2 is full.
        roomy: layers that got another plan because L2 is full, by their operators.
    """
    layers = [_layer(fuser, chosen, each, avoid, each.ops in roomy) for each in chosen]
    return {
        "schedule.txt": "\n".join(line for layer in layers for line in _lines(layer)),
        "schedule.json": json.dumps({"layers": layers}, indent=1) + "\n",
    }


def _layer(
    fuser: Fuser, chosen: Sequence[Choice], choice: Choice, avoid: frozenset[str], roomy: bool
) -> dict[str, Any]:
    plan = choice.code.plan
    kept = sorted(avoid & {fuser.ops[i].output for i in choice.ops[:-1]})
    why = ["fastest of those below, by the cycle model"]
    if kept:
        why = [f"L2 is full, and {', '.join(kept)} can stay in L1"]
    if roomy:
        why.append("L2 is full, and with this plan the result can lie over the input")
    return {
        "layer": plan.name, "members": [fuser.ops[i].name for i in choice.ops], "plan": plan.line,
        "cycles_alone": choice.code.cycles, "because": "; ".join(why),
        "plans": [asdict(alternative) for alternative in choice.code.alternatives],
        "groups": _groups(fuser, chosen, choice, bool(kept)),
    }  # fmt: skip


def _groups(fuser: Fuser, chosen: Sequence[Choice], choice: Choice, forced: bool) -> list[dict[str, Any]]:
    """Other ways of grouping a layer's operators that were looked at."""
    out: list[dict[str, Any]] = []

    def add(members: Sequence[int], cycles: int | None, verdict: str) -> None:
        out.append({"members": [fuser.ops[i].name for i in members], "cycles": cycles, "verdict": verdict})

    if len(choice.ops) > 1:
        alone = sum(fuser.alone[i].cycles for i in choice.ops)
        add(choice.ops, alone, f"one by one: {_compared(alone, choice.code.cycles, forced)}")
    for members, code in fuser.looked_at():
        if set(members) == set(choice.ops) or not set(members) & set(choice.ops):
            continue
        if code is None:
            add(members, None, "does not fit L1, or saves nothing by estimate")
            continue
        parts = [c for c in chosen if set(c.ops) & set(members)]
        covered = {i for c in parts for i in c.ops}
        rest = sum(fuser.alone[i].cycles for i in covered - set(members))
        verdict = _compared(code.cycles + rest, sum(c.code.cycles for c in parts), forced)
        add(members, code.cycles, f"fused{' (and what is beside it alone)' if rest else ''}: {verdict}")
    return out


def _compared(cycles: int, chosen: int, forced: bool) -> str:
    if cycles >= chosen:
        return f"slower by {cycles - chosen} cycles"
    return f"faster by {chosen - cycles} cycles, but {'needs more L2' if forced else 'not together with the others'}"


def _figures(cycles: int | None, estimate: int | None = None) -> str:
    """What is known of a plan's time, "664 cycles (estimated 660): "; nothing of one that was not even estimated."""
    known = [] if cycles is None else [f"{cycles} cycles"]
    if estimate is not None:
        known.append(f"(estimated {estimate})" if known else f"estimated {estimate} cycles")
    return f"{' '.join(known)}: " if known else ""


def _lines(layer: Mapping[str, Any]) -> list[str]:
    out = [layer["plan"], f"    {layer['cycles_alone']} cycles on its own; {layer['because']}"]
    for plan in layer["plans"]:
        if plan["verdict"] == "chosen":
            continue
        out.append(f"    not: {plan['plan']}")
        out.append(f"         {_figures(plan['cycles'], plan['estimate'])}{plan['verdict']}")
    for group in layer["groups"]:
        out.append(f"    not: {' + '.join(group['members'])}: {_figures(group['cycles'])}{group['verdict']}")
    return [*out, ""]
