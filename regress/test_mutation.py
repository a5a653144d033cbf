# SPDX-License-Identifier: Apache-2.0
"""Mutants of J3DAI's smallest blocks, judged as `nncosim mutate` does: each is noticed by the block's own bench."""

import pytest
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.mutation.subject import Subject, subject_of
from nncosim.tb.mutation.verdict import KILLED, Judge

LIMIT = 300


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subject_of(PLATFORM)


@pytest.fixture(scope="module")
def judge(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    judge = Judge(subject, tmp_path_factory.mktemp("mutants"), LIMIT)
    judge.prepare()
    return judge


@pytest.mark.parametrize(("block", "after", "bench"), [
    ("registers", "with m.Case(reg >> 3):", "test_hdl_parts.py"),
    ("hdl.counters", "m.d.sync += value.eq(value + 2)", "test_counters.py"),
])  # fmt: skip
def test_a_mutant_is_noticed(judge: Judge, subject: Subject, block: str, after: str, bench: str) -> None:
    mutant = next(each for each in subject.mutants if (each.block, each.after) == (block, after))
    found = judge.judge(mutant)
    assert found.verdict == KILLED and found.own and bench in found.test, found


@pytest.mark.parametrize(("named", "block", "right"), [
    ("drain", "drain", True), ("drain", "odometer", True), ("dmpa_fetch", "dmpa_walk", True),
    ("l2", "line_memory", True), ("sequencer", "operands", True), ("cluster", "hdl.counters", True),
    ("hdl.cv32e40p", "sram", True), ("hdl.line_memory", "sram", True), ("hdl.sram", "line_memory", False),
    ("hdl.banks", "odometer", False),
    ("ncb", "requantizer", False), ("cluster", "requantizer", False),
    ("fetch", "window", False), ("dmpa", "settle", False),
])  # fmt: skip
def test_who_looks_there_finds_it(subject: Subject, named: str, block: str, right: bool) -> None:
    module = f"nncosim.{named}" if named.startswith("hdl.") else f"nncosim.hdl.j3dai.{named}"
    assert subject.describes(subject.graph.names[module], block) == right


def test_benches_of_blocks(subject: Subject) -> None:
    names = {block: [path.name for path in subject.benches(block).own] for block in subject.blocks}
    assert names["requantizer"] == ["test_j3dai_requantizer.py", "test_j3dai_drain.py"]
    assert names["dmpa_fetch"] == ["test_j3dai_dmpa_cycles.py"]  # none imports it: the one that reaches the least
    assert names["sram"][0] == "test_sram.py"  # called like it
    assert names["cv32e40p"] == ["test_cv32e40p_host.py", "test_hdl_parts.py"]  # neither reaches the whole machine
    assert names["soc"] == ["test_j3dai_soc.py", "test_j3dai_soc_entry.py", "test_j3dai_soc_wires.py"]
    assert all(names.values())
    around = {path.name for block in subject.blocks for path in subject.benches(block).around}
    assert "test_j3dai_cluster.py" in around and "test_timing.py" not in around  # of area and timing only
