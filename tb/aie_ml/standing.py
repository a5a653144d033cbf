# SPDX-License-Identifier: Apache-2.0
"""Where everybody stands in a cycle of a right run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.dma_channel import DmaState
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.frames import result_words
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.aie_ml.observe import channels_of, place_of
from nncosim.tb.lockstep import Channel

__all__ = ["standing"]

_MOST_LINES = 16


def standing(
    platform: AieMl, data: bytes, inputs: Sequence[Mapping[str, np.ndarray]], seed: int, cycle: int,
    block: str = "",
) -> list[str]:
    """What each core and each channel at work does or waits for in a cycle since reset, a line each; the tile of
    `block` first, then those beside it."""
    image = Image.from_bytes(data)
    array = Array(image, platform, seed=seed, observe=True)
    notes, came, number = image.notes.own_as(AieMlNotes), 0, 1
    for number, given in enumerate(inputs, 1):  # noqa: B007 (the last one counts)
        if cycle < array.next_inference:
            break
        came = len(array.infer(given, cycle - array.next_inference + 1).results)
    lines = [f"shim: {came} of {result_words(notes)} words of results of inference {number} are out"]
    channels = channels_of(platform, image, array.seen())
    column, row = place_of(block) or (0, 0)

    def distance(channel: Channel) -> int:
        at = place_of(f"{channel.name} ")
        return 0 if at is None else abs(at[0] - column) + abs(at[1] - row)

    lines += _lines(sorted(channels, key=distance), cycle)
    return lines if len(lines) <= _MOST_LINES else [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more"]


def _lines(channels: Sequence[Channel], cycle: int) -> Iterator[str]:
    for channel in channels:
        events = channel.events[channel.events["cycle"] <= cycle]
        if channel.name.endswith("core's states") and len(events):
            yield channel.text({name: events[name][-1] for name in events.dtype.names or ()})
        elif channel.name.endswith(" instructions") and len(events):
            yield "  last: " + channel.text({name: events[name][-1] for name in events.dtype.names or ()})
        elif channel.name.endswith("channels' states"):
            for number in np.unique(events["channel"]).tolist():
                last = events[events["channel"] == number][-1]
                if last["state"] != DmaState.IDLE.value:
                    yield channel.text({name: last[name] for name in events.dtype.names or ()})
