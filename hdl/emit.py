# SPDX-License-Identifier: Apache-2.0
"""Amaranth to Verilog: one file per distinct block, however often the block is instantiated.

Amaranth writes one Verilog module per instance, so that a hundred equal processing elements are converted,
read and compiled a hundred times. Wrapping the element in a `Block` makes the parent instantiate a Verilog
module by name, and `emit_design` converts each such module once.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from amaranth._toolchain.yosys import YosysError, find_yosys
from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Elaboratable,
    Fragment,
    Instance,
    Module,
    ResetSignal,
    Value,
    ValueLike,
)
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from nncosim.hdl.errors import HdlError
from nncosim.hdl.names import assign_names
from nncosim.hdl.source_lines import Verilog, convert, taken_out
from nncosim.hdl.sram import SRAM_MODULE, SRAM_VERILOG

__all__ = ["Block", "emit", "emit_design", "ports_of"]


@dataclass
class _Registry:
    """The blocks met while a design is being elaborated, by Verilog module name."""

    pending: dict[str, wiring.Component] = field(default_factory=dict)
    fingerprints: dict[str, tuple[object, ...]] = field(default_factory=dict)

    def add(self, name: str, component: wiring.Component) -> None:
        """Queue `component` for conversion, or check that it equals the one already known as `name`."""
        fingerprint = _fingerprint(component)
        known = self.fingerprints.setdefault(name, fingerprint)
        if known is fingerprint:
            self.pending[name] = component
        elif known != fingerprint:
            raise HdlError(
                f"block {name!r} stands for two different components: {known} and {fingerprint}; "
                f"give each set of parameters its own module name"
            )


_active: ContextVar[_Registry | None] = ContextVar("nncosim_emit_registry", default=None)


class Block(wiring.Component):
    """A component that is emitted once, as Verilog module `module_name`, and instantiated by name.

    It has the ports of `component`. Its logic is in the `sync` domain, and in those that the component's attribute
    `clocks` names, where it has one: the parent must have these too. Elaborated
    outside `emit_design` (by Amaranth's own simulator, or for a flat netlist) it is simply `component`.

    Args:
        component: The inner component. Every parameter that shapes its hardware must be readable as an
            attribute, for it is by those that two blocks of one name are known to be equal.
        module_name: Verilog module name, unique for the component's class and parameters.
    """

    def __init__(self, component: wiring.Component, module_name: str):
        self.component = component
        self.module_name = module_name
        # Only the first of several equal components is elaborated: no warning about the others.
        component._MustUse__used = True
        super().__init__(component.signature)

    def elaborate(self, platform: object) -> Elaboratable:
        registry = _active.get()
        if registry is None:
            m = Module()
            m.submodules.inner = self.component
            wiring.connect(m, wiring.flipped(self), self.component)
            return m
        registry.add(self.module_name, self.component)
        connections: dict[str, ValueLike] = {}
        for domain in _clocks(self.component):
            clk, rst = _clock_ports(domain)
            connections |= {f"i_{clk}": ClockSignal(domain), f"i_{rst}": ResetSignal(domain, allow_reset_less=True)}
        for name, (value, direction) in _ports(self).items():
            connections[("i_" if direction is PortDirection.Input else "o_") + name] = value
        return Instance(self.module_name, **connections)


def emit(component: wiring.Component, name: str) -> Verilog:
    """Verilog of `component` as module `name`, without the modules its `Block`s stand for.

    The module has the ports of the component's signature, named as `Component.metadata` names them
    (``i__payload``, ``i__valid``...), and always `clk` and `rst` (synchronous, active high); `D_clk` and `D_rst` of
    each further domain D that its attribute `clocks` names. Its
    submodules are modules ``name.submodule``. The same component gives the same text.

    Raises:
        HdlError: If the component uses a clock domain that it does not name.
    """
    fragment = Fragment.get(component, None)
    if isinstance(fragment, Instance):  # a block that is nothing but a macro
        body = Fragment()
        body.add_subfragment(fragment, "macro")
        fragment = body
    ports: dict[str, tuple[Value, PortDirection]] = {}
    for domain in map(ClockDomain, _clocks(component)):
        fragment.add_domains(domain)
        for port, signal in zip(_clock_ports(domain.name), (domain.clk, domain.rst), strict=True):
            ports[port] = signal, PortDirection.Input
    for port, entry in _ports(component).items():
        if port in ports:
            raise HdlError(f"{name}: port {port!r} clashes with a clock or reset port ({', '.join(ports)})")
        ports[port] = entry
    design = fragment.prepare(ports, hierarchy=(name,), missing_domain=_refuse_domain(name, component))
    assign_names(design)
    text, recorded = convert(design, ports, name)
    verilog, branches, choices = taken_out(_to_verilog(text))
    return Verilog(verilog, recorded.source_lines(branches, choices))


# Passes on the way to Verilog, Amaranth's own. (Inferring enables with `opt_dff` and cleaning up gives text that is
# nicer to read, and that Verilator simulates no faster.)
_PASSES = ("proc -nomux -norom", "memory_collect")
_ATTRIBUTES = ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding")


def _to_verilog(text: str) -> str:
    """RTLIL to Verilog. Names that nobody chose begin with an underscore, which keeps them out of waveforms."""
    removed = " ".join(f"-remove {attribute}" for attribute in _ATTRIBUTES)
    text = re.sub(r"\\port\$(\d+)\$(\d+)", r"\\_port_\1_\2", text)  # Amaranth's, of nets without a name
    script = [f"read_rtlil <<rtlil\n{text}\nrtlil", *_PASSES, f"attrmap {removed}", f"attrmap -modattr {removed}",
              "write_verilog"]
    yosys = find_yosys(lambda version: version >= (0, 40))
    try:
        result = yosys.run(["-q", "-"], "\n".join(script), ignore_warnings=True)
    except YosysError:  # on a text that Amaranth wrote, it is the tool that fails, and often not again
        try:
            result = yosys.run(["-q", "-"], "\n".join(script), ignore_warnings=True)
        except YosysError as error:
            what = "Yosys failed twice on what Amaranth wrote; this is a failure of the tool, no verdict on the design"
            raise HdlError(f"{what}: {str(error)[-500:] or 'it says nothing'}") from error
    # What triggers combinational processes once, at time 0: another name that begins with a dollar.
    result = re.sub(r"\\\$auto\$\S+\$(\d+) ", r"_initial_\1 ", result)
    # The first line tells the generator's version, which is no part of the design.
    return "\n".join(line for line in result.splitlines() if not line.startswith("/* Generated by")) + "\n"


def emit_design(top: wiring.Component, name: str, without: Collection[str] = ()) -> dict[str, str]:
    """Verilog of a whole design: file name to text, each distinct `Block` converted once.

    The top is ``<name>.v``; each block is ``<module_name>.v``; the SRAM macro's model is added, as ``nncosim_sram.v``,
    when the design instantiates it. Blocks may contain blocks. The order is top first, then as met.

    Args:
        without: modules of blocks that are left out, with what only they contain.

    Raises:
        HdlError: If one module name stands for two different components, or is the top's name.
    """
    files: dict[str, str] = {}
    with _collect() as registry:
        registry.add(name, top)
        while registry.pending:
            module_name, component = next(iter(registry.pending.items()))
            del registry.pending[module_name]
            if module_name not in without:
                files[f"{module_name}.v"] = emit(component, module_name)
    if any(SRAM_MODULE in text for text in files.values()):
        files[f"{SRAM_MODULE}.v"] = SRAM_VERILOG.read_text()
    return files


@contextmanager
def _collect() -> Iterator[_Registry]:
    registry = _Registry()
    token = _active.set(registry)
    try:
        yield registry
    finally:
        _active.reset(token)


def ports_of(component: wiring.Component) -> tuple[tuple[str, int, str], ...]:
    """Name, bits and direction of each of a component's ports, as the Verilog has them."""
    component._MustUse__used = True  # who asks for no more need not elaborate it
    return tuple((name, len(value), direction.name) for name, (value, direction) in _ports(component).items())


def _ports(component: wiring.Component) -> dict[str, tuple[Value, PortDirection]]:
    """Flattened ports of a component, by the name the Verilog back end gives them."""
    ports = {}
    for path, member, value in component.signature.flatten(component):
        direction = PortDirection.Input if member.flow == In else PortDirection.Output
        ports["__".join(map(str, path))] = (Value.cast(value), direction)
    return ports


def _clocks(component: wiring.Component) -> tuple[str, ...]:
    """The clock domains of a component: `sync`, and those that it names."""
    return tuple(dict.fromkeys(("sync", *getattr(component, "clocks", ()))))


def _clock_ports(domain: str) -> tuple[str, str]:
    """Clock and reset of a domain, named as Amaranth does."""
    return ("clk", "rst") if domain == "sync" else (f"{domain}_clk", f"{domain}_rst")


def _refuse_domain(name: str, component: wiring.Component) -> Callable[[str], None]:
    def refuse(domain: str) -> None:
        known = " and ".join(map(repr, _clocks(component)))
        raise HdlError(f"{name}: clock domain {domain!r} is used; {type(component).__name__} has {known}, and further "
                       "ones only where its attribute `clocks` names them")
    return refuse


def _fingerprint(component: wiring.Component) -> tuple[object, ...]:
    """What tells two components of one module name apart: class, ports, and plain attributes."""
    plain = {key: repr(value) for key, value in vars(component).items() if _is_plain(value)}
    return (f"{type(component).__module__}.{type(component).__qualname__}", tuple(sorted(plain.items())),
            ports_of(component))


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_is_plain(item) for item in value)
    return isinstance(value, (bool, int, str, type(None))) or hasattr(type(value), "__dataclass_params__")
