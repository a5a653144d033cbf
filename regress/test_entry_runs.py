# SPDX-License-Identifier: Apache-2.0
"""The chip is loaded over its entry port, and images stream in while it computes: the digits network on the RTL."""

from __future__ import annotations

import functools
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.j3dai.backend import BACKEND
from nncosim.hdl.j3dai.isa import EntryOp
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, L2_BASE
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress.harness import compile_digits, digits_images
from nncosim.regress.j3dai_target import simulation
from nncosim.tb.backend import Entering, RunResult
from nncosim.tb.j3dai import sensor
from nncosim.tb.j3dai.build import read_host, read_l2, sensor_beats
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.reference.compare import compare_frames
from nncosim.tb.sim.model import Model

SMALL = replace(PLATFORM, clusters=1, l2_bytes=512 * 1024)
IMAGES = (7, 301, 12, 44)
BACKDOOR, BUS, STREAM, BOTH = Entering(), Entering(True), Entering(False, True), Entering(True, True)


@functools.cache
def compiled(platform: J3dai = SMALL, stream: bool = False) -> Compiled:
    plain = compile_digits(platform)
    return compile_network(plain.network, platform, backend=BACKEND.streaming()) if stream else plain


def run(how: Entering, driver: str = "direct", platform: J3dai = SMALL, stream: bool | None = None) -> RunResult:
    """Some images; `stream`: the network is compiled for streaming (it is where `how` streams)."""
    program = compiled(platform, how.stream if stream is None else stream)
    images = digits_images(program, *IMAGES)
    return run_built(simulation(platform), platform, program.image.to_bytes(), images, driver=driver,
                     limit_cycles=8 * program.iss_cycles, seed=3, entering=how)


def exact(result: RunResult, platform: J3dai = SMALL) -> bool:
    program = compiled(platform)
    expected = tuple(evaluate(program.network, values) for values in digits_images(program, *IMAGES))
    return compare_frames(program.network, expected, result.frames).bit_exact


@pytest.mark.parametrize("platform", [SMALL, pytest.param(PLATFORM, marks=pytest.mark.slow)], ids=["small", "default"])
@pytest.mark.parametrize("driver", ["direct", "cocotb"])
@pytest.mark.parametrize("how", [BUS, STREAM, BOTH], ids=["bus", "stream", "both"])
def test_all_ways_give_the_same_bits(how: Entering, driver: str, platform: J3dai) -> None:
    result = run(how, driver, platform)
    assert result.diagnosis is None and exact(result, platform) and len(result.frames) == len(IMAGES)
    plain = run(BACKDOOR, "direct", platform)
    for frame, other in zip(result.frames, plain.frames, strict=True):
        assert abs(frame.cycles - other.cycles) < 40  # what the host does between two inferences differs
    facts = result.entry
    assert ("boot" in facts, "stream" in facts) == (how.bus, how.stream) and plain.entry == {}


def test_boot_is_counted() -> None:
    """Every byte of the image, filled up to words, and the first input, once; the host's memories 32 bits a cycle."""
    facts, image = run(BUS).entry["boot"], compiled().image
    words = [-(-len(s.data) // 16) for s in image.segments]
    cost = sum(2 + n * (1 if s.address >= L2_BASE else 4) for n, s in zip(words, image.segments, strict=True))
    assert facts["input_bytes"] == 64 and facts["bytes"] == 16 * sum(words) + 64
    assert 0 <= facts["cycles"] - (cost + 2 + 4 + 2) < 12
    beats = sum(words) + 4 + len(words) + 2
    assert facts["port_share"] == pytest.approx(beats / facts["cycles"], rel=0.01)


def test_streaming_costs_what_it_says() -> None:
    facts = run(STREAM).entry["stream"]
    frames = run(STREAM).frames
    assert facts["inputs"] == 4 and facts["input_bytes"] == 64 and facts["words"] == 3 * 4
    assert facts["cycles_with"] == round(np.mean([frame.cycles for frame in frames[1:]]))
    assert facts["cycles_without"] == facts["cycles_with"] + facts["input_cycles"] and facts["input_cycles"] > 4
    assert 0 < facts["longest_wait"] <= facts["wait_port"] and facts["wait_input"] > frames[0].cycles


@pytest.mark.parametrize("how", [STREAM, BOTH], ids=["stream", "both"])
def test_inputs_pass_the_entry_port(how: Entering) -> None:
    """Each input comes in while the inference before it runs; with boot over the bus the first was there before."""
    frames = run(how).frames
    (name,) = compiled().network.inputs
    assert (name not in frames[0].passages) == how.bus
    assert not run(BUS).frames[0].passages and not run(BACKDOOR).frames[1].passages
    later = [frame.passages[name] for frame in frames[1:]]
    for before, after in pairwise(later):
        assert after.port == "entry" and before.end <= after.start < after.end
        assert after.end - after.start >= 4  # words of 16 bytes, of 64
    assert later[-1].end < sum(frame.cycles for frame in frames)


def test_the_dmpa_does_not_notice() -> None:
    """The same program without and with images that stream in: layer by layer, DMPA and clusters do the same in the
    same cycles. Only the host wakes up for the requests, and begins an inference by how deep it slept."""
    calm, streamed = run(BACKDOOR, stream=True), run(STREAM)
    assert streamed.entry["stream"]["wait_port"] > 0  # they did meet
    for frame, other in zip(calm.frames, streamed.frames, strict=True):
        for number, (before, after) in enumerate(zip(frame.intervals, other.intervals, strict=True)):
            assert before.transfers == after.transfers
            for kind in ("busy", "wait_data", "wait_port", "control"):
                assert before.counters["dmpa"][kind] == after.counters["dmpa"][kind], (number, kind)
            if 0 < number < len(frame.intervals) - 1:
                assert before.end - before.start == after.end - after.start
                assert all(before.counters[name] == after.counters[name] for name in before.counters if name != "host")


def boot(model: Model, packets: list[np.ndarray]) -> None:
    """Reset into boot, with packets at the port."""
    beats = np.concatenate(packets)
    model.memory("sensor.store", np.uint8)[: len(beats)] = beats
    model.boot, model.sensor_limit, model.monitor_enable = 1, len(beats), 1
    model.reset(cycles=4)


def test_boot_writes_the_image_and_nothing_else() -> None:
    """All memories behind the port, byte by byte: the image's segments, and poison everywhere else."""
    image = compiled().image
    with Model(simulation(SMALL), seed=1) as model:
        model.poison(5)
        expected = {name: read_host(model, name) for name in ("imem", "dmem")}
        expected["l2"] = read_l2(model, 0, SMALL.l2_words, SMALL).reshape(-1)
        for segment in image.segments:
            name, at = sensor.memory_of(SMALL, segment.address, len(segment.data))
            data = segment.data + bytes(-len(segment.data) % 16)
            expected[name][at : at + len(data)] = np.frombuffer(data, np.uint8)
        packets = [p for s in image.segments for p in sensor.load_packets(SMALL, s.address, s.data)]
        boot(model, packets)
        model.tick(5 * sum(map(len, packets)))
        assert not model.probe_run and not model.trap and model.sensor_sent == sum(map(len, packets))
        for name in ("imem", "dmem"):
            assert (read_host(model, name) == expected[name]).all(), name
        assert (read_l2(model, 0, SMALL.l2_words, SMALL).reshape(-1) == expected["l2"]).all()


@pytest.mark.parametrize("bad", ["header", "address", "imem", "go"])
def test_a_wrong_packet_is_a_trap(bad: str) -> None:
    """Told by the port `trap`; nothing of it is written, and nothing behind it happens."""
    go = sensor.packet(SMALL, EntryOp.GO)
    packets = {
        "header": [np.full((1, 16), 0x11, np.uint8)],
        "address": [sensor.packet(SMALL, EntryOp.LOAD, L2_BASE + SMALL.l2_bytes - 16, bytes(32))],
        "imem": [go, sensor.packet(SMALL, EntryOp.LOAD, 0, bytes(16))],
        "go": [go, go],
    }[bad]
    with Model(simulation(SMALL), seed=1) as model:
        model.poison(5)
        program = [p for s in compiled().image.segments if s.address < HOST_DMEM_BASE + SMALL.host_dmem_bytes
                   for p in sensor.load_packets(SMALL, s.address, s.data)]
        boot(model, [*program, *packets, sensor.packet(SMALL, EntryOp.FRAME)])
        before = read_l2(model, 0, SMALL.l2_words, SMALL)
        model.run_until("trap", 1, 20_000)
        model.tick(200)
        assert model.probe_trap == 1 << 9 and model.probe_run == (bad in ("imem", "go"))
        assert (read_l2(model, 0, SMALL.l2_words, SMALL) == before).all() and model.probe_dmpa >> 27 & 1


def test_the_report_of_a_trap_names_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    right = sensor.packet

    def wrong(platform, op, address=0, data=b"", **more):
        return right(platform, op, address + (8 if op is EntryOp.LOAD else 0), data, **more)

    monkeypatch.setattr(sensor, "packet", wrong)
    diagnosis = run(BUS).diagnosis
    assert diagnosis and diagnosis.kind == "trap"
    assert "entry port: trap" in diagnosis.text and "waits since reset" in diagnosis.text


def test_an_image_that_overtakes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the header's `input`, the next image is written while the network still reads this one."""
    right = sensor.load_packets
    monkeypatch.setattr(sensor, "load_packets", lambda *args, wait=False: right(*args))
    result = run(STREAM)
    assert not exact(result) and result.diagnosis and "overtook" in result.diagnosis.text


def test_a_boot_without_go_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    right = sensor.packet
    monkeypatch.setattr(sensor, "packet", lambda platform, op, *rest, **more: right(
        platform, EntryOp.FRAME if op is EntryOp.GO else op, *rest, **more))
    diagnosis = run(BUS).diagnosis
    assert diagnosis and diagnosis.kind == "hang" and "waits since reset for the entry port's GO" in diagnosis.text


def test_the_sensor_holds_what_fills_the_memories() -> None:
    for platform in (SMALL, PLATFORM):
        bytes_ = platform.l2_bytes + platform.host_imem_bytes + platform.host_dmem_bytes
        assert sensor_beats(platform) * platform.word_bytes > bytes_
