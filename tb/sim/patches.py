# SPDX-License-Identifier: Apache-2.0
"""A patch of emitted Verilog, as `diff -u` writes it: another design for one run, without an edit of its source."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import whatthepatch
from nncosim.tb.errors import BenchError
from nncosim.tb.system.files import unreadable
from whatthepatch.exceptions import WhatThePatchException

__all__ = ["RtlPatch", "read_patch"]

_MOST_BYTES = 1 << 24


class RtlPatch:
    """A unified diff of files that a design is emitted as; their folders do not matter.

    Attributes:
        path: of the patch, for messages and commands.
        text: the diff.

    Raises:
        BenchError: the text holds no change.
    """

    def __init__(self, path: Path, text: str):
        self.path, self.text = path, text
        try:
            # File by file: without a line of `diff` before each, several are taken for one.
            parts = re.split(r"^(?=--- .*\n\+\+\+ )", text, flags=re.MULTILINE)
            found = [diff for part in parts for diff in whatthepatch.parse_patch(part)]
            self._diffs = [diff for diff in found if diff.header is not None and diff.changes]
        except (WhatThePatchException, ValueError) as problem:
            raise BenchError(f"{path} is no patch: {problem}") from problem
        if not self._diffs:
            raise BenchError(f"{path} holds no change of a file; expected what `diff -u OLD.v NEW.v` writes")

    def applied(self, sources: Mapping[str, str]) -> dict[str, str]:
        """The files with the changes.

        Raises:
            BenchError: there is no such file, its lines are others, or nothing changes.
        """
        out = dict(sources)
        for diff in self._diffs:
            name = PurePosixPath(diff.header.new_path or "").name
            if name not in out:
                near = difflib.get_close_matches(name, out, n=1, cutoff=0.4) or sorted(out)[:1]
                raise BenchError(f"{self.path} changes {name}, which this design has not; did you mean {near[0]}? "
                                 "`nncosim platforms NAME --verilog DIR` writes its files")  # fmt: skip
            try:
                lines = whatthepatch.apply_diff(diff, out[name])
            except WhatThePatchException as problem:
                raise BenchError(f"{self.path} does not fit {name}: {problem}; it was made from another version or "
                                 "another machine (`nncosim platforms NAME --verilog DIR` writes this one's)"
                                 ) from problem  # fmt: skip
            out[name] = "\n".join(lines) + "\n"
        if all(out[name].split() == sources[name].split() for name in out):
            raise BenchError(f"{self.path} changes nothing")
        return out


def read_patch(path: Path) -> RtlPatch:
    """Read a patch.

    Raises:
        BenchError: it cannot be read, or is none.
    """
    why = unreadable(path, _MOST_BYTES)
    if why:
        raise BenchError(why)
    return RtlPatch(path, path.read_text(errors="replace"))
