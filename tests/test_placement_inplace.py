# SPDX-License-Identifier: Apache-2.0
"""Results over inputs: the distances that are safe, placement with them, and the check of the linked image, which
shares no code with either."""

from dataclasses import replace

import numpy as np
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.compiler.image.image import ImageError
from nncosim.compiler.image.traffic import ListTraffic
from nncosim.compiler.j3dai.interleave import interleaved
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.compiler.j3dai.tiling import ranked
from nncosim.compiler.placement.lives import BEFORE, BEHIND, Life, Lives, clashes, forbidden, live_peak
from nncosim.compiler.placement.placement import Buffer, PlacementError, place, unified
from nncosim.compiler.schedule import Schedule, Task
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.asm import DESCRIPTOR_BYTES, decode_descriptors
from nncosim.hdl.j3dai.isa import Descriptor, DmpaOp
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.base import Memory
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.builder import NetworkBuilder
from nncosim.regress.harness import run_compiled
from nncosim.tb.j3dai.l2_tags import check_image, l2_tags
from nncosim.tb.run.traffic import Accesses


def random_life(rng, size):
    """In runs, a few of them never in use."""
    born = np.repeat(rng.integers(0, 60, size), rng.integers(1, 4, size))[:size]
    dies = born + np.repeat(rng.integers(0, 25, size), rng.integers(1, 4, size))[:size]
    dies[rng.random(size) < 0.1] = BEFORE - 1
    return born, dies


@pytest.mark.parametrize("seed", range(20))
def test_forbidden_distances_against_every_distance(seed):
    rng = np.random.default_rng(seed)
    (born, dies), (born2, dies2) = random_life(rng, 40), random_life(rng, 30)
    found = forbidden(Life.of_units(born, dies), Life.of_units(born2, dies2))
    for distance in range(-45, 45):
        clash = False
        for k in range(30):
            at = k + distance
            if 0 <= at < 40 and born[at] <= dies[at] and born2[k] <= dies2[k]:
                clash = clash or (born[at] <= dies2[k] and born2[k] <= dies[at])
        assert clash == any(low <= distance < high for low, high in found), distance


def test_coarse_lives_forbid_more_never_less():
    rng = np.random.default_rng(3)
    life, other = (Life.of_units(*random_life(rng, 500)) for _ in range(2))
    exact = {d for low, high in forbidden(life, other) for d in range(low, high)}
    rough = {d for low, high in forbidden(life.coarse(40), other.coarse(40)) for d in range(low, high)}
    assert exact <= rough
    assert len(life.coarse(40).start) < len(life.start)


def sliding(size, delay):
    """A tensor read word by word, and one of the same size written word by word, `delay` words behind."""
    reads = np.arange(size) * 2
    first = Life.of_units(np.full(size, BEFORE), reads)
    second = Life.of_units(np.arange(size) * 2 + 1 + 2 * delay, np.full(size, BEHIND))
    return Lives("m", 16, {"a": first, "b": second}, ((0, "layer"),))


def two(size):
    buffers = (
        Buffer("a", "m", size * 16, "tensor", 16, from_start=True),
        Buffer("b", "m", size * 16, "tensor", 16, to_end=True),
    )
    return buffers, Schedule((Task("layer", "e", "layer", (), ("a",), ("b",)),))


def test_a_result_that_follows_its_input_lies_over_it():
    buffers, schedule = two(64)
    lives = sliding(64, 3)
    assert live_peak(lives)[0] <= 64 * 16
    use = place(buffers, (Memory("m", 1 << 20, 128),), schedule, (lives,)).table[0]
    assert use.peak == 64 * 16
    assert place(buffers, (Memory("m", 1 << 20, 128),), schedule).table[0].peak == 2 * 64 * 16


def test_the_check_of_placement_sees_a_distance_that_is_not_safe():
    lives = sliding(64, 0)
    assert clashes(lives, {"a": 0, "b": 0}) == []
    assert clashes(lives, {"a": 16, "b": 0}) == []
    assert clashes(lives, {"a": 0, "b": 16}) == [("a", "b")]
    assert clashes(lives, {"a": 0, "b": 64 * 16}) == []


def test_equal_constants_lie_in_one_place():
    buffers = (
        Buffer("p", "m", 64, "program", 16, b"x" * 64), Buffer("q", "m", 64, "program", 16, b"x" * 64),
        Buffer("r", "m", 64, "weights", 16, b"x" * 64), Buffer("l", "m", 64, "list", 16, permanent=True),
    )  # fmt: skip
    assert [b.parent for b in unified(buffers)] == [None, "p", None, None]
    found = place(buffers, (Memory("m", 4096, 128),), Schedule(()))
    assert found.address["p"] == found.address["q"] and found.table[0].peak == 192
    assert found.table[0].by_kind == {"program": 64, "weights": 64, "list": 64}


def test_parts_of_a_buffer_are_counted_under_their_kinds():
    buffers = (Buffer("p", "m", 64, "parameters", 16, b"x" * 64, parts=(("weights", 40),)),)
    assert place(buffers, (Memory("m", 4096, 128),), Schedule(())).table[0].by_kind == {"weights": 40, "parameters": 24}


def test_a_refusal_names_the_layer_the_tensors_and_the_bytes():
    buffers, schedule = two(64)
    lives = Lives("m", 16, {
        "a": Life.of_units(np.full(64, BEFORE), np.full(64, 9)),
        "b": Life.of_units(np.full(64, 5), np.full(64, BEHIND)),
    }, ((0, "one"), (4, "two")))  # fmt: skip
    weights = Buffer("w", "m", 512, "parameters", 16, bytes(512), parts=(("weights", 400),))
    with pytest.raises(PlacementError) as caught:
        place((*buffers, weights), (Memory("m", 2048, 128),), schedule, (lives,))
    text = str(caught.value)
    assert "'m' holds 2048 bytes, but 2560 are needed at once, 512 too many" in text
    assert "parameters 112, weights 400" in text and "in layer 'two': tensor a 1024, tensor b 1024" in text
    assert (caught.value.missing, caught.value.step) == (512, "two")


def network():
    """Tensors of 24 x 24 x 64 (36,864 bytes): wide ones in a row, a sum that needs an earlier one, a smaller end."""
    b = NetworkBuilder(5)
    first = b.conv(b.input(16, 24, 24), 64, 1)
    second = b.conv(first, 64, 1)
    third = b.depthwise(second)
    last = b.conv(b.add(first, third), 32, 3, 2)
    return b.build("tight", last)


@pytest.fixture(scope="module")
def tight():
    """Compiled for an L2 that has no room left, with tensors over each other."""
    peak = compile_network(network(), PLATFORM).memory[0].peak
    return compile_network(network(), PLATFORM.with_parameters(l2_bytes=peak))


def test_tensors_share_words_and_every_value_is_right(tight):
    kept = [b for b in tight.lowered.buffers if b.kind == "tensor"]
    at = tight.placement.address
    pairs = [(a, b) for a in kept for b in kept if a.name < b.name]
    assert any(at[a.name] < at[b.name] + b.size and at[b.name] < at[a.name] + a.size for a, b in pairs)
    assert check_image(tight.image, tight.platform) == ""
    run = run_compiled(tight, "iss", frames=3)
    assert run.result.diagnosis is None
    assert all(t.wrong == 0 for t in run.comparison.tensors)


def test_a_little_less_is_refused(tight):
    with pytest.raises(PlacementError, match=r"memory 'l2' holds \d+ bytes"):
        compile_network(network(), PLATFORM.with_parameters(l2_bytes=tight.memory[0].peak // 2 // 128 * 128))


def descriptors(image, number):
    """Byte address in the L2 segment's data, and fields, of the descriptors of a list."""
    at = j3dai_notes(image).lists[number].word * PLATFORM.word_bytes
    at += L2_BASE
    segment = next(s for s in image.segments if s.memory == "l2" and s.address <= at < s.address + len(s.data))
    start = at - segment.address
    return segment, start, decode_descriptors(segment.data[start:])


def with_descriptors(image, number, change):
    """The image with list `number` as `change` leaves the list of its descriptors' fields."""
    segment, start, fields = descriptors(image, number)
    changed = change([dict(f) for f in fields])
    raw = b"".join(
        encode(Descriptor, **f).to_bytes(DESCRIPTOR_BYTES, "little") for f in changed
    )
    data = segment.data[:start] + raw + segment.data[start + len(raw) :]
    other = replace(segment, data=data)
    return replace(image, segments=tuple(other if s is segment else s for s in image.segments))


def lists_of(image):
    return range(len(image.notes.steps))


def test_one_shifted_address_is_reported(tight):
    rng = np.random.default_rng(1)
    for number in lists_of(tight.image):
        chosen = int(rng.integers(len(descriptors(tight.image, number)[2])))

        def shift(fields, chosen=chosen):
            fields[chosen]["l2"] += 1
            return fields

        text = check_image(with_descriptors(tight.image, number, shift), tight.platform)
        assert f"list {number}" in text and "reads word" in text, (number, chosen)


def test_a_store_over_parameters_is_reported(tight):
    image = tight.image
    victim = next(b.word for b in j3dai_notes(image).traffic.buffers if "parameters" in b.name and b.stays)

    def astray(fields):
        next(f for f in fields if f["op"] == DmpaOp.STORE.value)["l2"] = victim
        return fields

    text = check_image(with_descriptors(image, 0, astray), tight.platform)
    assert "overwrites word" in text and "as loaded" in text


def swapped(image, number, i, j):
    """With two transfers of a list in each other's place, as a compiler that had them so would write them."""

    def swap(fields):
        fields[i], fields[j] = fields[j], fields[i]
        for f, end in ((fields[i], fields[j]["end"]), (fields[j], fields[i]["end"])):
            f["end"] = end
        return fields

    image = with_descriptors(image, number, swap)
    lists = list(j3dai_notes(image).traffic.lists)
    buffer, word = list(lists[number].buffer), list(lists[number].word)
    for values in (buffer, word):
        values[i], values[j] = values[j], values[i]
    lists[number] = ListTraffic(tuple(buffer), tuple(word))
    return with_meant(image, lists)


def with_meant(image, lists):
    """The image with other lists in its traffic table."""
    own = j3dai_notes(image)
    own = replace(own, traffic=replace(own.traffic, lists=tuple(lists)))
    return replace(image, notes=replace(image.notes, own=own))


def test_a_store_before_the_load_it_has_to_wait_for_is_reported(tight):
    """The order of the list is all that protects an input which its result lies over."""
    seen = 0
    for number in lists_of(tight.image):
        fields = descriptors(tight.image, number)[2]
        words = [set((f["l2"] + np.arange(f["n0"])).tolist()) for f in fields]
        for j, f in enumerate(fields):
            over = [i for i in range(j) if f["op"] == DmpaOp.STORE.value and fields[i]["op"] == DmpaOp.LOAD.value
                    and words[i] & words[j]]  # fmt: skip
            if over:
                seen += 1
                assert check_image(swapped(tight.image, number, over[-1], j), tight.platform), (number, over[-1], j)
                break
    assert seen


def test_what_the_frame_before_left_is_not_this_frame():
    b = NetworkBuilder(5)
    grows = b.build("grows", b.conv(b.input(16, 8, 8), 64, 1))
    tight = compile_network(grows, PLATFORM)
    tags = l2_tags(tight.image, tight.platform)
    meant = tags.meant
    moved = Accesses(meant.word[meant.real], meant.write[meant.real])
    assert tags.frame(moved) == ""
    late = moved.word.copy()
    gone = int(np.flatnonzero(moved.write)[-1])
    late[gone] = tight.platform.l2_words - 1  # one word of the result goes somewhere else
    text = tags.frame(Accesses(late, moved.write))
    assert "of frame 2, but there is word" in text and "of frame 1" in text
    assert "moved" in tags.frame(Accesses(moved.word[:-1], moved.write[:-1]))
    assert "out of the order" in tags.frame(Accesses(moved.word, ~moved.write))


def test_a_descriptor_that_the_table_does_not_name_is_an_error(tight):
    lists = j3dai_notes(tight.image).traffic.lists
    with pytest.raises(ImageError, match="traffic table"):
        check_image(with_meant(tight.image, lists[1:]), tight.platform)
    cut = replace(lists[0], buffer=lists[0].buffer[1:], word=lists[0].word[1:])
    with pytest.raises(ImageError, match="has not the descriptors that its traffic table names"):
        check_image(with_meant(tight.image, [cut, *lists[1:]]), tight.platform)


LAYERS = {
    "depthwise": lambda b, x: b.depthwise(x),
    "separable": lambda b, x: b.conv(b.depthwise(x), 64, 1),
    "residual": lambda b, x: b.add(x, b.conv(b.depthwise(x), 64, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_take_plans_that_need_less_where_their_fastest_do_not_fit(name):
    """Tiles are small, so the fastest plan reads rows again after their neighbours' results are written."""
    small = PLATFORM.with_parameters(l1_bytes=16 * 1024)
    b = NetworkBuilder(2)
    whole = b.build(name, b.conv(LAYERS[name](b, b.input(64, 48, 32)), 16, 3, 2))
    free = compile_network(whole, small)
    for less in (4096, 16384):
        limit = (free.memory[0].peak - less) // small.line_bytes * small.line_bytes
        compiled = compile_network(whole, small.with_parameters(l2_bytes=limit))
        assert compiled.memory[0].peak <= limit
        assert compiled.iss_cycles < 1.2 * free.iss_cycles
        run = run_compiled(compiled, "iss", frames=2)
        assert run.result.diagnosis is None
        assert all(t.wrong == 0 for t in run.comparison.tensors)


def tiles_of(regions):
    return sorted((region.channel, step.tile.y0, step.tile.x0, step.b0) for region in regions for step in region.steps)


def test_dealt_out_tiles_are_the_same_tiles():
    b = NetworkBuilder(2)
    compiled = compile_network(b.build("rows", b.depthwise(b.input(64, 96, 64))), PLATFORM)
    plan = next(p for p in ranked(compiled.lowered.private.layers[0].code.plan.nest, PLATFORM) if p.grid.rows > 1)
    dealt = interleaved(plan)
    assert dealt is not None and dealt != plan and interleaved(dealt) is None
    assert tiles_of(dealt.regions) == tiles_of(plan.regions)
    assert sorted(len(r.steps) for r in dealt.regions) == sorted(len(r.steps) for r in plan.regions)
    for region in dealt.regions:
        rows = [step.tile.y0 for step in region.steps]
        assert rows == sorted(rows)
