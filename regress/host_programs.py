# SPDX-License-Identifier: Apache-2.0
"""J3DAI images whose host does what no compiled network's does: it reads and writes all registers, pushes lists from
the end of L2, and makes the machine trap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nncosim.compiler.compile import Compiled
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.j3dai.firmware import LayerStart, compile_host, firmware_source
from nncosim.compiler.j3dai.notes import ListNote, j3dai_notes
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.isa import DESCRIPTOR_BYTES, Descriptor, DmpaOp
from nncosim.hdl.j3dai.regs import L2_BASE, MMIO_BASE, Reg
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.host_counters import with_reader

__all__ = ["ENGINES", "KINDS", "READ", "host_programs"]

ENGINES, KINDS = 16, 8
"""All that COUNTER_SELECT can choose, those that there are not included."""
READ = tuple(register for register in Reg if register != Reg.DMPA_PUSH)
"""Registers that the host reads."""

_KEPT = (Reg.IRQ_LISTS_SEEN, Reg.IRQ_FRAMES_SEEN, Reg.COUNTER_SELECT, Reg.INPUTS_FREE)
"""Registers that keep what is written, and that a network goes on with once they have their values again."""
_PATTERNS = (0xFFFF_FFFF, 0xA5C3_960F, 0x5A3C_69F0)
_CALL = "        infer();\n"
_SLEEP = "        for (;;)\n            sleep();\n"


def host_programs(compiled: Compiled, platform: J3dai) -> Iterator[tuple[str, Image]]:
    """Images of a network with other programs of the host, each with what it does; those of which the name begins with
    "trap" end in one."""
    yield "counters and registers read", with_reader(compiled, platform, range(ENGINES), KINDS, READ)
    yield "registers written", _before_layers(compiled, platform, _writes())
    yield "lists at the end of L2", _with_lists_at_the_end(compiled, platform)
    lists = j3dai_notes(compiled.image).lists
    start = f"        J3DAI_CLUSTER_START = {_start(0, lists[0]).start:#x}u;\n"
    for name, what in {
        "a cluster armed twice": 2 * start,
        "a list beyond L2": f"        J3DAI_DMPA_PUSH = {platform.l2_words}u;\n",
        "a list that runs beyond L2": f"        J3DAI_DMPA_PUSH = {platform.l2_words - platform.banks}u;\n",
        "a list that does not begin on a line": f"        J3DAI_DMPA_PUSH = {lists[0].word + 1}u;\n",
        "more lists than the queue has places": 8 * f"        J3DAI_DMPA_PUSH = {lists[0].word}u;\n",
    }.items():
        yield f"trap of {name}", _before_layers(compiled, platform, what + _SLEEP, _syncs_in_last_line(platform))


def _start(number: int, note: ListNote) -> LayerStart:
    return LayerStart(number, note.word, note.clusters, note.program_counter)


def _writes() -> str:
    """Each register keeps each pattern, and gets back what it had."""
    out = "        uint32_t had, seen = 0;\n"
    for register in _KEPT:
        at = f"*(volatile uint32_t *){MMIO_BASE + register:#x}u"
        out += f"        had = {at};\n"
        for pattern in _PATTERNS:
            out += f"        {at} = {pattern:#x}u;\n        seen ^= {at};\n"
        out += f"        {at} = had;\n"
    return out + "        (void)seen;\n"


def _before_layers(compiled: Compiled, platform: J3dai, what: str, more: Sequence[Segment] = ()) -> Image:
    """The image with statements of C in front of each inference's layers."""
    return _with_host(compiled.image, platform, j3dai_notes(compiled.image).lists, what, more)


def _with_host(image: Image, platform: J3dai, lists: Sequence[ListNote], what: str, more: Sequence[Segment]) -> Image:
    source = firmware_source(platform, [_start(number, each) for number, each in enumerate(lists)])
    assert source.count(_CALL) == 1
    host = compile_host(source.replace(_CALL, what + _CALL), platform)
    others = tuple(each for each in image.segments if not each.memory.startswith("host"))
    return replace(image, segments=(*host, *others, *more))


def _syncs_in_last_line(platform: J3dai) -> tuple[Segment, ...]:
    """Descriptors that do nothing, none of which is its list's last."""
    sync = encode(Descriptor, op=DmpaOp.SYNC.value).to_bytes(DESCRIPTOR_BYTES, "little")
    return (Segment("l2", L2_BASE + platform.l2_bytes - platform.line_bytes, sync * platform.line_descriptors),)


def _with_lists_at_the_end(compiled: Compiled, platform: J3dai) -> Image:
    """Copies of the lists fill L2's end, and the host pushes these."""
    image, lists, copies = compiled.image, [], []
    end = platform.l2_words
    for note in j3dai_notes(image).lists:
        size = -(-note.descriptors * DESCRIPTOR_BYTES // platform.line_bytes) * platform.line_bytes
        end -= size // platform.word_bytes
        data = _bytes_at(image, L2_BASE + note.word * platform.word_bytes, note.descriptors * DESCRIPTOR_BYTES)
        # Whole lines are read.
        copies.append(Segment("l2", L2_BASE + end * platform.word_bytes, data.ljust(size, b"\0")))
        lists.append(replace(note, word=end))
    return _with_host(image, platform, lists, "", copies)


def _bytes_at(image: Image, address: int, size: int) -> bytes:
    for each in image.segments:
        if each.address <= address and address + size <= each.address + len(each.data):
            return each.data[address - each.address:][:size]
    raise AssertionError(f"no segment of the image holds {size} bytes at {address:#x}")
