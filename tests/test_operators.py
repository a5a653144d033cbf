# SPDX-License-Identifier: Apache-2.0
"""Operators that no shared file knows go through every shared layer: all that is known of one is its class."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from nncosim.compiler.errors import AccumulatorError
from nncosim.compiler.image.expected import expected as predicted
from nncosim.compiler.image.notes import Notes, Step
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import Network, Op, QuantFunction, Tensor, TensorType
from nncosim.compiler.ir.overflow import check_accumulators
from nncosim.compiler.placement.room import Room, least_need
from nncosim.compiler.proof.qonnx_check import float32_error
from nncosim.compiler.proof.requantization import RequantCaps, prove
from nncosim.kernels.base import Cost
from nncosim.platforms.rounding import Rounding
from nncosim.tb.backend import Frame, Interval, RunResult
from nncosim.tb.reference.compare import compare_frames
from nncosim.tb.report.build import build_report
from nncosim.tb.run.network_json import NetworkDataError, network_from_json, network_to_json
from small_network import small_network
from test_report import Paper

UNSIGNED = TensorType(4, False, (Fraction(1, 4),), 0, 0, 15)
SIGNED = TensorType(4, True, (Fraction(1, 2),), 0, -8, 7)
BYTE = TensorType(8, True, (Fraction(1, 4),), 0, -128, 127)


def corner_products(inputs: Sequence[Tensor], terms: int) -> tuple[np.ndarray, np.ndarray]:
    ends = [a * b for a, b in product(*((t.type.lo, t.type.hi) for t in inputs))]
    return tuple(np.full(inputs[0].channels, bound(ends) * terms, dtype=np.int64) for bound in (min, max))


@dataclass(frozen=True, eq=False)
class Multiply(Op):
    """The product of two tensors, element by element, plus one constant a channel."""

    shift: np.ndarray = field(kw_only=True)

    def accumulate(self, inputs):
        return [inputs[0] * inputs[1] + self.shift[:, None, None]]

    def bounds(self, inputs):
        low, high = corner_products(inputs, 1)
        return low + self.shift, high + self.shift

    @property
    def constants(self):
        return (self.shift,)


@dataclass(frozen=True, eq=False)
class Scores(Op):
    """(C, H, K) by (C, K, W), channel by channel."""

    def accumulate(self, inputs):
        return [inputs[0] @ inputs[1]]

    def bounds(self, inputs):
        return corner_products(inputs, inputs[0].shape[2])

    def partial_bounds(self, inputs):
        low, high = self.bounds(inputs)
        return np.minimum(low, 0), np.maximum(high, 0)

    def absolute(self, inputs):
        return [np.abs(inputs[0]) @ np.abs(inputs[1])], inputs[0].shape[2]

    def macs(self, inputs, output):
        return output.elements * inputs[0].shape[2]

    @property
    def title(self):
        return f"Scores of {len(self.inputs)}"


def network() -> Network:
    """a (2, 3, 5), b (2, 5, 4) -> Scores -> p (2, 3, 4), times c -> y."""
    shapes = {"a": (2, 3, 5), "b": (2, 5, 4), "c": (2, 3, 4), "p": (2, 3, 4), "y": (2, 3, 4)}
    kinds = {"a": UNSIGNED, "b": SIGNED, "c": UNSIGNED, "p": BYTE, "y": BYTE}
    tensors = {name: Tensor(name, shape, kinds[name]) for name, shape in shapes.items()}

    def function(ratio: Fraction) -> QuantFunction:
        return QuantFunction(((ratio, ratio / 3),), (Fraction(1, 7), Fraction(0)), Rounding.HALF_EVEN, -128, 127)

    ops = (
        Scores("scores", ("a", "b"), "p", function=function(Fraction(1, 5))),
        Multiply("gate", ("p", "c"), "y", shift=np.array([3, -40]), function=function(Fraction(1, 11))),
    )
    onnx = {name: (1, *shapes[name]) for name in ("a", "b", "c", "y")}
    return Network("new", tensors, ops, ("a", "b", "c"), ("y",), onnx)


def inputs(seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors = network().tensors
    return {n: rng.integers(tensors[n].type.lo, tensors[n].type.hi + 1, tensors[n].shape) for n in "abc"}


def by_hand(values: dict[str, np.ndarray]) -> np.ndarray:
    """y of `network`, element by element in rational numbers."""
    y = np.zeros((2, 3, 4), dtype=np.int64)
    for c, i, j in np.ndindex(y.shape):
        third, offset, shift = ((1, Fraction(1, 7), 3), (3, Fraction(0), -40))[c]
        p = sum(int(values["a"][c, i, k]) * int(values["b"][c, k, j]) for k in range(5))
        p = min(max(round(Fraction(p, 5 * third) + offset), -128), 127)  # Python rounds half to even too
        y[c, i, j] = min(max(round(Fraction(p * int(values["c"][c, i, j]) + shift, 11 * third) + offset), -128), 127)
    return y


def test_it_is_proved_and_executed():
    proved = prove(network())
    assert all(op.proof.exact for op in proved.ops)
    values = inputs()
    expected = by_hand(values)
    assert len(np.unique(expected)) > 8
    for exact in (False, True):
        assert np.array_equal(evaluate(proved, values, exact=exact)["y"], expected)


def test_its_bounds_hold_and_narrow_accumulators_are_refused():
    proved = prove(network())
    scores = proved.ops[0]
    low, high = scores.bounds(proved.op_inputs(scores))
    extreme = [np.full((2, 3, 5), 15), np.full((2, 5, 4), -8)]
    assert (scores.accumulate(extreme)[0] == low[:, None, None]).all() and (high > 0).all()
    reach = max(abs(int(low.min())), 128 * 15 + 40).bit_length() + 1
    check_accumulators(proved, reach)
    with pytest.raises(AccumulatorError, match="layer 'gate': partial sums reach"):
        prove(network(), RequantCaps(accumulator_bits=reach - 1))


def test_the_float_error_depends_on_its_sums():
    scores = prove(network()).ops[0]
    a, b = (inputs()[name] for name in "ab")
    p = network().tensors["p"]
    error, twice = (float32_error(scores, p, [x, b], (0.0, 0.0)) for x in (a, 2 * a))
    assert (error >= 0).all() and np.allclose(twice, 2 * error) and (error > 0).any()


def test_its_constants_take_room():
    assert least_need(network(), Room("ram", 8)).weights == {"gate": 2}


def test_an_image_holds_it():
    proved = prove(network())
    data = json.loads(json.dumps(network_to_json(proved)))
    read = network_from_json(data)
    assert [type(op) for op in read.ops] == [Scores, Multiply] and read.ops[1].shift.tolist() == [3, -40]
    assert np.array_equal(evaluate(read, inputs())["y"], by_hand(inputs()))
    data["ops"][0]["type"] = "lab.operators.Sinc"
    with pytest.raises(NetworkDataError, match=r"^i.elf: Op 'lab.operators.Sinc' is not known here; import"):
        network_from_json(data, "i.elf")


def test_two_operators_of_one_name_are_kept_apart():
    """An image's Conv is the one that it was compiled with, whatever else is called so."""

    @dataclass(frozen=True, eq=False)
    class Conv(Scores):
        pass

    small = small_network()
    assert type(network_from_json(network_to_json(small)).ops[0]) is type(small.ops[0])
    ours = replace(network(), ops=(Conv("s", ("a", "b"), "p"),))
    assert type(network_from_json(network_to_json(ours)).ops[0]) is Conv


def test_it_is_in_the_report():
    proved = prove(network())
    expected = evaluate(proved, inputs())
    steps = tuple(Step(n, (n,), ("unit",), Cost.exactly(c)) for n, c in (("scores", 10), ("gate", 20)))
    notes = Notes(steps, Cost.exactly(30))

    def report(tensors):
        frame = Frame(30, tensors, (Interval(0, 0, 10, {}), Interval(1, 10, 30, {})), memory=tensors)
        found = compare_frames(proved, (expected,), (frame,))
        result = RunResult("python", None, (frame,), None, {})
        return build_report(
            proved, Paper(), steps, predicted(notes, 1), result, found, model="m", settings={}, seed=0, input="random",
            wall_seconds={}, versions={}, hashes={}, command="",
        )  # fmt: skip

    good = report(expected)
    assert [layer.op for layer in good.layers] == ["Scores of 2", "Multiply"]
    assert [layer.macs for layer in good.layers] == [2 * 3 * 4 * 5, 0] and good.macs == 120
    assert good.verdict == "pass" and [layer.requantization for layer in good.layers] == ["exact", "exact"]
    spoilt = report({**expected, "p": expected["p"] + (np.arange(24).reshape(2, 3, 4) == 7)})
    assert spoilt.verdict == "mismatch" and spoilt.comparison.first.index == (0, 1, 3)


def test_an_operator_says_what_it_computes_and_reaches():
    """The two methods that no operator may leave out, because a default would be silently wrong."""

    @dataclass(frozen=True, eq=False)
    class Silent(Op):
        def accumulate(self, inputs):
            return list(inputs)

    with pytest.raises(TypeError, match="bounds"):
        Silent("s", ("x",), "y")
