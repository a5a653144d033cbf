# SPDX-License-Identifier: Apache-2.0
"""The direct driver: a Verilated top as a Python object.

    >>> model = Model(build(emit_design(Counter(), "counter"), "counter"))     # doctest: +SKIP
    >>> model.enable = 1                                                       # doctest: +SKIP
    >>> model.tick(10)                                                         # doctest: +SKIP
    >>> model.count                                                            # doctest: +SKIP
    10
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
from nncosim.tb.errors import BenchError, SimulationError, SimulationTimeout, hidden
from nncosim.tb.sim.backdoor import Backdoor, Handle, Variable, load_library
from nncosim.tb.sim.verilate import BuiltModel

__all__ = ["Model", "OtherClock", "SavedState", "periods_and_phases", "reset_port"]

SLICE_CYCLES = 2048
"""Clock cycles from one look at signals to the next: some milliseconds of a block, 0.1 s of a whole SoC."""
NO_LIMIT = 1 << 63

__tracebackhide__ = hidden


OtherClock = int | tuple[int, int]
"""A further clock: its period, or period and phase, in picoseconds; see `Model`."""


class SavedState:
    """The complete state of a simulation at one moment; good for models of the same build with the same clocks."""

    def __init__(self, key: str, data: bytes):
        self.key, self.data = key, data


_Cell: TypeAlias = "ctypes.c_uint8 | ctypes.c_uint16 | ctypes.c_uint32 | ctypes.c_uint64"


class _Port:
    """One port of the top: an unsigned integer of `bits` bits."""

    def __init__(self, variable: Variable, handle: Handle):
        self.name, self.bits, self.direction = variable.name, variable.bits, variable.direction
        self.address, self.element_bytes = variable.address, variable.element_bytes
        kinds: dict[int, type[_Cell]] = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}
        kind = kinds.get(self.element_bytes)
        self.cell = kind.from_address(self.address) if kind else None
        self.buffer = (ctypes.c_uint8 * self.element_bytes).from_address(self.address)
        self.limit = 1 << self.bits
        self.can_be_clock = self.bits == 1 and self.direction != "out"
        self._owner = handle

    def read(self) -> int:
        if self.cell is not None:
            return int(self.cell.value)
        return int.from_bytes(bytes(self.buffer), "little")

    def write(self, value: int) -> None:
        if not 0 <= value < self.limit:
            raise BenchError(f"port {self.name!r} has {self.bits} bits and holds 0 to {self.limit - 1}, not {value}")
        if self.cell is not None:
            self.cell.value = value
        else:
            self.buffer[:] = list(value.to_bytes(self.element_bytes, "little"))


class Model(Backdoor):
    """A running simulation, driven from Python.

    Ports are attributes, and items for names that Python or this class takes: ``model.start = 1``,
    ``model["i__payload"]``. Values are unsigned integers of any width. An input takes effect at once on
    combinational outputs (they are evaluated when next read), and on registers at the next `tick`. All inputs are
    0 at first.

    Args:
        built: The simulation, from `nncosim.tb.sim.verilate.build`.
        seed: Of the unknown values (memories after power-up) of builds with x_initial or x_assign "unique".
        clock: The port that `tick` drives; None for a design without one.
        period_ps: Clock period in waveforms and `$time`, picoseconds.
        other_clocks: Further clock ports and their periods in picoseconds, an even number; or (period, phase). They
            run by themselves while `tick` drives `clock`, and first rise `phase` picoseconds after it does; without
            one, together with it.
        plusargs: For `$value$plusargs`, without the plus sign.
        limit_cycles: Clock cycles after which `tick` and `run_until` refuse to go on; None for no limit.
        watch: Called with the cycle count, some times a second while the simulation runs.

    Raises:
        BenchError: If there is no such clock port, or a period or phase that cannot be.
    """

    built: BuiltModel
    clock: str | None
    _ports: dict[str, _Port]
    _dirty: bool
    _other_clocks: dict[str, tuple[int, int]]
    _state_key: str
    _cycles_left: int
    _limit_cycles: int | None
    _watch: Callable[[int], None] | None

    def __init__(self, built: BuiltModel, *, seed: int = 1, clock: str | None = "clk", period_ps: int = 10_000,
                 other_clocks: Mapping[str, OtherClock] | None = None, plusargs: Sequence[str] = (),
                 limit_cycles: int | None = None, watch: Callable[[int], None] | None = None):
        library = load_library(built.library)
        arguments = [built.top, *runtime_arguments(seed), *(f"+{argument}" for argument in plusargs)]
        array = (ctypes.c_char_p * len(arguments))(*(argument.encode() for argument in arguments))
        address = library.nncosim_create(len(arguments), array, (clock or "").encode(), period_ps // 2)
        self._ports = {}
        self._dirty = True
        self._cycles_left = NO_LIMIT if limit_cycles is None else limit_cycles
        self._limit_cycles, self._watch = limit_cycles, watch
        super().__setattr__("built", built)  # a plain assignment would look for a port
        super().__setattr__("clock", clock)
        super().__init__(Handle(library, address, owned=True, top=built.top))
        self._ports.update({variable.name: _Port(variable, self.handle) for variable in self._variables
                            if variable.scope == "TOP"})
        if clock is not None and (clock not in self._ports or not self._ports[clock].can_be_clock):
            found = ", ".join(self._ports) or "none"  # closing forgets them
            self.close()
            raise BenchError(f"{built.top!r} has no one-bit clock port {clock!r}; ports: {found}; give clock=NAME, or "
                             "clock=None for a block without one")
        self._other_clocks = periods_and_phases(other_clocks or {})
        self._state_key = f"{built.key} {self._other_clocks}"
        for name, (period, phase) in self._other_clocks.items():
            fits = period >= 2 and period % 2 == 0 and phase >= 0 and name != clock
            if not fits or not self._call("add_clock", name.encode(), period // 2, phase):
                found = ", ".join(self._ports)
                self.close()
                raise BenchError(f"{built.top!r}: clock {name!r} of {period} ps, {phase} ps late: expected a one-bit "
                                 f"port of {found}, and an even number of picoseconds from 2 on")
        self._check()

    # Ports

    @property
    def ports(self) -> Mapping[str, tuple[str, int]]:
        """Name to (direction "in" or "out", bits) of every port of the top."""
        return {port.name: (port.direction, port.bits) for port in self._ports.values()}

    def _port(self, name: str) -> _Port:
        try:
            return self._ports[name]
        except KeyError:
            raise BenchError(f"{self.built.top!r} has no port {name!r}; ports: {', '.join(self._ports)}") from None

    def __getitem__(self, name: str) -> int:
        port = self._port(name)
        if self._dirty:
            self.eval()
        return port.read()

    def __setitem__(self, name: str, value: int) -> None:
        port = self._port(name)
        if port.direction != "in":
            raise BenchError(f"port {name!r} of {self.built.top!r} is an output and cannot be set")
        if isinstance(value, float | np.floating | str):  # which int() would cut off, or read
            raise BenchError(f"port {name!r} of {self.built.top!r} takes an integer, not {value!r}")
        port.write(int(value))
        self._dirty = True

    def __getattr__(self, name: str) -> int:
        # Reached for names that are no ordinary attribute.
        if name.startswith("__") or "_ports" not in self.__dict__ or name not in self._ports:
            raise AttributeError(f"{type(self).__name__} has no attribute or port {name!r}")
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__ or hasattr(type(self), name) or name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self[name] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._ports)

    # Time

    def eval(self) -> None:
        """Let combinational logic settle without a clock edge.

        Raises:
            SimulationError: If an assertion fails or the logic does not settle.
        """
        self._call("eval")
        self._dirty = False
        self._check()

    def tick(self, count: int = 1) -> int:
        """Run `count` clock cycles; returns how many were run, fewer after `$finish`. Ctrl-C interrupts it.

        Raises:
            SimulationError: If the simulation stops on an error.
            SimulationTimeout: If the model has run its `limit_cycles`.
            BenchError: If the count is negative.
        """
        if count < 0:
            raise BenchError(f"tick: {count} clock cycles cannot be run; give 0 or more")
        return self._in_slices(count, lambda cycles: self._call("tick", cycles), lambda: False)

    def _in_slices(self, count: int, run: Callable[[int], int], reached: Callable[[], bool]) -> int:
        """Up to `count` cycles, a slice at a time: in between Python sees to signals. Returns how many were run."""
        done = 0
        while True:
            wanted = min(count - done, SLICE_CYCLES, self._cycles_left)
            ran = int(run(wanted))
            done += ran
            self._cycles_left -= ran
            self._dirty = False
            self._check()
            if self._watch is not None:
                self._watch(self.cycles)
            if ran < wanted or done == count or reached():
                return done
            if not self._cycles_left:
                raise SimulationTimeout(f"{self.built.top!r} has run the {self._limit_cycles} clock cycles that it may "
                                        f"(limit_cycles, or --limit-cycles of pytest) without its bench coming to an "
                                        f"end; it is at cycle {self.cycles}")

    def run_until(self, port: str, value: int = 1, max_cycles: int = 1_000_000) -> int:
        """Run until `port` (at most 64 bits) equals `value`; returns the cycles it took, 0 if it did already.

        Raises:
            SimulationTimeout: If it does not within `max_cycles`.
            SimulationError: If the simulation stops first.
            BenchError: If the port is wider than 64 bits.
        """
        target = self._port(port)
        if target.cell is None:
            raise BenchError(f"run_until: port {port!r} has {target.bits} bits; at most 64 can be waited for")
        done = self._in_slices(
            max_cycles,
            lambda cycles: self._call("run_until", target.address, target.element_bytes, value, cycles),
            lambda: target.read() == value,
        )
        if target.read() != value:
            if self.finished:
                raise SimulationError(f"{self.built.top!r} ended by $finish before {port} became {value}")
            raise SimulationTimeout(f"{self.built.top!r}: {port} did not become {value} within {max_cycles} cycles; "
                                    f"it is {target.read()} at cycle {self.cycles}")
        return done

    @property
    def finished(self) -> bool:
        """Whether the design executed `$finish`."""
        return bool(self._call("finished"))

    def reset(self, port: str = "rst", cycles: int = 2) -> None:
        """Hold the synchronous reset for `cycles` cycles, with those of the other clocks (`X_rst` of `X_clk`)."""
        ports = (port, *(name for name in map(reset_port, self._other_clocks) if name in self._ports))
        for name in ports:
            self[name] = 1
        self.eval()  # what rises with the reset does so before the clock
        self.tick(cycles)
        for name in ports:
            self[name] = 0

    # Waveforms and state

    def trace(self, path: str | Path, *, depth: int = 99, start: int = 0, stop: int | None = None,
              when: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Write a waveform to `path`, of the cycles from `start` up to and without `stop`.

        Args:
            path: The file; its format is the one of the build.
            depth: How many levels of the hierarchy.
            start, stop: Clock cycles since the model was made.
            when: Port (at most 64 bits) to (low, high): only cycles in which low <= port < high, for all of them.

        Raises:
            BenchError: If the model was built without `trace=`, the file cannot be written, or a port cannot be used.
        """
        if self.built.options.trace is None:
            raise BenchError(f"{self.built.top!r} was built without waveforms; build it with trace='vcd' or 'fst'")
        for name in when or {}:
            if self._port(name).cell is None:
                raise BenchError(f"trace: port {name!r} has {self._port(name).bits} bits; at most 64 can be compared")
        until = (1 << 64) - 1 if stop is None else stop
        if not self._call("trace_on", str(path).encode(), depth, start, until, trace_conditions(when).encode()):
            raise BenchError(f"cannot write the waveform file {path}")

    def trace_off(self) -> None:
        """End the waveform; the file is complete afterwards."""
        self._call("trace_off")

    def save(self) -> SavedState:
        """The state of every register and memory, the cycle count and the time; not the event logs, nor what coverage
        has counted."""
        data = ctypes.c_void_p()
        size = self._call("save", ctypes.byref(data))
        return SavedState(self._state_key, ctypes.string_at(data, size))

    def restore(self, state: SavedState) -> None:
        """Go back to a saved state, of this or another model of the same build.

        Raises:
            BenchError: If the state comes from another build.
        """
        if state.key != self._state_key:
            raise BenchError(f"the saved state belongs to another build than this of {self.built.top!r}, or to a model "
                             "with other clocks")
        self._call("restore", state.data, len(state.data))
        self._dirty = True
        self._check()

    # Life

    def close(self) -> None:
        """End the simulation. Memory arrays handed out stay readable; everything else refuses."""
        if self.__dict__.get("_handle") is not None:
            self.trace_off()
            self._ports.clear()
            self._handle = None

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _call(self, name: str, *arguments: Any) -> Any:
        handle = self.handle
        return getattr(handle.library, f"nncosim_{name}")(handle.address, *arguments)

    def _check(self) -> None:
        message = self._call("error")
        if message:
            raise SimulationError(f"{self.built.top!r} stopped at cycle {self.cycles}: {message.decode()}")


def periods_and_phases(clocks: Mapping[str, OtherClock]) -> dict[str, tuple[int, int]]:
    """Period and phase of each; a phase that is not given is 0."""
    return {name: clock if isinstance(clock, tuple) else (clock, 0) for name, clock in clocks.items()}


def reset_port(clock: str) -> str:
    """The synchronous reset that goes with a clock port: `rst` of `clk`, `X_rst` of `X_clk`."""
    return f"{clock.removesuffix('clk')}rst"


def trace_conditions(when: Mapping[str, tuple[int, int]] | None) -> str:
    """Conditions on ports as the shim reads them."""
    return ",".join(f"{port}:{low}:{high}" for port, (low, high) in (when or {}).items())


def runtime_arguments(seed: int) -> list[str]:
    """Command-line arguments of the Verilator runtime: random unknowns from `seed`."""
    # Verilator takes a seed of 31 bits, and 0 would mean one from the system's clock.
    return ["+verilator+rand+reset+2", f"+verilator+seed+{seed % 0x7FFFFFFE + 1}"]
