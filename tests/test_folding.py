# SPDX-License-Identifier: Apache-2.0
"""Folding programs of letters into loops, for machines of other limits than J3DAI's."""

from __future__ import annotations

import random

import pytest
from nncosim.compiler.folding import FoldedLoop, Loops, fold

LONG = 1 << 30


def loops(levels=2, **costs):
    return Loops(levels, size=lambda piece: 1, inner=lambda piece: 0, **costs)


def unrolled(nodes):
    out = ""
    for node in nodes:
        out += node.count * unrolled(node.body) if isinstance(node, FoldedLoop) else node
    return out


def depth(nodes):
    return max((1 + depth(node.body) for node in nodes if isinstance(node, FoldedLoop)), default=0)


def instructions(nodes):
    """Counted as a machine with a NOP between ends of nested loops needs them."""
    loops = [node for node in nodes if isinstance(node, FoldedLoop)]
    inner = sum(1 + instructions(loop.body) + isinstance(loop.body[-1], FoldedLoop) for loop in loops)
    return inner + len(nodes) - len(loops)


def test_a_repetition_becomes_a_loop():
    assert fold("xabababababy", loops(), LONG) == (["x", FoldedLoop(5, ("a", "b")), "y"], 5)


def test_two_levels():
    nodes, size = fold("aaaaaab" * 4, loops(), LONG)
    assert nodes == [FoldedLoop(4, (FoldedLoop(6, ("a",)), "b"))] and size == 4


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("limit", [0, LONG])
def test_the_same_is_executed(levels, limit):
    rng = random.Random(levels)
    deepest = 0
    for _ in range(100):
        text = "".join(rng.choices("ab", k=3))
        for _ in range(3):
            text = text * rng.randrange(1, 6) + rng.choice("abc")
        nodes, size = fold(text, loops(levels), limit)
        assert unrolled(nodes) == text and depth(nodes) <= levels and size == instructions(nodes) <= len(text)
        deepest = max(deepest, depth(nodes))
    assert deepest >= min(levels, 2)


def test_a_loop_that_costs_more_than_it_saves_is_none():
    assert fold("aaaaaa", loops(head=4, apart=1), LONG) == (list("aaaaaa"), 6)
    assert fold("aaaaaaa", loops(head=4, apart=1), LONG) == ([FoldedLoop(7, ("a",))], 5)
