# SPDX-License-Identifier: Apache-2.0
"""Text for a terminal: names come from models and files, and a terminal obeys what is in them.

What moves the cursor, colours, deletes or reverses text is shown as an escape (`\\x1b`). A terminal that has no letter
for something gets an escape too, instead of an error.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

__all__ = ["Terminal", "allow_any_encoding", "plain_table", "printable"]

# Control characters except tab and line feed, and what changes the direction of text or ends a line unseen.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text` with control characters as escapes; lines stay lines."""
    return _UNSAFE.sub(lambda found: ascii(found.group())[1:-1], text)


def allow_any_encoding() -> None:
    """From here on, stdout and stderr write what their encoding has no code for as an escape (`\\u00e4`)."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # replaced, or closed already
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


class Terminal(Console):
    """A console that prints `printable` text, whatever it is given, and text between colons as it is."""

    def __init__(self, **options: Any):
        super().__init__(highlight=False, emoji=False, **options)

    @property
    def spinner(self) -> str:
        """The name of a spinner in letters that the terminal has."""
        return "dots" if self.encoding.startswith("utf") else "line"

    def render_str(self, text: str, **options: Any) -> Text:
        # Before the layout, so that columns are as wide as what is shown in them.
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def plain_table(title: str = "") -> Table:
    """A table in the style of all of nncosim's output."""
    return Table(
        title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
