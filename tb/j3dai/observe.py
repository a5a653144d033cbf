# SPDX-License-Identifier: Apache-2.0
"""What J3DAI shows at its boundaries, as the channels of `nncosim.tb.lockstep`; RTL and simulator alike.

Channels, in the order in which data flows: what passes the boundaries between the blocks (`nncosim.tb.j3dai.inside`);
what is written to L2, word by word; lists that are done; and, as accounting, what each engine's cycles are counted as.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
from nncosim.hdl.j3dai.regs import Counter
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.boundaries.kinds import Records
from nncosim.tb.j3dai.inside import dmpa_channels, inside_channels
from nncosim.tb.lockstep import Channel, Event

__all__ = ["channels_of"]

_ACTIVITY = np.dtype([
    ("cycle", "<u8"), ("state", "<u4"), ("in execution", "<u4"), ("program runs", "<u4"), ("at", "<u4"),
    ("semaphore", "<u4"), ("counters", "<u4", (len(Counter),)),
])  # fmt: skip


def channels_of(
    platform: J3dai, engines: Mapping[str, int], changes: Records, l2: Records, lists: Records, transfers: Records,
    seen: Mapping[str, Records],
) -> tuple[Channel, ...]:
    """The channels of a run.

    Args:
        engines: name to number in `changes`.
        changes: `activity.CHANGE` records. l2: as `iss_core.l2_write_dtype` has them, or `build.l2_write_dtype`.
        lists: with a field ``cycle``. transfers: of each list that is done, (n, kinds, counters).
        seen: as `nncosim.tb.j3dai.taps.seen_layouts` has them.
    """
    out = dmpa_channels(platform, seen)
    for k in range(platform.clusters):
        out += inside_channels(platform, seen, k)
    out.append(Channel("l2 writes", _l2_words(l2), _storer, _stored))
    done = np.zeros(len(lists), [("cycle", "<u8"), ("list", "<u4")])
    done["cycle"], done["list"] = lists["cycle"], np.arange(len(lists))
    out.append(Channel("lists done", done, lambda want, got: "dmpa paths",
                       lambda event: f"list {event['list']} is done"))
    out += [Channel(f"{name} activity", _activity(changes[changes["engine"] == number]), partial(_idler, name),
                    partial(_doing, name), accounting=True)
            for name, number in sorted(engines.items(), key=_by_flow)]  # fmt: skip
    counted = np.zeros(len(transfers), [("cycle", "<u8"), ("counters", "<u4", transfers.shape[1:])])
    counted["cycle"], counted["counters"] = lists["cycle"][: len(transfers)], transfers
    out.append(Channel("transfer counters", counted, lambda want, got: "dmpa transfer counters",
                       lambda event: f"transfers {event['counters'].tolist()}", accounting=True))
    return tuple(out)


def _by_flow(engine: tuple[str, int]) -> tuple[int, str]:
    name, _ = engine
    return ("host", "dmpa").index(name) if name in ("host", "dmpa") else 2, name


# ---- what engines do

def _activity(changes: Records) -> Records:
    out, key = np.zeros(len(changes), _ACTIVITY), changes["key"]
    out["cycle"], out["counters"] = changes["cycle"], changes["counters"]
    out["state"], out["in execution"], out["program runs"] = key & 7, key >> 3 & 1, key >> 4 & 1
    out["at"], out["semaphore"] = key >> 8 & 0xFFFFF, key >> 28 & 7
    return out


def _doing(engine: str, event: Event) -> str:
    state = Counter(int(event["state"])).name.lower().replace("_", " ")
    if engine == "host":
        return f"host: {state}"
    if engine == "dmpa":
        at = f"descriptor at L2 word {event['at']}"
        return f"dmpa: {at} in execution" if event["in execution"] else f"dmpa: {state}, {at}"
    state = "a MAC in execution" if event["in execution"] else state
    return f"{engine}: {state} at pc {event['at'] & 511}"


def _idler(engine: str, want: Event | None, got: Event | None) -> str:
    """Nobody did anything else than it should have."""
    return f"{engine} counters"


# ---- words

def _spread(masks: npt.NDArray[np.unsignedinteger], words: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of each word that is written, in order: its record, and its place there."""
    record, place = np.nonzero(masks[:, None] >> np.arange(words) & 1)
    return record, place


def _l2_words(records: Records) -> Records:
    words, size = records.dtype["data"].shape
    record, place = _spread(records["mask"], words)
    out = np.zeros(len(record), [("cycle", "<u8"), ("list", "<u4"), ("word", "<u4"), ("data", "u1", (size,))])
    out["cycle"], out["list"] = records["cycle"][record], records["list"][record]
    out["data"] = records["data"][record, place]
    out["word"] = records["address"][record] + place
    return out


def _stored(event: Event) -> str:
    return f"{_hex(event)} to word {event['word']} of L2, list {event['list']}"


def _storer(want: Event | None, got: Event | None) -> str:
    return "dmpa paths (store data)"


def _hex(event: Event) -> str:
    return event["data"].tobytes().hex(" ")
