# SPDX-License-Identifier: Apache-2.0
"""The proofs of a network's requantization in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nncosim.compiler.ir.network import Network
from nncosim.tb.report.schema import RequantizationJson

__all__ = ["Requantization", "requantization_of"]


@dataclass(frozen=True)
class Requantization:
    """The proof's result over all operators that requantize.

    `inexact`: those that do not equal the graph. `deviations`: of some of these, how their kernel differs from it.
    """

    layers: int
    exact_layers: int
    max_lsb: int
    inexact: tuple[str, ...] = ()
    deviations: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.inexact:
            return f"exact in all {self.layers} layers"
        rounded = [name for name in self.inexact if name not in self.deviations]
        others = [f"within {self.max_lsb} LSB of the model in {', '.join(rounded)}"] if rounded else []
        others += [f"in {name} {text}" for name, text in self.deviations.items()]
        return f"exact in {self.exact_layers} of {self.layers} layers; " + "; ".join(others)

    def to_json(self) -> RequantizationJson:
        return {
            "layers": self.layers,
            "exact_layers": self.exact_layers,
            "max_lsb": self.max_lsb,
            "inexact": list(self.inexact),
            "deviations": dict(self.deviations),
        }


def requantization_of(network: Network) -> Requantization:
    """Sum up the proofs of a proved network."""
    proofs = [(op.name, op.proof) for op in network.ops if op.proof is not None]
    inexact = tuple(name for name, proof in proofs if not proof.equals_graph)
    worst = max((proof.max_lsb for _, proof in proofs), default=0)
    deviations = {name: proof.deviation for name, proof in proofs if proof.deviation}
    return Requantization(len(proofs), len(proofs) - len(inexact), worst, inexact, deviations)
