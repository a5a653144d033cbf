# SPDX-License-Identifier: Apache-2.0
"""A failing run, told from its first difference in time: run, lay beside the simulator, trace the cycles around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import Value
from nncosim.platforms.plain import Json
from nncosim.tb.backend import RunResult, get_bench
from nncosim.tb.errors import BuildError, ToolError
from nncosim.tb.lockstep import Difference, differences, last_cycle
from nncosim.tb.run.flow import (
    REFERENCE,
    Outcome,
    RunOptions,
    check_observable,
    choose,
    execute,
    make_frames,
    run_program,
)
from nncosim.tb.run.program import Program
from nncosim.tb.sim.waves import Waveform
from nncosim.tb.system.files import write_files
from nncosim.tb.system.progress import Progress

__all__ = ["AFTER", "BEFORE", "Story", "debug_program", "lay_beside", "story_of"]

BEFORE, AFTER = 200, 800
"""Cycles of the waveform around the first difference."""
_MOST_OTHERS = 24
"""Further channels that are named."""


@dataclass(frozen=True)
class Story:
    """What there is to say of a run.

    `found`: the first difference of each channel that has one, the earliest first; of a run that passed, and of one
    whose failure the channels do not show, there is none. `standing`: where everybody stands in the first one's cycle
    of a right run. `layer`: to which that cycle belongs. `module`: that describes the block. `aside`: why the run was
    not laid beside the simulator, or why there is no waveform.
    """

    outcome: Outcome
    found: Sequence[Difference]
    standing: Sequence[str] = ()
    layer: str = ""
    module: str = ""
    waveform: Waveform | None = None
    aside: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome.report.passed and not self.found

    def lines(self) -> list[str]:
        """In some ten lines."""
        if self.passed:
            return ["the run passes, and the machine does in each cycle what its simulator does: nothing to debug"]
        out = self._verdict()
        if self.aside and not self.found:
            return [*out, self.aside]
        if not self.found:
            return [*out, f"the {REFERENCE} does the same in each cycle at each boundary that was looked at: what is "
                    "wrong is in the program, or in what the two have in common"]  # fmt: skip
        first, *others = self.found
        out.append(f"first difference: cycle {first.cycle:,}" + (f", layer {self.layer}" if self.layer else "")
                   + f": {first.block} ({first.channel}, event {first.number:,}), described by {self.module}")
        out += [f"  {line}" for line in first.lines()]
        if others:
            more = f"; and {len(others) - _MOST_OTHERS} more" if len(others) > _MOST_OTHERS else ""
            told = (f"cycle {each.cycle:,} {each.channel}" for each in others[:_MOST_OTHERS])
            out.append("then: " + "; ".join(told) + more)
        out += [f"in that cycle of a right run: {self.standing[0]}", *(f"  {line}" for line in self.standing[1:])] \
            if self.standing else []
        if self.waveform is not None or self.aside:
            out.append(f"waveform: {self.waveform or self.aside}")
        return out

    def to_json(self) -> dict[str, Json]:
        """`first`: cycle, layer, block, module and channel of the first difference; None without one."""
        first: Json = None if not self.found else {
            "cycle": self.found[0].cycle, "layer": self.layer, "block": self.found[0].block, "module": self.module,
            "channel": self.found[0].channel}
        return {"passed": self.passed, "story": self.lines(), "first": first}

    def _verdict(self) -> list[str]:
        report = self.outcome.report
        if report.diagnosis is not None:
            return [f"{report.diagnosis.kind}: {report.diagnosis.text.splitlines()[0]}"]
        first, clue = report.comparison.first, report.clue
        if first is not None:
            return [f"first wrong element: {first}", *(f"  {line}" for line in (clue.lines()[:1] if clue else ()))]
        return ["every bit is right, and cycles or counters are not"]


def debug_program(
    program: Program, platform: Platform, settings: Mapping[str, Value], options: RunOptions, trace: Path,
    say: Progress,
) -> Story:
    """Run a program, compare it with the simulator event by event, and trace the cycles of the first difference.

    Args:
        options: of an observed run, without a waveform. trace: the waveform to write, if there is a difference.

    Raises:
        NncosimError: as `nncosim.tb.run.flow.run_program`.
    """
    backend, _ = choose(get_bench(platform), platform, options.backend, options.driver)
    check_observable(get_bench(platform), platform, backend)
    return story_of(run_program(program, platform, settings, options, say), program, platform, options, trace, say)


def lay_beside(
    outcome: Outcome, program: Program, platform: Platform, options: RunOptions, say: Progress
) -> tuple[list[Difference], RunResult]:
    """What differs between a run that was observed and the simulator's, and the simulator's run.

    Where image or inputs came in by a port, which the simulator has not, only what blocks did is laid beside their
    models; the run is its own.
    """
    modelled = outcome.result.modelled
    did, should = ([each[side] for each in modelled] for side in (0, 1))
    if options.entering:
        return differences(did, should), outcome.result
    inputs, _ = make_frames(program.network, options)
    say(f"running it on the {REFERENCE}")
    reference = replace(options, backend=REFERENCE, driver=None, rtl_patch=None, trace=None, ignore_hazards=False)
    right = execute(program, platform, inputs, reference, say)
    stopped = outcome.result.diagnosis is not None and outcome.result.diagnosis.kind != "hang"
    ends = (right, outcome.result) if stopped else (right,)  # a run that hangs lacks what it did not do
    until = min(last_cycle(each.channels) for each in ends) + 1
    return differences([*outcome.result.channels, *did], [*right.channels, *should], until, stopped), right


def story_of(
    outcome: Outcome, program: Program, platform: Platform, options: RunOptions, trace: Path, say: Progress
) -> Story:
    """The story of a run that was observed; arguments as of `debug_program`."""
    backend, _ = choose(get_bench(platform), platform, options.backend, options.driver)
    bench = check_observable(get_bench(platform), platform, backend)
    inputs, _ = make_frames(program.network, options)
    found, right = lay_beside(outcome, program, platform, options, say)
    if not found:
        return Story(outcome, ())
    cycle = found[0].cycle
    standing = () if options.entering else bench.standing(platform, program.image, inputs, options.seed, found[0])
    say("tracing the cycles around the first difference")
    ended = last_cycle(outcome.result.channels)  # perhaps long before what is missing
    begin = max(0, min(cycle, ended) - BEFORE)
    window = replace(options, trace=trace, trace_from=begin, trace_to=cycle + AFTER, trace_layer=None,
                     marks=(cycle, *(each.cycle for each in found[1:2])), about=found[0].block,
                     limit=cycle + AFTER if len(inputs) == 1 else None)  # fmt: skip
    write_files(trace.parent, {})
    layer, module = _layer(program, right, cycle), bench.module_of(platform, found[0].block)
    try:
        waveform = execute(program, platform, inputs, window, say).waveform
    except (BuildError, ToolError) as problem:  # it needs headers that nothing else does
        return Story(outcome, found, standing, layer, module, aside=f"none, {problem}")
    return Story(outcome, found, standing, layer, module, waveform)


def _layer(program: Program, right: RunResult, cycle: int) -> str:
    """The layer that a cycle of a right run belongs to."""
    start = 0
    for frame in right.frames:
        start = start if frame.start is None else frame.start
        for interval in frame.intervals:
            if start + interval.start <= cycle < start + interval.end:
                return program.schedule[interval.step].name
        start += frame.cycles
    return ""
