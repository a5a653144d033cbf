# SPDX-License-Identifier: Apache-2.0
"""Cycles that are committed (`baselines.json`), and what a test does with those it measures.

`--update-baselines` writes the figures of a run into the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from filelock import FileLock
from nncosim.regress.cases import CASES
from nncosim.regress.zoo import NETWORKS

__all__ = ["FILE", "NAMES", "SEED", "SLOWER", "judge", "read", "slower", "update"]

FILE = Path(__file__).with_name("baselines.json")
SEED = 1
"""The figures are of the cases as this seed makes them."""
SLOWER = 0.01
NAMES = (*(c.name for c in CASES), "digits", *NETWORKS)


def read(file: Path = FILE) -> dict[str, int]:
    """Cycles by name."""
    return dict(json.loads(file.read_text())) if file.exists() else {}


def update(measured: Mapping[str, int], file: Path = FILE) -> None:
    """Put figures into the file: a line a case, in the order of the table of cases; forget cases that are gone."""
    with FileLock(f"{file}.lock"):
        merged = {**read(file), **measured}
        lines = [f"  {json.dumps(name)}: {merged[name]}" for name in NAMES if name in merged]
        file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    Path(f"{file}.lock").unlink(missing_ok=True)


def slower(baselines: Mapping[str, int], measured: Mapping[str, int]) -> str:
    """A table of the cases that are more than 1 % slower than their baseline, or have none; "" if there are none."""
    rows = []
    for name, now in measured.items():
        before = baselines.get(name)
        if before is None:
            rows.append(f"{name:28} {'none':>10} {now:>10}")
        elif now > before * (1 + SLOWER):
            rows.append(f"{name:28} {before:>10} {now:>10}  {now / before - 1:+.1%}")
    if not rows:
        return ""
    head = f"{'case':28} {'baseline':>10} {'now':>10}"
    return "\n".join(["slower than the baseline (accept with --update-baselines):", head, *rows])


def judge(measured: Mapping[str, int], pytestconfig: pytest.Config) -> None:
    """Fail where cycles are more than 1 % above their baseline; write them first if the option says so."""
    assert all(measured.values()), f"did not end: {[name for name, cycles in measured.items() if not cycles]}"
    if pytestconfig.getoption("--update-baselines"):
        update(measured)
    table = slower(read(), measured)
    assert not table, table
