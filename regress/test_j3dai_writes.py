# SPDX-License-Identifier: Apache-2.0
"""Write side of a cluster's memories: LOAD beats and lines of results, to banks, rows and enables."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.j3dai import writes
from nncosim.hdl.j3dai.isa import Space
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.block_bench import simulate
from nncosim.regress.j3dai_block_bench import MACHINES, addresses, machine
from nncosim.regress.planted import planted


def write_differences(module: ModuleType, platform: J3dai, seed: int) -> list[str]:
    """Beats and lines at every alignment, with every single word and with any mask, to all spaces; a cycle each. Where
    a beat meets a line, the line is written."""
    rng, dut, bad = np.random.default_rng(seed), module.WritePath(platform), []
    line, low = platform.banks, (1 << 14) // platform.banks

    def some(ctx: Any, address: int, port_address: Any, port_mask: Any) -> dict[int, tuple[int, int]]:
        """Drive an address and a mask. Bank to (row, which word)."""
        mask = int(rng.choice([1 << int(rng.integers(line)), (1 << line) - 1, int(rng.integers(1 << line))]))
        ctx.set(port_address, address)
        ctx.set(port_mask, mask)
        return {(address + i) % line: ((address + i) // line % low, i) for i in range(line) if mask >> i & 1}

    async def bench(ctx: Any) -> None:
        for address in addresses(rng, line):
            for valid, space, drained in ((1, 0, 0), (1, 1, 0), (1, 2, 0), (1, 3, 0), (0, int(rng.integers(4)), 0),
                                          (0, 0, 1), (1, int(rng.integers(4)), 1)):
                beat, result = ([int.from_bytes(rng.bytes(platform.word_bytes), "little") for _ in range(line)]
                                for _ in range(2))
                other = int(rng.integers(1 << 14))
                loaded = some(ctx, other if drained else address, dut.wr_addr, dut.wr_mask)
                written = some(ctx, address if drained else other, dut.drain_addr, dut.drain_mask)
                for port, value in ((dut.wr_valid, valid), (dut.wr_space, space), (dut.drain, drained)):
                    ctx.set(port, value)
                ctx.set(dut.wr_data, sum(word << platform.word_bits * i for i, word in enumerate(beat)))
                for port, value in zip(dut.drain_words, result, strict=True):
                    ctx.set(port, value)
                to_l1 = ctx.get(dut.to_l1)
                await ctx.tick()
                places, words = (written, result) if drained else (loaded, beat)
                target = Space.L1 if drained else space if valid else None
                got = {which: {b: (ctx.get(dut.row[b]), ctx.get(dut.data[b])) for b in range(line)
                               if ctx.get(port) >> b & 1}
                       for which, port in ((Space.L1, dut.l1_en), (Space.WMEM, dut.wmem_en), (Space.IMEM, dut.imem_en))}
                want = {which: {b: (row, words[i]) for b, (row, i) in places.items()} if target == which else {}
                        for which in (Space.L1, Space.WMEM, Space.IMEM)}
                if got != want or to_l1 != (target == Space.L1):
                    bad.append(f"address {address}, drain {drained}, space {space}: {got}, expected {want}")

    simulate(dut, bench)
    return bad


@pytest.mark.parametrize("size", MACHINES)
def test_load_beats_and_lines(size: tuple[int, int], seed: int) -> None:
    bad = write_differences(writes, machine(*size), seed)
    assert not bad, f"seed {seed}: {bad[0]}"


@pytest.mark.parametrize("right, wrong", [
    ("amount.eq(-address", "amount.eq(address"), ("self.wr_valid & ~self.drain", "~self.drain"),
    ("self.wr_valid & ~self.drain", "self.wr_valid"),
    ("mask = Mux(self.drain, self.drain_mask, self.wr_mask)", "mask = self.wr_mask"),
    ("to_l1.eq(self.drain | ", "to_l1.eq("),
])  # fmt: skip
def test_planted_bug_is_noticed(right: str, wrong: str) -> None:
    assert write_differences(planted(writes, right, wrong), machine(8, 4), 1)
