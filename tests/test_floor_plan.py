# SPDX-License-Identifier: Apache-2.0
"""The floor plan of a run: every tile once and with its layer, streams from where they start to where they end, busy
shares, in the picture and in text. What it is compared with comes from the report's counters, the image's schedule and
the streams of the shim, not from what draws it."""

import re
from dataclasses import replace
from itertools import pairwise, product
from xml.etree import ElementTree

import onnx
import pytest
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.regress.dense_models import DenseSpec, compiled, dense_network
from nncosim.tb.cli.main import invoke
from nncosim.tb.floor_plan import (
    FLOOR_PLAN,
    SHARED,
    FloorLink,
    FloorPlan,
    FloorPlanError,
    FloorTile,
    floor_plan_json,
    read_floor_plan,
)
from nncosim.tb.report.floor_map import floor_map
from nncosim.tb.report.pages.data import load_run
from nncosim.tb.report.pages.floor_lanes import Lanes, branches, lanes_of
from nncosim.tb.report.pages.floor_plot import busy_share, floor_plot, group_chips
from nncosim.tb.report.pages.page import report_page

COLUMNS, MEMORY_ROWS, ROWS = 8, 1, 4
TOP = MEMORY_ROWS + ROWS
SIZES = (64, 64, 64, 64, 8)
GROUPS = tuple(f"dense{k}" for k in range(4))
BATCH = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("floor") / "run"
    model = out.parent / "dense.onnx"
    onnx.save(dense_network(DenseSpec(SIZES, batch=BATCH)), model)
    assert invoke(["run", str(model), "--platform", "aie_ml", "--backend", "iss", f"--set=columns={COLUMNS}",
                   f"--set=rows={ROWS}", f"--set=memory_rows={MEMORY_ROWS}", "--out", str(out)]) == 0  # fmt: skip
    return out


@pytest.fixture(scope="module")
def run(folder):
    return load_run(folder)


@pytest.fixture(scope="module")
def notes(folder):
    return Image.from_bytes((folder / "image.elf").read_bytes()).notes


# ---- the plan

def layers_wrong(plan, notes):
    """Tiles that are not where a core of that number is, or not of the layer whose step of the schedule names it."""
    layer = {engine: step.name for step in notes.steps for engine in step.engines}
    wanted = {f"core{column * ROWS + row}": (column, 1 + MEMORY_ROWS + row)
              for column, row in product(range(COLUMNS), range(ROWS))}  # fmt: skip
    wanted |= {f"memory tile ({column},{row})": (column, row)
               for column, row in product(range(COLUMNS), range(1, MEMORY_ROWS + 1))}  # fmt: skip
    wanted |= {f"shim {column}": (column, 0) for column in range(COLUMNS)}
    found = [f"{tile.name} at {tile.place}" for tile in plan.tiles if wanted.get(tile.name) != tile.place]
    found += [f"{tile.name} is of {tile.group!r}" for tile in plan.tiles if tile.group != layer.get(tile.name, "")]
    names = [tile.name for tile in plan.tiles]
    return found + [name for name in wanted if names.count(name) != 1]


def test_every_tile_is_there_once_with_its_layer(run, notes):
    assert layers_wrong(run.floor_plan, notes) == []
    assert run.floor_plan.groups == GROUPS
    tiles = list(run.floor_plan.tiles)
    first, last = (next(k for k, t in enumerate(tiles) if t.group == name) for name in (GROUPS[0], GROUPS[-1]))
    tiles[first], tiles[last] = (replace(tiles[a], group=tiles[b].group) for a, b in ((first, last), (last, first)))
    assert len(layers_wrong(replace(run.floor_plan, tiles=tuple(tiles)), notes)) == 2
    assert layers_wrong(replace(run.floor_plan, tiles=run.floor_plan.tiles[1:], links=()), notes)


def streams_wrong(plan, notes):
    """Streams, and buffers that neighbours share, that do not start or end where the shim's streams, and the cuts of
    layers, say."""
    own = notes.own_as(AieMlNotes)
    streams = [link for link in plan.links if link.kind in ("stream", SHARED)]
    found = []
    for inward, stream in [*((True, s) for s in own.inputs), *((False, s) for s in own.outputs)]:
        (begin, end) = stream.box[1]
        name = f"{'input' if inward else 'output'} {stream.tensor} {begin}..{end - 1}"
        ends = [(link.source,) if inward else link.targets for link in streams if link.name == name]
        if ends != [((stream.column, 0),)]:
            found.append(f"{name} at {ends}")
        found += [f"{name}: {link.text}" for link in streams
                  if link.name == name and link.text != f"{BATCH * (end - begin) // 4:,} words an inference"]
    for number, width in enumerate(SIZES[:-1]):
        places = [tile.place for tile in plan.tiles if tile.group == f"dense{number}"]
        columns = sorted({column for column, _ in places})
        for column, row in places:
            mine = [link for link in streams if (column, row) in link.targets]
            channels = sorted(channel for link in mine for channel in channels_of(link))
            part = width // len(columns)
            first = columns.index(column) * part
            if channels != list(range(first, first + part)):
                found.append(f"tile {column}, {row} takes {[link.name for link in mine]}")
            givers = {plan.at[link.source].group for link in mine}
            if givers != {f"dense{number - 1}" if number else ""}:
                found.append(f"tile {column}, {row} takes from {givers}")
    found += [f"{link.name} jumps from {a} to {b}" for link in streams for way in link.ways for a, b in pairwise(way)
              if abs(a[0] - b[0]) + abs(a[1] - b[1]) != 1]  # fmt: skip
    return found + [f"{link.name} is shared by {link.ways}" for link in streams
                    if link.kind == SHARED and link.targets != ((link.source[0] + 1, link.source[1]),)]


def channels_of(link):
    begin, end = map(int, re.search(r" (\d+)\.\.(\d+)$", link.name).groups())
    return range(begin, end + 1)


def with_links(plan, change):
    return replace(plan, links=tuple(new for link in plan.links if (new := change(link)) is not None))


def test_streams_start_and_end_where_the_notes_say(run, notes):
    plan = run.floor_plan
    assert streams_wrong(plan, notes) == []
    assert sum(link.kind == "stream" for link in plan.links) > 8
    (shared,) = [link for link in plan.links if link.kind == SHARED]
    inner = next(link for link in plan.links if link.name.startswith("dense0") and len(link.ways) > 1)
    for change in (
        lambda link: None if link == inner else link,
        lambda link: replace(link, ways=link.ways[1:]) if link == inner else link,
        lambda link: replace(link, ways=tuple((*way, (way[-1][0] + 1, way[-1][1])) for way in link.ways))
        if link == inner else link,
        lambda link: replace(link, ways=tuple((way[0], way[-1]) for way in link.ways if way[0][1] == way[-1][1]))
        if link == inner else link,
        lambda link: replace(link, text="63 words an inference") if link.name.startswith("input") else link,
        lambda link: replace(link, ways=tuple(tuple((x, TOP - y) for x, y in way) for way in link.ways))
        if link.name.startswith("output") else link,
        lambda link: None if link == shared else link,
        lambda link: replace(link, ways=(link.ways[0][::-1],)) if link == shared else link,
    ):  # fmt: skip
        assert streams_wrong(with_links(plan, change), notes)


def test_ways_take_the_links_that_the_router_took():
    made = compiled(DenseSpec(SIZES, batch=BATCH)).lowered.private
    step = {"north": (0, 1), "south": (0, -1), "west": (-1, 0), "east": (1, 0)}
    for number, net in enumerate(made.plan.nets):
        taken = {((x, y), (x + step[side][0], y + step[side][1])) for (x, y), side, _ in made.routes.links[number]}
        if net.source.row == 0:
            taken.add(((net.source.column, 0), (net.source.column, 1)))
        ways = made.routes.ways(number, net)
        assert {pair for way in ways for pair in pairwise(way)} == taken
        assert len(ways) == len(net.targets)


def cascades_wrong(plan):
    """Cascades that do not lead through all columns of one row of a layer, from west to east."""
    wanted = []
    for group in plan.groups:
        places = [tile.place for tile in plan.tiles if tile.group == group]
        columns = sorted({column for column, _ in places})
        if len(columns) > 1:
            wanted += [tuple((column, row) for column in columns) for row in sorted({row for _, row in places})]
    ways = [way for link in plan.links if link.kind == "cascade" for way in link.ways]
    return sorted(set(ways) ^ set(wanted))


def test_cascades_go_east_through_a_layer(run):
    assert cascades_wrong(run.floor_plan) == []
    assert any(link.kind == "cascade" for link in run.floor_plan.links)
    back = with_links(run.floor_plan, lambda link: replace(link, ways=tuple(way[::-1] for way in link.ways))
                      if link.kind == "cascade" else link)  # fmt: skip
    assert cascades_wrong(back)


# ---- the picture

def drawn(run):
    """Of each tile by name: its box (x, y, width, height), and the height that is filled; and the picture's links."""
    picture = floor_plot(run)
    root = ElementTree.fromstring(picture.svg)
    tiles = {}
    for group in root.findall("g"):
        if "data-tile" in group.attrib:
            box, *level = group.findall("rect")
            assert group.get("data-tile") not in tiles
            tiles[group.get("data-tile")] = (
                tuple(float(box.get(k)) for k in ("x", "y", "width", "height")),
                float(level[0].get("height")) if level else 0.0,
                group.find("title").text,
            )
    return picture, tiles, [group for group in root.findall("g") if "data-link" in group.attrib]


def places_wrong(plan, tiles):
    """Pairs of tiles that are not drawn as they are: columns from the left, rows from below; and overlaps."""
    found = [tile.name for tile in plan.tiles if tile.name not in tiles]
    for a, b in product(plan.tiles, repeat=2):
        if a.name in tiles and b.name in tiles and a != b:
            (left, top, width, height), (x, y, *_) = tiles[a.name][0], tiles[b.name][0]
            if (a.column < b.column and left + width > x) or (a.row > b.row and top + height > y):
                found.append(f"{a.name} and {b.name}")
    return found


def test_every_tile_is_drawn_where_it_is(run):
    _, tiles, links = drawn(run)
    assert places_wrong(run.floor_plan, tiles) == [] and len(tiles) == COLUMNS * (TOP + 1)
    upside_down = [replace(tile, row=TOP - tile.row) for tile in run.floor_plan.tiles]
    assert places_wrong(replace(run.floor_plan, tiles=tuple(upside_down), links=()), tiles)
    assert sorted(link.get("data-link") for link in links) == sorted(link.name for link in run.floor_plan.links)


def levels_wrong(run, scale, tiles):
    """Tiles that are not filled as the report's counters say, or whose hover says other cycles."""
    found = []
    for tile in run.floor_plan.tiles:
        counters = [layer["counters"].get(tile.name, {}) for layer in run.layers]
        busy = sum(each.get("busy", 0) for each in counters)
        total = sum(sum(each.values()) for each in counters)
        (_, _, _, height), level, text = tiles[tile.name]
        if tile.group and (total != run.report["cycles"] or not busy):
            found.append(f"{tile.name} counts {busy} of {total}")
        if level / height * scale != pytest.approx(busy / total if total else 0, abs=1e-3 * scale):
            found.append(f"{tile.name} is filled by {level / height}")
        said = {cause: int(count.replace(",", "")) for cause, count in
                re.findall(r"^([\w: ]+): ([\d,]+) cycles \(", text, re.M)}  # fmt: skip
        if said.get("busy", 0) != busy or sum(said.values()) != total:
            found.append(f"{tile.name} says {said}")
    return found


def test_busy_shares_are_those_of_the_counters(run):
    picture, tiles, _ = drawn(run)
    assert levels_wrong(run, picture.scale, tiles) == []
    name = next(tile.name for tile in run.floor_plan.tiles if tile.group)
    layers = [{**layer, "counters": {**layer["counters"], name: {"busy": layer["cycles"]}}} for layer in run.layers]
    assert levels_wrong(replace(run, report={**run.report, "layers": layers}), picture.scale, tiles)
    used = [tile for tile in run.floor_plan.tiles if tile.group]
    assert max(busy_share(run, tile) for tile in used) <= picture.scale
    chips = group_chips(run)
    assert [(chip.letter, chip.name) for chip in chips] == list(zip("ABCD", GROUPS, strict=True))
    assert sum(chip.tiles for chip in chips) == len(used)
    for chip in chips:
        mine = [busy_share(run, tile) for tile in used if tile.group == chip.name]
        assert chip.busy == pytest.approx(sum(mine) / len(mine))


def test_lines_begin_and_end_in_their_tiles(run):
    """Of each stream the drawn line's first point, and its arrowheads' middles."""
    _, tiles, links = drawn(run)

    def inside(point, at):
        (left, top, width, height), *_ = tiles[run.floor_plan.at[at].name]
        return left <= point[0] <= left + width and top <= point[1] <= top + height

    by_name = {link.name: link for link in run.floor_plan.links}
    for drawing in links:
        link = by_name[drawing.get("data-link")]
        if link.direct:
            continue
        wire = next(path.get("d") for path in drawing.findall("path") if path.get("class") == "wire")
        numbers = [float(each) for each in re.findall(r"-?[\d.]+", wire)]
        assert inside(numbers[:2], link.source)
        circle = drawing.find("circle")
        assert (float(circle.get("cx")), float(circle.get("cy"))) == tuple(numbers[:2])
        heads = next(path.get("d") for path in drawing.findall("path") if path.get("class") == "head").split("Z")[:-1]
        tips = [[float(each) for each in re.findall(r"-?[\d.]+", head)[:2]] for head in heads]
        assert len(tips) == len(link.targets)
        assert all(inside(tip, target) for tip, target in zip(tips, link.targets, strict=True))
        assert not inside((numbers[0], numbers[1] + 1000), link.source)


def test_a_shared_buffer_is_drawn_in_the_tile_that_has_it(run):
    _, tiles, links = drawn(run)
    (shared,) = [link for link in run.floor_plan.links if link.kind == SHARED]
    (drawing,) = [each for each in links if each.find("rect") is not None]
    assert drawing.get("data-link") == shared.name and "512 bytes, twice" in drawing.find("title").text
    (left, top, width, height), _, text = tiles[run.floor_plan.at[shared.source].name]
    x, y, wide, high = (float(drawing.find("rect").get(k)) for k in ("x", "y", "width", "height"))
    assert left < x < x + wide < left + width and top < y < y + high < top + height
    assert f"gives {shared.name}" in text
    assert f"takes {shared.name}" in tiles[run.floor_plan.at[shared.targets[0]].name][2]
    assert "with a box behind them" in report_page(run).decode()


def lanes_wrong(links, lanes):
    """Two links that lie on each other within a tile."""
    taken = {}
    for number, link in enumerate(links):
        for a, b in (pair for branch in branches(link) for pair in pairwise(branch)):
            axis = int(a[0] == b[0])
            for at in (a, b):
                taken.setdefault((axis, at, lanes.offset(number, axis, at)), set()).add(number)
    return [where for where, numbers in taken.items() if len(numbers) > 1]


def test_no_line_lies_on_another(run):
    streams = [link for link in run.floor_plan.links if not link.direct]
    assert lanes_wrong(streams, lanes_of(streams)) == []
    assert lanes_wrong(streams, Lanes())


def test_the_page_has_it(run):
    text = report_page(run).decode()
    assert text.count('id="floor-plan"') == 1
    assert text.index("<h2>Timeline") < text.index("<h2>Floor plan") < text.index('<table id="layers">')
    assert "is filled as high as" in text and "<b>B</b> dense1" in text
    without = report_page(replace(run, floor_plan=None)).decode()
    stopped = report_page(replace(run, activities=[])).decode()
    assert 'id="floor-plan"' in stopped and 'class="level"' not in stopped and "is filled" not in stopped
    assert "Floor plan" not in without and 'id="floor-plan"' not in without


# ---- in text

def test_the_map(run):
    *rows, ruler, unused, meaning = floor_map(run.floor_plan)
    assert len(rows) == TOP + 1 and ruler == "  0123456"
    assert unused == "7 of 8 columns and 6 of 6 rows; the others are not used"
    letters = dict(zip(GROUPS, "ABCD", strict=True))
    seen = 0
    for tile in run.floor_plan.tiles:
        if tile.column < run.floor_plan.used[0] and tile.row:
            line, empty = rows[TOP - tile.row], "=" if tile.row <= MEMORY_ROWS else "."
            assert line[0] == str(tile.row) and line[2 + tile.column] == letters.get(tile.group, empty)
            seen += bool(tile.group)
    assert seen == sum(bool(tile.group) for tile in run.floor_plan.tiles)
    assert "^" in rows[-1] and "v" in rows[-1]
    assert meaning.startswith("A dense0, B dense1, C dense2, D dense3, ") and "v shim" in meaning


def test_a_run_prints_the_map(tmp_path, capsys):
    model = tmp_path / "dense.onnx"
    onnx.save(dense_network(DenseSpec((32, 16), batch=8)), model)
    assert invoke(["run", str(model), "--platform", "aie_ml", "--backend", "iss", "--set=columns=1", "--set=rows=1",
                   "--set=memory_rows=0", "--out", str(tmp_path / "run")]) == 0  # fmt: skip
    assert "\n1 A\n0 x\n  0\nA dense0, x shim\n" in capsys.readouterr().out
    run = load_run(tmp_path / "run")
    picture, tiles, links = drawn(run)
    assert set(tiles) == {"core0", "shim 0"} and len(links) == 2 and picture.hidden == 0
    assert levels_wrong(run, picture.scale, tiles) == []


def test_columns_beyond_those_in_use_are_left_out():
    tiles = tuple(FloorTile(f"t{c} {r}", c, r, "core", group="g" if c == r == 0 else "")
                  for c in range(38) for r in range(9))  # fmt: skip
    plan = FloorPlan(("g",), tiles)
    assert floor_map(plan) == ["0 A", "  0", "1 of 38 columns and 1 of 9 rows; the others are not used", "A g"]
    letters = FloorPlan(tuple(f"g{k}" for k in range(60)), tiles[1:2])
    assert [letters.letter(f"g{k}") for k in (0, 25, 26, 51, 52, 59)] == ["A", "Z", "a", "z", "*", "*"]


# ---- other machines, and what is wrong

def two_accelerators():
    """Two engines of the run as accelerators, over two memories, one of which nobody works for."""
    tiles = (
        FloorTile("digital", 0, 1, "accelerator", group="digital", engine="core0"),
        FloorTile("analog <x>", 2, 1, "accelerator", group="analog", engine="core1"),
        FloorTile("L1", 0, 0, "memory", "="), FloorTile("L2", 2, 0, "memory", "="),
    )  # fmt: skip
    return FloorPlan(("digital", "analog"), tiles, (
        FloorLink("rows & sums", "bus", (((0, 0), (0, 1)), ((0, 0), (2, 0), (2, 1)))),
        FloorLink("bypass", "wire", (((0, 1), (2, 1)),), direct=True),
    ))  # fmt: skip


def test_any_machine_has_a_picture(run):
    changed = replace(run, floor_plan=two_accelerators())
    _, tiles, links = drawn(changed)
    assert places_wrong(changed.floor_plan, tiles) == [] and len(tiles) == 4 and len(links) == 2
    assert tiles["L1"][1] == 0 < tiles["digital"][1]
    assert floor_map(changed.floor_plan) == ["1 A B", "0 = =", "  012", "A digital, B analog, = memory"]
    text = report_page(changed).decode()
    assert "analog &lt;x&gt;" in text and "analog <x>" not in text


@pytest.mark.parametrize(("change", "said"), [
    (lambda p: {"tiles": (*p.tiles, FloorTile("L1", 5, 5, "memory"))}, "tile L1 has the name or the place"),
    (lambda p: {"tiles": (*p.tiles, FloorTile("L3", 0, 0, "memory"))}, r"L3 has the name or the place \(0, 0\) of"),
    (lambda p: {"tiles": (*p.tiles, FloorTile("L3", -1, 0, "memory"))}, "left of column 0"),
    (lambda p: {"tiles": (), "links": ()}, "there is no tile"),
    (lambda p: {"groups": ("digital",)}, "in group 'analog', which is not listed"),
    (lambda p: {"links": (FloorLink("a", "bus", ()),)}, "bus a has not one source"),
    (lambda p: {"links": (FloorLink("a", "bus", (((0, 0), (0, 1)), ((2, 0), (2, 1)))),)}, "bus a has not one source"),
    (lambda p: {"links": (FloorLink("a", "bus", (((0, 0), (1, 0)),)),)}, r"led over \(1, 0\), where no tile is"),
    (lambda p: {"links": (FloorLink("a", "bus", (((0, 0), (2, 1)),)),)}, "not in one row or column"),
    (lambda p: {"links": (FloorLink("a", "bus", (((0, 0), (0, 0)),)),)}, "not in one row or column"),
])  # fmt: skip
def test_a_plan_that_contradicts_itself(change, said):
    plan = two_accelerators()
    with pytest.raises(FloorPlanError, match=said):
        replace(plan, **change(plan))


def test_a_plan_survives_its_file(run):
    for plan in (run.floor_plan, two_accelerators()):
        assert read_floor_plan(floor_plan_json(plan, "hash"), "hash") == plan


@pytest.mark.parametrize(("change", "said"), [
    (lambda data: data.replace(b'"image":"', b'"image":"0'), "is of another image"),
    (lambda data: data[: len(data) // 2], "is damaged"),
    (lambda data: data.replace(b'"core0"', b'"core1"', 1), "is damaged"),
    (lambda data: b"[]", "has not the two keys"),
    (lambda data: data.replace(b'"groups"', b'"grups"'), "is damaged"),
])  # fmt: skip
def test_a_file_of_another_run_or_a_damaged_one(folder, capsys, change, said):
    path = folder / FLOOR_PLAN
    data = path.read_bytes()
    try:
        path.write_bytes(change(data))
        assert invoke(["report", str(folder)]) == 2
        assert said in capsys.readouterr().err
        path.unlink()
        assert load_run(folder).floor_plan is None
    finally:
        path.write_bytes(data)
    assert invoke(["report", str(folder)]) == 0
