# SPDX-License-Identifier: Apache-2.0
"""The J3DAI back end from a network to an image: structure, legality, reproducibility, memory."""

import functools
import subprocess
import sys
from dataclasses import replace

import pytest
from nncosim.compiler.compile import check_network, compile_network
from nncosim.compiler.errors import CompileError, ModelError
from nncosim.compiler.image.image import Image, read_tiles
from nncosim.compiler.ir.network import TensorType
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.compiler.placement.placement import PlacementError
from nncosim.hdl.j3dai.asm import decode_descriptors, words_of
from nncosim.hdl.j3dai.isa import DmpaOp, Opcode, Space
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, HOST_IMEM_BASE, L2_BASE
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.cases import CASES, case, chain
from nncosim.regress.j3dai_cluster_model import executed


def l2_of(image):
    memory = bytearray(PLATFORM.l2_bytes)
    for s in image.segments:
        if s.memory == "l2":
            memory[s.address - L2_BASE : s.address - L2_BASE + len(s.data)] = s.data
    return bytes(memory)


def lists_of(image):
    memory = l2_of(image)
    return [decode_descriptors(memory[16 * each.word :]) for each in j3dai_notes(image).lists]


@pytest.fixture(scope="module")
def compiled():
    return compile_network(chain(1), PLATFORM)


def test_segments_lie_in_their_memories(compiled):
    places = {"host_imem": HOST_IMEM_BASE, "host_dmem": HOST_DMEM_BASE, "l2": L2_BASE}
    sizes = {m.name: m.size_bytes for m in PLATFORM.memories}
    for s in compiled.image.segments:
        assert places[s.memory] <= s.address <= s.address + len(s.data) <= places[s.memory] + sizes[s.memory]
    assert compiled.image.entry == HOST_IMEM_BASE
    assert {s.memory for s in compiled.image.segments} >= {"host_imem", "l2"}


def test_every_tensor_and_layer_is_described(compiled):
    image = Image.from_bytes(compiled.image.to_bytes())
    tiles = read_tiles(image)
    assert set(tiles) == set(compiled.network.tensors)
    steps = image.notes.steps
    assert [name for s in steps for name in s.ops] == [op.name for op in compiled.network.ops]
    assert tiles["x0"].role == "input" and tiles["x0"].written_by == ()
    assert tiles["t5"].role == "output" and tiles["t5"].written_by == (len(steps) - 1,)
    assert {n for n, t in tiles.items() if not t.fragments} == {n for s in steps for n in s.inside}
    assert {n: t.tensor for n, t in tiles.items()} == dict(compiled.network.tensors)


def test_programs_are_loaded_where_they_are_started(compiled):
    """Each layer's programs come in its own list or the one before, once for each of its clusters."""
    lists = lists_of(compiled.image)
    loads = [
        (index, d["local"] % 2**14 * 2, d["clusters"])
        for index, descriptors in enumerate(lists) for d in descriptors
        if d["op"] == DmpaOp.LOAD.value and d["local"] >> 14 == Space.IMEM
    ]
    for index, each in enumerate(j3dai_notes(compiled.image).lists):
        masks = [mask for at, pc, mask in loads if pc == each.program_counter and at in (index - 1, index)]
        assert sum(masks) == each.clusters
    assert len(loads) == len({(at, pc, mask) for at, pc, mask in loads})


def test_lists_write_only_their_tensor(compiled):
    tiles = read_tiles(compiled.image)
    for step, descriptors in zip(compiled.image.notes.steps, lists_of(compiled.image), strict=True):
        (out,) = step.writes
        low = (tiles[out].only.address - L2_BASE) // 16
        written = set()
        for d in descriptors:
            if d["op"] == DmpaOp.STORE.value:
                for i2 in range(max(1, d["n2"])):
                    for i1 in range(max(1, d["n1"])):
                        start = d["l2"] + i1 * d["l2_step1"] + i2 * d["l2_step2"]
                        written |= set(range(start, start + d["n0"]))
        assert written == set(range(low, low + tiles[out].size // 16)), "all of the tensor and nothing else"


def test_programs_end_and_fit(compiled):
    memory = l2_of(compiled.image)
    for descriptors in lists_of(compiled.image):
        for d in descriptors:
            if d["op"] == DmpaOp.LOAD.value and d["local"] >> 14 == Space.IMEM:
                opcodes = [w & 63 for w in words_of(memory[16 * d["l2"] : 16 * (d["l2"] + d["n0"])])]
                assert Opcode.HALT in opcodes[-2:]
                assert d["local"] % 2**14 + d["n0"] <= PLATFORM.imem_words


@functools.lru_cache(maxsize=64)  # clusters share programs
def calls(program):
    """(opcode, semaphore) of every WAIT and SIGNAL that a program executes."""
    steps = executed(words_of(program).__getitem__)
    return [(opcode, f["semaphore"]) for _, opcode, f in steps if opcode in (Opcode.WAIT, Opcode.SIGNAL)]


@pytest.mark.parametrize("c", CASES, ids=lambda c: c.name)
def test_semaphores_balance(c):
    """What lists give to a semaphore the programs take, and the other way round: nothing is left for the next frame."""
    image = compile_network(c.build(1), PLATFORM).image
    memory = l2_of(image)
    given, taken, waits, signals = {}, {}, {}, {}
    for descriptors in lists_of(image):
        for d in descriptors:
            for cluster in range(8):
                if d["signal_mask"] >> cluster & 1:
                    key = (cluster, d["signal_semaphore"])
                    given[key] = given.get(key, 0) + 1
                if d["wait_mask"] >> cluster & 1:
                    key = (cluster, d["wait_semaphore"])
                    taken[key] = taken.get(key, 0) + 1
                if d["op"] == DmpaOp.LOAD.value and d["local"] >> 14 == Space.IMEM and d["clusters"] >> cluster & 1:
                    waits[cluster, 7] = waits.get((cluster, 7), 0) + 1  # the start itself
                    for opcode, semaphore in calls(memory[16 * d["l2"] : 16 * (d["l2"] + d["n0"])]):
                        table = waits if opcode == Opcode.WAIT else signals
                        table[cluster, semaphore] = table.get((cluster, semaphore), 0) + 1
    assert given == waits
    assert taken == signals


def test_same_bytes_every_time(compiled, tmp_path):
    code = (
        "import sys, hashlib; from nncosim.regress.cases import chain; from nncosim.platforms.j3dai import PLATFORM;"
        "from nncosim.compiler.compile import compile_network;"
        "print(hashlib.sha256(compile_network(chain(1), PLATFORM).image.to_bytes()).hexdigest())"
    )
    hashes = set()
    for number in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": number, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        hashes.add(out.stdout)
    assert len(hashes) == 1


def test_no_path_in_the_image(compiled, tmp_path):
    raw = compiled.image.to_bytes()
    for text in (b"/tmp", b"/home", b"/root", b"site-packages"):
        assert text not in raw


def kinds(compiled):
    """Of the operators of each step."""
    ops = {op.name: op.kind for op in compiled.network.ops}
    return [" + ".join(ops[name] for name in step.ops) for step in compiled.image.notes.steps]


def test_concat_without_copy_is_a_view():
    compiled = compile_network(case("concat_aligned").build(1), PLATFORM)
    tiles = read_tiles(compiled.image)
    assert kinds(compiled) == ["requantize", "requantize", "conv"]
    assert tiles["p0"].only.address == tiles["joined"].only.address
    assert tiles["p1"].only.address == tiles["joined"].only.address + tiles["p0"].size
    assert tiles["joined"].written_by == (0, 1)
    shifted = compile_network(case("concat_shifted").build(1), PLATFORM)
    assert kinds(shifted).count("concat") == 1


def test_all_problems_in_one_report():
    network = chain(1)
    wide = TensorType(16, True, network.tensors["t0"].type.scale, 0, -32768, 32767)
    ops = list(network.ops)
    ops[2] = replace(ops[2], weights=ops[2].weights * 3)
    network = replace(
        network, ops=tuple(ops), tensors={**network.tensors, "t0": replace(network.tensors["t0"], type=wide)}
    )
    result = check_network(network, PLATFORM)
    texts = [str(p) for p in result.problems]
    assert len(texts) == 2
    assert "'t0'" in texts[0] and "16 bits" in texts[0]
    assert "conv2" in texts[1] and "-128..127" in texts[1]
    with pytest.raises(ModelError, match="2 problems"):
        compile_network(network, PLATFORM)


def test_too_large_for_l2_says_what_and_how_much():
    small = PLATFORM.with_parameters(l2_bytes=64 * 1024)
    with pytest.raises(PlacementError, match=r"'l2' holds 65536 bytes.*x .*131,072.*larger memory"):
        compile_network(case("conv1x1_128").build(1), small)
    assert len(check_network(case("conv1x1_128").build(1), small).problems) == 1


def test_too_large_for_l1_says_what_would_help():
    small = PLATFORM.with_parameters(l1_bytes=2048)
    with pytest.raises(CompileError, match=r"table: no tile fits a cluster.*larger l1_bytes"):
        compile_network(case("table_random").build(1), small)


def test_check_gives_the_memory_table():
    result = check_network(chain(1), PLATFORM)
    assert result.problems == ()
    (use,) = result.memory
    assert use.memory == "l2"
    assert use.peak <= use.size
    assert set(use.by_kind) == {"maps", "weights", "parameters", "program", "list"}
    assert use.peak + use.free == use.size and sum(use.by_kind.values()) <= use.peak


def test_dump_has_a_file_for_each_pass(tmp_path):
    compile_network(case("conv1x1_16").build(1), PLATFORM, dump=tmp_path)
    names = sorted(p.name for p in tmp_path.iterdir())
    passes = ("legalize", "fit", "assign", "prove", "settle", "judge", "lower", "place", "link")
    assert names == [f"{i:02}-{name}.txt" for i, name in enumerate(passes)]
    assert "conv.parameters" in (tmp_path / "07-place.txt").read_text()


def test_everything_that_an_image_says_survives(compiled):
    again = Image.from_bytes(compiled.image.to_bytes())
    assert again.notes.inputs == ("x0",) and again.notes.outputs == ("t5", "t3")
    own = j3dai_notes(again)
    assert own == compiled.image.notes.own and own.traffic is not None
    assert replace(again, notes=replace(again.notes, own=own)) == compiled.image
