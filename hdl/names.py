# SPDX-License-Identifier: Apache-2.0
"""Names of emitted Verilog: what a waveform viewer shows, and what it is spared.

Amaranth makes the names of a module unique in the order in which it meets the signals: the ports of submodules, which
a parent has as wires of its own, take the plain names, and the parent's own signals and its submodules become
``busy$17``. Here the order is by what a reader looks for. A name with a leading underscore is not traced.
"""

from amaranth.hdl import Fragment, Signal, Value
from amaranth.hdl._ast import SignalDict
from amaranth.hdl._ir import Design
from amaranth.lib import wiring

__all__ = ["assign_names"]

_ANONYMOUS = "_signal"


def assign_names(design: Design) -> None:
    """Give every submodule and signal of a prepared design its name.

    A module has, in this order of precedence: its ports, by their names; its submodules; its own signals. Where two
    have one name, the later is ``name_2``; what Python calls ``self._name`` is ``name``. The wires at a submodule's
    ports are ``_submodule_port`` (the submodule shows them), signals without a name ``_signal``, ``_signal_2``...
    """
    ports = SignalDict((signal, name) for name, signal, _ in design.ports if isinstance(signal, Signal))
    _assign(design, design.fragment, ports, design.hierarchy)


def _assign(design: Design, fragment: Fragment, ports: SignalDict, hierarchy: tuple[str, ...]) -> None:
    info = design.fragments[fragment]
    info.name = hierarchy
    taken = set(ports.values())
    children = [(child, _unique(taken, name or f"unnamed{index}"), _interface(child))
                for index, (child, name, _) in enumerate(fragment.subfragments)]
    wires = SignalDict((signal, f"_{name}_{port}")
                       for _, name, signals in children for signal, port in signals.items() if signal not in ports)
    # The order matters too: of several names of one net, the first drives it.
    own = [signal for signal in info.used_signals if signal not in wires and signal.name]
    info.signal_names.clear()
    for signal in own:
        name = _ANONYMOUS if signal.name.startswith("$") else signal.name.lstrip("_") or _ANONYMOUS
        info.signal_names[signal] = ports[signal] if signal in ports else _unique(taken, name)
    for signal, name in wires.items():
        if signal in info.used_signals:
            info.signal_names[signal] = _unique(taken, name)
    info.assigned_names = taken
    for child, name, signals in children:
        _assign(design, child, signals, (*hierarchy, name))


def _interface(fragment: Fragment) -> SignalDict:
    """The port signals of the component that a fragment was made from, and their names."""
    found = SignalDict()
    for origin in fragment.origins or ():
        if isinstance(origin, wiring.Component):
            for _, _, value in origin.signature.flatten(origin):
                signal = Value.cast(value)
                if isinstance(signal, Signal):
                    found[signal] = signal.name
    return found


def _unique(taken: set[str], name: str) -> str:
    """`name`, or ``name_2``, ``name_3``... if it is taken; takes it."""
    chosen, number = name, 1
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    taken.add(chosen)
    return chosen

