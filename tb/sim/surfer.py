# SPDX-License-Identifier: Apache-2.0
"""A command file for Surfer, another viewer of waveforms: ``surfer run.fst --command-file run.sucl``.

The commands are those of Surfer 0.7, as its sources after 0.6.0 have them: docs/commands/README.md of its repository
says which there are, libsurfer/src/command_parser.rs what they take. From 0.4 on there are `marker_set` and
`cursor_set`; `item_rename` takes no name up to 0.6, which reports that line and goes on. What is in the sources and not
in the manual, and matters for what is written here:

- all commands are parsed before the first one is run, so none may depend on what is loaded or shown;
- a variable is found by its scopes and its own name, split at dots: one with a dot in its own name (a field of a
  structure) cannot be named, and is left to a comment;
- `#` begins a comment, `;` ends a command, and before 0.7 the title of a divider is one word of letters and digits;
- what is added comes behind the item in focus and has the focus then, if there was one; format, color and name are set
  of the item in focus;
- times are in units of the file's time.

Surfer shows numbers where GTKWave's save file has words for them.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Shown", "commands"]

_FORMATS = {"hex": "Hexadecimal", "dec": "Unsigned", "signed": "Signed", "bin": "Binary"}
_COLORS = {"red": "Red", "orange": "Orange", "yellow": "Yellow", "green": "Green", "blue": "Blue", "indigo": "Violet",
           "violet": "Violet"}  # fmt: skip
"""Of Surfer's themes, by the names that GTKWave has."""


@dataclass(frozen=True)
class Shown:
    """A variable to show. `name`: its full name with dots, which ends with its `own`. `label`: instead of that, or "".

    `format`: hex, dec, signed or bin. `color`: one of GTKWave's names, or "".
    """

    name: str
    own: str
    bits: int
    label: str = ""
    format: str = "hex"
    color: str = ""


def commands(groups: Sequence[tuple[str, Sequence[Shown]]], marks: Sequence[int]) -> str:
    """The text of a command file.

    Args:
        groups: title and variables of each, from top to bottom. marks: times that get the markers A to Z; the cursor
            stands at the first.
    """
    lines = ["# of Surfer 0.7", "timeline_add", "item_focus a"]  # there is an item now: what comes follows it
    for title, shown in groups:
        lines.append(f"divider_add {re.sub(r'[^0-9A-Za-z]+', '_', title)}")
        for each in shown:
            lines += _added(each)
    lines += [f"marker_set {letter} {time}" for letter, time in zip(string.ascii_uppercase, marks, strict=False)]
    lines += ["item_unfocus", *(f"cursor_set {time}" for time in marks[:1])]
    return "".join(f"{line}\n" for line in lines)


def _added(shown: Shown) -> Iterator[str]:
    if "." in shown.own:
        yield f"# cannot be named by a command: {shown.name}"
        return
    yield f"variable_add {shown.name}"
    if shown.bits > 1:
        yield f"item_set_format {_FORMATS[shown.format]}"
    if shown.color in _COLORS:
        yield f"item_set_color {_COLORS[shown.color]}"
    if shown.label:
        yield f"item_rename {re.sub('[#;]', '_', shown.label)}"
