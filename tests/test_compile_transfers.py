# SPDX-License-Identifier: Apache-2.0
"""The order of transfers and the folding of loops: each checker is shown what it has to catch."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from nncosim.compiler.j3dai.fold import Instr, ProgramTooLong, assemble
from nncosim.compiler.j3dai.plan import make_plan
from nncosim.compiler.j3dai.prefetch import prefetch
from nncosim.compiler.j3dai.program import cluster_code
from nncosim.compiler.j3dai.semaphores import ToDmpa
from nncosim.compiler.j3dai.tiling import compile_nest
from nncosim.compiler.j3dai.transfers import order_transfers, program_transfers, queues
from nncosim.compiler.tiling.chunks import chunks_of
from nncosim.compiler.tiling.grids import Grid, split
from nncosim.compiler.transfers.order import TransferError
from nncosim.hdl.j3dai.asm import words_of
from nncosim.hdl.j3dai.isa import DmpaOp, Opcode, Space
from nncosim.kernels.j3dai import KERNELS
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.cases import case
from nncosim.regress.j3dai_cluster_model import executed


def plan_of(name, grid, tiles, blocks):
    network = case(name).build(1)
    return make_plan(KERNELS[0].code(network.ops[0], network, PLATFORM), PLATFORM, grid, tiles, blocks)


def play(spoil=lambda codes: None):
    plan = plan_of("conv3x3_stream", Grid(3, 1, 2), (3, 1), 1)
    codes = {r.cluster: cluster_code(plan, r) for r in plan.regions}
    spoil(codes)
    first = program_transfers([("p", 10, 0, 0b111111)])
    return plan, order_transfers(first, queues(plan, "w"), codes, PLATFORM)[0]


def test_every_word_of_the_output_is_stored_once():
    plan, order = play()
    h, w = plan.nest.out_map
    words = np.zeros(plan.nest.out_blocks * h * w, dtype=int)
    for t in order:
        if t.op is DmpaOp.STORE:
            for p in t.pieces:
                for i2 in range(p.n2):
                    for i1 in range(p.n1):
                        at = p.offset + i1 * p.l2_step1 + i2 * p.l2_step2
                        words[at : at + p.n0] += 1
    assert (words == 1).all()


@pytest.mark.parametrize("semaphore", [ToDmpa.OUTPUT_READY, ToDmpa.INPUT_FREE])
def test_a_lost_signal_is_a_hang(semaphore):
    def spoil(codes):
        events = codes[2].events
        events.remove(("signal", semaphore))

    with pytest.raises(TransferError, match="would hang"):
        play(spoil)


def test_a_wait_too_many_is_a_hang():
    with pytest.raises(TransferError, match=r"hang|would stop"):
        play(lambda codes: codes[0].events.insert(3, ("wait", 0)))


def test_a_semaphore_left_over_is_seen():
    with pytest.raises(TransferError, match=r"cluster 1 .*semaphores.*left over"):
        play(lambda codes: codes[1].events.append(("signal", ToDmpa.OUTPUT_READY)))


def flat(units):
    """Instruction words of a folded program in order of execution, without loops and NOPs."""
    words = words_of(assemble([*units, (Instr("halt"),)]).to_bytes())
    steps = executed(words.__getitem__)
    return [words[at] for at, opcode, _ in steps if opcode not in (Opcode.LOOP, Opcode.NOP, Opcode.HALT)]


def wait(semaphore):
    return Instr("wait", (("semaphore", int(semaphore)),))


def test_folding_does_not_change_what_is_executed():
    rng = np.random.default_rng(2)
    for _ in range(60):
        body = [tuple(wait(s) for s in rng.integers(0, 7, rng.integers(1, 4))) for _ in range(3)]
        units = [body[i] for i in rng.integers(0, 3, 4)]
        for _ in range(3):
            units = units[: int(rng.integers(1, 6))] * int(rng.integers(1, 6)) + [body[int(rng.integers(3))]]
        expected = [w for unit in units for w in words_of(assemble([unit]).to_bytes()) if w]
        assert flat(units) == expected


def test_a_program_too_long_is_refused():
    units = [(Instr("setw", (("base", i),)),) for i in range(300)]
    with pytest.raises(ProgramTooLong, match="has 300 instructions, the instruction memory holds 256"):
        assemble(units, 256)


def test_split_covers_everything():
    for total, parts, unit in [(32, 3, 1), (100, 3, 8), (7, 6, 8), (1, 1, 1), (13, 4, 1)]:
        ranges = split(total, parts, unit)
        assert ranges[0][0] == 0 and ranges[-1][1] == total
        assert all(a[1] == b[0] for a, b in pairwise(ranges))
        assert all(low % unit == 0 for low, _ in ranges)


@pytest.mark.parametrize("words", [16, 48, 100, 144, 500, 1000])
@pytest.mark.parametrize("name", ["conv3x3_large_k", "gemm_map", "conv5x5"])
def test_chunks_cover_a_block_in_order(name, words):
    network = case(name).build(1)
    nest = KERNELS[0].code(network.ops[0], network, PLATFORM)
    kh, kw = nest.kernel
    seen = []
    for chunk in chunks_of(nest.kernel, nest.reads[0][1], nest.lanes, words):
        assert chunk.words <= words
        assert chunk.start == len(seen)
        seen += [
            ((c * kh + r) * kw + k) * nest.lanes + lane
            for c in range(chunk.c0, chunk.c0 + chunk.blocks) for r in range(chunk.r0, chunk.r0 + chunk.rows)
            for k in range(chunk.k0, chunk.k0 + chunk.columns) for lane in range(nest.lanes)
        ]
    assert seen == list(range(nest.weight_words))


def chain_codes(platform=PLATFORM):
    """Layers of a small network, one after the other."""
    network = case("mobilenet_like").build(1)
    codes = []
    for op in network.ops[:12]:
        kernel = next(k for k in reversed(KERNELS) if op.kind in k.op_types and not k.problems(op, network, platform))
        codes.append(compile_nest(kernel.code(op, network, platform), platform))
    return codes


@pytest.mark.parametrize("busy", [False, True])
def test_early_loads_touch_nothing_that_is_in_use(busy):
    codes = chain_codes()
    if busy:  # every second list has no time for others
        codes = [replace(code, cycles=code.cycles * (k % 2)) for k, code in enumerate(codes)]
    layers = prefetch(codes, PLATFORM)
    owner = {p.buffer: k for k, code in enumerate(codes) for t in code.transfers for p in t.pieces if is_code(p)}
    moved = []
    for number, layer in enumerate(layers):
        for t in layer.transfers:
            for p in t.pieces:
                if is_code(p) and owner[p.buffer] != number:
                    moved.append(owner[p.buffer] - number)
                    assert not any(touches(p, between) for between in layers[number : owner[p.buffer]])
    assert len(moved) > 10 and min(moved) > 0 and (max(moved) > 1 or not busy)


def is_code(piece):
    """Whether it is a program or parameters, and not a tensor."""
    return piece.space is not Space.L1


def touches(piece, layer):
    """Whether it writes where a layer's program or weights lie."""
    plan = layer.code.plan
    if piece.space is Space.IMEM:
        low, size = layer.programs_at, max(-(-len(p) // 2) for p, _ in layer.code.programs)
    else:
        low, size = plan.wmem_base, plan.wmem_words
    runs = (piece.local + i1 * piece.local_step1 + i2 * piece.local_step2
            for i1 in range(piece.n1) for i2 in range(piece.n2))  # fmt: skip
    return any(run < low + size and low < run + piece.n0 for run in runs)


def test_what_is_loaded_early_is_taken_by_its_layer():
    """For each cluster and semaphore, the order of all loads over all lists is the order of the layers."""
    layers = prefetch(chain_codes(), PLATFORM)
    owner = {p.buffer: k for k, x in enumerate(layers) for t in x.code.transfers for p in t.pieces if is_code(p)}
    latest = {}
    for t in (t for layer in layers for t in layer.transfers):
        if t.op is DmpaOp.LOAD and is_code(t.pieces[0]):
            number = owner[t.pieces[0].buffer]
            for cluster in t.members:
                assert number >= latest.get((cluster, t.signal), 0)
                latest[cluster, t.signal] = number
