# SPDX-License-Identifier: Apache-2.0
"""Command files for Surfer, as far as they can be checked without it: by what its parser takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from nncosim.hdl.emit import emit_design
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.surfer import Shown, commands
from nncosim.tb.sim.verilate import build
from nncosim.tb.sim.waves import Line, SignalGroup, changes, command_file, save_file, variables, write_save_file
from test_names import Outer
from vcd.gtkw import GTKWColor

WORD = r"\w+"
TAKEN = {
    "timeline_add": "", "item_focus": "[a-p]+", "item_unfocus": "", "divider_add": WORD, "variable_add": r"\S+",
    "item_set_format": "Hexadecimal|Unsigned|Signed|Binary", "item_set_color": "Red|Orange|Yellow|Green|Blue|Violet",
    "item_rename": ".+", "marker_set": r"[A-Z] \d+", "cursor_set": r"\d+",
}  # fmt: skip
"""What a command takes, one word where Surfer's parser stops after one."""


class Item(NamedTuple):
    name: str
    format: str = ""
    color: str = ""
    label: str = ""


def read(text: str) -> tuple[list[Item], dict[str, int], list[int]]:
    """What a file shows, as Surfer reads it: items from top to bottom, markers, places of the cursor."""
    items, markers, cursor = [], {}, []
    for line in (line.split("#")[0].strip() for line in text.splitlines()):
        for command in filter(None, line.split(";")):
            word, _, rest = command.partition(" ")
            assert re.fullmatch(TAKEN[word], rest), command
            if word in ("divider_add", "variable_add"):
                items.append(Item(rest))
            elif word in ("item_set_format", "item_set_color", "item_rename"):
                field = {"item_set_format": "format", "item_set_color": "color", "item_rename": "label"}[word]
                items[-1] = items[-1]._replace(**{field: rest})
            elif word == "marker_set":
                markers[rest[0]] = int(rest[1:])
            elif word == "cursor_set":
                cursor.append(int(rest))
    return items, markers, cursor


def test_items_and_markers() -> None:
    shown = [Shown("t.clk", "clk", 1), Shown("t.pc", "pc", 16, "a; b #1", "dec", "red"),
             Shown("t.order.kind", "order.kind", 2), Shown("t.x", "x", 8, format="signed", color="normal")]  # fmt: skip
    text = commands([("first of all", shown), ("empty.1", [])], [700, 900])
    assert text.startswith("# of Surfer 0.7\ntimeline_add\nitem_focus a\ndivider_add first_of_all\n")
    assert read(text) == (
        [Item("first_of_all"), Item("t.clk"), Item("t.pc", "Unsigned", "Red", "a_ b _1"), Item("t.x", "Signed"),
         Item("empty_1")], {"A": 700, "B": 900}, [700],
    )  # fmt: skip
    assert "# cannot be named by a command: t.order.kind\n" in text
    assert read(commands([], ())) == ([], {}, [])


def test_no_more_markers_than_letters() -> None:
    assert list(read(commands([], range(100)))[1].values()) == list(range(26))


@pytest.fixture(scope="module", params=["fst", "vcd"])
def trace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = build(emit_design(Outer(), "outer"), "outer", trace=request.param)
    path = tmp_path_factory.mktemp("surfer") / f"run.{request.param}"
    with Model(built, period_ps=1000) as model:
        model.trace(path)
        for cycle in range(40):
            model.i, model.kind = cycle, cycle % 4
            model.tick()
    return path


def written(trace: Path, at: Sequence[int]) -> tuple[list[Item], dict[str, int], list[int]]:
    words = {0: "READ", 1: "WRITE"}
    groups = [SignalGroup("all of it", [
        Line("outer.i", "input", "dec", color=GTKWColor.orange), Line("outer.order.kind", words=words),
        Line("outer.kind", "kind", words=words), Line("outer.not_there"), Line("outer.clk")]),
        SignalGroup("nothing", [Line("outer.gone")])]  # fmt: skip
    write_save_file(trace, groups, clock="outer.clk", cycle="outer.i", at=at)
    return read(command_file(trace).read_text())


def test_beside_a_save_file(trace: Path) -> None:
    """The same signals, all of them in the waveform, and markers at the same times."""
    items, markers, cursor = written(trace, (7, 9))
    names = [item.name for item in items[1:]]
    assert names == ["outer.i", "outer.kind", "outer.clk"] and set(names) <= set(variables(trace))
    assert items[0] == Item("all_of_it") and items[1] == Item("outer.i", "Unsigned", "Orange", "input")
    times = {value: time for time, value in changes(trace, "outer.i")}
    assert markers == {"A": times[7], "B": times[9]} and cursor == [times[7]]
    marked = next(line for line in save_file(trace).read_text().splitlines() if line.startswith("*")).split()
    assert marked[2:4] == [str(times[7]), str(times[9])]
