# SPDX-License-Identifier: Apache-2.0
"""Benches of the toy platform that go wrong on purpose, in a module that worker processes can import."""

import os
import time
from pathlib import Path

from toy.bench import ToyBench

__all__ = ["CountingBench", "DyingBench", "FailingBench", "SlowBench", "TwoBackends"]


class FailingBench(ToyBench):
    """A defect of the bench itself, on 32 lanes."""

    def run(self, platform, *args, **options):
        if platform.lanes == 32:
            raise ZeroDivisionError("planted")
        return super().run(platform, *args, **options)


class DyingBench(ToyBench):
    """Takes its process with it, on 32 lanes."""

    def run(self, platform, *args, **options):
        if platform.lanes == 32:
            os._exit(3)
        return super().run(platform, *args, **options)


class TwoBackends(ToyBench):
    """Backends iss and rtl, of which each can be told to compute a wrong bit on a number of lanes."""

    backends = ("rtl", "iss")

    def __init__(self, **wrong_lanes: int):
        self.wrong_lanes = wrong_lanes

    def run(self, platform, *args, backend, **options):
        result = super().run(platform, *args, backend=backend, **options)
        if self.wrong_lanes.get(backend) == platform.lanes:
            result.frames[0].memory["y"].flat[0] ^= 1
        return result


class SlowBench(ToyBench):
    """Says in a file that it has begun, then takes its time."""

    def __init__(self, begun: Path):
        self.begun = begun

    def run(self, *args, **options):
        self.begun.touch()
        time.sleep(60)
        return super().run(*args, **options)


class CountingBench(ToyBench):
    """Writes down what it runs, and ends its process, or interrupts it, on a number of lanes, while there is a file."""

    def __init__(self, folder: Path, lanes: int, how: str):
        self.folder, self.lanes, self.how = folder, lanes, how

    def run(self, platform, *args, **options):
        with (self.folder / "ran").open("a") as file:
            file.write(f"{platform.lanes}\n")
        if platform.lanes == self.lanes and (self.folder / "armed").exists():
            if self.how == "interrupt":
                raise KeyboardInterrupt
            (self.folder / "armed").unlink()
            os._exit(3)
        return super().run(platform, *args, **options)
