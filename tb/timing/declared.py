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


def source_line(sources: Mapping[str, str], places: str, name: str) -> str:
    """``FILE:LINE`` that declares a signal; "" where that is not known.

    Of what was not emitted from Python, its place in the Verilog itself. Where a module only passes a port on to
    another one, Amaranth has one place for the two: a port's line must have its name, or what that begins with.

    Args:
        sources: file name to text, as `nncosim.hdl.emit.emit_design` gives it, with lines.
        places: ``FILE:LINE...``, as in Yosys' attribute `src`. Of several, in any order, the others are the instances
            that it is in.
        name: of the signal in its own module.
    """
    found = [_PLACE.match(place) for place in places.split("|")]
    told = [_line(sources[match[1]], match[1], int(match[2]), name) for match in found if match and match[1] in sources]
    return next(filter(None, told), "")


def _line(text: str, file: str, line: int, name: str) -> str:
    if not isinstance(text, Verilog):
        lines = text.split("\n")
        return f"{file}:{line}" if line <= len(lines) and name in re.findall(r"\w+", lines[line - 1]) else ""
    module, declared, is_port = _declared(text).get(line, ("", "", False))
    number = text.lines.signals.get(module, {}).get(name) if declared == name else None
    if number is None or (is_port and not _names(text.lines.places[number], name)):
        return ""
    return text.lines.places[number]


@functools.lru_cache(maxsize=64)
def _declared(text: str) -> dict[int, tuple[str, str, bool]]:
    """Line to the module and the name that it declares, and whether that is a port; of a port's two lines both are."""
    found: dict[int, tuple[str, str]] = {}
    ports: set[tuple[str, str]] = set()
    module = ""
    for number, line in enumerate(text.split("\n"), 1):
        if begins := _MODULE.match(line):
            module = begins[1]
        elif declaration := _DECLARATION.match(line):
            found[number] = module, declaration[1]
            if line.lstrip().startswith(("input", "output")):
                ports.add(found[number])
    return {number: (*each, each in ports) for number, each in found.items()}


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
