# SPDX-License-Identifier: Apache-2.0
"""The compiler as an ordered list of named passes over one immutable state, with a check after each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nncosim.compiler.backends import AnyBackend, Candidate, Lowered
from nncosim.compiler.errors import CompileError
from nncosim.compiler.image.image import Image
from nncosim.compiler.ir.network import Network
from nncosim.compiler.placement.placement import Placement
from nncosim.platforms.base import Platform

__all__ = ["Pass", "State", "run_passes"]


@dataclass(frozen=True, eq=False)
class State:
    """What is known so far; each pass returns a new one with more filled in."""

    network: Network
    platform: Platform
    backend: AnyBackend
    choice: Mapping[str, Candidate] = field(default_factory=dict)
    lowered: Lowered | None = None
    placement: Placement | None = None
    image: Image | None = None


@dataclass(frozen=True)
class Pass:
    """`run` gives the next state, `check` the list of what is illegal in it, `show` a text for the dump."""

    name: str
    run: Callable[[State], State]
    check: Callable[[State], list[str]]
    show: Callable[[State], str] = lambda state: ""


def run_passes(
    passes: tuple[Pass, ...], state: State, dump: Path | None = None, progress: Callable[[str], None] | None = None
) -> State:
    """Run all passes in order. `dump`: a folder for one text file a pass. `progress` is called with each name.

    Raises:
        CompileError: a pass left something illegal; names the pass and all that is wrong.
    """
    for number, step in enumerate(passes):
        if progress is not None:
            progress(step.name)
        state = step.run(state)
        wrong = step.check(state)
        if dump is not None:
            dump.mkdir(parents=True, exist_ok=True)
            (dump / f"{number:02d}-{step.name}.txt").write_text(step.show(state))
        if wrong:
            raise CompileError(f"after pass {step.name!r}: " + "; ".join(wrong))
    return state
