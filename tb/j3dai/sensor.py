# SPDX-License-Identifier: Apache-2.0
"""What comes in by the entry port of J3DAI: packets, the bench's sensor that sends them, and what the port counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image, ImageError
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.isa import ENTRY_MAGIC, EntryHeader, EntryOp
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, HOST_IMEM_BASE, L2_BASE, EntryCounter
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.backend import Entering, EntryFacts, Passage
from nncosim.tb.j3dai.build import FRAME_ASKED, FRAME_ENDS, HOST_BEGINS, sensor_beats
from nncosim.tb.j3dai.capture import places
from nncosim.tb.run.capture import pack_input
from nncosim.tb.sim.backdoor import Backdoor

__all__ = ["Sensor", "entered", "entry_facts", "input_words", "load_packets", "memory_of", "overtaken", "packet"]

PORT = "entry"
"""What reports call the entry port."""

_MOST_WORDS = (1 << 16) - 1
_Beats = npt.NDArray[np.uint8]


def packet(platform: J3dai, op: EntryOp, address: int = 0, data: bytes = b"", *, wait: bool = False) -> _Beats:
    """A packet as beats, shape (1 + words, word bytes). `data`: of LOAD, filled up to whole words.

    wait: the words wait until the input before has been read.
    """
    size = platform.word_bytes
    words = np.frombuffer(data + bytes(-len(data) % size), np.uint8).reshape(-1, size)
    fields = {"magic": ENTRY_MAGIC, "op": op.value, "input": int(wait), "words": len(words), "address": address}
    header = encode(EntryHeader, **fields).to_bytes(size, "little")
    return np.concatenate([np.frombuffer(header, np.uint8)[None], words])


def load_packets(platform: J3dai, address: int, data: bytes, *, wait: bool = False) -> Iterator[_Beats]:
    """LOAD packets for any number of bytes."""
    most = _MOST_WORDS * platform.word_bytes
    for at in range(0, len(data), most):
        yield packet(platform, EntryOp.LOAD, address + at, data[at : at + most], wait=wait)


def memory_of(platform: J3dai, address: int, size: int) -> tuple[str, int]:
    """("imem", "dmem" or "l2", offset) of bytes that a segment loads.

    Raises:
        ImageError: they lie in no memory.
    """
    spaces = (
        (HOST_IMEM_BASE, platform.host_imem_bytes, "imem"),
        (HOST_DMEM_BASE, platform.host_dmem_bytes, "dmem"),
        (L2_BASE, platform.l2_bytes, "l2"),
    )
    for base, length, name in spaces:
        if base <= address and address + size <= base + length:
            return name, address - base
    raise ImageError(
        f"segment at {address:#x}..{address + size:#x} is in no memory of platform {platform.name!r}"
    )


def _boot_packets(platform: J3dai, image: Image) -> Iterator[_Beats]:
    word = platform.word_bytes
    for segment in image.segments:
        memory_of(platform, segment.address, len(segment.data))
        if segment.address % word:
            raise ImageError(f"segment at {segment.address:#x} must begin on a word of {word} bytes to be sent")
        yield from load_packets(platform, segment.address, segment.data)


class Sensor:
    """Feeds the sensor of a running simulation: the image and the first input before GO, the inputs behind it.

    Args:
        inputs: of all inferences.
        how: with boot over the bus, streamed, or both.

    Raises:
        ImageError: a segment that cannot be sent.
    """

    def __init__(
        self, model: Backdoor, platform: J3dai, image: Image, inputs: Sequence[Mapping[str, np.ndarray]],
        how: Entering,
    ):
        self._store = model.memory("sensor.store", np.uint8)
        self._depth = sensor_beats(platform)
        self._platform, self._places, self._stream = platform, places(image), how.stream
        self._inputs = [dict(values) for values in inputs]
        self._queue: deque[_Beats] = deque(_boot_packets(platform, image) if how.bus else ())
        self._limit = self._asked = 0
        self._go = how.bus

    def limit(self, number: int, sent: int) -> int:
        """The beats that may be sent (``sensor_limit``) for inference `number`, or streamed for all behind it.

        sent: beats the port has taken so far.
        """
        for k in range(self._asked, len(self._inputs) if self._stream else number + 1):
            self._queue.extend(self._input(k))
        self._asked = max(self._asked, len(self._inputs) if self._stream else number + 1)
        while self._queue and self._limit - sent < self._depth:
            beats = self._queue.popleft()
            room = self._depth - (self._limit - sent)
            if len(beats) > room:
                self._queue.appendleft(beats[room:])
                beats = beats[:room]
            self._store[(self._limit + np.arange(len(beats))) % self._depth] = beats
            self._limit += len(beats)
        return self._limit

    def _input(self, number: int) -> Iterator[_Beats]:
        for name, values in self._inputs[number].items():
            place = self._places[name]
            address = L2_BASE + place.word * self._platform.word_bytes
            yield from load_packets(self._platform, address, pack_input(place, values), wait=self._stream)
        if number == 0 and self._go:
            yield packet(self._platform, EntryOp.GO)
        yield packet(self._platform, EntryOp.FRAME)


def input_words(platform: J3dai, image: Image) -> npt.NDArray[np.bool_]:
    """Which words of L2 the inputs lie in."""
    found = np.zeros(platform.l2_words, bool)
    table = places(image)
    for name in image.notes.inputs:
        found[table[name].word : table[name].word + table[name].words] = True
    return found


def overtaken(
    words: npt.NDArray[np.bool_], reads: npt.NDArray[np.void], writes: npt.NDArray[np.void],
    entry: npt.NDArray[np.void],
) -> str:
    """Whether an input was overwritten before the network had read it; "" if not.

    words: see `input_words`. The others: the monitors' records of a whole run: of LOAD's reads, of the entry port's
    writes, and of its counters.
    """
    events, cycle = entry["events"], entry["cycle"]
    asked, ends = cycle[(events & FRAME_ASKED) != 0], cycle[(events & FRAME_ENDS) != 0]
    lanes = np.arange(32)
    used = (reads["mask"].astype(np.int64)[:, None] >> lanes & 1).astype(bool)
    at = np.minimum(reads["address"].astype(np.int64)[:, None] + lanes, len(words) - 1)
    read = reads["cycle"][(used & words[at]).any(axis=1)]
    mine = words[np.minimum(writes["address"].astype(np.int64), len(words) - 1)]
    written = writes["cycle"][mine]
    # What is written behind so many requests is the input of that inference, counted from 0.
    of_write, of_read = np.searchsorted(asked, written), np.searchsorted(ends, read)
    for frame in np.unique(of_read):
        last, early = read[of_read == frame].max(), written[of_write > frame]
        if len(early) and early.min() <= last:
            return (f"the input of inference {frame + 2} overtook the network: it is written to L2 from cycle "
                    f"{early.min()} on, the one before is still read in cycle {last}")  # fmt: skip
    return ""


def entered(
    image: Image, writes: npt.NDArray[np.void], entry: npt.NDArray[np.void], inferences: int
) -> list[dict[str, Passage]]:
    """When the inputs of each inference were written to L2, as far as the host ran already (see `overtaken`)."""
    asked = entry["cycle"][(entry["events"] & FRAME_ASKED) != 0]
    of_write, table = np.searchsorted(asked, writes["cycle"]), places(image)
    out: list[dict[str, Passage]] = [{} for _ in range(inferences)]
    for name in image.notes.inputs:
        place = table[name]
        mine = (writes["address"] >= place.word) & (writes["address"] < place.word + place.words)
        for number, passages in enumerate(out):
            cycles = writes["cycle"][mine & (of_write == number)]
            if len(cycles):
                passages[name] = Passage(PORT, int(cycles.min()), int(cycles.max()) + 1)
    return out


def entry_facts(
    platform: J3dai, image: Image, entry: npt.NDArray[np.void], how: Entering, cycles: Sequence[int]
) -> EntryFacts:
    """What the report says of the entry port.

    entry: its records in the whole run. cycles: of each inference, from its request or the end of the one before.
    """
    facts = EntryFacts()
    table, word = places(image), platform.word_bytes
    words = sum(table[name].words for name in image.notes.inputs)
    alone = words + 2 * sum(-(-table[name].words // _MOST_WORDS) for name in image.notes.inputs) + 2
    events = entry["events"]
    begins = entry[(events & HOST_BEGINS) != 0]
    if how.bus and len(begins):
        counters, at = begins[0]["counters"], int(begins[0]["cycle"])
        facts["boot"] = {
            "bytes": int(counters[EntryCounter.WORDS]) * word, "input_bytes": words * word, "cycles": at,
            "port_share": round(int(counters[EntryCounter.BEATS]) / max(at, 1), 4),
        }  # fmt: skip
    if how.stream and len(cycles):
        last, first = entry[-1]["counters"].astype(np.int64), entry[(events & FRAME_ASKED) != 0][0]["counters"]
        ends = entry["cycle"][(events & FRAME_ENDS) != 0].astype(np.int64)
        inference = round(float(np.mean(cycles[1:] or cycles)))
        facts["stream"] = {
            "inputs": len(cycles), "input_bytes": words * word, "input_cycles": alone,
            "cycles_without": inference + alone,
            "cycles_with": round(float(np.mean(np.diff(ends)))) if len(ends) > 1 else None,
            "words": int(last[EntryCounter.WORDS] - first[EntryCounter.WORDS]),
            "wait_port": int(last[EntryCounter.WAIT_PORT] - first[EntryCounter.WAIT_PORT]),
            "longest_wait": int(last[EntryCounter.LONGEST_WAIT]),
            "wait_input": int(last[EntryCounter.WAIT_INPUT]),
        }  # fmt: skip
    return facts
