# SPDX-License-Identifier: Apache-2.0
"""The host reads the performance counters: a program on the real core, in the whole SoC, with real clusters.

The compiled layer's own firmware, extended: when the layer is done, it reads every counter over MMIO and stores it in
its memory. The bench reads the counters' wires in every cycle, and the memory: each word that the host stored must be
what the wires showed a fixed number of cycles before the store, counters that still run included.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from nncosim.hdl.j3dai.regs import Counter
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_case, random_inputs
from nncosim.regress.host_counters import place, with_reader
from nncosim.regress.j3dai_target import simulation
from nncosim.tb.j3dai.build import engine_names, host_memory, split_counters
from nncosim.tb.j3dai.rtl import load_image, write_inputs
from nncosim.tb.sim.model import Model

CASE = "conv3x3_16"
ENGINES = (*range(PLATFORM.clusters), 8, 9)
"""Numbers for COUNTER_SELECT, in the order of `engine_names`."""
AT = place(PLATFORM)
FROM_READ_TO_STORE = 12
"""At most so many cycles lie between the two."""

@pytest.fixture(scope="module")
def readings() -> tuple[npt.NDArray[np.int64], list[int], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """One layer. The words the host stored (engine, kind), the cycle of each store, the wires (cycle, engine, kind),
    and the wires when the layer was done.
    """
    compiled = compile_case(CASE, 1)
    image = with_reader(compiled, PLATFORM, ENGINES, len(Counter))
    names, wires = engine_names(PLATFORM), []
    stored: dict[int, int] = {}
    with Model(simulation(PLATFORM), seed=1) as model:
        model.poison(1)
        load_image(model, PLATFORM, image)
        model.monitor_enable = 1
        model.reset(cycles=4)
        write_inputs(model, image, random_inputs(compiled.network, 1))
        model.frame = 1
        model.tick()
        model.frame = 0
        memory, place = host_memory(model, "dmem"), slice(AT // 4, AT // 4 + len(ENGINES) * len(Counter))
        before = memory[place].view("<u4").reshape(-1)  # poison
        model.run_until("lists_done", 1, 4 * compiled.iss_cycles)
        while not model.frames_done:
            counters = split_counters(PLATFORM, model.probe_counters)
            wires.append([[counters[name][kind.name.lower()] for kind in Counter] for name in names])
            words = memory[place].view("<u4").reshape(-1)
            stored |= {int(i): len(wires) - 1 for i in np.flatnonzero(words != before) if int(i) not in stored}
            model.tick()
            assert len(wires) < 5000 and not model.trap and not model.error
        found = memory[place].view("<u4").reshape(-1).astype(np.int64).reshape(len(ENGINES), len(Counter))
    cycles = [stored[i] for i in range(found.size)]
    return found, cycles, np.array(wires, np.int64), np.array(wires[0], np.int64)


def delays(found: npt.NDArray[np.int64], cycles: list[int], wires: npt.NDArray[np.int64]) -> list[int]:
    """The delays between reading and storing that explain every word: one constant."""
    read, shown = found.reshape(-1), wires.reshape(len(wires), -1)
    possible = range(1, FROM_READ_TO_STORE + 1)
    return [d for d in possible if all(shown[c - d, i] == read[i] for i, c in enumerate(cycles))]


def test_the_host_stores_what_the_bench_reads(readings):
    found, cycles, wires, _ = readings
    assert cycles == sorted(set(cycles)), "the host stores one word after the other"
    assert len(delays(found, cycles, wires)) == 1


def test_what_stands_still_is_equal_and_what_runs_lies_between(readings):
    """The layer is done: clusters and DMPA only wait for the host now; the host's own counters run on."""
    found, _, wires, done = readings
    still = [Counter.BUSY, Counter.WAIT_PORT]
    assert (found[:-1, still] == done[:-1, still]).all() and (found[:-1, Counter.BUSY] > 0).all()
    assert (found >= done).all() and (found <= wires[-1]).all()
    assert found[-1].sum() > done[-1].sum()


@pytest.mark.parametrize(("engine", "kind"), [(0, 0), (3, 1), (6, 0), (7, 0), (7, 5)])
def test_a_wrong_word_is_noticed(readings, engine, kind):
    found, cycles, wires, _ = readings
    wrong = found.copy()
    wrong[engine, kind] += 1
    assert delays(wrong, cycles, wires) == []


def test_engines_in_another_order_are_noticed(readings):
    found, cycles, wires, _ = readings
    order = [*range(len(found))]
    other = next(k for k in order if (found[k] != found[0]).any())
    order[0], order[other] = other, 0
    assert delays(found[order], cycles, wires) == []
    assert delays(found[[*range(len(found) - 2), -1, -2]], cycles, wires) == []
