# SPDX-License-Identifier: Apache-2.0
"""Memories and event logs of a running simulation as numpy arrays, the same under either driver.

Under the direct driver `nncosim.tb.sim.model.Model` is a `Backdoor`. Inside a cocotb test, `attach()` gives the one
of the simulator that Python runs in.
"""

import ctypes
import itertools
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from nncosim.tb.errors import BenchError, CacheError, hidden
from nncosim.tb.sim.coverage import record

__all__ = ["Backdoor", "Stack", "Variable", "Words", "attach", "load_clocks", "load_library"]

__tracebackhide__ = hidden


class _CVariable(ctypes.Structure):
    """`NncosimVariable` of shim.cpp."""

    _fields_ = [
        ("scope", ctypes.c_char_p), ("name", ctypes.c_char_p), ("data", ctypes.c_void_p),
        ("bits", ctypes.c_uint32), ("element_bytes", ctypes.c_uint32), ("elements", ctypes.c_uint64),
        ("direction", ctypes.c_int32),
    ]


Words: TypeAlias = npt.NDArray[Any]
"""Of a type that is known when the program runs: that of a memory's words, or what they are viewed as."""
Rows: TypeAlias = int | np.integer | slice | npt.NDArray[np.integer | np.bool_] | Sequence[int]
"""What chooses words of a memory."""

_VISIT = ctypes.CFUNCTYPE(None, ctypes.POINTER(_CVariable))
_HANDLE, _U64, _U32, _I32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int32
_TEXT = ctypes.c_char_p
_FUNCTIONS: "dict[str, tuple[type[ctypes._CDataType] | None, list[type[ctypes._CDataType]]]]" = {
    "create": (_HANDLE, [ctypes.c_int, ctypes.POINTER(_TEXT), _TEXT, _U64]),
    "add_clock": (ctypes.c_int, [_HANDLE, _TEXT, _U64, _U64]),
    "destroy": (None, [_HANDLE]),
    "selected": (_HANDLE, []),
    "error": (_TEXT, [_HANDLE]),
    "finished": (ctypes.c_int, [_HANDLE]),
    "cycles": (_U64, [_HANDLE]),
    "eval": (None, [_HANDLE]),
    "tick": (_U64, [_HANDLE, _U64]),
    "run_until": (_U64, [_HANDLE, ctypes.c_void_p, _U32, _U64, _U64]),
    "bare_loop": (None, [_HANDLE, _U64]),
    "visit": (None, [_HANDLE, _VISIT]),
    "save": (_U64, [_HANDLE, ctypes.POINTER(ctypes.c_void_p)]),
    "restore": (None, [_HANDLE, ctypes.c_char_p, _U64]),
    "log_size": (_U64, [_HANDLE, _I32, ctypes.POINTER(_U32)]),
    "log_data": (ctypes.c_void_p, [_HANDLE, _I32]),
    "log_clear": (None, [_HANDLE, _I32]),
    "trace_on": (ctypes.c_int, [_HANDLE, _TEXT, ctypes.c_int, _U64, _U64, _TEXT]),
    "trace_off": (None, [_HANDLE]),
}
_CLOCK_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "start_clock": (ctypes.c_int, [_TEXT, _U64, _U64]),
    "stop_clock": (None, [_TEXT]),
}


def load_library(path: str | os.PathLike[str] | None) -> ctypes.CDLL:
    """The C interface of a built model, typed; of the running process when `path` is None.

    Raises:
        CacheError: The file cannot be loaded.
    """
    try:
        library = ctypes.CDLL(None if path is None else os.fspath(path))
    except OSError as error:
        raise CacheError(f"the built simulation {path} cannot be loaded: {error}; it is in the cache of simulations, "
                         "which `nncosim cache --clear` empties") from error  # fmt: skip
    _type(library, _FUNCTIONS)
    return library


def load_clocks() -> ctypes.CDLL:
    """The running process's, which hosts cocotb, with what starts and stops clocks besides."""
    library = load_library(None)
    _type(library, _CLOCK_FUNCTIONS)
    return library


def _type(library: ctypes.CDLL, functions: Mapping[str, tuple[Any, list[Any]]]) -> None:
    for name, (result, arguments) in functions.items():
        function = getattr(library, f"nncosim_{name}")
        function.restype, function.argtypes = result, arguments


@dataclass(frozen=True)
class Variable:
    """A variable that the build left visible.

    Attributes:
        scope: Hierarchical name of where it is; "TOP" for the ports of the top.
        name: Its own name.
        address: Of its storage in this process.
        bits: Bits an element.
        element_bytes: Bytes an element takes: 1, 2, 4, 8, or a multiple of 4.
        elements: Number of elements; 1 when it is no array.
        direction: "in", "out", "inout", or "" when it is no port.
    """

    scope: str
    name: str
    address: int
    bits: int
    element_bytes: int
    elements: int
    direction: str


class Handle:
    """Owner of a simulation's C++ object: it lives as long as anything points into it."""

    def __init__(self, library: ctypes.CDLL, address: int, owned: bool, top: str = "top"):
        self.library, self.address, self._owned, self._top = library, address, owned, top

    def __del__(self) -> None:
        if self._owned:
            record(self.library, self.address, self._top)
            self.library.nncosim_destroy(self.address)


class Stack:
    """Storage of the macros of a `nncosim.hdl.sram.SramStack` as one array of words: shape (words, items a word).

    What is written through an index reaches the macros, as with an array. A row, and a slice of the first words, is a
    view; any other selection is a copy.
    """

    def __init__(self, macros: Sequence[Words], words: int | None = None):
        self._macros = macros
        self._each = len(macros[0])
        total = sum(map(len, macros))
        self.shape = (total if words is None else min(words, total), *macros[0].shape[1:])
        self.dtype = macros[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def _places(self, index: Rows) -> Iterator[tuple[Words, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Macro, rows in it, and where these are among the selected."""
        rows = np.arange(len(self))[index]
        for number, macro in enumerate(self._macros):
            chosen = np.flatnonzero(rows // self._each == number)
            if len(chosen):
                yield macro, rows[chosen] - number * self._each, chosen

    def __getitem__(self, index: Rows | tuple[Rows, ...]) -> Any:
        if isinstance(index, tuple):
            return self[index[0]][(slice(None), *index[1:]) if np.ndim(np.arange(len(self))[index[0]]) else index[1:]]
        if isinstance(index, (int, np.integer)):
            row = range(len(self))[index]
            return self._macros[row // self._each][row % self._each]
        if isinstance(index, slice) and index.start in (None, 0) and index.step in (None, 1):
            return Stack(self._macros, len(range(len(self))[index]))
        out = np.empty((len(np.arange(len(self))[index]), *self.shape[1:]), self.dtype)
        for macro, rows, chosen in self._places(index):
            out[chosen] = macro[rows]
        return out

    def __setitem__(self, index: Rows | tuple[Rows, ...], value: npt.ArrayLike) -> None:
        if isinstance(index, tuple):
            rows = self[index[0]]
            rows[index[1:] if isinstance(index[0], (int, np.integer)) else (slice(None), *index[1:])] = value
            self[index[0]] = rows
        elif isinstance(index, (int, np.integer)):
            self[index][...] = value
        else:
            count = len(np.arange(len(self))[index])
            values = np.broadcast_to(np.asarray(value, self.dtype), (count, *self.shape[1:]))
            for macro, rows, chosen in self._places(index):
                macro[rows] = values[chosen]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Words:
        return self.copy() if dtype is None else self.copy().astype(dtype)

    def copy(self) -> Words:
        return np.concatenate(self._macros)[: len(self)]

    def tobytes(self) -> bytes:
        return self.copy().tobytes()

    def __eq__(self, other: object) -> npt.NDArray[np.bool_]:  # type: ignore[override]
        return np.asarray(self) == other

    def __ne__(self, other: object) -> npt.NDArray[np.bool_]:  # type: ignore[override]
        return np.asarray(self) != other

    __hash__ = None  # type: ignore[assignment]


class Backdoor:
    """Access to a simulation's memories and event logs, past its ports."""

    def __init__(self, handle: Handle):
        self._handle: Handle | None = handle
        self._variables = _visit(handle)

    @property
    def handle(self) -> Handle:
        """The simulation.

        Raises:
            BenchError: If it was closed.
        """
        if self._handle is None:
            raise BenchError("the simulation is closed")
        return self._handle

    @property
    def cycles(self) -> int:
        """Clock cycles simulated so far.

        A cycle counts when the evaluation of its falling edge is done. Under cocotb, those of the
        `nncosim.tb.cocotb_bench.FreeClock` that was started while no other ran; others are not counted.
        """
        return int(self.handle.library.nncosim_cycles(self.handle.address))

    @cached_property
    def memories(self) -> Mapping[str, Variable]:
        """Every memory within reach, by hierarchical name starting with the top's (``soc.l2.bank0``)."""
        ports = {entry.name for entry in self._variables if entry.scope == "TOP"}
        # The top's own scope repeats its ports; a module that was compiled by itself has its ports in a TOP of its own.
        return {entry.scope: entry for entry in self._variables
                if entry.scope.rpartition(".")[2] != "TOP" and not ("." not in entry.scope and entry.name in ports)}

    def memory(self, path: str, dtype: npt.DTypeLike | None = None) -> Words:
        """The storage of an SRAM macro as an array: writes reach the simulation, reads see its state.

        Args:
            path: Hierarchical name of the macro's instance, with or without the top's name.
            dtype: What to view a word as. A word is stored little-endian in 1, 2, 4 or 8 bytes up to 64
                bits, and in whole 32-bit words above.

        Returns:
            Shape (depth,) of the word's unsigned type, or (depth, 32-bit words) of uint32 above 64 bits. With
            `dtype`, shape (depth, items a word). Bits above the word's width must stay 0.

        Raises:
            BenchError: If there is no such memory; names those there are.
        """
        return self._array(self._find_memory(path), dtype)

    def register(self, path: str) -> Words:
        """The storage of a register that the build's `vlt` text made visible (``public_flat_rw``), as of a memory.

        To preset what would take too long to reach. A value written shows in the outputs from the next `eval` or tick.

        Args:
            path: Hierarchical name, with or without the top's name.

        Raises:
            BenchError: If there is no such variable.
        """
        for entry in self._variables:
            name = f"{entry.scope}.{entry.name}"
            if entry.scope != "TOP" and path in (name, name.partition(".")[2]):
                return self._array(entry, None)
        raise BenchError(f"register {path!r} not found: name it in the build's `vlt`")

    def _array(self, variable: Variable, dtype: npt.DTypeLike | None) -> Words:
        size = variable.elements * variable.element_bytes
        buffer = (ctypes.c_uint8 * size).from_address(variable.address)
        buffer._nncosim_owner = self.handle  # type: ignore[attr-defined]  # keeps the C++ object alive
        raw = np.frombuffer(memoryview(buffer), dtype=np.uint8).reshape(variable.elements, variable.element_bytes)
        if dtype is not None:
            return raw.view(dtype)
        if variable.element_bytes in (1, 2, 4, 8):
            return raw.view(f"<u{variable.element_bytes}").reshape(variable.elements)
        return raw.view("<u4")

    def stack(self, path: str, dtype: npt.DTypeLike | None = None) -> Stack:
        """The storage of a memory that is a macro, or macros behind each other; see `memory`.

        Raises:
            BenchError: If there is no such memory.
        """
        macros = list(itertools.takewhile(self._named.__contains__, (f"{path}.macro{k}" for k in itertools.count())))
        return Stack([self.memory(name, dtype) for name in macros or [path]])

    def poison(self, seed: int) -> None:
        """Fill every memory with random bits, so that a word read before it was written shows."""
        for path, variable in self.memories.items():
            bits = np.random.default_rng([seed, zlib.crc32(path.encode())])
            words = self.memory(path, np.uint8)
            words[:] = bits.integers(0, 256, words.shape, dtype=np.uint8)
            # The unused high bits of a word must stay 0.
            mask = ((1 << variable.bits) - 1).to_bytes(variable.element_bytes, "little")
            words &= np.frombuffer(mask, dtype=np.uint8)

    @cached_property
    def _named(self) -> Mapping[str, list[Variable]]:
        """Memories by their names with and without the top's."""
        found: dict[str, list[Variable]] = {}
        for name, variable in self.memories.items():
            for path in {name, name.partition(".")[2]}:
                found.setdefault(path, []).append(variable)
        return found

    def _find_memory(self, path: str) -> Variable:
        matches = self._named.get(path, [])
        if len(matches) != 1:
            known = ", ".join(sorted(self.memories)) or "none"
            raise BenchError(f"memory {path!r} not found; the memories are: {known}")
        return matches[0]

    def log(self, stream: int, dtype: npt.DTypeLike | None = None, clear: bool = False) -> Words:
        """The records of one event-log stream so far, as a copy.

        Args:
            stream: The number given to `nncosim_log` by the monitor.
            dtype: Type of a record, usually structured; its size must be the record's.
            clear: Whether to empty the stream afterwards.

        Returns:
            Shape (records, words) of uint32, or (records,) of `dtype`. Empty when nothing was logged.

        Raises:
            BenchError: If `dtype` has another size than the records.
        """
        library, address = self.handle.library, self.handle.address
        words = ctypes.c_uint32()
        size = library.nncosim_log_size(address, stream, ctypes.byref(words))
        data = ctypes.string_at(library.nncosim_log_data(address, stream), size * 4) if size else b""
        if clear:
            library.nncosim_log_clear(address, stream)
        if dtype is None:
            return np.frombuffer(data, dtype="<u4").reshape(-1, max(words.value, 1)).copy()
        if size and np.dtype(dtype).itemsize != words.value * 4:
            raise BenchError(f"event log stream {stream} has records of {words.value * 4} bytes, and the dtype "
                             f"asked for has {np.dtype(dtype).itemsize}")
        return np.frombuffer(data, dtype=dtype).copy()


def attach() -> Backdoor:
    """The simulation that this Python runs in.

    Raises:
        BenchError: If this process is not a simulator built by `nncosim.tb.sim.verilate`.
    """
    try:
        library = load_library(None)
    except AttributeError:
        raise BenchError("attach() works inside a cocotb test run by nncosim.tb.sim.cocotb_runner only") from None
    return Backdoor(Handle(library, library.nncosim_selected(), owned=False))


def _visit(handle: Handle) -> list[Variable]:
    found: list[Variable] = []

    def visit(pointer: "ctypes._Pointer[_CVariable]") -> None:
        entry = pointer.contents
        found.append(Variable(entry.scope.decode(), entry.name.decode(), entry.data, entry.bits,
                              entry.element_bytes, entry.elements, ("", "in", "out", "inout")[entry.direction]))

    handle.library.nncosim_visit(handle.address, _VISIT(visit))
    return found
