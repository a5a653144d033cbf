# SPDX-License-Identifier: Apache-2.0
"""What passes the boundaries between J3DAI's blocks (`nncosim.tb.j3dai.taps`) as channels: who is to blame for what
(`nncosim.tb.boundaries.kinds`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from nncosim.hdl.j3dai.asm import disassemble
from nncosim.hdl.j3dai.isa import Space
from nncosim.hdl.j3dai.regs import Reg, TransferKind
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.boundaries.kinds import Kind, Records, earlier, judged
from nncosim.tb.j3dai.taps import LATE, seen_layouts
from nncosim.tb.j3dai.wire_taps import WIRES
from nncosim.tb.lockstep import Channel, Event

__all__ = ["as_seen", "dmpa_channels", "inside_channels", "module_of", "scope_of"]

_CONTROL = ("controller",) * 3 + ("sequencer", "settle", "drain", "drain", "fetch", "fetch", "controller")
_LEVELS = ("dmpa", "dmpa", "dmpa", *("dmpa fetch",) * 4, "dmpa semaphores")
"""Whose the bits of ``flags`` are, the lowest first."""
_ACCOUNT = (*("dmpa",) * 7, *("dmpa fetch",) * 2)
_LEVEL_LAYOUTS = ("control", "levels", "account")
_SEMAPHORES = 1 << 31  # in ``changed``


def as_seen(platform: J3dai, taps: Mapping[str, Records]) -> dict[str, Records]:
    """The RTL's records in the layouts of the simulator's: lines word by word."""
    out, layouts = dict(taps), seen_layouts(platform)
    for name, depth in (("result", platform.l1_words), ("write", 0)):
        records, words = taps[name], taps[name].dtype["data"].shape[0]
        record, place = np.nonzero(records["mask"][:, None] >> np.arange(words) & 1)
        found = np.zeros(len(record), layouts[name])
        for each in ("cycle", "unit", *(("space",) if name == "write" else ())):
            found[each] = records[each][record]
        found["data"] = records["data"][record, place]
        address = records["address"]
        found["word"] = address[record, place] if name == "write" else (address[record] + place) % depth
        out[name] = found
    return out


def inside_channels(platform: J3dai, seen: Mapping[str, Records], cluster: int) -> list[Channel]:
    """Of a cluster. seen: as `nncosim.tb.j3dai.taps.seen_layouts` has them, in any order of cycles."""
    own = {name: records[records["unit"] == cluster] for name, records in seen.items()}
    return [_channel(kind, own[kind.layout], f"cluster{cluster} ") for kind in _of_cluster()]


def dmpa_channels(platform: J3dai, seen: Mapping[str, Records]) -> list[Channel]:
    """Of host, control registers, DMPA and L2."""
    return [_channel(kind, seen[kind.layout], "") for kind in _of_soc()]


_PARTS = {"controller", "sequencer", "settle", "drain", "fetch", "window", "writes"}
_PLACES = {"drain line": "line", "weights": "wmem", "parameters": "wmem", "L1": "l1", "counters": "counters_2"}
"""Instances of a cluster: blocks that are called as they are, and others by how their name begins."""


def scope_of(platform: J3dai, block: str) -> str:
    """Where a block that a channel blames is, as a path below the SoC."""
    part, _, name = block.partition(" ")
    name = name.partition(" (")[0]
    if part == "soc":
        return ""
    if part == "dmpa":
        return ".".join(filter(None, ("dmpa", name.replace(" ", "_"))))
    if not part.startswith("cluster"):
        return "control" if part == "control" else part
    kind, _, number = name.partition(" ")
    if kind == "NCB":
        group, own = divmod(int(number), platform.ncbs_per_requantizer)
        return f"{part}.group{group}.ncb{own}"
    if kind == "requantizer":
        return f"{part}.group{number.partition(',')[0]}.requantizer"
    found = next((place for start, place in _PLACES.items() if name.startswith(start)), name if name in _PARTS else "")
    return f"{part}.{found}" if found else part


_SHARED = {"host": "cv32e40p", "l1": "banks", "wmem": "banks"}
_OWN = {"line": "drain", "dmpa_transfer_counters": "counters"}
"""Modules of `nncosim.hdl` and of `nncosim.hdl.j3dai` that are not called like the instance."""


def module_of(platform: J3dai, block: str) -> str:
    """See `nncosim.tb.backend.Observable`."""
    if block == "soc":
        return "nncosim.hdl.j3dai.soc"
    path = [re.sub(r"_?\d+$", "", part) if part.startswith(("cluster", "ncb", "counters")) else part
            for part in scope_of(platform, block).split(".")]
    if path[-1] == "counters":  # what they count is told by whoever has them
        path = path[:-1]
    if path[-1] in _SHARED:
        return f"nncosim.hdl.{_SHARED[path[-1]]}"
    name = "_".join(path) if path[0] == "dmpa" else path[-1]
    return f"nncosim.hdl.j3dai.{_OWN.get(name, name)}"


def _channel(kind: Kind, records: Records, prefix: str) -> Channel:
    keys = (records["word"], records["space"]) if kind.layout == "write" else \
        (records["word"],) if kind.layout == "result" else ()  # fmt: skip
    events = records[np.lexsort((*keys, records["cycle"]))] if len(records) else records
    if kind.layout in _LEVEL_LAYOUTS:
        events = _with_changes(events)

    def block(want: Event | None, got: Event | None) -> str:
        found = _judged(kind, want, got)
        return found if found.startswith("dmpa") else prefix + found

    return Channel(prefix + kind.name, events, block, lambda event: prefix + kind.text(event), kind.accounting,
                   LATE.get(kind.layout, 0))


def _with_changes(events: Records) -> Records:
    """With a field ``changed``: bits of ``flags`` that have, and `_SEMAPHORES`."""
    layout = np.dtype([*((name, events.dtype[name]) for name in events.dtype.names or ()), ("changed", "<u4")])
    out = np.zeros(len(events), layout)
    for name in events.dtype.names or ():
        out[name] = events[name]
    out["changed"][1:] = events["flags"][1:] ^ events["flags"][:-1]
    if "semaphores" not in (events.dtype.names or ()):
        return out
    rows = events["semaphores"].reshape(len(events), int(np.prod(events.dtype["semaphores"].shape)))
    out["changed"][1:] |= np.where((rows[1:] != rows[:-1]).any(axis=1), np.uint32(_SEMAPHORES), np.uint32(0))
    return out


def _judged(kind: Kind, want: Event | None, got: Event | None) -> str:
    return _of_levels(kind, want, got) if kind.layout in _LEVEL_LAYOUTS else judged(kind, want, got)


def _of_levels(kind: Kind, want: Event | None, got: Event | None) -> str:
    """By what differs, or by what the earlier one changed."""
    owners = {"control": _CONTROL, "levels": _LEVELS, "account": _ACCOUNT}[kind.layout]
    if want is not None and got is not None and want["cycle"] == got["cycle"]:
        bits = int(want["flags"]) ^ int(got["flags"])
    else:
        bits = int(earlier(want, got)["changed"]) & ~_SEMAPHORES
    return next((owner for k, owner in enumerate(owners) if bits >> k & 1), judged(kind, want, got))


# ---- in words

def _hex(event: Event) -> str:
    return event["data"].tobytes().hex(" ")


def _names(bits: int, names: Sequence[str]) -> str:
    return ", ".join(name for k, name in enumerate(names) if name and bits >> k & 1) or "nothing"


def _bits(value: int) -> str:
    return ", ".join(str(k) for k in range(8) if value >> k & 1)


def _execute(event: Event) -> str:
    line = disassemble([int(event["instruction"])])[0].partition(": ")[2].strip()
    return f"executes {line} at pc {event['pc']}"


def _bus(event: Event) -> str:
    known = {reg.value: reg.name for reg in Reg}
    name = known.get(int(event["register"]) & ~3, f"register {event['register']:#x}")
    return f"host: {'writes' if event['write'] else 'reads'} {name}: {event['value']:#x}"


def _beat(event: Event) -> str:
    kind = ("SYNC", "load beat", "store beat", "beat")[int(event["kind"]) & 3]
    last = ", the last" if event["kind"] & 4 else ""
    return f"dmpa: {kind}, L2 word {event['l2']}, local word {event['local']}, words {event['mask']:b}{last}"


def _space(event: Event) -> str:
    return f"{Space(int(event['space'])).name if event['space'] < 3 else 'no memory'}"


_CONTROL_NAMES = ("running", "armed", "trap", "MAC busy", "settled", "set 0 busy", "set 1 busy", "window staged",
                  "last staged", "a semaphore is waited for")  # fmt: skip


def _control(event: Event) -> str:
    return f"{_names(int(event['flags']), _CONTROL_NAMES)}; semaphores {event['semaphores'].tolist()}"


_LEVEL_NAMES = ("running", "trap", "idle", "", "", "", "a descriptor is offered", "its semaphores are there")


def _levels(event: Event) -> str:
    free = int(event["flags"]) >> 3 & 7
    return (f"dmpa: {_names(int(event['flags']), _LEVEL_NAMES)}, {free} places of its queue free; "
            f"semaphores {event['semaphores'].tolist()}")


_TOLD = ("", "", "a beat", "its last", "wait for data", "wait for a turn", "wait for a port", "a fetch",
         "a fetch waits")  # fmt: skip


def _account(event: Event) -> str:
    kind, more = TransferKind(int(event["flags"]) & 3).name, f" of {event['words']} words" if event["words"] else ""
    return f"dmpa: counts of a {kind}: {_names(int(event['flags']), _TOLD)}{more}, {event['copies']} clusters"


def _registers(event: Event) -> str:
    flags = _names(int(event["flags"]), ("irq", "inference in progress", "push"))
    more = f", start {_bits(int(event['start']))} at pc {event['start_pc']}" if event["start"] else ""
    return f"control registers: {flags}{more}" + (f" of L2 word {event['push_addr']}" if event["flags"] & 4 else "")


def _wires(event: Event) -> str:
    told = (WIRES[k] if k < len(WIRES) else f"cluster{k - len(WIRES)}" for k in range(32) if event["groups"] >> k & 1)
    return f"not the same at both ends: wires of {', '.join(told)}"


_DMPA_TRAP = 8


def _trap(event: Event) -> str:
    units = int(event["units"])
    names = [*(f"cluster{k}" for k in range(_DMPA_TRAP) if units >> k & 1), *["dmpa"] * (units >> _DMPA_TRAP)]
    return f"trap of {', '.join(names) or 'nobody'}, {'told' if event['port'] else 'not told'} outside"


# ---- what there is

def _of_soc() -> list[Kind]:
    paths = "dmpa paths"
    order = {**dict.fromkeys(("clusters", "space", "address", "mask"), paths), "data": f"{paths} (load data)"}
    return [
        Kind("wires", "wires", "soc", {}, _wires),
        Kind("bus", "host bus", "host", {"write": "host", "register": "host"}, _bus, _of_bus),
        Kind("registers", "control registers", "control registers", {}, _registers),
        Kind("trapped", "traps", _trapping, {}, _trap, _of_trap),
        Kind("levels", "dmpa levels", "dmpa semaphores", {}, _levels),
        Kind("beat", "beats", "dmpa", dict.fromkeys(("kind", "l2", "local", "mask"), "dmpa walk"), _beat),
        Kind("list_read", "descriptor reads", "dmpa fetch", {"address": "dmpa fetch", "data": "l2"},
              lambda e: f"l2: {_hex(e)} read for a list, at word {e['address']} + {e['part']}"),
        Kind("account", "transfers counted", "dmpa", {"words": "dmpa walk", "copies": "dmpa"}, _account,
             accounting=True),
        Kind("descriptor", "descriptors", "dmpa", dict.fromkeys(("address", "list", "fields"), "dmpa fetch"),
              lambda e: f"dmpa: takes the descriptor at L2 word {e['address']}, list {e['list']}"),
        Kind("l2_read", "l2 reads", paths, {"data": "l2"}, lambda e: f"l2: {_hex(e)} read from word {e['part']} on"),
        Kind("load", "load beats", paths, order,
              lambda e: f"dmpa: {_hex(e)} to {_space(e)} word {e['address']} of clusters {_bits(int(e['clusters']))}"),
        Kind("store", "store beats", paths, {},
              lambda e: f"dmpa: reads L1 word {e['address']} of cluster {_bits(int(e['clusters']))}"),
    ]  # fmt: skip


def _of_bus(want: Event, got: Event) -> str:
    """What is read comes from the registers."""
    same = want["write"] == got["write"] and want["register"] == got["register"]
    return "control registers" if same and not want["write"] else "host"


def _trapping(event: Event) -> str:
    units = int(event["units"])
    first = (units & -units).bit_length() - 1
    return "soc" if not units else "dmpa" if first == _DMPA_TRAP else f"cluster{first} controller"


def _of_trap(want: Event, got: Event) -> str:
    """Who has trapped and should not have, or has not; else what makes one signal of it."""
    return _trapping({"units": int(want["units"]) ^ int(got["units"])})


def _of_cluster() -> list[Kind]:
    fetched = "controller (instruction fetch)"
    return [
        Kind("signal_in", "signals in", "dmpa paths", {},
              lambda e: f"semaphores {_bits(int(e['semaphores']))} are told"),
        Kind("control", "control", "controller", {}, _control),
        Kind("execute", "instructions", "controller", {"pc": "controller", "instruction": fetched}, _execute),
        Kind("parameters", "parameters", "LDP", {"set": "LDP", "data": "parameters (WMEM read)"},
              lambda e: f"parameter set {e['set']}: {_hex(e)}"),
        Kind("fetch", "window fetches", "fetch", {"address": "fetch (AGU A)"},
              lambda e: f"reads L1 word {e['address']}"),
        Kind("window", "windows", "sequencer", {
            "offered": "fetch (padding)", **dict.fromkeys(("padded", "extend", "negative", "data"), "window")},
              lambda e: f"window, words {e['padded']:b} padded: {_hex(e)}"),
        Kind("operation", "micro-operations", "sequencer", {
            "lane": "sequencer", "flags": "sequencer", "pointer": "sequencer (AGU W)", "operands": "window",
            "weights": "weights (WMEM read)"},
              lambda e: f"micro-operation, lane {e['lane']}, operands {e['operands'].tolist()}, "
                        f"weights at {e['pointer']}: {e['weights'].tobytes().hex(' ')}"),
        Kind("sums", "accumulators", "drain", {"copy": "drain", "ncb": "drain"},
              lambda e: f"NCB {e['ncb']}: sums {e['sums'].tolist()}", _of_sums),
        Kind("shadow", "shadow registers", "drain", {"copy": "drain", "ncb": "drain"},
              lambda e: f"NCB {e['ncb']}: keeps {e['values'].tolist()}", _of_sums),
        Kind("requantized", "requantized", "drain", {"pixel": "drain", "ncb": "drain"},
              lambda e: f"pixel {e['pixel']}: {_hex(e)}", _of_requantized),
        Kind("result", "results", "drain", {"word": "drain (AGU O)", "data": "drain line"},
              lambda e: f"results {_hex(e)} for L1 word {e['word']}"),
        Kind("write", "memory writes", "writes", {}, lambda e: f"{_hex(e)} to {_space(e)} word {e['word']}"),
        Kind("stored", "store data", "dmpa paths", {"data": "L1 read"}, lambda e: f"{_hex(e)} for a STORE"),
        Kind("signal_out", "signals out", "settle", {}, lambda e: f"tells semaphores {_bits(int(e['semaphores']))}"),
    ]  # fmt: skip


def _of_sums(want: Event, got: Event) -> str:
    return "drain" if want["copy"] != got["copy"] else f"NCB {want['ncb']}"


def _of_requantized(want: Event, got: Event) -> str:
    if want["pixel"] != got["pixel"] or want["ncb"] != got["ncb"]:
        return "drain"
    groups = np.flatnonzero(want["data"] != got["data"])
    return f"requantizer {', '.join(map(str, groups))}"
