# SPDX-License-Identifier: Apache-2.0
"""A debug bundle, run again: does it still fail, as then, and is it the same RTL?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nncosim.platforms.base import Platform
from nncosim.platforms.plain import Json
from nncosim.tb.backend import Patchable, get_bench
from nncosim.tb.debug.bundle import Bundle, Rtl, Seen, open_bundle, rtl_of, seen_of
from nncosim.tb.debug.failure import watched
from nncosim.tb.debug.story import lay_beside
from nncosim.tb.run.flow import RunOptions, choose, run_program
from nncosim.tb.sim.versions import versions
from nncosim.tb.system.progress import Progress

__all__ = ["Replay", "changed_rtl", "changed_versions", "replay", "unlike"]

_MOST_LAYERS = 5
"""Of which it is said that their cycles are others."""


@dataclass(frozen=True)
class Replay:
    """A bundle, and how its run ended now.

    `backend`, `driver`: that it ran on now. `dropped`: what this backend has not, and so was left out.
    `verilog`, `sources`: files of the RTL that are others now, None where nothing is known of the Verilog.
    `tools`: name to version then and now, "" for none, where they are others.
    """

    bundle: Bundle
    now: Seen
    backend: str
    driver: str | None
    dropped: tuple[str, ...]
    verilog: tuple[str, ...] | None
    sources: tuple[str, ...]
    tools: Mapping[str, tuple[str, str]]

    @property
    def unlike(self) -> list[str]:
        """What is not as it was, a line each."""
        return unlike(self.bundle.seen, self.now)

    @property
    def same(self) -> bool:
        return not self.unlike

    def lines(self) -> list[str]:
        then, now, told = self.bundle.seen, self.now, self.bundle
        settings = "".join(f" {name}={value}" for name, value in told.settings.items())
        way = ", ".join(filter(None, (told.backend, told.driver, f"seed {told.seed}")))
        here = ", ".join(filter(None, (self.backend, self.driver)))
        without = f", without {' and '.join(self.dropped)}" if self.dropped else ""
        out = [f"recorded: {told.model} on {told.platform}{settings}; {way}; {told.date}, "
               f"nncosim {told.versions.get('nncosim', '?')}", f"run again on {here}{without}"]  # fmt: skip
        out += [self._rtl(), *self._tools()]
        if now.passed:
            out.append("passes, as then" if then.passed else f"passes now; then: {then.failure}")
        else:
            out.append(f"fails {'as then' if self.same else 'now, and not then' if then.passed else 'otherwise'}: "
                       f"{now.failure}")  # fmt: skip
        return out + [f"  {line}" for line in self.unlike]

    def _rtl(self) -> str:
        sources = ", ".join(self.sources)
        if self.verilog is None:
            return f"sources of the RTL have changed: {sources}" if sources else "the RTL's sources are those of then"
        if not self.verilog:
            return "the RTL is that of then" + (f"; {sources} emit the same, changed as they are" if sources else "")
        by = f"by {sources}" if sources else "by none of its sources"
        return f"the RTL has changed: {', '.join(self.verilog)} ({by})"

    def _tools(self) -> list[str]:
        found = [f"{name} {then or 'none'}, now {now or 'none'}" for name, (then, now) in self.tools.items()]
        return [f"other versions: {'; '.join(found)}"] if found else []

    def to_json(self) -> dict[str, Json]:
        return {
            "passed": self.now.passed, "same": self.same, "unlike": list(self.unlike), "backend": self.backend,
            "driver": self.driver, "without": list(self.dropped), "then": _seen_json(self.bundle.seen),
            "now": _seen_json(self.now),
            "rtl": {"verilog": None if self.verilog is None else list(self.verilog), "sources": list(self.sources)},
            "versions": {name: list(both) for name, both in self.tools.items()}, "lines": list(self.lines()),
        }  # fmt: skip


def _seen_json(seen: Seen) -> Json:
    plain: Json = asdict(seen)
    return plain


def unlike(then: Seen, now: Seen) -> list[str]:
    """In what two ends of a run differ, a line each.

    The first difference from the simulator counts only where both have been looked at.
    """
    pairs = [("verdict", then.verdict, now.verdict), ("stopped by", then.stopped, now.stopped),
             ("first wrong element", then.first, now.first),
             ("cycles", _cycles(then.cycles), _cycles(now.cycles))]  # fmt: skip
    if then.difference is not None and now.difference is not None:
        pairs.append(("first difference", then.difference, now.difference))
    out = [f"{what}: {a or 'none'} then, {b or 'none'} now" for what, a, b in pairs if a != b]
    names = [name for name in {**then.layers, **now.layers} if then.layers.get(name) != now.layers.get(name)]
    out += [f"cycles of {name}: {_cycles(then.layers.get(name, ()))} then, {_cycles(now.layers.get(name, ()))} now"
            for name in names[:_MOST_LAYERS]]  # fmt: skip
    return out + ([f"and of {len(names) - _MOST_LAYERS} more layers"] if len(names) > _MOST_LAYERS else [])


def _cycles(counts: tuple[int | None, ...]) -> str:
    return ", ".join("no end" if each is None else f"{each:,}" for each in counts)


def changed_rtl(then: Rtl, now: Rtl) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Files that are others now, or are not in both: of the Verilog, None where one of the two has none; of its
    sources."""
    verilog = tuple(_changed(then.verilog, now.verilog)) if then.verilog and now.verilog else None
    return verilog, tuple(_changed(then.sources, now.sources))


def changed_versions(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (then.get(name, ""), now.get(name, "")) for name in _changed(then, now)}


def _changed(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    yield from sorted(name for name in {**then, **now} if then.get(name) != now.get(name))


def replay(directory: Path, backend: str | None, driver: str | None, say: Progress) -> Replay:
    """Run a bundle again.

    Args:
        backend, driver: in place of those that it ran on; of another backend than then, its own default driver.

    Raises:
        NncosimError: as `nncosim.tb.debug.bundle.open_bundle`; a patch that does not fit the RTL of now; no such
            backend or driver.
    """
    opened = open_bundle(directory)
    bundle, program, platform, options = opened.bundle, opened.program, opened.platform, opened.options
    bench = get_bench(platform)
    if driver is None and backend in (None, bundle.backend):
        driver = bundle.driver
    chosen, driver = choose(bench, platform, backend or bundle.backend, driver)
    options, dropped = _able(platform, replace(options, backend=chosen, driver=driver))
    rtl = rtl_of(platform, chosen, options.rtl_patch)
    if bundle.seen.difference is not None:
        options = watched(platform, options)
    outcome = run_program(program, platform, opened.settings, options, say)
    found = lay_beside(outcome, program, platform, options, say)[0] if options.observe else None
    seen = seen_of(outcome.report, found)
    return Replay(bundle, seen, chosen, driver, dropped, *changed_rtl(bundle.rtl, rtl),
                  changed_versions(bundle.versions, versions()))  # fmt: skip


def _able(platform: Platform, options: RunOptions) -> tuple[RunOptions, tuple[str, ...]]:
    """What of the options the backend can do, and what was left out."""
    bench, backend, dropped = get_bench(platform), options.backend, []
    if options.rtl_patch is not None and not (isinstance(bench, Patchable) and backend in bench.patchable):
        options = replace(options, rtl_patch=None)
        dropped.append("the patch of the RTL")
    if options.entering and backend not in getattr(bench, "entries", ()):
        options = replace(options, bus=False, stream=0)
        dropped.append("image or inputs entering by a port")
    if options.ignore_hazards and backend not in getattr(bench, "hazard_checks", ()):
        options = replace(options, ignore_hazards=False)
        dropped.append("hazards to ignore")
    return options, tuple(dropped)
