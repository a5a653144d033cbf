# SPDX-License-Identifier: Apache-2.0
"""Verilog of a block that many cases of a bench simulate: written once, as long as nobody plants a bug."""

import sys
from collections.abc import Callable, Hashable
from types import ModuleType
from typing import TypeVar

from amaranth.lib import wiring
from nncosim.hdl.emit import emit_design

__all__ = ["emit_once"]

P = TypeVar("P", bound=Hashable)

_kept: dict[tuple[Hashable, ...], tuple[list[object], dict[str, str]]] = {}


def emit_once(block: Callable[[P], wiring.Component], parameters: P, top: str) -> dict[str, str]:
    """`emit_design(block(parameters), top)`, or what it gave when it was last asked for.

    What was given before is good only while RTL is the same: a test that replaces a name or a class's attribute in
    `nncosim.hdl`, or in the module of `block`, gets its own.
    """
    values = [value for module in _modules(block) for value in _contents(module)]
    key = (block, parameters, top, tuple(map(id, values)))
    if key not in _kept:  # the values are kept too, so that no other object gets the identity of one
        _kept[key] = values, emit_design(block(parameters), top)
    return dict(_kept[key][1])


def _modules(block: Callable[..., object]) -> list[ModuleType]:
    names = [name for name in sys.modules if name.startswith("nncosim.hdl")]
    return [sys.modules[name] for name in sorted({*names, block.__module__})]


def _contents(module: ModuleType) -> list[object]:
    """What stands under its names, and in the classes that it defines."""
    found = [value for name, value in sorted(vars(module).items()) if not name.startswith("__")]
    classes = [value for value in found if isinstance(value, type) and value.__module__ == module.__name__]
    return [*found, *(value for each in classes for name, value in sorted(vars(each).items()) if name != "__dict__")]
