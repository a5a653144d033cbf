# SPDX-License-Identifier: Apache-2.0
"""A simulation in which bits can be turned between two clock edges, and what there is to turn."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.backdoor import Variable, Words
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel

__all__ = ["FaultModel", "Flip", "Place", "places_of"]


@dataclass(frozen=True, order=True)
class Flip:
    """Bit `bit` of word `word` of a memory or register is inverted after `cycle` cycles of the inference, before the
    next rising edge. `path`: hierarchical name, without the top's. `block`: that it belongs to.
    """

    path: str
    word: int
    bit: int
    cycle: int
    block: str = ""

    def __str__(self) -> str:
        return f"bit {self.bit} of {self.path}[{self.word}] after cycle {self.cycle:,}"


@dataclass(frozen=True)
class Place:
    """A memory, or a register (of one word), of `words` words of `bits` bits."""

    path: str
    block: str
    kind: str  # "memory" or "register"
    words: int
    bits: int

    @property
    def size(self) -> int:
        """In bits."""
        return self.words * self.bits


class FaultModel(Model):
    """`built` has its registers visible: they are `registers` here, and `memories` are the memories alone, as of any
    simulation."""

    _registers: dict[str, Variable]

    def __init__(self, built: BuiltModel, **options: Any):
        super().__init__(built, **options)
        storage = set(built.options.memories.values())
        all_, top = self._variables, built.top
        self._variables = [each for each in all_ if each.scope in ("TOP", top)
                           or (each.name in storage and each.elements > 1)]  # fmt: skip
        kept = set(self._variables)
        # Verilog's escaped names begin with a backslash and end with a blank.
        self._registers = {f"{each.scope}.{each.name.strip().removeprefix(chr(92))}".partition(".")[2]: each
                           for each in all_ if each not in kept}  # fmt: skip

    @property
    def registers(self) -> Mapping[str, Variable]:
        """By hierarchical name without the top's."""
        return self._registers

    def register(self, path: str) -> Words:
        """As of any simulation; every register of the design is there."""
        if path not in self._registers:
            raise BenchError(f"there is no register {path!r}")
        return self._array(self._registers[path], None)

    def flip(self, flip: Flip) -> None:
        """Invert a bit, and let all that follows from it without a clock edge follow.

        Raises:
            BenchError: there is no such bit, or it is not inverted afterwards: what was chosen is no storage.
        """
        storage = self._storage(flip)
        at, mask = flip.bit // 8, 1 << flip.bit % 8
        before = storage.tobytes()
        self._invert(storage, at, mask)
        self._settle()
        wanted = bytearray(before)
        wanted[at] ^= mask
        if storage.tobytes() != bytes(wanted):
            raise BenchError(f"{flip}: the simulation holds {storage.tobytes()[::-1].hex()} afterwards, not "
                             f"{bytes(wanted)[::-1].hex()}: nothing was injected")  # fmt: skip

    @staticmethod
    def _invert(storage: np.ndarray, at: int, mask: int) -> None:
        storage[at] ^= mask

    def _storage(self, flip: Flip) -> np.ndarray:
        """The bytes of a word; writes reach the simulation."""
        variable = self._registers.get(flip.path) or self._memories().get(flip.path)
        if variable is None:
            raise BenchError(f"there is no memory or register {flip.path!r}")
        if not (0 <= flip.word < variable.elements and 0 <= flip.bit < variable.bits):
            raise BenchError(f"{flip.path} has {variable.elements} words of {variable.bits} bits; there is no {flip}")
        words: np.ndarray = self._array(variable, np.uint8)[flip.word]
        return words

    def _memories(self) -> Mapping[str, Variable]:
        return {path.partition(".")[2]: each for path, each in self.memories.items()}

    def _settle(self) -> None:
        function = self.handle.library.nncosim_settle
        function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
        function(self.handle.address)
        self._dirty = False
        self._check()


def places_of(model: FaultModel, block: Callable[[str], str]) -> list[Place]:
    """Everything that can be turned, in the order of its names.

    Args:
        block: as of `nncosim.tb.fault_target.FaultTarget`.
    """
    variables = ([("memory", path, each) for path, each in model._memories().items()]
                 + [("register", path, each) for path, each in model.registers.items()])  # fmt: skip
    found = (Place(path, block(path), kind, each.elements, each.bits) for kind, path, each in variables)
    return sorted((place for place in found if place.block), key=lambda place: _natural(place.path))


def _natural(path: str) -> list[tuple[str, int]]:
    """bank10 behind bank9."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D+)(\d*)", path)]
