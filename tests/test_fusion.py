# SPDX-License-Identifier: Apache-2.0
"""Which operators can be fused, and how a group is cut up."""

import numpy as np
import pytest
from nncosim.compiler.j3dai.fused_plan import make_fused_plan
from nncosim.compiler.j3dai.fused_program import fused_codes, fused_queues
from nncosim.compiler.j3dai.fusion import compile_group, group_of, paths
from nncosim.compiler.j3dai.transfers import order_transfers, program_transfers
from nncosim.hdl.j3dai.isa import DmpaOp
from nncosim.kernels.base import candidate_kernels
from nncosim.kernels.j3dai import KERNELS
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.builder import UINT8, NetworkBuilder


def nests_of(network):
    found = []
    for op in network.ops:
        kernels, _ = candidate_kernels(KERNELS, op, network, PLATFORM)
        best = min(kernels, key=lambda k: k.cycles(op, network, PLATFORM).best)
        found.append(best.code(op, network, PLATFORM))
    return found


def cut(b, *outputs):
    network = b.build("n", *outputs)
    return network, paths(network, network.ops, nests_of(network), {})


def residual():
    b = NetworkBuilder(1)
    x = b.conv(b.input(16, 20, 28), 24, 1)
    wide = b.depthwise(b.conv(x, 96, 1, kind=UINT8), 3, 1, UINT8)
    return b, b.add(x, b.conv(wide, 24, 1))


def test_a_chain_ends_where_a_tensor_has_two_readers():
    b, out = residual()
    _, found = cut(b, out)
    assert found == [(0,), (1, 2, 3, 4)]


def test_an_output_in_the_middle_is_not_kept_in_l1():
    b, out = residual()
    _, found = cut(b, out, "t2")
    assert found == [(0,), (1, 2), (3, 4)]


@pytest.mark.parametrize(("size", "k", "stride", "linked"), [
    (16, 2, 2, True), (17, 2, 2, False), (16, 1, 2, False), (17, 3, 2, True),
])  # fmt: skip
def test_what_nobody_reads_is_not_lost(size, k, stride, linked):
    """Elements that no window touches would never be computed in a group."""
    b = NetworkBuilder(2)
    at = b.conv(b.input(16, size, size), 16, 1)
    _, found = cut(b, b.max_pool(at, k, stride) if k < 3 else b.depthwise(at, k, stride))
    assert found == ([(0, 1)] if linked else [(0,), (1,)])


def test_an_enlarged_map_ends_a_group():
    b = NetworkBuilder(3)
    _, found = cut(b, b.conv(b.resize(b.conv(b.input(16, 8, 8), 16, 1), 2, 2), 16, 1))
    assert found == [(0, 1), (2,)]


@pytest.fixture(scope="module")
def group():
    b, out = residual()
    network = b.build("n", out)
    return group_of(network, nests_of(network)[1:])


def test_tiles_reach_as_far_as_the_next_member_reads(group):
    first, middle, *rest = group.tiles((4, 8), (0, 8))
    assert (first.y0, first.y1, first.x0, first.x1) == (3, 9, 0, 9) == (middle.iy0, middle.iy1, middle.ix0, middle.ix1)
    assert all((t.y0, t.y1, t.x0, t.x1) == (4, 8, 0, 8) for t in (middle, *rest))
    assert [e.tensor for e in group.externals] == ["t0", "t0"]


def test_every_word_of_the_output_is_stored_once_and_nothing_else(group):
    plan = make_fused_plan(group, PLATFORM, (3, 2), (3, 1), (2, 2), None)
    first = program_transfers([("program", 10, 0, 0b111111)])
    order, _ = order_transfers(first, fused_queues(plan, "p"), fused_codes(plan), PLATFORM)
    words = np.zeros(group.last.out_blocks * 20 * 28, dtype=int)
    for t in order:
        for p in t.pieces:
            if t.op is DmpaOp.STORE:
                assert p.buffer == group.last.output
                for i2 in range(p.n2):
                    for i1 in range(p.n1):
                        at = p.offset + i1 * p.l2_step1 + i2 * p.l2_step2
                        words[at : at + p.n0] += 1
    assert (words == 1).all()


def test_the_pieces_that_stay_in_l1_cover_each_map(group):
    code = compile_group(group, PLATFORM)
    seen = {nest.output: np.zeros(nest.out_map, int) for nest in group.members[:-1]}
    for made in code.plan.made():
        seen[made.tensor][made.tile.y0 : made.tile.y1, made.tile.x0 : made.tile.x1] += 1
    assert all(count.min() >= 1 for count in seen.values())
    assert seen[group.members[0].output].max() > 1, "neighbouring tiles compute what both need"


def test_one_plan_for_groups_of_one_shape(group):
    first, second = compile_group(group, PLATFORM), compile_group(group, PLATFORM)
    assert [p.to_bytes() for p, _ in first.programs] == [p.to_bytes() for p, _ in second.programs]
    assert first.cycles == second.cycles
