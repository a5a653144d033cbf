# SPDX-License-Identifier: Apache-2.0
"""In a process of its own, on a mutant's sources: ``python -m nncosim.tb.mutation.emit PLATFORM FILE`` writes the RTL
of the platform's small machines to a file."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from nncosim.platforms.registry import get_platform
from nncosim.tb.backend import Mutable, get_bench

__all__ = ["main"]


def main(words: Sequence[str]) -> None:
    """`words`: the platform's name, and the file."""
    platform = get_platform(words[0])
    bench = get_bench(platform)
    assert isinstance(bench, Mutable)
    machines = [platform.with_parameters(**settings) if settings else platform for settings in bench.mutation.machines]
    Path(words[1]).write_text(json.dumps([dict(bench.verilog(machine)) for machine in machines]))


if __name__ == "__main__":
    main(sys.argv[1:])
