# SPDX-License-Identifier: Apache-2.0
"""Vectors replayed on a module in Icarus Verilog, at any period of the clock: RTL, gates, gates with delays.

The clock is ideal. An edge's inputs come `Ports.input_delay` after the edge before it, and outputs are looked at
`Ports.output_delay` before the edge, as the module's neighbours would.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.icarus import icarus_command
from nncosim.tb.netlist.recorded import CLOCK, RESET, Vectors, random_values
from nncosim.tb.netlist.verilog import identifier

__all__ = ["PortTimes", "Replay", "Rows", "Seen", "bit_rows", "random_vectors", "rows_to_vectors"]

Rows = npt.NDArray[np.uint8]
"""A row an edge, a column a bit, each an ASCII "0", "1", "x" or "z"; of a port the highest bit first."""

_SETTLE = 1000.0  # ns before the first edge
_TOP = "replay_top"
_LOAD = 4  # edges


@dataclass(frozen=True)
class PortTimes:
    """In ns: when inputs come after an edge, and how long before the next one outputs are taken."""

    input_delay: float
    output_delay: float


@dataclass(frozen=True)
class Seen:
    """What came out at each edge. probes: of what is inside, a column each."""

    outputs: Rows
    probes: Rows


def bit_rows(values: Mapping[str, np.ndarray], bits: Mapping[str, int]) -> Rows:
    """Values of ports, side by side."""
    columns = []
    for port, found in values.items():
        text = "".join(format(int(value), f"0{bits[port]}b") for value in found)
        columns.append(np.frombuffer(text.encode(), np.uint8).reshape(len(found), bits[port]))
    return np.concatenate(columns, axis=1)


def rows_to_vectors(vectors: Vectors, rows: Rows, name: str) -> Vectors:
    """The vectors with other outputs, all bits of which are known.

    Raises:
        BenchError: a bit is x or z.
    """
    if not np.isin(rows, np.frombuffer(b"01", np.uint8)).all():
        raise BenchError(f"{name}: an output is unknown")
    outputs: dict[str, np.ndarray] = {}
    at = 0
    for port in vectors.outputs:
        width = vectors.bits[port]
        texts = (row.tobytes() for row in np.ascontiguousarray(rows[:, at:at + width]))
        kind: type = np.uint64 if width <= 64 else object
        outputs[port], at = np.array([int(text, 2) for text in texts], kind), at + width
    return replace(vectors, name=name, outputs=outputs)


def random_vectors(sources: Iterable[str], module: str, after: Vectors, edges: int, seed: int,
                   registers: Iterable[str] = ()) -> Vectors:
    """Vectors, then so many edges whose inputs are random but for reset, with the outputs that RTL gives.

    Args:
        sources: the RTL of `module`.
        registers: bits, ``path.register[index]``, that take values at every `_LOAD`-th of these edges: a register has
            ones up to some bit, a zero there, and random bits above, so that what is added to it goes far. Those in
            submodules, or with a dot in their names, are left as they are.

    Raises:
        BenchError: the RTL does not do what the vectors say, or gives unknown bits, or Icarus Verilog refuses it.
    """
    random = np.random.default_rng(seed)
    inputs = {}
    for port, values in after.inputs.items():
        drawn = np.zeros(edges, values.dtype) if port == RESET else random_values(random, after.bits[port], edges)
        inputs[port] = np.concatenate([values, drawn])
    nothing = {port: np.zeros(len(after) + edges, values.dtype) for port, values in after.outputs.items()}
    words: dict[str, list[str]] = {}
    for bit in filter(re.compile(r"[A-Za-z_]\w*(\[\d+\])?").fullmatch, registers):
        words.setdefault(re.sub(r"\[\d+\]$", "", bit), []).append(bit)
    loads = {edge: dict(_far(words.values(), random)) for edge in range(len(after), len(after) + edges, _LOAD) if words}
    asked = Vectors(f"{after.name}, then random", after.bits, inputs, nothing, {**after.loads, **loads})
    with tempfile.TemporaryDirectory(prefix="nncosim-") as folder:
        seen = Replay(Path(folder), sources, module, asked).run(100.0, PortTimes(1.0, 1.0)).outputs
    if not np.array_equal(seen[:len(after)], bit_rows(after.outputs, after.bits)):
        raise BenchError(f"the RTL of {module} does not do what the vectors of {after.name} say")
    return rows_to_vectors(asked, seen, asked.name)


def _far(words: Iterable[Sequence[str]], random: np.random.Generator) -> Iterator[tuple[str, int]]:
    for bits in words:
        ones = int(random.integers(len(bits)))
        for place, bit in enumerate(sorted(bits, key=lambda bit: (len(bit), bit))):
            yield bit, int(place < ones or (place > ones and random.integers(2)))


class Replay:
    """A module under a bench, compiled; for vectors with the ports and as many rows as those it was made with.

    Args:
        folder: where everything is written.
        sources: the module's Verilog, with all it needs.
        module: its name. clocked: whether it has the port of the clock.
        split: whether its ports are of one bit each, ``name_index``, as `nncosim.tb.timing.netlist.Netlist` has them.
        probes: names inside, each of one bit, below the module.
        wires: port of one bit to the delay of the wire to it, rising and falling, in ns, of outputs that have one.
        registers: bit of a register to its name inside, below the module, if it is another; for `Vectors.loads`.
        standard: of the language, by its year: 2005 is Verilog, 2012 SystemVerilog.

    Raises:
        ToolError: there is no Icarus Verilog. BenchError: it refuses the Verilog.
    """

    def __init__(self, folder: Path, sources: Iterable[str], module: str, vectors: Vectors, *, split: bool = False,
                 probes: Sequence[str] = (), clocked: bool = True, registers: Mapping[str, str] | None = None,
                 wires: Mapping[str, tuple[float, float]] | None = None, standard: str = "2005"):
        command = icarus_command()
        self._folder, self._vectors, self._probes = folder, vectors, len(probes)
        np.savetxt(folder / "inputs.txt", np.ascontiguousarray(bit_rows(vectors.inputs, vectors.bits)).view("S1")
                   .astype(str), fmt="%s", delimiter="")  # fmt: skip
        bench = _bench(module, vectors, split, probes, clocked, registers or {}, wires or {})
        # The modules have no time scale of their own: that of the bench, which comes first, is theirs too.
        (folder / "replay.v").write_text("\n".join([*bench, *sources]) + "\n")
        made = subprocess.run([command, f"-g{standard}", "-o", "replay.vvp", "-s", _TOP, "replay.v"], cwd=folder,
                              capture_output=True, text=True)  # fmt: skip
        if made.returncode:
            raise BenchError(f"Icarus Verilog refuses {module!r}:\n{made.stderr[-2000:]}")

    def run(self, period: float, times: PortTimes) -> Seen:
        """Replay with a clock period in ns."""
        numbers = {"period": period, "input_delay": times.input_delay, "output_delay": times.output_delay}
        done = subprocess.run(["vvp", "-n", "replay.vvp", *(f"+{name}={value:.6f}" for name, value in numbers.items())],
                              cwd=self._folder, capture_output=True, text=True)  # fmt: skip
        if done.returncode:
            raise BenchError(f"Icarus Verilog ends with status {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
        data = np.frombuffer((self._folder / "outputs.txt").read_bytes(), np.uint8)
        if np.count_nonzero(data == ord("\n")) != len(self._vectors) or len(data) % len(self._vectors):
            raise BenchError(f"the bench in {self._folder} ended before its last edge:\n{done.stdout[-2000:]}")
        rows = data.reshape(len(self._vectors), -1)[:, :-1]
        width = rows.shape[1] - self._probes
        return Seen(rows[:, :width], rows[:, width:])


def _bench(module: str, vectors: Vectors, split: bool, probes: Sequence[str], clocked: bool,
           registers: Mapping[str, str], wires: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    widths = [sum(vectors.bits[port] for port in ports) for ports in (vectors.inputs, vectors.outputs)]
    yield "`timescale 1ns/1fs"
    yield f"module {_TOP};"
    yield f"  reg [{widths[0] - 1}:0] rows [0:{len(vectors) - 1}];"
    yield f"  reg [{widths[0] - 1}:0] row;"
    yield f"  wire [{widths[1] - 1}:0] left, out;"
    yield "  reg clock = 0;"
    yield "  real period, input_delay, output_delay;"
    yield "  integer k, file;"
    yield f"  {identifier(module)} dut ("
    yield ",\n".join([*([f"    .{CLOCK}{'_0' * split}(clock)"] if clocked else []),
                      *_wired(vectors.inputs, vectors.bits, "row", split),
                      *_wired(vectors.outputs, vectors.bits, "left", split)]) + ");"  # fmt: skip
    places = [f"{port}_{k}" for port in vectors.outputs for k in reversed(range(vectors.bits[port]))]
    for place, bit in zip(reversed(range(widths[1])), places, strict=True):
        rise, fall = wires.get(bit, (0.0, 0.0))
        yield f"  assign {f'#({rise:.6f}, {fall:.6f}) ' if rise or fall else ''}out[{place}] = left[{place}];"
    yield "  initial begin"
    for name in ("period", "input_delay", "output_delay"):
        yield f'    if (!$value$plusargs("{name}=%f", {name})) $finish;'
    yield '    $readmemb("inputs.txt", rows);'
    yield '    file = $fopen("outputs.txt", "w");'
    yield f"    row = rows[0]; #{_SETTLE};"
    yield f"    for (k = 0; k < {len(vectors)}; k = k + 1) begin"
    shown = ",\n        ".join(["out", *(f"dut.{probe}" for probe in probes)])
    yield f"      $fdisplayb(file, {{{shown}}});"
    yield "      #(output_delay) clock = 1;"
    yield "      clock <= #(period / 2) 0;"
    yield f"      if (k < {len(vectors) - 1}) row <= #(input_delay) rows[k + 1];"
    if vectors.loads:
        yield "      #0 case (k)"  # after the registers' own, which are not taken over before all is done at this time
        for edge, bits in vectors.loads.items():
            names = (registers.get(bit) or re.sub(r"^[^\[]+", r"\\\g<0> ", bit) for bit in bits)
            taken = (f"dut.{name} <= {value};" for name, value in zip(names, bits.values(), strict=True))
            yield f"        {edge}: begin {' '.join(taken)} end"
        yield "      endcase"
    yield "      #(period - output_delay);"
    yield "    end"
    yield "    $fclose(file);"
    yield "    $finish;"
    yield "  end"
    yield "endmodule"


def _wired(ports: Iterable[str], bits: Mapping[str, int], name: str, split: bool) -> Iterator[str]:
    """The ports on parts of a vector, the first port highest; their names escaped, for some are words of Verilog."""
    at = sum(bits[port] for port in ports)
    for port in ports:
        at -= bits[port]
        if split:
            yield from (f"    .{port}_{k}({name}[{at + k}])" for k in range(bits[port]))
        else:
            yield f"    .\\{port} ({name}[{at + bits[port] - 1}:{at}])"
