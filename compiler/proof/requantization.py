# SPDX-License-Identifier: Apache-2.0
"""The requantization proof: each operator's rational function as integers, exact or with its differences.

For every channel the exact function and the integer one are step functions of the accumulator. They
agree on all reachable accumulators exactly when their thresholds agree; an Add is checked over all
pairs of inputs. What is written into `Proof` is found from the finished `Requant`, not by trust in the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from nncosim.compiler.errors import CompileError, ModelError, Problem, RequantError
from nncosim.compiler.ir.arithmetic import Requant
from nncosim.compiler.ir.network import Network, Op, Proof, QuantFunction, Tensor
from nncosim.compiler.ir.operators import Requantize, Table
from nncosim.compiler.ir.overflow import check_accumulators
from nncosim.compiler.proof.caps import RequantCaps
from nncosim.compiler.proof.forms import kinds_of, prove_function
from nncosim.compiler.proof.pairs import prove_pairs

__all__ = ["prove", "prove_op", "require_exact"]


def prove(
    network: Network, caps: RequantCaps | Mapping[str, RequantCaps] | None = None, *, keep: bool = False
) -> Network:
    """The network with `requant` and `proof` filled in for every operator that has a function.

    Args:
        caps: of all operators, or of each by its name; None: anything that integers can do.
        keep: leave operators alone that have a `requant`.

    Raises:
        AccumulatorError: a layer's partial sums may leave its `accumulator_bits`.
    """
    caps = caps or RequantCaps()
    of = caps if isinstance(caps, Mapping) else {op.name: caps for op in network.ops}
    for bits in sorted({of[op.name].accumulator_bits for op in network.ops}):
        check_accumulators(network.with_ops(tuple(x for x in network.ops if of[x.name].accumulator_bits == bits)), bits)
    return network.with_ops(tuple(
        op if keep and op.requant is not None else prove_op(op, network.op_inputs(op), of[op.name])
        for op in network.ops
    ))  # fmt: skip


def prove_op(op: Op, inputs: tuple[Tensor, ...], caps: RequantCaps) -> Op:
    """One operator with `requant` and `proof`; where it is not requantized it is as it was.

    A Requantize whose roundings no integers meet (ties of half to even) becomes a Table where `caps` allows it.
    """
    if not op.requantized or op.function is None:
        return op
    if caps.as_given and op.function.integers is not None:
        low, high = op.bounds(inputs)
        checked, channels = int((high - low + 1).sum()), len(op.function.offset)
        proof = Proof(True, channels, channels, checked_values=checked, acc_lo=int(low.min()), acc_hi=int(high.max()))
        return replace(op, requant=op.function.integers, proof=proof)
    requant, proof = _first_exact(op, op.function, inputs, caps)
    if caps.tables and isinstance(op, Requantize) and not proof.exact:
        table = _as_table(op, op.function, inputs[0])
        if table is not None:
            return table
    return replace(op, requant=requant, proof=proof)


def _first_exact(
    op: Op, function: QuantFunction, inputs: tuple[Tensor, ...], caps: RequantCaps
) -> tuple[Requant, Proof]:
    """In the first form that is exact; where none is, in the last that can compute the function."""
    found, refused = None, []
    for form in caps.forms:
        try:
            if len(function.ratios) > 1:
                found = prove_pairs(function, [(t.type.lo, t.type.hi) for t in inputs], form)
            else:
                found = prove_function(function, *op.bounds(inputs), form)
        except RequantError as error:
            refused.append(str(error))
            continue
        except CompileError as error:
            raise CompileError(f"layer {op.name!r}: {error}") from error
        if found[1].exact:
            break
    if found is None:
        raise RequantError(f"layer {op.name!r}: " + "; ".join(dict.fromkeys(refused)))
    return found


def _as_table(op: Requantize, function: QuantFunction, source: Tensor) -> Table | None:
    """The same operator as a table; None for more than 8 bits, or a function that differs from channel to channel."""
    kind, channels = source.type, len(function.offset)
    fits = (-128 if kind.signed else 0) <= kind.lo and kind.hi <= (127 if kind.signed else 255)
    if not fits or len({*kinds_of(function)}) > 1:
        return None
    reach = np.array([min(max(b - 256 if kind.signed and b > 127 else b, kind.lo), kind.hi) for b in range(256)])
    proof = Proof(True, channels, channels, checked_values=kind.hi - kind.lo + 1, acc_lo=kind.lo, acc_hi=kind.hi)
    values = tuple(function.at(0, reach).tolist())
    return Table(op.name, op.inputs, op.output, onnx_nodes=op.onnx_nodes, function=function, proof=proof, values=values)


def require_exact(network: Network) -> None:
    """Refuse a proved network that does not compute what its file says to the bit, unless it may be `nearest`.

    Raises:
        ModelError: names each operator that does not, of the network (`to_the_bit`) or by its own function's integers,
            and how many of its accumulators give another result.
    """
    wrong = [op for op in network.ops if op.proof is not None and not op.proof.equals_graph
             and (network.to_the_bit or (op.function is not None and op.function.integers is not None))]  # fmt: skip
    if network.nearest or not wrong:
        return
    remedy = "--nearest takes what the machine has that is near to it"
    found = [Problem(op.name, op.title, _differing(op.proof), remedy) for op in wrong if op.proof is not None]
    raise ModelError(network.name, found)


def _differing(proof: Proof) -> str:
    if proof.deviation:
        return f"the machine's kernel {proof.deviation}"
    count = f"{proof.differing_values:,} of {proof.checked_values:,} accumulators give another result"
    more = f", {proof.undecided_values:,} are undecided" if proof.undecided_values else ""
    return f"the machine does not round as the file says: {count}, by {proof.max_lsb} at most{more}"
