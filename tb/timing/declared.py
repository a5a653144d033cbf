# SPDX-License-Identifier: Apache-2.0
"""From a place in emitted Verilog, which Yosys carries along, to the line of Python that declares the signal."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from nncosim.hdl.source_lines import Verilog

__all__ = ["source_line"]

_PLACE = re.compile(r"([^:|]+):(\d+)")
_MODULE = re.compile(r"module \\?([^\s(;]+)")
_PROJECT = Path(__file__).parents[2]
_DECLARATION = re.compile(r"\s*(?:\(\*.*?\*\)\s*)*(?:(?:input|output|inout|reg|wire|signed)\s+)+(?:\[\d+:\d+\]\s*)?"
                          r"\\?([^\s;=\[]+)")


def source_line(sources: Mapping[str, str], place: str) -> str:
    """``FILE:LINE`` that declares the signal which a place of a design's Verilog declares; "" where that is not known.

    Of what was not emitted from Python, its place in the Verilog itself. Where a module only passes a port on to
    another one, Amaranth has one place for the two: a port's line must have its name, or what that begins with.

    Args:
        sources: file name to text, as `nncosim.hdl.emit.emit_design` gives it, with lines.
        place: ``FILE:LINE...``, as in Yosys' attribute `src`; of several the last counts: before it are the instances
            that it is in.
    """
    found = _PLACE.match(place.rpartition("|")[2])
    if found is None or found[1] not in sources:
        return ""
    text, line = sources[found[1]], int(found[2])
    if not isinstance(text, Verilog):
        return f"{found[1]}:{line}"
    lines = text.split("\n")[:line]
    declaration = _DECLARATION.match(lines[-1])
    begin = next((number for number in reversed(range(len(lines))) if _MODULE.match(lines[number])), None)
    if declaration is None or begin is None:
        return ""
    module, name = _MODULE.match(lines[begin])[1], declaration[1]  # type: ignore[index]
    number = text.lines.signals.get(module, {}).get(name)
    if number is None or (_is_port(name, lines[begin:]) and not _names(text.lines.places[number], name)):
        return ""
    return text.lines.places[number]


def _is_port(name: str, module: Sequence[str]) -> bool:
    declared = re.compile(rf"\s*(?:input|output)\b.*[\s\\]{re.escape(name)}\s*;")
    return any(declared.match(line) for line in module)


def _names(place: str, name: str) -> bool:
    """Whether the line has a word of the name in it: of ``a__b12``, `a`, `b12` or `b`."""
    file, _, line = place.rpartition(":")
    lines = _lines(_PROJECT / file)
    words = {name, *name.split("__")}
    words |= {word.rstrip("0123456789") for word in words}
    return int(line) <= len(lines) and bool(words & set(re.findall(r"\w+", lines[int(line) - 1])))


@functools.cache
def _lines(file: Path) -> Sequence[str]:
    try:
        return file.read_text().split("\n")
    except OSError:
        return ()
