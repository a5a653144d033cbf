# SPDX-License-Identifier: Apache-2.0
"""What goes to the entry port, and networks compiled so that the next input may come while they run."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import refused, runner
from nncosim.compiler.compile import compile_network
from nncosim.compiler.image.image import ImageError, Segment
from nncosim.compiler.j3dai.backend import BACKEND
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.compiler.placement.lives import BEHIND
from nncosim.compiler.placement.placement import PlacementError
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_digits, digits_images
from nncosim.tb.backend import Entering
from nncosim.tb.j3dai.build import ENTRY, ENTRY_WRITE, FRAME_ASKED, FRAME_ENDS, L2_READ, sensor_beats
from nncosim.tb.j3dai.capture import places
from nncosim.tb.j3dai.iss_backend import run_iss
from nncosim.tb.j3dai.sensor import Sensor, load_packets, overtaken
from nncosim.tb.run.capture import pack_input

SMALL = replace(PLATFORM, clusters=1, l2_bytes=512 * 1024)


class Store:
    """A simulation's sensor memory."""

    def __init__(self, platform):
        self.beats = np.zeros((sensor_beats(platform), platform.word_bytes), np.uint8)

    def memory(self, path, dtype):
        assert path == "sensor.store"
        return self.beats


def receive(beats, word=16):
    """What a chip makes of packets, by the manual: memory bytes by address, and the order of FRAMEs and GOs."""
    memory, order, at = {}, [], 0
    while at < len(beats):
        magic, flags, words, address = struct.unpack_from("<BBHI", beats[at].tobytes())
        assert magic == 0xE7 and flags >> 5 == 0 and not beats[at][8:].any()
        op = flags & 15
        order.append((op, flags >> 4 & 1))
        at += 1
        if op == 1:
            assert words
            for k, value in enumerate(beats[at : at + words].tobytes()):
                memory[address + k] = value
            at += words
    return memory, order


@pytest.mark.parametrize("stream", [False, True])
def test_boot_sends_every_byte_of_the_image_and_of_the_input(stream):
    compiled = compile_digits(SMALL)
    store, images = Store(SMALL), digits_images(compiled, 7, 301)
    sensor = Sensor(store, SMALL, compiled.image, images, Entering(True, stream))
    count = sensor.limit(0, 0)
    memory, order = receive(store.beats[:count])
    expected = {s.address + k: v for s in compiled.image.segments for k, v in enumerate(s.data)}
    for name, values in images[int(stream)].items():
        place = places(compiled.image)[name]
        at = L2_BASE + place.word * 16
        expected |= {at + k: v for k, v in enumerate(pack_input(place, values))}
    assert {at: memory[at] for at in expected} == expected
    assert all(memory[at] == 0 for at in memory.keys() - expected.keys())  # filling of last words
    tail = [(1, 0), (3, 0), (2, 0)] if not stream else [(1, 1), (3, 0), (2, 0), (1, 1), (2, 0)]
    assert order[-len(tail) :] == tail and {wait for _, wait in order[: -len(tail)]} == {0}
    if not stream:
        more = sensor.limit(1, count)
        assert receive(store.beats[count:more])[1] == [(1, 0), (2, 0)]


def test_the_sensors_memory_is_used_in_turn():
    """More inputs than it holds: what was sent makes room."""
    compiled = compile_digits(SMALL)
    store, images = Store(SMALL), digits_images(compiled, *range(20))
    store.beats = store.beats[:64]  # of so many beats only
    sensor = Sensor(store, SMALL, compiled.image, images, Entering(False, True))
    sensor._depth, sent, taken = 64, 0, []
    for number in range(len(images)):
        limit = sensor.limit(number, sent)
        while sent < limit:
            taken.append(store.beats[sent % 64].copy())
            sent += 1
            if sent % 50 == 0:
                limit = sensor.limit(number, sent)
    orders = receive(np.array(taken))[1]
    assert orders == [(1, 1), (2, 0)] * len(images)


def test_long_loads_are_cut():
    data = np.random.default_rng(1).bytes(16 * 65536 + 5)
    packets = list(load_packets(PLATFORM, L2_BASE, data))
    memory, order = receive(np.concatenate(packets))
    assert order == [(1, 0), (1, 0)] and [len(p) for p in packets] == [65536, 3]
    assert bytes(memory[L2_BASE + k] for k in range(len(data))) == data


@pytest.mark.parametrize(("address", "text"), [(L2_BASE + 4, "begin on a word"), (0x2000_0000, "in no memory")])
def test_what_cannot_be_sent_is_refused(address, text):
    compiled = compile_digits(SMALL)
    image = replace(compiled.image, segments=(*compiled.image.segments, Segment("x", address, bytes(8))))
    with pytest.raises(ImageError, match=text):
        Sensor(Store(SMALL), SMALL, image, digits_images(compiled, 1), Entering(True)).limit(0, 0)


def test_streaming_leaves_the_inputs_place_alone():
    """No buffer shares a word with an input, and the host tells after the last list that reads one."""
    plain = compile_digits()
    compiled = compile_network(plain.network, PLATFORM, backend=BACKEND.streaming())
    placement, lowered = compiled.placement, compiled.lowered
    assert not plain.image.notes.streams and compiled.image.notes.streams
    ours = {n: compiled.lowered.lives[0].of[n] for n in compiled.network.inputs}
    assert all(life.last == BEHIND for life in ours.values())
    for name in compiled.network.inputs:
        size = next(b.size for b in lowered.buffers if b.name == name)
        low = placement.address[name]
        others = [b for b in lowered.buffers if b.name != name and b.memory == "l2" and b.size
                  and placement.address[b.name] < low + size and low < placement.address[b.name] + b.size]
        assert others == []
    reads = [i for i, layer in enumerate(lowered.private.layers) for t in layer.transfers for p in t.pieces
             if p.buffer in compiled.network.inputs]
    assert j3dai_notes(compiled.image).input_lists == max(reads) + 1


def test_streaming_computes_the_same_on_the_iss():
    """The host's program writes a register more; all else is as before."""
    compiled = compile_network(compile_digits().network, PLATFORM, backend=BACKEND.streaming())
    images = digits_images(compiled, 7, 301, 12)
    result = run_iss(PLATFORM, compiled.image.to_bytes(), images, limit_cycles=100_000)
    assert result.diagnosis is None
    plain = run_iss(PLATFORM, compile_digits().image.to_bytes(), images, limit_cycles=100_000)
    for frame, other in zip(result.frames, plain.frames, strict=True):
        assert all((frame.tensors[n] == other.tensors[n]).all() for n in compiled.network.outputs)
        assert abs(frame.cycles - other.cycles) < 20


def records(dtype, **columns):
    out = np.zeros(len(next(iter(columns.values()))), dtype)
    for name, values in columns.items():
        out[name] = values
    return out


@pytest.mark.parametrize(("read", "expected"), [
    (99, ""), (100, "overtook"), (150, "overtook"), (250, "overtook"), (300, "overtook"), (301, "")])
def test_an_input_that_overtakes_is_noticed(read, expected):
    """The second input is written in cycles 100 to 109 and asked for in 200; the first inference ends in 300."""
    words = np.zeros(1000, bool)
    words[40:60] = True
    writes = records(ENTRY_WRITE, cycle=range(100, 110), address=range(40, 50))
    entry = records(ENTRY, cycle=[10, 200, 300], events=[FRAME_ASKED, FRAME_ASKED, FRAME_ENDS])
    for address, mask, hit in ((36, 0x10, True), (36, 0x0F, False), (59, 1, True), (60, 0xFF, False)):
        reads = records(L2_READ, cycle=[5, read], address=[40, address], mask=[1, mask])
        assert (expected in overtaken(words, reads, writes, entry)) if hit and expected else not overtaken(
            words, reads, writes, entry)


DIGITS = Path(__file__).parent.parent / "regress/networks/digits.onnx"


@pytest.mark.parametrize("words", [("--boot", "bus"), ("--stream", "2")])
def test_the_iss_refuses(capfd, words):
    refused(runner(capfd)("run", DIGITS, "--backend", "iss", *words), "use --backend rtl")


def test_hazards_of_a_machine_that_has_none_cannot_be_ignored(capfd):
    refused(runner(capfd)("run", DIGITS, "--ignore-hazards"), "--ignore-hazards", "no backend of this platform has")


@pytest.mark.parametrize("words", [("--stream", "1"), ("--boot", "magic")])
def test_wrong_words_are_refused(capfd, words):
    refused(runner(capfd)("run", DIGITS, *words), words[0])


def test_what_does_not_fit_for_streaming_is_told_in_bytes(capfd, tmp_path):
    """The smallest L2 of the network without streaming is too small with it, by the input's bytes at most."""
    line, low, high = PLATFORM.line_bytes, 1, PLATFORM.l2_bytes // PLATFORM.line_bytes
    network = compile_digits().network
    while low < high:
        middle = (low + high) // 2
        try:
            compile_network(network, replace(PLATFORM, l2_bytes=middle * line))
            high = middle
        except PlacementError:
            low = middle + 1
    words = ("run", DIGITS, f"--set=l2_bytes={low * line}", "--stream", "2")
    text = refused(runner(capfd)(*words), "with --stream the inputs' place is theirs alone")
    assert "bytes" in text and not list(tmp_path.iterdir())
