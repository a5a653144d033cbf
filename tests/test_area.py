# SPDX-License-Identifier: Apache-2.0
"""The area of a machine: sums by hand, and how it follows the machine's parameters."""

import pytest
from nncosim.platforms.area import BIT_NAND2, CELL_SHARE, TWO_PORT, Area, LogicBlock, sram_nand2
from nncosim.platforms.base import Memory
from nncosim.platforms.j3dai import PLATFORM
from nncosim.platforms.j3dai_area import COEFFICIENTS, FEATURES


def test_sums() -> None:
    area = Area((LogicBlock("a", 3, 10, 5), LogicBlock("b", 1, 1, 0)),
                (Memory("m", 128, 32, instances=2), Memory("n", 64, 32, ports=2)))
    assert area.logic_nand2 == 46
    assert (area.bits(1), area.bits(2)) == (2048, 512)
    assert area.sram_nand2 == pytest.approx((2048 + TWO_PORT * 512) * BIT_NAND2 / CELL_SHARE)
    assert area.total == area.logic_nand2 + area.sram_nand2
    assert sram_nand2(100, 2) == pytest.approx(TWO_PORT * sram_nand2(100, 1))


def test_ports_of_the_memories() -> None:
    """L2 and the host's memories read or write; a cluster's memories do both in a cycle."""
    ports = {memory.name: memory.ports for memory in PLATFORM.memories}
    assert ports == {"l2": 1, "host_imem": 1, "host_dmem": 1, "l1": 2, "wmem": 2, "imem": 2}
    assert PLATFORM.area.bits(2) == 6 * 8 * 100 * 1024


def test_every_block_has_its_model() -> None:
    assert COEFFICIENTS.keys() == FEATURES.keys()
    for name, rows in COEFFICIENTS.items():
        assert {len(row) for row in rows} == {len(FEATURES[name](PLATFORM))}


@pytest.mark.parametrize("smaller", [
    {"clusters": 3}, {"ncbs_per_cluster": 8}, {"pes_per_ncb": 4, "dmpa_bits": 512}, {"l2_bytes": 1 << 20}])
def test_less_machine_takes_less(smaller: dict[str, int]) -> None:
    machine = PLATFORM.with_parameters(**smaller)
    assert machine.area.total < PLATFORM.area.total
    assert all(block.gates > 0 for block in machine.area.logic)


def test_half_the_clusters() -> None:
    """What there is in each cluster halves; the rest is hardly less."""
    whole = {block.name: block.total for block in PLATFORM.area.logic}
    half = {block.name: block.total for block in PLATFORM.with_parameters(clusters=3).area.logic}
    for name in ("PEs of an NCB", "requantizer", "cluster without NCBs"):
        assert half[name] == pytest.approx(whole[name] / 2)
    assert half["host"] == whole["host"] and half["L2's logic"] == whole["L2's logic"]
