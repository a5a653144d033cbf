# SPDX-License-Identifier: Apache-2.0
"""Gates that are simulated many instances at a time: a design of this file, with instances in instances, memories and
paths from input to output, beside its RTL and beside the same gates as Verilog."""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.emit import Block, emit_design
from nncosim.hdl.sram import SRAM_MODULE, Sram
from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.netlist.design import GateDesign, SliceOf, gate_design, with_gates
from nncosim.tb.netlist.gates import Gates
from nncosim.tb.netlist.mapping import Part, mapped
from nncosim.tb.netlist.sliced import Slice
from nncosim.tb.netlist.twin import DIFFERENCE, DIFFERENCE_STREAM
from nncosim.tb.netlist.wrong import WrongGate
from nncosim.tb.power.account import counts_of
from nncosim.tb.sim.building import UNOPTIMIZED
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build
from nncosim.tb.timing.sta import OSU018

INSTANCES, INNER, BITS = 11, 3, 8  # lanes of two bytes, and of six in the inner ones
CYCLES = 400


class Inner(wiring.Component):
    """Adds up. No path from its inputs to its outputs."""

    def __init__(self) -> None:
        super().__init__({"add": In(1), "i": In(BITS), "o": Out(BITS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.add):
            m.d.sync += self.o.eq(self.o + self.i)
        return m


class Outer(wiring.Component):
    """Three of them, one after the other; a memory of what they give; and a path through."""

    def __init__(self) -> None:
        super().__init__({"add": In(1), "i": In(BITS), **{name: Out(BITS) for name in ("o", "read", "through")}})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inner = [Block(Inner(), "slice_inner") for _ in range(INNER)]
        for number, each in enumerate(inner):
            m.submodules[f"inner{number}"] = each
            m.d.comb += [each.add.eq(self.add), each.i.eq(self.i if not number else inner[number - 1].o ^ number)]
        m.submodules.memory = memory = Sram(16, BITS)
        at = Signal(4)
        m.d.sync += at.eq(at + 1)
        m.d.comb += [
            memory.w_en.eq(self.add), memory.w_addr.eq(at), memory.w_data.eq(inner[-1].o), memory.r_en.eq(1),
            memory.r_addr.eq(at - 3), self.read.eq(memory.r_data), self.o.eq(inner[-1].o + at),
            self.through.eq(self.i & inner[0].o),
        ]
        return m


class Top(wiring.Component):
    """Many of those."""

    def __init__(self) -> None:
        super().__init__({"add": In(INSTANCES), "i": In(INSTANCES * BITS), "o": Out(INSTANCES * 3 * BITS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        outer = [Block(Outer(), "slice_outer") for _ in range(INSTANCES)]
        for number, each in enumerate(outer):
            m.submodules[f"outer{number}"] = each
            m.d.comb += [each.add.eq(self.add[number]), each.i.eq(self.i.word_select(number, BITS))]
        m.d.comb += self.o.eq(Cat([each.o, each.read, each.through] for each in outer))
        return m


NO_MARKS, BEFORE = 2, 8
"""A stream that nothing is logged to; cycles that do not count, reset among them."""

LOGGED: list[np.ndarray] = []
"""What was recorded of differences, of each run."""


@functools.cache
def rtl() -> Mapping[str, str]:
    return {name: str(text) for name, text in emit_design(Top(), "slice_top").items()}


def gates(*slices: SliceOf, wrong: tuple[WrongGate, ...] = (), twin: bool = False) -> BuiltModel:
    """The design with both modules as gates, of which the slices are C++."""
    return built(design(*slices, wrong=wrong, twin=twin))


def design(*slices: SliceOf, wrong: tuple[WrongGate, ...] = (), twin: bool = False, marks: int | None = None
           ) -> GateDesign:
    """Its gates."""
    inner = {name: rtl()[name] for name in ("slice_inner.v",)}
    outer = {name: rtl()[name] for name in ("slice_outer.v", "slice_inner.v", f"{SRAM_MODULE}.v")}
    parts = [Part("slice_inner", inner), Part("slice_outer", outer, (SRAM_MODULE, "slice_inner"))]
    return gate_design(parts, OSU018, slices, wrong=wrong, beside=rtl() if twin else None, marks=marks)


def built(made: GateDesign) -> BuiltModel:
    """A simulation of it."""
    sources = with_gates(rtl(), made, ["slice_inner", "slice_outer"])
    return build(sources, "slice_top", cpp_sources=made.cpp, options=UNOPTIMIZED)


def outputs(built: BuiltModel, seed: int, plusargs: tuple[str, ...] = (),
            logged: dict[int, np.ndarray] | None = None) -> np.ndarray:
    """Of shape (cycles, instances, 3). logged: streams of the log whose records are wanted."""
    rng = np.random.default_rng(seed)
    seen = []
    with Model(built, seed=seed, plusargs=plusargs) as model:
        for name in model.memories:
            model.memory(name)[:] = 0
        model.reset()
        for _ in range(CYCLES):
            model.add = int.from_bytes(rng.bytes(2), "little") & ((1 << INSTANCES) - 1)
            model.i = int.from_bytes(rng.bytes(INSTANCES), "little")
            model.eval()
            seen.append(np.frombuffer(model["o"].to_bytes(3 * INSTANCES, "little"), np.uint8).reshape(INSTANCES, 3))
            model.tick()
        LOGGED.append(model.log(DIFFERENCE_STREAM, DIFFERENCE))
        if logged is not None:
            logged.update({stream: model.log(stream) for stream in logged})
    return np.array(seen)


SLICES: dict[str, tuple[SliceOf, ...]] = {
    "verilog": (),
    "outer": (SliceOf("slice_outer", INSTANCES),),
    "inner": (SliceOf("slice_inner", INSTANCES * INNER),),
    "both": (SliceOf("slice_outer", INSTANCES, ("slice_inner",)),),
}


@pytest.mark.parametrize("which", SLICES)
def test_each_output_in_each_cycle(which: str, seed: int) -> None:
    right = outputs(build(rtl(), "slice_top"), seed)
    assert all(len(np.unique(right[:, number, 0])) > 50 for number in range(INSTANCES))
    assert np.array_equal(outputs(gates(*SLICES[which]), seed), right)


@pytest.mark.parametrize("which", ["outer", "both"])
def test_a_gate_is_wrong_in_one_instance_only(which: str, seed: int) -> None:
    """Not where it is not asked for; each lane is an instance."""
    right = outputs(build(rtl(), "slice_top"), seed)
    module, lanes = ("slice_outer", range(INSTANCES)) if which == "outer" else ("slice_inner", range(8))
    simulation = gates(*SLICES[which], wrong=(WrongGate(module, first_gate(module)),))
    assert np.array_equal(outputs(simulation, seed), right)
    found = [outputs(simulation, seed, ("wrong_gate=0", f"wrong_lane={lane}")) for lane in lanes]
    differ = [(each != right).any(axis=(0, 2)) for each in found]
    assert [each.sum() for each in differ] == [1] * len(lanes)
    assert np.any(differ, axis=0).sum() == len(lanes)  # in which order, Verilator decides


def test_a_gate_is_wrong_in_one_way_only() -> None:
    gate = WrongGate("slice_outer", first_gate("slice_outer"))
    with pytest.raises(BenchError, match="wrong in two ways"):
        design(wrong=(gate, gate))


MEMORY_BITS = 1 + 1 + 4 + 4 + BITS
"""That go into the memory: enables, addresses, data."""


def outer_gates() -> Gates:
    sources = {name: rtl()[name] for name in ("slice_outer.v", "slice_inner.v", f"{SRAM_MODULE}.v")}
    part = Part("slice_outer", sources, (SRAM_MODULE, "slice_inner"))
    return mapped(part, OSU018, cell_models(OSU018))["slice_outer"]


def inner_gates() -> Gates:
    part = Part("slice_inner", {"slice_inner.v": rtl()["slice_inner.v"]})
    return mapped(part, OSU018, cell_models(OSU018))["slice_inner"]


def first_gate(module: str) -> str:
    """One that an output depends on."""
    whole = Slice(inner_gates() if module == "slice_inner" else outer_gates())
    return (whole.of_outputs or whole.of_state)[-1].name


@pytest.mark.parametrize("which", ["outer", "inner", "both"])
def test_the_first_register_that_differs(which: str, seed: int) -> None:
    """None where no gate is wrong; else the one behind it, in the cycle in which it first has another value."""
    module = "slice_inner" if which == "inner" else "slice_outer"
    made = design(*SLICES[which], wrong=(WrongGate(module, first_gate(module)),), twin=True)
    names, simulation = made.twins[module], built(made)
    registers = [name for name in names if not name.startswith(("output ", "input "))]
    assert all(registers) and len(registers) == {"slice_inner": 8, "slice_outer": 4}[module] + 24 * (which == "both")
    assert len(names) - len(registers) == {"slice_inner": 8, "slice_outer": 24 + MEMORY_BITS}[module]
    outputs(simulation, seed)
    assert len(LOGGED[-1]) == 0
    found = outputs(simulation, seed, ("wrong_gate=0",))
    (first,) = LOGGED[-1]
    assert (first["module"], first["lane"]) == (0, 0)
    assert names[first["register"]].removeprefix("output ").split(".")[-1].split("[")[0] in ("at", "o")
    right = outputs(build(rtl(), "slice_top"), seed)
    assert first["cycle"] <= np.nonzero((found != right).any(axis=(1, 2)))[0][0]


@pytest.mark.parametrize("which", ["outer", "both"])
@pytest.mark.parametrize("port", ["r_addr", "w_en"])
def test_what_goes_into_a_memory_is_held_too(which: str, port: str, seed: int) -> None:
    """The RTL takes what the gates read: no register or output of its own shows a wrong address."""
    whole = outer_gates()
    (memory,) = [child for child in whole.children if child.module == SRAM_MODULE]
    nets = {each.name: each.nets for each in memory.ports}[port]
    (cell,) = [cell for cell in whole.cells if nets[-1] in (cell.pins[pin] for pin in cell.model.outputs)]
    made = design(*SLICES[which], wrong=(WrongGate("slice_outer", cell.name),), twin=True)
    outputs(built(made), seed, ("wrong_gate=0",))
    (first,) = LOGGED[-1]
    assert made.twins["slice_outer"][first["register"]] == f"input memory.{port}[{len(nets) - 1}]"
    assert first["cycle"] <= 1


@pytest.mark.parametrize(("which", "register"), [("outer", "at[2]"), ("inner", "o[5]"), ("both", "inner1.o[5]")])
def test_registers_are_loaded_when_reset_ends(which: str, register: str, seed: int, tmp_path: Path) -> None:
    """One of one instance: from its first cycle on it is not as in the RTL, and goes on from what it was given."""
    made = design(*SLICES[which], twin=True)
    ((module, names),) = made.twins.items()
    file = tmp_path / "loaded.txt"
    file.write_text(f"{module} 3 {names.index(register)} 1\nanother 3 0 1\n")
    right, found = (outputs(built(made), seed, given) for given in ((), (f"load_registers={file}",)))
    (first,) = LOGGED[-1]
    assert (first["lane"], names[first["register"]]) == (3, register)
    assert first["cycle"] <= 1
    differ = (found != right).any(axis=2)
    assert differ.any(axis=0).sum() == 1
    assert differ[-1].any()  # sums and addresses keep the distance that they began with


def counts(which: str, seed: int, before: int = BEFORE) -> dict[tuple[str, str], list[int]]:
    """Changes of each net, of registers, and accesses, by span of a hundred cycles behind the first ones; of all
    instances together."""
    made = design(*SLICES[which], marks=NO_MARKS)
    logged = {counter.stream: np.zeros((0, 1), np.uint32) for counter in made.counters}
    given = (f"count_from={before}", "count_every=100")
    assert np.array_equal(outputs(built(made), seed, given, logged), outputs(build(rtl(), "slice_top"), seed))
    found = {}
    for counter in made.counters:
        ends, values, instances = counts_of(counter, logged[counter.stream])
        assert list(ends) == [100, 200, 300]
        assert instances == {"slice_inner": INSTANCES * INNER, "slice_outer": INSTANCES}[counter.module]
        names = [*map(str, counter.nets), *counter.groups,
                 *(f"{each.name} {way}" for each in counter.memories for way in ("read", "written"))]  # fmt: skip
        for name, column in zip(names, values.T, strict=True):
            assert (counter.module, name) not in found
            found[counter.module, name] = column.tolist()
    return found


@pytest.mark.parametrize("which", ["outer", "inner", "both"])
def test_what_changes_is_counted_however_it_is_simulated(which: str, seed: int) -> None:
    """Every net once; and as C++ that adds up all instances what Verilog counts of each. C++ counts a register when it
    is about to change, and so a cycle earlier."""
    right, ours, earlier = counts("verilog", seed), counts(which, seed), counts(which, seed, BEFORE - 1)
    in_cpp = {("slice_inner", "o")} if which != "outer" else set()
    in_cpp |= {("slice_outer", "at")} if which != "inner" else set()
    assert ours | {key: earlier[key] for key in in_cpp} == right
    assert right["slice_outer", "at"] == [100 * INSTANCES] * 3  # counts
    assert right["slice_outer", "memory read"] == [100 * INSTANCES] * 3
    written = right["slice_outer", "memory written"]
    assert all(0.3 < each / (100 * INSTANCES) < 0.7 for each in written)
    assert np.mean([any(values) for values in right.values()]) > 0.9  # but for reset, and what it leads to


def test_gates_that_count_have_no_rtl_beside_them() -> None:
    with pytest.raises(BenchError, match="no RTL beside"):
        design(*SLICES["outer"], twin=True, marks=NO_MARKS)


def test_a_path_through_a_module_inside_is_refused() -> None:
    """Gates of a module in a slice are evaluated before what they would depend on."""
    whole = {"slice_top.v": rtl()["slice_top.v"], **{name: text for name, text in rtl().items() if "outer" in name}}
    parts = [Part("slice_outer", {name: text for name, text in rtl().items() if name != "slice_top.v"}, (SRAM_MODULE,)),
             Part("slice_top", {**whole, "slice_inner.v": rtl()["slice_inner.v"],
                                f"{SRAM_MODULE}.v": rtl()[f"{SRAM_MODULE}.v"]}, ("slice_outer",))]  # fmt: skip
    with pytest.raises(BenchError, match="slice_outer: an input reaches its output"):
        gate_design(parts, OSU018, [SliceOf("slice_top", 1, ("slice_outer",))])
