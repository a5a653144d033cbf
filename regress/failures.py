# SPDX-License-Identifier: Apache-2.0
"""With ``--debug-failures``: the story of a failed test's last run that failed, and a debug bundle of it."""

from __future__ import annotations

from pathlib import Path

from nncosim.platforms.errors import NncosimError
from nncosim.regress.harness import FailedRun
from nncosim.tb.backend import get_bench
from nncosim.tb.debug.failure import debug_failure, replay_command, watched
from nncosim.tb.run.flow import RunOptions, run_program
from nncosim.tb.run.program import packed

__all__ = ["story_of_failure"]


def story_of_failure(failed: FailedRun, directory: Path) -> list[str]:
    """Run it again on the platform's bench, and write a bundle; its story, and the command that replays it.

    Of RTL that only the failed run had (a simulation of the test's own) there is no story: then it passes here.
    """
    compiled, platform = failed.run.compiled, failed.run.compiled.platform
    drivers = get_bench(platform).drivers.get(failed.backend, ())
    options = RunOptions(failed.backend, failed.driver if failed.driver in drivers else None, seed=failed.seed,
                         frames=tuple(failed.run.inputs))  # fmt: skip
    try:
        program = packed(compiled, Path(compiled.network.name or "network"), "")
        options = watched(platform, options)
        outcome = run_program(program, platform, {}, options)
        story = debug_failure(outcome, program, platform, {}, options, directory, lambda text: None)
    except NncosimError as error:
        return [f"cannot be debugged: {error}"]
    if story.passed:
        return ["run again on the platform's bench, it passes: what failed is not this RTL, or not this image"]
    return [*story.lines(), replay_command(directory)]
