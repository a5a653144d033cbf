# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the drivers runs on the machine it names."""

import pytest
from nncosim.tb.benchmark import DRIVERS, measure


@pytest.mark.parametrize("reference", [None, "nncosim.regress.workloads:conv"])
def test_every_driver_is_measured(reference: str | None) -> None:
    speeds = measure(reference, cycles=2_000, repeats=1)
    assert tuple(speeds) == DRIVERS and all(speed > 0 for speed in speeds.values())
