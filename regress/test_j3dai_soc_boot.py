# SPDX-License-Identifier: Apache-2.0
"""The J3DAI SoC boots its host: C on the real core, lists through the DMPA, WFI and the interrupt."""

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from elftools.elf.elffile import ELFFile
from nncosim.hdl.counters import EngineCounters
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.counters import NO_STATE
from nncosim.hdl.j3dai.header import c_header
from nncosim.hdl.j3dai.isa import Descriptor, DmpaOp
from nncosim.hdl.j3dai.l2 import l2_memory
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, Counter
from nncosim.hdl.j3dai.timing import LOAD_TO_CLUSTER
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.errors import SimulationError
from nncosim.tb.j3dai import build as j3dai
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build

PLATFORM = replace(J3dai(), clusters=2, l2_bytes=256 * 1024)

LINKER_SCRIPT = """
ENTRY(_start)
SECTIONS {
  .text 0x00000000 : { KEEP(*(.start)) *(.text*) }
  .data 0x00100000 : { *(.rodata*) *(.srodata*) *(.data*) *(.sdata*) *(.bss*) *(.sbss*) *(COMMON) }
  /DISCARD/ : { *(.comment) *(.eh_frame*) *(.riscv.attributes) }
}
"""

PROGRAM = """
#include "j3dai.h"
__attribute__((naked, section(".start"))) void _start(void) {
    __asm__ volatile("li sp, 0x00140000\\n j run");
}
static const uint32_t lists[] = {@lists@};
static volatile char text[8] = "........";
static void wait_lists(uint32_t count) {
    while (J3DAI_LISTS_DONE != count) __asm__ volatile("wfi");
    J3DAI_IRQ_LISTS_SEEN = count;
}
void run(void) {
    __asm__ volatile("csrw mie, %0" :: "r"(1u << J3DAI_IRQ_LINE));
    if (J3DAI_ID != J3DAI_ID_VALUE) J3DAI_ERROR = 1;
    uint32_t done = 0;
    for (;;) {
        while (J3DAI_FRAMES_REQUESTED == J3DAI_FRAMES_DONE) __asm__ volatile("wfi");
        J3DAI_IRQ_FRAMES_SEEN = J3DAI_FRAMES_REQUESTED;
        for (unsigned i = 0; i < sizeof lists / sizeof *lists; i++) {
            while ((J3DAI_DMPA_STATUS & 7) == 0) {}
            J3DAI_DMPA_PUSH = lists[i];
            done++;
        }
        wait_lists(done);
        text[(done / 4) % 8] = 'x'; /* a byte write */
        J3DAI_FRAMES_DONE = J3DAI_FRAMES_DONE + 1;
    }
}
"""


class MemoryCluster(wiring.Component):
    """The ports of a cluster around an L1 with one port; it never runs, and its drains are a fixed pattern."""

    def __init__(self, platform: J3dai):
        self.l1_platform = platform.with_parameters(l2_bytes=platform.l1_bytes)
        super().__init__({
            "start": In(1), "start_pc": In(9), "wr_valid": In(1), "wr_space": In(2), "wr_addr": In(14),
            "wr_mask": In(8), "wr_data": In(1024), "rd_valid": In(1), "rd_addr": In(14), "signal_in": In(8),
            "in_frame": In(1), "dmpa_idle": In(1),
            "rd_data": Out(1024), "drain_ahead": Out(1), "signal_out": Out(8), "running": Out(1), "armed": Out(1),
            "trap": Out(1), "counters": Out(192), "probe": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.l1 = l1 = l2_memory(self.l1_platform)
        m.submodules.counter = counter = EngineCounters(Counter)
        state = Signal(3, init=NO_STATE)
        m.d.sync += state.eq(Counter.IDLE)
        m.d.comb += [self.counters.eq(counter.counters), counter.state.eq(state)]
        write, rd_valid, rd_addr, tick = Signal(), Signal(), Signal(14), Signal(3)
        delayed = {name: Signal(len(getattr(self, name)), name=f"d_{name}")
                   for name in ("wr_addr", "wr_mask", "wr_data")}
        m.d.sync += [write.eq(self.wr_valid & (self.wr_space == 0)), rd_valid.eq(self.rd_valid),
                     rd_addr.eq(self.rd_addr), tick.eq(tick + 1)]
        m.d.sync += [signal.eq(getattr(self, name)) for name, signal in delayed.items()]
        m.d.comb += [
            l1.w_en.eq(write), l1.w_data.eq(delayed["wr_data"]), l1.r_en.eq(rd_valid & ~write),
            l1.addr.eq(Mux(write, delayed["wr_addr"], rd_addr)), l1.mask.eq(Mux(write, delayed["wr_mask"], 0xFF)),
            self.drain_ahead.eq(tick == 0),
        ]
        m.d.sync += self.rd_data.eq(l1.r_data)
        # Echo every increment: a descriptor can then wait for one before it.
        m.d.comb += self.signal_out.eq(self.signal_in)
        return m


def compile_c(folder, source: str, platform: J3dai) -> dict[int, bytes]:
    """Address to bytes of the program's loadable parts."""
    (folder / "j3dai.h").write_text(c_header(platform))
    (folder / "main.c").write_text(source)
    (folder / "link.ld").write_text(LINKER_SCRIPT)
    subprocess.run([sys.executable, "-m", "ziglang", "cc", "-target", "riscv32-freestanding-none",
                    "-mcpu=generic_rv32+m+c", "-O2", "-ffreestanding", "-fno-pic", "-nostdlib", "-static",
                    "-fno-sanitize=undefined", "-Wl,-T,link.ld", "-o", "main.elf", "main.c"], cwd=folder, check=True)
    elf = ELFFile(io.BytesIO((folder / "main.elf").read_bytes()))
    return {section["sh_addr"]: section.data() for section in elf.iter_sections()
            if section["sh_flags"] & 2 and section["sh_size"]}


def load_program(model: Model, sections: dict[int, bytes]) -> None:
    for address, data in sections.items():
        name = "dmem" if address >= HOST_DMEM_BASE else "imem"
        j3dai.write_host(model, name, address % HOST_DMEM_BASE, data)


def descriptor(op: DmpaOp, **fields: int) -> bytes:
    return encode(Descriptor, op=op.value, **fields).to_bytes(32, "little")


@pytest.fixture(scope="module")
def soc():
    return j3dai.build_soc(PLATFORM, cluster=MemoryCluster)


def boot(model: Model, tmp_path) -> np.ndarray:
    """Load a program whose four lists copy 100 words, turned by 2 rows, and the data; gives the data."""
    data = np.random.default_rng(5).integers(0, 256, (100, 16), np.uint8)
    j3dai.write_l2(model, 1001, data)
    place = {
        4000: descriptor(DmpaOp.LOAD, end=1, clusters=3, l2=1001, local=37, n0=100, signal_mask=3, signal_semaphore=2),
        4008: descriptor(DmpaOp.STORE, end=1, clusters=2, l2=2003, local=37, n0=50, wait_mask=3, wait_semaphore=2),
        4016: descriptor(DmpaOp.STORE, clusters=1, l2=2053, local=87, n0=10, n1=5, l2_step1=10, local_step1=10)
        + descriptor(DmpaOp.SYNC, end=1),
        4024: descriptor(DmpaOp.SYNC, end=1, signal_mask=1, signal_semaphore=5),
    }
    for address, line in place.items():
        j3dai.write_l2(model, address, line)
    load_program(model, compile_c(tmp_path, PROGRAM.replace("@lists@", ", ".join(map(str, place))), PLATFORM))
    model.monitor_enable = 1
    model.reset()
    return data


def request(model: Model) -> None:
    model.frame = 1
    model.tick()
    model.frame = 0


def test_boot_copy_sleep(soc, tmp_path):
    with Model(soc) as model:
        data = boot(model, tmp_path)
        model.run_until("probe_host_sleeping", 1, 2000)
        for frame in range(1, 4):
            j3dai.write_l2(model, 2003, bytes(1600))
            request(model)
            model.run_until("frames_done", frame, 5000)
            assert model.error == 0 and not model.trap and model.lists_done == 4 * frame
            assert (j3dai.read_l2(model, 2003, 100) == data).all()
            model.run_until("probe_host_sleeping", 1, 2000)
        text = j3dai.read_host(model, "dmem").tobytes()
        assert b".xxx...." in text
        # What the monitors saw.
        writes = model.log(j3dai.L2_WRITE_STREAM, j3dai.l2_write_dtype())
        assert set(writes["list"] % 4) == {1, 2} and sum(bin(mask).count("1") for mask in writes["mask"]) == 300
        first = writes[0]
        assert first["address"] == 2003 and first["mask"] == 0xFF and (first["data"] == data[:8]).all()
        lists = model.log(j3dai.LIST_DONE_STREAM, j3dai.LIST_DONE)
        assert list(lists["list"]) == list(range(12)) and (np.diff(lists["cycle"].astype(int)) > 0).all()
        frames = model.log(j3dai.FRAME_DONE_STREAM, j3dai.FRAME_DONE)
        assert list(frames["frames"]) == [1, 2, 3]
        records = model.log(j3dai.COUNTERS_STREAM, j3dai.counters_dtype(PLATFORM))
        assert len(records) == 12 + 3 + 3
        assert (records["counters"].sum(axis=2) == records["cycle"][:, None]).all(), "of all cycles before"
        last = j3dai.split_counters(PLATFORM, model.probe_counters)
        assert all(sum(engine.values()) == model.probe_cycle - 1 for engine in last.values())
        assert last["dmpa"]["busy"] == 3 * (13 + 7 + 10)
        assert last["dmpa"]["wait_port"] > 0 and last["host"]["wait_data"] > 0 and last["host"]["idle"] > 0


def test_a_frame_requested_as_reset_ends_is_not_lost(soc, tmp_path):
    """The bench may pulse `frame` in the first cycle after reset: it counts in cycle 0."""
    with Model(soc) as model:
        data = boot(model, tmp_path)
        request(model)
        model.run_until("frames_done", 1, 5000)
        assert (j3dai.read_l2(model, 2003, 100) == data).all()
        records = model.log(j3dai.COUNTERS_STREAM, j3dai.counters_dtype(PLATFORM))
        assert records["cycle"][0] == 0 and not records["counters"][0].any()


def test_traps_reach_the_port(soc, tmp_path):
    with Model(soc) as model:
        boot(model, tmp_path)
        j3dai.write_l2(model, 4008, descriptor(DmpaOp.STORE, end=1, clusters=2, l2=2003, n0=0))
        request(model)
        model.run_until("trap", 1, 5000)
        model.tick(3000)
        assert model.probe_trap == 1 << 8 and model.lists_done == 1 and model.frames_done == 0
        assert model.probe_dmpa & 0xFFFFF == 4008


def built_monitors() -> BuiltModel:
    path = Path(j3dai.__file__).parent / "monitors.sv"
    return build({}, "j3dai_monitors", files=[path], parameters={"CLUSTERS": 2, "LOAD_TO_CLUSTER": LOAD_TO_CLUSTER})


@pytest.mark.parametrize("seed", range(1, 9))
def test_monitors_record_nothing_before_the_first_edge(seed):
    """Whatever their registers hold when the power comes."""
    with Model(built_monitors(), seed=seed) as model:
        model.enable = 1
        model.eval()
        assert not len(model.log(j3dai.COUNTERS_STREAM)) and not len(model.log(j3dai.TRANSFERS_STREAM))


@pytest.fixture
def monitors():
    """The monitors alone, on a clean cycle 5 with right counters."""
    with Model(built_monitors()) as model:
        model.reset()
        model.enable, model.cycle, model.counters = 1, 5, counters(4)
        model.tick(5)
        yield model


def counters(cycles: int) -> int:
    """Four engines' counters that add up to `cycles` in different ways."""
    values = [cycles, 0, 0, 0, 0, 0, 0, cycles - 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, cycles, 1, 1, 1, cycles - 3, 0, 0]
    return sum(value << (32 * k) for k, value in enumerate(values))


@pytest.mark.parametrize("sources", range(16))
def test_monitor_of_l2s_port(monitors, sources):
    monitors.l2_sources = sources
    if sources in (0, 1, 2, 4, 8):
        monitors.tick(2)
    else:
        with pytest.raises(SimulationError, match="port"):
            monitors.tick()


@pytest.mark.parametrize("distance", range(1, LOAD_TO_CLUSTER + 2))
def test_monitor_of_drains(monitors, distance):
    """`drain_ahead` LOAD_TO_CLUSTER cycles before a LOAD beat at the same cluster is a collision, nothing else is."""
    monitors.drain_ahead = 2
    monitors.tick()
    monitors.drain_ahead = 0
    monitors.tick(distance - 1)
    monitors.wr_valid = 1
    monitors.tick()  # the other cluster
    monitors.tick(LOAD_TO_CLUSTER + 2)
    monitors.drain_ahead, monitors.wr_valid = 2, 0
    monitors.tick()
    monitors.drain_ahead = 0
    monitors.tick(distance - 1)
    monitors.wr_valid = 3
    if distance == LOAD_TO_CLUSTER:
        with pytest.raises(SimulationError, match="drain"):
            monitors.tick()
    else:
        monitors.tick()


@pytest.mark.parametrize("bit", [0, 7, 8, 15])
def test_monitor_of_output_semaphores(monitors, bit):
    monitors.tick(2)
    monitors.lost = 1 << bit
    with pytest.raises(SimulationError, match=f"cluster {bit // 8} signals output semaphores {1 << bit % 8:08b}"):
        monitors.tick()


@pytest.mark.parametrize("bit", [23, 30, 32 + 23, 32 + 30])
def test_monitor_of_input_semaphores(monitors, bit):
    monitors.cluster = ((1 << 23) - 1) * (1 + (1 << 32))
    monitors.tick(2)
    monitors.cluster |= 1 << bit
    with pytest.raises(SimulationError, match=f"input semaphores {1 << bit % 32 - 23:08b} of cluster {bit // 32}"):
        monitors.tick()


def test_monitor_of_counters(monitors):
    for engine in range(4):
        monitors.counters = counters(4) ^ 1 << (32 * (6 * engine + 3) + 9)
        monitors.tick(3)  # not looked at
        monitors.list_done = 1
        monitors.enable = 0
        monitors.tick()  # switched off
        monitors.list_done, monitors.enable = 0, 1
        monitors.counters = counters(4)
        monitors.list_done = 1
        monitors.tick()
        monitors.list_done = 0
    # Two beats and a wait of the DMPA (engine 2): its transfers must have them too.
    monitors.counters = counters(4) + (2 << 32 * 12) + (1 << 32 * 13) - (3 << 32 * 17)
    monitors.transfers = (1 << 32 * 1) + (1 << 32 * (7 + 1)) + (1 << 32 * (14 + 4))
    monitors.list_done = 1
    monitors.tick()
    monitors.list_done = 0
    monitors.counters = counters(4) + (1 << (32 * 13))
    monitors.list_done = 1
    with pytest.raises(SimulationError, match="engine 2"):
        monitors.tick()


@pytest.mark.parametrize(("kind", "counter"), [(0, 1), (1, 1), (2, 4), (0, 4), (0, 6)])
def test_monitor_of_transfers(monitors, kind, counter):
    """LOAD and STORE beats, waits of all kinds: one that the DMPA's own counters do not have."""
    monitors.transfers = 1 << 32 * (7 * kind + counter)
    monitors.tick(3)  # not looked at
    monitors.list_done = 1
    with pytest.raises(SimulationError, match="transfers"):
        monitors.tick()
