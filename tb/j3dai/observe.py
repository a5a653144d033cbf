# SPDX-License-Identifier: Apache-2.0
"""What J3DAI shows at its boundaries, as the channels of `nncosim.tb.lockstep`; RTL and simulator alike.

Channels, those first that others follow from: what host, DMPA and each cluster do; what each cluster's results write to
L1, word by word; what is written to L2, word by word; lists that are done.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
from nncosim.hdl.j3dai.regs import Counter
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.lockstep import Channel, Event

__all__ = ["channels_of"]

Records = npt.NDArray[np.void]

_ACTIVITY = np.dtype([
    ("cycle", "<u8"), ("state", "<u4"), ("in execution", "<u4"), ("program runs", "<u4"), ("at", "<u4"),
    ("semaphore", "<u4"), ("counters", "<u4", (len(Counter),)),
])  # fmt: skip


def channels_of(
    platform: J3dai, engines: Mapping[str, int], changes: Records, l1: Records, l2: Records, lists: Records
) -> tuple[Channel, ...]:
    """The channels of a run.

    Args:
        engines: name to number in `changes`.
        changes: `activity.CHANGE` records. l1: of `l1_capture.l1_write_dtype`. l2: as `iss_core.l2_write_dtype` has
            them, or `build.l2_write_dtype`. lists: with a field ``cycle``.
    """
    out = [Channel(f"{name} activity", _activity(changes[changes["engine"] == number]), partial(_idler, name),
                   partial(_doing, name)) for name, number in sorted(engines.items(), key=_by_flow)]  # fmt: skip
    for k in range(platform.clusters):
        events = _results(l1[l1["cluster"] == k])
        out.append(Channel(f"cluster{k} results", events, partial(_drainer, f"cluster{k}"), _result))
    out.append(Channel("l2 writes", _l2_words(l2), _storer, _stored))
    done = np.zeros(len(lists), [("cycle", "<u8"), ("list", "<u4")])
    done["cycle"], done["list"] = lists["cycle"], np.arange(len(lists))
    out.append(Channel("lists done", done, lambda want, got: "dmpa", lambda event: f"list {event['list']} is done"))
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
    if want is None or got is None:
        return engine
    differ = {name for name in want if not np.array_equal(want[name], got[name])}
    if differ == {"counters"}:
        return f"{engine} counters"
    if engine in ("host", "dmpa"):
        return engine
    executes = bool(want["in execution"]) or bool(got["in execution"])
    return f"{engine} {'sequencer' if executes and 'at' not in differ else 'controller'}"


# ---- words

def _spread(masks: npt.NDArray[np.unsignedinteger], words: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of each word that is written, in order: its record, and its place there."""
    record, place = np.nonzero(masks[:, None] >> np.arange(words) & 1)
    return record, place


def _results(records: Records) -> Records:
    words, size = records.dtype["data"].shape
    record, place = _spread(records["mask"], words)
    out = np.zeros(len(record), [("cycle", "<u8"), ("program", "<u4"), ("word", "<u4"), ("data", "u1", (size,))])
    out["cycle"], out["program"] = records["cycle"][record], records["run"][record]
    out["word"], out["data"] = records["address"][record, place], records["data"][record, place]
    return out


def _result(event: Event) -> str:
    return f"results {_hex(event)} to word {event['word']} of L1, program {event['program']}"


def _drainer(cluster: str, want: Event | None, got: Event | None) -> str:
    """By what differs: the cycle is the sequencer's, the address AGU O's, bytes are those of their NCBs."""
    if want is None or got is None or want["cycle"] != got["cycle"]:
        return f"{cluster} sequencer or drain control"
    if want["word"] != got["word"]:
        return f"{cluster} drain (AGU O)"
    if want["program"] != got["program"]:
        return f"{cluster} controller"
    lanes = np.flatnonzero(want["data"] != got["data"])
    if len(lanes) == 1:
        return f"{cluster} NCB {lanes[0]} or its requantizer"
    return f"{cluster} window, weights or results (NCBs {', '.join(map(str, lanes))})"


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
    return "dmpa, store path"


def _hex(event: Event) -> str:
    return event["data"].tobytes().hex(" ")
