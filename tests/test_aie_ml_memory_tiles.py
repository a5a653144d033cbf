# SPDX-License-Identifier: Apache-2.0
"""Buffers in memory tiles: whom the locks let write and read, in any order of events; and what plans have of them."""

import random
from collections import Counter

import pytest
from nncosim.compiler.aie_ml.backend import AieMlBackend
from nncosim.compiler.aie_ml.memory_tiles import Access, MemoryBuffer, descriptors_of
from nncosim.compiler.aie_ml.walks import Order, Storage
from nncosim.compiler.compile import compile_network
from nncosim.compiler.errors import CompileError
from nncosim.compiler.frontend import import_model
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.aie_ml_generation import AIE_ML
from nncosim.regress.dense_models import DenseSpec, compiled
from nncosim.regress.token_models import residual_mlp


def buffer(writers: int, readers: int, copies: int) -> MemoryBuffer:
    part = (0, 8 * writers)
    parts = [(8 * k, 8 * k + 8) for k in range(writers)]
    return MemoryBuffer(0, 1, "t", part, Storage.TILES, 8, 8, copies, AIE_ML,
                        [Access(k, each, Order.TILES) for k, each in enumerate(parts)],
                        [Access(k, part, Order.TILES) for k in range(readers)])  # fmt: skip


class Channels:
    """Descriptors as a DMA does them: acquire, move, release; each channel one event at a time, in any order; one is
    slow."""

    def __init__(self, made: MemoryBuffer, seed: int):
        self.made, self.rng = made, random.Random(seed)
        channels, values = descriptors_of(made, 0)
        self.locks = Counter(values)
        both = (("s2mm", made.writers), ("mm2s", made.readers))
        self.chains = [channels[kind, access.channel] for kind, accesses in both for access in accesses]
        self.at = [(0, "acquire")] * len(self.chains)
        self.done = [0] * len(self.chains)  # buffers that a channel has moved
        self.slow = self.rng.randrange(len(self.chains))
        self.wrong: list[str] = []

    def step(self) -> bool:
        """Whether any channel could do something."""
        ready = []
        for k, (number, phase) in enumerate(self.at):
            first = self.chains[k][0][0]
            each = dict(self.chains[k])[number + first]
            if phase != "acquire" or each.acquire is None or self.locks[each.acquire[0]] >= each.acquire[1]:
                ready.append((k, each, phase))
        if not ready:
            return False
        others = [one for one in ready if one[0] != self.slow]
        k, each, phase = self.rng.choice(others if others and self.rng.random() < 0.95 else ready)
        number = self.at[k][0]
        if phase == "acquire":
            if each.acquire is not None:
                self.locks[each.acquire[0]] -= each.acquire[1]
            self.at[k] = number, "move"
        elif phase == "move":
            if each.length:
                self._check(k)
                self.done[k] += 1
            self.at[k] = number, "release"
        else:
            if each.release is not None:
                self.locks[each.release[0]] += each.release[1]
            self.at[k] = each.next - self.chains[k][0][0], "acquire"
        return True

    def _check(self, k: int) -> None:
        writers, copies, turn = len(self.made.writers), self.made.copies, self.done[k]
        if k < writers and min(self.done[writers:]) < turn + 1 - copies:
            self.wrong.append(f"writer {k} overwrites what is not read")
        if k >= writers and min(self.done[:writers]) < turn + 1:
            self.wrong.append(f"reader {k} reads what is not written")


SHAPES = [(w, r, c) for w in (1, 2, 3, 6) for r in (1, 2, 5, 6) for c in (1, 2, 4)]


@pytest.mark.parametrize(("writers", "readers", "copies"), SHAPES)
def test_each_copy_is_written_by_all_then_read_by_all(writers, readers, copies):
    for seed in range(5):
        run = Channels(buffer(writers, readers, copies), seed)
        for _ in range(4000):
            assert run.step(), "nothing can go on"
        assert run.wrong == [] and min(run.done) > 3
        assert max(run.done) - min(run.done) <= copies


@pytest.mark.parametrize(("writers", "readers"), [(1, 2), (2, 1), (3, 3)])
def test_a_token_too_many_is_seen(writers, readers):
    """For each lock: one more at the begin lets something come too early."""
    seen = 0
    locks = {each.acquire[0] for chain in Channels(buffer(writers, readers, 2), 0).chains for _, each in chain
             if each.acquire}  # fmt: skip
    for lock in locks:
        runs = [Channels(buffer(writers, readers, 2), seed) for seed in range(12)]
        for run in runs:
            run.locks[lock] += 1
            for _ in range(3000):
                if not run.step():
                    break
        seen += any(run.wrong for run in runs)
    assert seen == len(locks)


def test_a_split_that_tiles_have_too_few_channels_for_goes_through_a_memory_tile():
    spec, splits = DenseSpec((32, 64, 64)), [(1, 8), (2, 2)]
    with pytest.raises(CompileError, match=r"tile dense1 .* would need more than 2 streams into it"):
        compiled(spec, AieMl(memory_rows=0), splits=splits)
    made = compiled(spec, AieMl(memory_rows=2), splits=splits)
    (one, two) = made.lowered.private.plan.memory
    assert {(len(each.writers), len(each.readers)) for each in (one, two)} == {(4, 1)}
    assert {each.part for each in (one, two)} == {(0, 32), (32, 64)} and one.column != two.column


def test_what_waits_for_other_layers_waits_in_a_memory_tile():
    network = import_model(residual_mlp(32, 2), name="residual", keep_batch=True)
    made = compile_network(network, AieMl(memory_rows=1), backend=AieMlBackend(splits=[(1, 1)] * 6))
    found = {each.tensor: (each.storage, each.copies) for each in made.lowered.private.plan.memory}
    assert found == {"x": (Storage.ROWS, 3), network.ops[2].output: (Storage.TILES, 3)}
