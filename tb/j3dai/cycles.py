# SPDX-License-Identifier: Apache-2.0
"""The cycle model of the J3DAI accelerator: what an image, or a single layer, costs. No tensor data is needed.

    from nncosim.compiler.j3dai.cycle_model import LayerRun
    from nncosim.tb.j3dai.cycles import predict, predict_layers

    timeline = predict(elf_bytes, PLATFORM)              # a whole image, firmware included
    timeline.cycles                                      # of the first inference
    timeline.layers[3].cycles                            # of the fourth list: from the completion of the third
    timeline.layers[3].counters["dmpa"]["wait_data"]     # adds up to .cycles, for every engine

    timeline = predict_layers({0: list_bytes, 64: program_bytes}, [LayerRun(list=0, clusters=0b111111, pc=0)], PLATFORM)

The model is the instruction-set simulator with the data left out (control flow does not depend on data), so a
prediction and an ISS report are the same numbers. Both are exact with respect to the accelerator's RTL; the
host's code is timed by instruction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from nncosim.compiler.image.image import Image
from nncosim.compiler.j3dai.cycle_model import LayerCycles, LayerRun, Timeline
from nncosim.hdl.j3dai.regs import Reg
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.backend import Diagnosis
from nncosim.tb.iss.elf import IssError
from nncosim.tb.iss.hart import Script, ScriptHost
from nncosim.tb.j3dai.iss import FrameResult, Machine
from nncosim.tb.j3dai.l2_tags import check_image

__all__ = ["CYCLE_MODEL", "PredictionError", "layer_script", "predict", "predict_frames", "predict_layers"]

DEFAULT_LIMIT = 100_000_000


class PredictionError(IssError):
    """The image traps or never ends. `diagnosis` says who waits for whom."""

    def __init__(self, message: str, diagnosis: Diagnosis):
        super().__init__(message)
        self.diagnosis = diagnosis


def predict(image: bytes | str | Path, platform: J3dai, frames: int = 1, limit: int = DEFAULT_LIMIT) -> Timeline:
    """The timeline of an image's inference number `frames` (1: the first after reset).

    Raises:
        IssError: the image cannot be loaded.
        PredictionError: it traps, deadlocks, or takes more than `limit` cycles a frame.
    """
    return predict_frames(image, platform, frames, limit)[-1]


def predict_frames(
    image: bytes | str | Path, platform: J3dai, frames: int, limit: int = DEFAULT_LIMIT
) -> tuple[Timeline, ...]:
    """The timelines of an image's first inferences since reset, back to back; raises as `predict`."""
    machine = Machine(platform, data=False)
    machine.load_elf(image)
    return tuple(_run(machine, limit) for _ in range(frames))


def predict_layers(
    l2: Mapping[int, bytes], layers: Sequence[LayerRun], platform: J3dai, limit: int = DEFAULT_LIMIT
) -> Timeline:
    """The timeline of layers without firmware, the host being a script that costs about what firmware does.

    Args:
        l2: word address -> contents: descriptor lists, and the programs they load. Weights need not be there.
        layers: in the order in which the host starts them.

    Raises:
        IssError: contents beyond L2's end.
        PredictionError: as `predict`.
    """
    machine = Machine(platform, data=False)
    for word, contents in l2.items():
        at = word * platform.word_bytes
        if at < 0 or at + len(contents) > platform.l2_bytes:
            raise IssError(f"contents at L2 word {word} ({len(contents)} bytes) reach beyond the memory's "
                           f"{platform.l2_words} words")
        machine.l2[at : at + len(contents)] = np.frombuffer(contents, np.uint8)
    machine.run_script(layer_script(layers))
    return _run(machine, limit)


def layer_script(layers: Sequence[LayerRun]) -> Script:
    """The host's part as firmware plays it: lists are queued while there is room, clusters armed a layer ahead."""

    def push(host: ScriptHost, pushed: int) -> int:
        while pushed < len(layers) and host.read(Reg.DMPA_STATUS) & 7:
            host.write(Reg.DMPA_PUSH, layers[pushed].list)
            pushed += 1
        return pushed

    def infer(host: ScriptHost) -> Iterator[None]:
        base = host.read(Reg.LISTS_DONE)
        pushed = armed = 0
        while True:
            done = host.read(Reg.LISTS_DONE) - base
            host.write(Reg.IRQ_LISTS_SEEN, base + done)
            if done == len(layers):
                return
            while armed <= done + 1 and armed < len(layers):
                while armed and host.read(Reg.CLUSTER_STATUS) & layers[armed - 1].clusters << 8:
                    pass
                host.write(Reg.CLUSTER_START, layers[armed].clusters | layers[armed].pc << 16)
                armed += 1
                pushed = push(host, pushed)
            pushed = push(host, pushed)
            yield

    def script(host: ScriptHost) -> Iterator[None]:
        frames = 0
        while True:
            host.write(Reg.IRQ_FRAMES_SEEN, frames)
            while host.read(Reg.FRAMES_REQUESTED) == frames:
                yield
            frames += 1
            host.write(Reg.IRQ_FRAMES_SEEN, frames)
            yield from infer(host)
            host.write(Reg.FRAMES_DONE, frames)

    return script


def _run(machine: Machine, limit: int) -> Timeline:
    result: FrameResult = machine.run_frame(limit)
    if result.diagnosis is not None:
        raise PredictionError(f"the program does not run to its end: {result.diagnosis.text}", result.diagnosis)
    layers = tuple(LayerCycles(entry.start, entry.end, entry.counters) for entry in result.lists)
    return Timeline(result.cycles, layers, result.counters)


class _CycleModel:
    """See `nncosim.compiler.j3dai.cycle_model.CycleModel`."""

    def frames(self, image: bytes, platform: J3dai, frames: int) -> tuple[Timeline, ...]:
        return predict_frames(image, platform, frames)

    def layers(self, l2: Mapping[int, bytes], layers: Sequence[LayerRun], platform: J3dai) -> Timeline:
        return predict_layers(l2, layers, platform)

    def audit(self, image: Image, platform: J3dai) -> str:
        return check_image(image, platform)


CYCLE_MODEL = _CycleModel()
