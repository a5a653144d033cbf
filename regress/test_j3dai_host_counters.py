# SPDX-License-Identifier: Apache-2.0
"""The host reads the performance counters: a program on the real core, in the whole SoC, with real clusters.

The compiled layer's own firmware, extended: when the layer is done, it reads every counter over MMIO and stores it in
its memory. The bench reads the counters' wires in every cycle, and the memory: each word that the host stored must be
what the wires showed a fixed number of cycles before the store, counters that still run included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from nncosim.compiler.j3dai.firmware import LayerStart, compile_host, firmware_source
from nncosim.compiler.j3dai.notes import ListNote, j3dai_notes
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, Counter
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_case, random_inputs
from nncosim.regress.j3dai_target import simulation
from nncosim.tb.j3dai.build import engine_names, host_memory, split_counters
from nncosim.tb.j3dai.rtl import load_image, write_inputs
from nncosim.tb.sim.model import Model

CASE = "conv3x3_16"
ENGINES = (*range(PLATFORM.clusters), 8, 9)
"""Numbers for COUNTER_SELECT, in the order of `engine_names`."""
AT = PLATFORM.host_dmem_bytes // 2
"""Where in its data memory the host stores what it read."""
FROM_READ_TO_STORE = 12
"""At most so many cycles lie between the two."""

READER = """
static void read_counters(void)
{
    static const uint32_t engines[] = { @engines@ };
    volatile uint32_t *out = (volatile uint32_t *)@at@u;

    for (uint32_t e = 0; e < sizeof engines / sizeof *engines; e++)
        for (uint32_t kind = 0; kind < @kinds@u; kind++) {
            J3DAI_COUNTER_SELECT = engines[e] | kind << 4;
            *out++ = J3DAI_COUNTER_VALUE;
        }
}

__attribute__((noreturn, used)) void host_main(void)
"""


def firmware(lists: Sequence[ListNote]) -> str:
    """The image's own host program, which reads all counters before it reports the inference done."""
    starts = [LayerStart(i, each.word, each.clusters, each.program_counter) for i, each in enumerate(lists)]
    source = firmware_source(PLATFORM, starts)
    reader = READER.replace("@engines@", ", ".join(map(str, ENGINES))).replace("@kinds@", str(len(Counter)))
    head, call = "\n__attribute__((noreturn, used)) void host_main(void)\n", "        infer();\n"
    assert source.count(head) == 1 and source.count(call) == 1
    source = source.replace(head, reader.replace("@at@", hex(HOST_DMEM_BASE + AT)))
    return source.replace(call, call + "        read_counters();\n")


@pytest.fixture(scope="module")
def readings() -> tuple[npt.NDArray[np.int64], list[int], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """One layer. The words the host stored (engine, kind), the cycle of each store, the wires (cycle, engine, kind),
    and the wires when the layer was done.
    """
    compiled = compile_case(CASE, 1)
    host = compile_host(firmware(j3dai_notes(compiled.image).lists), PLATFORM)
    others = tuple(s for s in compiled.image.segments if not s.memory.startswith("host"))
    image = replace(compiled.image, segments=(*host, *others))
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
