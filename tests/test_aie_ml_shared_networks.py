# SPDX-License-Identifier: Apache-2.0
"""Networks whose layers share buffers: which do, every bit on the simulator, and that it is done where it is better."""

from itertools import pairwise

import onnx
import pytest
from nncosim.compiler.aie_ml.backend import AieMlBackend
from nncosim.compiler.aie_ml.cycle_model import cycle_model
from nncosim.compiler.aie_ml.floorplan import Floor, Rectangle
from nncosim.compiler.aie_ml.linking import lowering_of
from nncosim.compiler.aie_ml.mapping import OBJECTIVES, Box, Split, boxes_of, savings
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.aie_ml.solver import SHARED, solved
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import Network
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.aie_ml_checks import check_run, normal_inputs
from nncosim.regress.dense_models import DenseSpec, compiled, dense_network
from nncosim.regress.token_models import mixer_block, residual_mlp
from nncosim.tb.aie_ml.bench import BENCH
from nncosim.tb.aie_ml.floor import floor_plan_of
from nncosim.tb.aie_ml.streaming import stream_iss
from nncosim.tb.floor_plan import SHARED as SHARED_KIND

PLATFORM = AieMl(columns=8, rows=4, memory_rows=1)
ROW = PLATFORM.first_row


def boxes_at(*places: tuple[str, int, int]) -> list[Box]:
    return [Box(Split(*map(int, split.split("x"))), column, ROW + row) for split, column, row in places]


def proved(model: onnx.ModelProto) -> Network:
    """With requantizations as the core has them."""
    return compile_network(import_model(model, name="net", keep_batch=True), AieMl()).network


def shared_in(model: onnx.ModelProto, boxes: list[Box], platform: AieMl = PLATFORM) -> list[str]:
    network = proved(model)
    return [f"{each.name} ({each.column},{each.row - ROW})"
            for each in lowering_of(network, platform, boxes).plan.shared]  # fmt: skip


CHAINS = {
    "one tile, one tile": ([("1x1", 0, 0), ("1x1", 1, 0)], ["0..63 (0,0)"]),
    "the end of a chain": ([("3x1", 1, 2), ("1x1", 4, 2)], ["0..63 (3,2)"]),
    "the begin of a chain": ([("1x1", 0, 0), ("3x1", 1, 0)], ["0..23 (0,0)"]),
    "rows, the begin of a chain": ([("1x2", 0, 0), ("2x1", 1, 0)], ["0..31 (0,0)"]),
    "the second row, in no chain's begin": ([("1x2", 0, 0), ("2x1", 1, 1)], []),
    "several makers": ([("1x2", 0, 0), ("1x1", 1, 0)], []),
    "several takers": ([("1x1", 0, 0), ("1x2", 1, 0)], []),
    "a taker above": ([("1x1", 0, 0), ("1x1", 0, 1)], []),
    "a taker in the west": ([("1x1", 1, 0), ("1x1", 0, 0)], []),
    "a column between": ([("1x1", 0, 0), ("1x1", 2, 0)], []),
    "a row higher": ([("1x1", 0, 0), ("1x1", 1, 1)], []),
}


@pytest.mark.parametrize("name", CHAINS)
def test_which_layers_share(name):
    places, want = CHAINS[name]
    assert shared_in(dense_network(DenseSpec((64, 64, 32))), boxes_at(*places)) == [
        f"dense0.quant_out {each}" for each in want]  # fmt: skip


def test_summands():
    """Row by row; the other summand waits in a memory tile."""
    model = residual_mlp(64, 1)
    rows = boxes_at(("1x1", 0, 0), ("1x2", 1, 0), ("1x2", 2, 0))
    assert [each.split()[1:] for each in shared_in(model, rows)] == [["0..31", "(1,0)"], ["32..63", "(1,1)"]]
    half = boxes_at(("1x1", 0, 0), ("1x1", 1, 0), ("1x2", 2, 0))
    assert [each.split()[1:] for each in shared_in(model, half)] == [["0..63", "(0,0)"], ["0..31", "(1,0)"]]


def test_what_waits_for_other_layers_is_not_shared():
    """A sum takes what the one before it made, two layers ago: without memory tiles, from where that is."""
    model = residual_mlp(32, 2)
    places = [("1x1", 0, 0), ("1x1", 1, 0), ("1x1", 2, 0), ("1x1", 0, 1), ("1x1", 1, 1), ("1x1", 3, 0)]
    found = [each.rsplit(" ", 1)[1] for each in shared_in(model, boxes_at(*places))]
    assert found == ["(0,0)", "(1,0)", "(0,1)"]
    assert shared_in(model, boxes_at(*places), AieMl(columns=4, rows=4, memory_rows=0))[-1].endswith("(2,0)")


def test_what_is_transposed_is_not_taken_so():
    """A transposition needs its operand in another order; what it makes can be taken."""
    model = mixer_block(16, 16, (16, 16))
    network = proved(model)
    places = [("1x1", k, 0) for k in range(len(network.ops))]
    transposes = {k for k, op in enumerate(network.ops) if op.title == "Transpose"}
    found = {each.rsplit(" ", 1)[1] for each in shared_in(model, boxes_at(*places), AieMl(columns=16, memory_rows=1))}
    assert transposes and not found & {f"({k - 1},0)" for k in transposes}
    assert f"({min(transposes)},0)" in found


def with_two_outputs(spec: DenseSpec) -> onnx.ModelProto:
    """What the first layer gives is an output, too."""
    model = dense_network(spec)
    name = next(node.output[0] for node in model.graph.node if node.name == "dense0.quant")
    value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [spec.batch, spec.sizes[1]])
    model.graph.output.append(value)
    return model


MODELS = {
    "one tile each": (dense_network(DenseSpec((16, 64, 32, 32, 8))), "1x1 1x1 1x1 1x1", 3),
    "chains": (dense_network(DenseSpec((64, 64, 40, 24), batch=20)), "2x1 3x1 2x1", 2),
    "rows": (dense_network(DenseSpec((64, 64, 32))), "1x2 2x1", 1),
    "16 bits": (dense_network(DenseSpec((24, 40, 20, 9), batch=5, bits=16)), "1x1 2x1 1x1", 2),
    "16 bits, weights too": (dense_network(DenseSpec((24, 40, 20), batch=7, bits=16, weight_bits=16)), "1x1 1x1", 1),
    "one row": (dense_network(DenseSpec((33, 70, 18), batch=1, last_relu=True)), "2x1 1x1", 1),
    "also an output": (with_two_outputs(DenseSpec((24, 40, 16, 8))), "1x1 1x1 1x1", 2),
    "a sum": (residual_mlp(40, 1, batch=5), "1x1 1x1 1x1", 2),
    "a sum, by rows": (residual_mlp(64, 1), "1x1 1x2 1x2", 2),
    "a sum of 16 bits": (residual_mlp(32, 1, bits=16), "1x1 1x1 1x1", 2),
    "two sums": (residual_mlp(24, 2), "1x1 1x1 1x1 1x1 1x1 1x1", 5),
    "three sums": (residual_mlp(16, 3, batch=3), "1x1 1x1 1x1 1x1 1x1 1x1 1x1 1x1 1x1", 7),
}


def made_of(name: str) -> Compiled:
    model, text, shared = MODELS[name]
    network = import_model(model, name="net", keep_batch=True)
    splits = [tuple(map(int, each.split("x"))) for each in text.split()]
    made = compile_network(network, PLATFORM, backend=AieMlBackend(splits=splits))
    assert len(made.lowered.private.plan.shared) == shared
    return made


@pytest.mark.parametrize("name", MODELS)
def test_every_bit_on_the_simulator(name):
    made = made_of(name)
    given = normal_inputs(made.network, 3, 5)
    check_run(made, BENCH.run(PLATFORM, made.image.to_bytes(), given, backend="iss", seed=3), given)


@pytest.mark.parametrize("name", MODELS)
def test_one_after_the_other(name):
    """Two copies in turn: nothing is overwritten before it is read, nor read before it is written."""
    made = made_of(name)
    given = normal_inputs(made.network, 12, 6)
    found = stream_iss(PLATFORM, made.image.to_bytes(), given)
    for inputs, results in zip(given, found.results, strict=True):
        want = evaluate(made.network, inputs)
        assert set(results) == set(made.network.outputs)
        assert all((values == want[output]).all() for output, values in results.items())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("sizes", [(16, 64, 32, 32, 8), (64,) * 8, (96, 48, 48, 8)])
def test_it_is_done_where_it_is_better(sizes, objective):
    spec, found = DenseSpec(sizes), {}
    for share in (False, True):
        made = compiled(spec, PLATFORM, objective=objective, share=share)
        counted = {"latency": made.iss_cycles, "fewest": len(made.lowered.private.plan.tiles),
                   "throughput": cycle_model().interval(made.image.to_bytes(), PLATFORM)}  # fmt: skip
        found[share] = counted[objective], made.iss_cycles
        assert share or not made.lowered.private.plan.shared
    assert found[True] <= found[False]
    if objective == "fewest":
        assert found[True][0] == len(sizes) - 1 and found[True][1] < found[False][1]


def test_the_published_strategy_places_as_before():
    spec = DenseSpec((64,) * 10)
    small = AieMl(columns=4, rows=4)
    boxes = [compiled(spec, small, strategy="branch-and-bound", splits=[(1, 1)] * 9, share=share).lowered.private.boxes
             for share in (False, True)]  # fmt: skip
    assert boxes[0] == boxes[1]


def test_places_beside_each_other_are_found():
    """14 layers of a tile in 4 columns: four lines, in each of which all but the first are right of the one before."""
    network = import_model(dense_network(DenseSpec((64,) * 15)), name="net", keep_batch=True)
    small = AieMl(columns=4, rows=4)
    saved = savings(network, small, [Split(1, 1)] * 14)
    assert saved == {(k, k + 1): 128 for k in range(13)}
    floor = Floor((Rectangle(1, 1),) * 14, tuple(saved), 4, 4, 0, {}, saved)
    spots = solved(floor, SHARED)
    assert spots and len(set(spots)) == 14
    assert sum((x + 1, y) == other for (x, y), other in pairwise(spots)) == 10
    wide = [Split(2, 2), Split(2, 1), Split(1, 1), Split(1, 2)]
    network = import_model(dense_network(DenseSpec((64,) * 5)), name="net", keep_batch=True)
    # Of a chain, only the first core; a layer of two rows has two takers for all that there is.
    assert set(savings(network, PLATFORM, wide)) == {(0, 1), (1, 2)}


def test_it_is_in_the_floor_plan():
    made = made_of("one tile each")
    links = [link for link in floor_plan_of(made.image, PLATFORM).links if link.kind == SHARED_KIND]
    assert [link.ways for link in links] == [(((k, ROW), (k + 1, ROW)),) for k in range(3)]
    assert all(link.direct for link in links) and links[0].text == "512 bytes, twice"
    notes = made.image.notes.own_as(AieMlNotes)
    assert [each.name for each in notes.circuits] == ["input x 0..15", "output y 0..7"]


def test_boxes_side_by_side_share():
    network = proved(dense_network(DenseSpec((64,) * 4)))
    made = lowering_of(network, PLATFORM, boxes_of([Split(1, 1)] * 3, ROW), share=False)
    assert not made.plan.shared and len(made.plan.nets) == 4
    assert len(lowering_of(network, PLATFORM, made.boxes).plan.nets) == 2
