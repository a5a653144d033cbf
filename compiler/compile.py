# SPDX-License-Identifier: Apache-2.0
"""The compiler's front door: a network and a platform in, an image out; or a report of what does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nncosim.compiler.axes import in_axes_of
from nncosim.compiler.backends import AnyBackend, Candidate, HasAudit, HasRelax, HasRoom, Lowered, backend_for
from nncosim.compiler.errors import CompileError, ModelError, Problem
from nncosim.compiler.image.image import Image
from nncosim.compiler.ir.network import Network, Op, Proof
from nncosim.compiler.pipeline import Pass, State, run_passes
from nncosim.compiler.placement.placement import (
    MemoryUse,
    Placement,
    PlacementError,
    conflicts,
    constants_fit,
    overlaps,
    place,
)
from nncosim.compiler.placement.room import check_room
from nncosim.compiler.proof.caps import RequantCaps
from nncosim.compiler.proof.requantization import prove, require_exact
from nncosim.kernels.base import KernelError
from nncosim.platforms.base import Platform

__all__ = ["PASSES", "CheckResult", "Compiled", "check_network", "compile_network", "prove_network"]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled network. `network` has its requantization proved; `memory` is the memory table.

    kernels: the kernel of each operator, by their names.
    """

    network: Network
    platform: Platform
    image: Image
    lowered: Lowered
    placement: Placement
    kernels: Mapping[str, str]

    @property
    def memory(self) -> tuple[MemoryUse, ...]:
        return self.placement.table

    @property
    def iss_cycles(self) -> int:
        """By the back end's cycle model of the linked image, where it has one; else by the schedule's tasks."""
        return self.image.notes.cycles.best


@dataclass(frozen=True, eq=False)
class CheckResult:
    """`problems` is empty if the network compiles; then `compiled` is there."""

    problems: tuple[Problem, ...]
    compiled: Compiled | None = None

    @property
    def memory(self) -> tuple[MemoryUse, ...]:
        return self.compiled.memory if self.compiled else ()


def _legalize(state: State) -> State:
    platform, backend = state.platform, state.backend
    network = in_axes_of(platform, state.network)  # back ends need not look at axes that they do not know
    found = list(backend.problems(network, platform))
    for op in network.ops:
        found.extend(backend.candidates(op, network, platform)[1])
    if found:
        raise ModelError(network.name, found)
    return replace(state, network=network)


def _fit(state: State) -> State:
    """Refuse at once what cannot fit; what is left is placed, or refused, when its buffers are known."""
    if isinstance(state.backend, HasRoom):
        check_room(state.network, state.platform, state.backend.room(state.network, state.platform))
    return state


def _cheapest(state: State, op: Op, caps: RequantCaps | None = None) -> Candidate:
    """Of all candidates, or of those with the same `caps`."""
    found, reasons = state.backend.candidates(op, state.network, state.platform)
    fitting = [c for c in found if caps is None or c.caps == caps]
    if not fitting:
        lost = Problem(op.name, op.kind, "has no candidate left that requantizes as its proof assumes")
        raise ModelError(state.network.name, reasons or (lost,))
    return min(fitting, key=lambda c: c.cost.best)


def _assign(state: State) -> State:
    return replace(state, choice={op.name: _cheapest(state, op) for op in state.network.ops})


def _check_assigned(state: State) -> list[str]:
    engines = {engine.name for engine in state.platform.engines}
    return [f"operator {name!r} is on engine {c.engine!r}, which does not exist"
            for name, c in state.choice.items() if c.engine not in engines]  # fmt: skip


def _prove(state: State) -> State:
    """Each operator with what its candidate can do."""
    caps = {name: candidate.caps for name, candidate in state.choice.items()}
    network = prove(state.network, caps, keep=True)
    require_exact(network)
    return replace(state, network=network)


def _check_proved(state: State) -> list[str]:
    return [
        f"operator {op.name!r} has no integer requantization"
        for op in state.network.ops
        if op.requantized and op.requant is None
    ]


def _settle(state: State) -> State:
    """Costs may need the proof, and an operator may have become another one: the proof holds for every candidate with
    these caps, and the cheapest of them is taken."""
    choice = {op.name: _cheapest(state, op, state.choice[op.name].caps) for op in state.network.ops}
    return replace(state, choice=choice)


def _judge(state: State) -> State:
    """The proofs say what the chosen kernels make of the operators."""
    ops = []
    for op in state.network.ops:
        found = state.choice[op.name].kernel.deviation(op, state.network, state.platform)
        channels = state.network.tensors[op.output].channels
        proof = op.proof if op.proof is not None or not found else Proof(True, channels, channels)
        ops.append(op if proof is None else replace(op, proof=replace(proof, deviation=found)))
    network = state.network.with_ops(tuple(ops))
    require_exact(network)
    return replace(state, network=network)


def _lower(state: State) -> State:
    return replace(state, lowered=state.backend.lower(state.network, state.platform, state.choice))


def _lowered(state: State) -> Lowered:
    if state.lowered is None:
        raise CompileError("the network has not been lowered")
    return state.lowered


def _check_lowered(state: State) -> list[str]:
    lowered = _lowered(state)
    counts = Counter(b.name for b in lowered.buffers)
    placed = [name for name in state.network.tensors if name not in lowered.inside]
    wrong = [f"tensor {name!r} has no buffer" for name in placed if name not in counts]
    wrong += [f"two buffers are named {name!r}; rename that tensor or operator" for name, n in counts.items() if n > 1]
    outside = {b.name for b in lowered.buffers if b.content is not None or b.from_start}
    lowered.schedule.check_dataflow(outside)
    return wrong + _check_reach(lowered, state.platform)


def _check_reach(lowered: Lowered, platform: Platform) -> list[str]:
    """Tasks on engines that do not exist, or that use a buffer which their engine does not reach."""
    engines = {engine.name: engine for engine in platform.engines}
    where = {b.name: b.where for b in lowered.buffers}
    wrong = []
    for task in lowered.schedule.tasks:
        engine, count = engines.get(task.engine), len(platform.instance_names(task.engine))
        wrong += [f"task {task.name!r} is on instance {i} of engine {task.engine!r}, of which there are {count}"
                  for i in task.instances if not 0 <= i < count]  # fmt: skip
        if engine is None or wrong:
            continue
        for name in (*task.reads, *task.writes):
            if name in where and not all(engine.reached(i, where[name]) for i in task.instances):
                wrong.append(f"task {task.name!r} uses {name!r} in {where[name]}, which its engine does not reach")
    return wrong


def _place(state: State) -> State:
    """Placed as it was lowered; if that does not fit, as the back end relaxes it, again and again. What is reported in
    the end is why the first did not fit."""
    lowered, first = _lowered(state), None
    while True:
        try:
            found = place(lowered.buffers, state.platform.memories, lowered.schedule, lowered.lives)
            return replace(state, lowered=lowered, placement=found)
        except PlacementError as error:
            first = first or error
            if not constants_fit(lowered.buffers, state.platform.memories):
                raise first from None
            other = state.backend.relax(lowered, error) if isinstance(state.backend, HasRelax) else None
            if other is None:
                raise first from None
            lowered = other


def _check_placed(state: State) -> list[str]:
    lowered = _lowered(state)
    assert state.placement is not None
    pairs = conflicts(lowered.buffers, lowered.schedule)
    found = overlaps(state.placement, lowered.buffers, pairs, lowered.lives)
    return [*_check_lowered(state), *(f"{a!r} and {b!r} overlap" for a, b in found)]


def _link(state: State) -> State:
    assert state.placement is not None
    image = state.backend.link(state.network, state.platform, _lowered(state), state.placement)
    return replace(state, image=image)


def _check_linked(state: State) -> list[str]:
    assert state.image is not None
    known = state.image.tiles
    wrong = state.backend.audit(state.image, state.platform) if isinstance(state.backend, HasAudit) else ""
    missing = [name for name in state.network.tensors if name not in known]
    return [*filter(None, [wrong]), *(f"tensor {name!r} is not in the tile table" for name in missing)]


def _nothing(state: State) -> list[str]:
    return []


def _show_network(state: State) -> str:
    lines = [f"{t} {t.type}" for t in state.network.tensors.values()]
    lines += [f"{op.kind} {op.name}: {', '.join(op.inputs)} -> {op.output}; {op.proof}" for op in state.network.ops]
    return "\n".join(lines) + "\n"


def _show_choice(state: State) -> str:
    return "".join(f"{name}: {c.kernel.name} on {c.engine}, {c.cost}\n" for name, c in state.choice.items())


def _show_tasks(state: State) -> str:
    return "".join(f"{task}\n" for task in _lowered(state).schedule.tasks)


def _show_places(state: State) -> str:
    assert state.placement is not None
    sizes = {b.name: (b.memory, b.size, b.kind) for b in _lowered(state).buffers}
    rows = sorted((sizes[name][0], at, name) for name, at in state.placement.address.items())
    return "".join(f"{memory} {at:#010x} {sizes[n][1]:9} {sizes[n][2]} {n}\n" for memory, at, n in rows)


PASSES: tuple[Pass, ...] = (
    Pass("legalize", _legalize, _nothing, _show_network),
    Pass("fit", _fit, _nothing),
    Pass("assign", _assign, _check_assigned, _show_choice),
    Pass("prove", _prove, _check_proved, _show_network),
    Pass("settle", _settle, _check_assigned, _show_choice),
    Pass("judge", _judge, _nothing),
    Pass("lower", _lower, _check_lowered, _show_tasks),
    Pass("place", _place, _check_placed, _show_places),
    Pass("link", _link, _check_linked),
)


def prove_network(network: Network, platform: Platform) -> Network:
    """The network as compiling it for the platform proves it, without a look at what fits.

    Raises:
        CompileError: operators that the platform has no kernel for, or cannot requantize.
    """
    passes = tuple(step for step in PASSES if step.name in ("legalize", "assign", "prove"))
    return run_passes(passes, State(network, platform, backend_for(platform))).network


def compile_network(
    network: Network, platform: Platform, dump: Path | None = None, progress: Callable[[str], None] | None = None,
    *, backend: AnyBackend | None = None,
) -> Compiled:
    """Compile for a platform. Same network, platform and version: same image bytes.

    Args:
        dump: a folder that gets one text file per pass.
        progress: called with the name of each pass.
        backend: another back end than the platform's own, or that one with options.

    Raises:
        CompileError, PlacementError: what does not fit, where, and what would help.
    """
    state = run_passes(PASSES, State(network, platform, backend or backend_for(platform)), dump, progress)
    assert state.image is not None and state.placement is not None
    kernels = {name: candidate.kernel.name for name, candidate in state.choice.items()}
    return Compiled(state.network, platform, state.image, _lowered(state), state.placement, kernels)


def check_network(network: Network, platform: Platform, backend: AnyBackend | None = None) -> CheckResult:
    """Whether a network compiles: all problems at once, and the memory table if there are none. backend: as of
    `compile_network`."""
    try:
        return CheckResult((), compile_network(network, platform, backend=backend))
    except ModelError as error:
        return CheckResult(error.problems)
    except (CompileError, KernelError) as error:
        return CheckResult((Problem(network.name, "", str(error)),))
