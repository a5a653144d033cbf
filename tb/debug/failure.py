# SPDX-License-Identifier: Apache-2.0
"""What is done about a run that failed: its story, and a bundle."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nncosim.platforms.base import Platform
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.parameters import Value
from nncosim.tb.backend import get_bench
from nncosim.tb.debug.bundle import WAVEFORM, write_bundle
from nncosim.tb.debug.story import Story, story_of
from nncosim.tb.errors import BenchError
from nncosim.tb.run.flow import Outcome, RunOptions, check_observable, choose, run_program
from nncosim.tb.run.program import Program
from nncosim.tb.system.files import OutputError
from nncosim.tb.system.progress import Progress

__all__ = ["debug_failure", "replay_command", "watched"]


def replay_command(directory: Path) -> str:
    """How to run a bundle again, in a line."""
    return f"run it again with: {shlex.join(['nncosim', 'replay', str(directory)])}"


def watched(platform: Platform, options: RunOptions) -> RunOptions:
    """The options of a run that is observed, where that can be."""
    return replace(options, observe=not _unobservable(platform, options))


_ENTERED = "not laid beside the simulator, which has no port that image or inputs come in by"


def _unobservable(platform: Platform, options: RunOptions) -> str:
    """Why a run cannot be observed; "" if it can be."""
    bench = get_bench(platform)
    backend, _ = choose(bench, platform, options.backend, options.driver)
    try:
        check_observable(bench, platform, backend)
    except BenchError as reason:
        return str(reason)
    return ""


def debug_failure(
    outcome: Outcome, program: Program, platform: Platform, settings: Mapping[str, Value], options: RunOptions,
    directory: Path, say: Progress,
) -> Story:
    """Find the first difference of a run, where that can be, and write a bundle of it in any case.

    Args:
        options: it ran with; where they did not ask for an observed run, it is run again. directory: of the bundle.

    Raises:
        OutputError: the operating system refuses.
    """
    story = _story(outcome, program, platform, settings, options, directory / WAVEFORM, say)
    write_bundle(directory, program, platform, settings, options, story)
    return story


def _story(
    outcome: Outcome, program: Program, platform: Platform, settings: Mapping[str, Value], options: RunOptions,
    trace: Path, say: Progress,
) -> Story:
    aside = _unobservable(platform, options)
    if aside:
        return Story(outcome, (), aside=aside)
    try:
        if not options.observe:
            options = replace(options, observe=True, trace=None, trace_from=None, trace_to=None, trace_layer=None)
            outcome = run_program(program, platform, settings, options, say)
        if options.entering and not outcome.result.modelled:
            return Story(outcome, (), aside=_ENTERED)
        story = story_of(outcome, program, platform, options, trace, say)
        return replace(story, aside=f"{_ENTERED}; the port did what its model does") \
            if options.entering and not story.found else story
    except OutputError:
        raise
    except NncosimError as problem:  # what failed is told all the same
        return Story(outcome, (), aside=f"cannot be debugged: {problem}")
