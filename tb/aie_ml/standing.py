# SPDX-License-Identifier: Apache-2.0
"""Where everybody stands in a cycle of a right run, and which instruction it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.dma_channel import DmaState
from nncosim.hdl.aie_ml.isa import LATENCY
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.frames import result_words
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.aie_ml.observe import WAITS, channels_of, place_of
from nncosim.tb.lockstep import Channel, Difference, event_of

__all__ = ["standing"]

_MOST_LINES = 16
_STAGES = {
    ("requantized", "core SRS"): LATENCY["srs"] - 1, ("vectors", "core SRS"): LATENCY["srs"] - 1,
    ("vectors", "core moves"): LATENCY["max"] - 1, ("accumulators", "core moves"): LATENCY["bias"] - 1,
    ("accumulators", "core VMAC"): LATENCY["mac"] - 1, ("accumulators", "core cascade"): LATENCY["cascade_get"] - 1,
    ("loads", ""): LATENCY["load_memory"], ("vectors", "core load path a"): LATENCY["load"] - 1,
    ("vectors", "core load path b"): LATENCY["load"] - 1, ("stores", ""): LATENCY["store_memory"],
    ("cascade", "core accumulators"): 0, ("addresses", ""): 0,
}  # fmt: skip
"""Of a boundary, and of a block to blame for what passes it ("": any): cycles in which the core advances, from the
issue of the instruction on."""


def standing(
    platform: AieMl, data: bytes, inputs: Sequence[Mapping[str, np.ndarray]], seed: int, first: Difference
) -> list[str]:
    """What each core and each channel at work does or waits for in the cycle of a difference, a line each; the tile of
    its block first, then those beside it."""
    image = Image.from_bytes(data)
    array = Array(image, platform, seed=seed, observe=True)
    notes, came, number = image.notes.own_as(AieMlNotes), 0, 1
    for number, given in enumerate(inputs, 1):  # noqa: B007 (the last one counts)
        came = len(array.infer(given, max(first.cycle - array.next_inference + 1, 0)).results)
        if first.cycle < array.next_inference:
            break
    channels = channels_of(platform, image, array.seen())
    column, row = place_of(first.block) or (0, 0)

    def distance(channel: Channel) -> int:
        at = place_of(channel.name)
        return 0 if at is None else abs(at[0] - column) + abs(at[1] - row)

    lines = [f"shim: {came} of {result_words(notes)} words of results of inference {number} are out"]
    lines += [*_instruction(channels, first), *_lines(sorted(channels, key=distance), first.cycle)]
    return lines if len(lines) <= _MOST_LINES else [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more"]


def _instruction(channels: Sequence[Channel], first: Difference) -> Iterator[str]:
    """The instruction that a difference in a core comes from."""
    tile, _, boundary = first.channel.partition(") ")
    block = first.block.partition(") ")[2].partition(" (")[0]
    stages = _STAGES.get((boundary, block), _STAGES.get((boundary, "")))
    found = {each.name: each for each in channels}
    states, issued = (found.get(f"{tile}) {name}") for name in ("core's states", "instructions"))
    if stages is None or states is None or issued is None or not len(states.events):
        return
    begins = states.events["cycle"].astype(np.int64)
    lengths = np.diff(np.append(begins, first.cycle + 1))
    advances = np.repeat(~np.isin(states.events["state"], list(WAITS)), np.maximum(lengths, 0))
    before = np.concatenate([[0], np.cumsum(advances)])  # from the core's first cycle on
    cycles = issued.events["cycle"].astype(np.int64)
    wanted = before[first.cycle - begins[0]] - stages
    at = np.flatnonzero((cycles <= first.cycle) & (before[np.minimum(cycles, first.cycle) - begins[0]] == wanted))
    for number in at[-1:]:
        yield f"the instruction: cycle {cycles[number]:,}: {issued.text(event_of(issued.events, number))}"


def _lines(channels: Sequence[Channel], cycle: int) -> Iterator[str]:
    for channel in channels:
        events = channel.events[channel.events["cycle"] <= cycle]
        if channel.name.endswith("core's states") and len(events):
            yield channel.text(event_of(events, -1))
        elif channel.name.endswith(" instructions") and len(events):
            yield "  last: " + channel.text(event_of(events, -1))
        elif channel.name.endswith("channels' states"):
            for number in np.unique(events["channel"]).tolist():
                own = events[events["channel"] == number]
                if own[-1]["state"] != DmaState.IDLE.value:
                    yield channel.text(event_of(own, -1))
