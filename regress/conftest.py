# SPDX-License-Identifier: Apache-2.0
"""Fixtures and options of the regressions: see nncosim.tb.pytest_plugin."""

from nncosim.tb.pytest_plugin import (
    driver,
    pytest_addoption,
    pytest_generate_tests,
    pytest_runtest_makereport,
    rng,
    rtl_bench,
    seed,
)

__all__ = ["driver", "pytest_addoption", "pytest_generate_tests", "pytest_runtest_makereport", "rng", "rtl_bench",
           "seed"]
