# SPDX-License-Identifier: Apache-2.0
"""Operators are given to candidates first, and then proved with what these can do."""

from dataclasses import replace

import numpy as np
import pytest
from models import conv_model
from nncosim.compiler.backends import backend_for
from nncosim.compiler.compile import compile_network
from nncosim.compiler.errors import AccumulatorError
from nncosim.compiler.frontend import import_model
from nncosim.compiler.proof.caps import MultiplyShiftCaps, RequantCaps
from nncosim.kernels.base import Cost
from nncosim.platforms.j3dai import PLATFORM


class Narrowed:
    """J3DAI's back end with a second candidate for every operator, whose multipliers are too narrow for a proof."""

    def __init__(self, wide_cost: int):
        self.real, self.wide_cost = backend_for(PLATFORM), wide_cost

    def __getattr__(self, name):
        return getattr(self.real, name)

    def candidates(self, op, network, platform):
        found, reasons = self.real.candidates(op, network, platform)
        costs = (self.wide_cost, 1) if op.requant is None else (1, 1)  # once proved, none is better than the other
        both = zip(costs, (found[0].caps, RequantCaps((MultiplyShiftCaps(multiplier_bits=5),))), strict=True)
        return tuple(replace(found[0], cost=Cost.exactly(cost), caps=caps) for cost, caps in both), reasons


@pytest.mark.parametrize("wide_cost", [0, 2])
def test_an_operator_is_proved_with_what_its_candidate_can_do(wide_cost):
    network = import_model(conv_model(8, 8, 3))
    made = compile_network(network, PLATFORM, backend=Narrowed(wide_cost))
    (op,) = made.network.ops
    assert (np.abs(op.requant.m[0]).max() < 16) == (wide_cost == 2)
    assert op.proof.exact == (wide_cost == 0)


def test_accumulators_are_those_of_the_candidate():
    class Short(Narrowed):
        def candidates(self, op, network, platform):
            found, reasons = self.real.candidates(op, network, platform)
            return tuple(replace(c, caps=RequantCaps(accumulator_bits=9)) for c in found), reasons

    with pytest.raises(AccumulatorError, match="accumulators of 9 bits"):
        compile_network(import_model(conv_model(8, 8, 3)), PLATFORM, backend=Short(0))
