# SPDX-License-Identifier: Apache-2.0
"""A bench for Amaranth's simulator on a block that is gates under Verilator."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator
from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.block import build_block
from nncosim.tb.netlist.cells import CellModel
from nncosim.tb.sim.model import Model

__all__ = ["GateContext", "simulate_gates"]

_RESET = "rst"
_Names: TypeAlias = set[str]  # `set` is a method below


class GateContext:
    """`set`, `get` and `tick` of Amaranth's simulator, of ports whose values are those of a Verilated model.

    The values stand in a simulation of nothing, which knows what shape each has and computes expressions; those of
    inputs go to the model, and those of outputs come from it, whenever an output is read after something has changed.
    """

    def __init__(self, context: Any, model: Model, ports: dict[str, Signal]):
        self._context, self._model, self._ports = context, model, ports
        self._names = {id(signal): name for name, signal in ports.items()}
        self._inputs = {name for name, (way, _) in model.ports.items() if way == "in" and name in ports}
        self._old = ports.keys() - self._inputs  # outputs that have not been taken since something changed
        self._new = _Names(self._inputs)  # inputs that have not been given since they changed

    def set(self, port: Any, value: Any) -> None:
        """An input."""
        self._context.set(port, value)
        self._new |= self._of(port) & self._inputs
        self._old = self._ports.keys() - self._inputs

    def get(self, value: Any) -> Any:
        """A port, or an expression of ports."""
        wanted = self._of(value) & self._old
        if wanted:
            self._give()
            self._model.eval()
            for name in wanted:
                self._context.set(self._ports[name], self._model[name])
            self._old = self._old - wanted
        return self._context.get(value)

    async def tick(self) -> None:
        """A rising clock."""
        self._give()
        self._model.tick()
        self._old = self._ports.keys() - self._inputs

    def _of(self, value: Any) -> _Names:
        """The ports that a value can be made of."""
        name = self._names.get(id(Value.cast(value)))
        return _Names(self._ports) if name is None else {name}

    def _give(self) -> None:
        for name in self._new:
            signal = self._ports[name]
            self._model[name] = self._context.get(signal) & ((1 << len(signal)) - 1)
        self._new = _Names()


def simulate_gates(dut: wiring.Component, bench: Callable[..., Coroutine[Any, Any, None]], reset: Signal | None = None,
                   seed: int = 1, models: Mapping[str, CellModel] | None = None) -> None:
    """As `nncosim.regress.block_bench.simulate`. Flip-flops begin with random values, and with a reset.

    reset: is the block's in place of a port; given to the bench. models: as of `nncosim.tb.netlist.block.build_block`.
    """
    name = type(dut).__name__.lower()
    built = build_block(dut, name, models=models)
    print(f"on gates: {name}")  # for who wants to know that a bench's blocks were, not only that it passed
    ports = _ports(dut)
    with Model(built, seed=seed) as model:
        if _RESET in model.ports:
            model.reset()
            ports[_RESET] = Signal(name=_RESET) if reset is None else reset
        unknown = sorted(model.ports.keys() - ports.keys() - {"clk"})
        if unknown:
            raise BenchError(f"the gates of {name} have ports that its bench cannot reach: {', '.join(unknown)}")

        async def on_gates(context: Any) -> None:
            given = GateContext(context, model, ports)
            await (bench(given) if reset is None else bench(given, reset))

        nothing = Simulator(Module())
        nothing.add_testbench(on_gates)
        nothing.run()


def _ports(dut: wiring.Component) -> dict[str, Signal]:
    """The ports as Verilog names them."""
    found = {}
    for path, _, value in dut.signature.flatten(dut):
        signal = Value.cast(value)
        assert isinstance(signal, Signal)
        found["__".join(map(str, path))] = signal
    return found
