# SPDX-License-Identifier: Apache-2.0
"""Which tensors lie whole in memory at an inference's end: the compiler's word for it against the order of accesses."""

import re
from dataclasses import replace

import pytest
from nncosim.compiler.image.image import Image, ImageError, read_tiles
from nncosim.compiler.placement.kept import kept_buffers
from nncosim.compiler.placement.placement import Buffer, Placement
from nncosim.compiler.schedule import Schedule, Task
from nncosim.regress.harness import compile_case, compile_digits, run_compiled
from nncosim.tb.j3dai.capture import places
from nncosim.tb.j3dai.l2_tags import l2_tags
from nncosim.tb.run.traffic import Accesses

CASES = ("random0", "random1", "random3", "chain", "concat_aligned", "concat_shifted", "packed_read_twice_out")


def played(compiled):
    """L2's tags when two inferences have ended, by the image's lists alone."""
    tags = l2_tags(compiled.image, compiled.platform)
    for _ in range(2):
        assert tags.frame(Accesses(tags.meant.word[tags.meant.real], tags.meant.write[tags.meant.real])) == ""
    return tags


@pytest.mark.parametrize("case", [*CASES, "digits"])
def test_kept_is_what_the_order_of_all_accesses_leaves(case):
    """Placement's lives say it to the compiler; here the tags of L2 do, which follow the linked lists."""
    compiled = compile_digits() if case == "digits" else compile_case(case, 1)
    tags, table = played(compiled), places(compiled.image)
    assert {name: place.kept for name, place in table.items()} == {name: tags.holds(name) for name in table}
    assert all(table[name].kept for name in compiled.network.outputs)


def test_some_are_kept_and_some_are_not():
    """Else the comparison above would say little."""
    kept = [p.kept for case in CASES for p in places(compile_case(case, 1).image).values() if p.lists]
    assert sum(kept) >= 10 and kept.count(False) >= 5


def test_a_tensor_that_is_called_kept_and_is_overwritten_is_told():
    compiled = compile_digits()
    image = compiled.image
    gone = next(name for name, place in places(image).items() if place.lists and not place.kept)
    planted = replace(image, tiles={**image.tiles, gone: replace(image.tiles[gone], kept=True)})
    run = run_compiled(compiled, "iss", spoil=lambda raw: planted.to_bytes())
    assert run.comparison.first.tensor == gone and "was written" in run.comparison.first.note


def test_an_image_that_does_not_say_it_is_refused():
    raw = compile_digits().image.to_bytes()
    name = min(read_tiles(compile_digits().image))
    with pytest.raises(ImageError, match=rf"\.nncosim\.tiles is damaged \(\.{name} lacks kept\); compile it again"):
        Image.from_bytes(re.sub(rb'"kept":\w+,', lambda found: b" " * len(found[0]), raw, count=1))
    with pytest.raises(ImageError, match=r"has no tile table.*compile it again"):
        places(compile_digits().image.stripped())


def buffers(**more):
    facts = {"a": {"from_start": True}, "b": {}, "c": {}, "d": {"to_end": True}, "part": {"parent": "b", "offset": 16}}
    sizes = {"part": 16}
    return [Buffer(name, "ram", sizes.get(name, 32), "tensor", **{**fact, **more.get(name, {})})
            for name, fact in facts.items()]


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ({"a": 0, "b": 32, "c": 64, "d": 96}, "a b c d part"),
        ({"a": 0, "b": 32, "c": 0, "d": 64}, "b c d part"),  # over the input, which was first
        ({"a": 0, "b": 32, "c": 64, "d": 32}, "a c d"),  # over b and its part
        ({"a": 0, "b": 32, "c": 80, "d": 0}, "b c d part"),
        ({"a": 0, "b": 32, "c": 64, "d": 16}, "c d part"),  # over half of a, and the half of b without the part
    ],
)
def test_by_layers_where_nobody_says_when_units_are_in_use(address, kept):
    tasks = tuple(Task(f"t{k}", "e", f"t{k}", (f"t{k - 1}",) * bool(k), (r,), (w,))
                  for k, (r, w) in enumerate(("ab", "bc", "cd")))
    placement = Placement({**address, "part": address["b"] + 16}, ())
    assert kept_buffers(buffers(), placement, Schedule(tasks)) == set(kept.split())


def test_of_engines_at_once_nobody_knows_which_was_last():
    tasks = (Task("one", "e", "one", (), ("a",), ("b",)), Task("two", "f", "two", (), ("a",), ("c",)))
    placement = Placement({"a": 64, "b": 0, "c": 0, "d": 96, "part": 16}, ())
    assert kept_buffers(buffers(), placement, Schedule(tasks)) == {"a", "d"}
