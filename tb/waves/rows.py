# SPDX-License-Identifier: Apache-2.0
"""Rows of words in a waveform: an FST file gets variables that are texts, which viewers show beside its signals.

The file is gone through once and written again by GTKWave's own FST library (pylibfst): some microseconds a change,
so for the waveform of a few thousand cycles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pylibfst
from nncosim.tb.errors import BenchError
from pylibfst import ffi, lib

__all__ = ["ROWS", "Row", "add_rows", "row_of"]

ROWS = "rows"
"""The scope of the rows, beside the design's top."""


@dataclass(frozen=True)
class Row:
    """A row: `name`, a part of a name, and what it says from which time on, in the file's unit, in order.

    Texts are ASCII, for viewers do not agree on more: another character is shown as "?".
    """

    name: str
    texts: Sequence[tuple[int, str]]


def row_of(name: str, times: Sequence[int], texts: Sequence[str]) -> Row:
    """A row that says at each of the times, in order, what `texts` has there."""
    pairs = list(zip(times, texts, strict=True))
    return Row(name, [pair for index, pair in enumerate(pairs) if index == 0 or pairs[index - 1][1] != pair[1]])


def add_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a waveform again, with rows `ROWS`.NAME; all else stays, but for Verilator's scopes of unpacked arrays.

    This library does not know these: they become modules, and so their elements' names have the array's name twice.

    Raises:
        BenchError: It cannot be read as an FST file, or not be written.
    """
    reader = lib.fstReaderOpen(str(path).encode())
    if reader == ffi.NULL:
        raise BenchError(f"waveform {path} cannot be read as FST")
    made = path.with_name(f"{path.name}.rows")
    try:
        writer = lib.fstWriterCreate(str(made).encode(), 1)
        if writer == ffi.NULL:
            raise BenchError(f"waveform {made} cannot be written")
        try:
            _copy(reader, writer, rows)
        finally:
            lib.fstWriterClose(writer)
        made.replace(path)
    except OSError as problem:
        raise BenchError(f"waveform {path} cannot be written: {problem}") from problem
    finally:
        lib.fstReaderClose(reader)
        made.unlink(missing_ok=True)
        made.with_name(f"{made.name}.hier").unlink(missing_ok=True)


def _copy(reader: Any, writer: Any, rows: Sequence[Row]) -> None:
    lib.fstWriterSetTimescale(writer, lib.fstReaderGetTimescale(reader))
    lib.fstWriterSetVersion(writer, lib.fstReaderGetVersionString(reader))
    lib.fstWriterSetFileType(writer, lib.fstReaderGetFileType(reader))
    lib.fstWriterSetPackType(writer, lib.FST_WR_PT_LZ4)
    lib.fstWriterSetScope(writer, lib.FST_ST_VCD_MODULE, ROWS.encode(), ffi.NULL)
    texts = [lib.fstWriterCreateVar(writer, lib.FST_VT_GEN_STRING, lib.FST_VD_IMPLICIT, 0, row.name.encode(), 0)
             for row in rows]  # fmt: skip
    lib.fstWriterSetUpscope(writer)
    handles = _declare(reader, writer)
    wanted = sorted((time, text, handle) for row, handle in zip(rows, texts, strict=True) for time, text in row.texts)
    wanted.reverse()
    now = -1

    def advance(time: int) -> None:
        """Go on to a time, saying what rows say up to it."""
        nonlocal now
        while wanted and wanted[-1][0] <= time:
            at, text, handle = wanted.pop()
            if at > now:
                now = at
                lib.fstWriterEmitTimeChange(writer, now)
            data = text.encode("ascii", "replace")
            lib.fstWriterEmitVariableLengthValueChange(writer, handle, data, len(data))
        if time > now:
            now = time
            lib.fstWriterEmitTimeChange(writer, now)

    def changed(_: object, time: int, handle: int, value: Any) -> None:
        if time != now:
            advance(time)
        lib.fstWriterEmitValueChange(writer, handles[handle], value)

    def changed_text(_: object, time: int, handle: int, value: Any, length: int) -> None:
        advance(time)
        lib.fstWriterEmitVariableLengthValueChange(writer, handles[handle], value, length)

    lib.fstReaderSetFacProcessMaskAll(reader)
    pylibfst.fstReaderIterBlocks2(reader, changed, changed_text)
    advance(max([lib.fstReaderGetEndTime(reader), *(time for time, _, _ in wanted)]))


def _declare(reader: Any, writer: Any) -> dict[int, int]:
    """Scopes and variables as they are; the handles of the new ones by those of the old ones."""
    handles: dict[int, int] = {}
    lib.fstReaderIterateHierRewind(reader)
    for item in _items(reader):
        if item.htyp == lib.FST_HT_SCOPE:
            scope = item.u.scope
            lib.fstWriterSetScope(writer, scope.typ, scope.name, scope.component)
        elif item.htyp == lib.FST_HT_UPSCOPE:
            lib.fstWriterSetUpscope(writer)
        elif item.htyp == lib.FST_HT_ATTRBEGIN:
            attribute = item.u.attr
            lib.fstWriterSetAttrBegin(writer, attribute.typ, attribute.subtype, attribute.name, attribute.arg)
        elif item.htyp == lib.FST_HT_ATTREND:
            lib.fstWriterSetAttrEnd(writer)
        elif item.htyp == lib.FST_HT_VAR:
            var = item.u.var
            made = lib.fstWriterCreateVar(writer, var.typ, var.direction, var.length, var.name,
                                          handles.get(var.handle, 0))
            handles.setdefault(var.handle, made)
    return handles


def _items(reader: Any) -> Iterable[Any]:
    while (item := lib.fstReaderIterateHier(reader)) != ffi.NULL:
        yield item
