# SPDX-License-Identifier: Apache-2.0
"""Errors of the compiler: all are meant to be read by the user and end a command with exit status 2."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nncosim.platforms.errors import NncosimError

__all__ = ["AccumulatorError", "CompileError", "InputDataError", "ModelError", "Problem", "RequantError"]


class CompileError(NncosimError):
    """The base of everything that the compiler refuses."""


@dataclass(frozen=True)
class Problem:
    """One thing in a model that cannot be compiled.

    `node`: the ONNX node's name (or a tensor's; "" if it is the file as a whole), `op`: its operator type ("" if none),
    `expected`: what is wrong and what was expected, `remedy`: what would help.
    """

    node: str
    op: str
    expected: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.op} {self.node!r}: " if self.op else f"{self.node!r}: " if self.node else ""
        return f"{where}{self.expected}" + (f"; {self.remedy}" if self.remedy else "")


class ModelError(CompileError):
    """A model that cannot be imported; `problems` holds all of them, not the first alone."""

    def __init__(self, name: str, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            text = f"model {name}: {self.problems[0]}"
        else:
            lines = "".join(f"\n  {i}. {p}" for i, p in enumerate(self.problems, 1))
            text = f"model {name}: {len(self.problems)} problems{lines}"
        super().__init__(text)


class AccumulatorError(CompileError):
    """A layer whose accumulator may leave its width."""


class InputDataError(CompileError):
    """An array given by the user that does not fit the network's input or output."""


class RequantError(CompileError):
    """A function that a form of requantization cannot compute, not even inexactly."""
