# SPDX-License-Identifier: Apache-2.0
"""A host: a cv32e40p core (RV32IMC) with its instruction and data memories, and a port to registers."""

import enum
from dataclasses import dataclass
from pathlib import Path

import pythondata_cpu_cv32e40p
from amaranth.hdl import Cat, ClockSignal, Const, Elaboratable, Instance, Module, Mux, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.counters import COUNTER_BITS, EngineCounters, no_state, state_bits
from nncosim.hdl.errors import HdlError
from nncosim.hdl.sram import SramStack
from nncosim.platforms.base import is_power_of_two

__all__ = ["CORE", "CORE_PARAMETERS", "CORE_PORTS", "IRQ_LINE", "Cv32e40pHost", "HostMap", "core_files",
           "core_include_dirs"]

IRQ_LINE = 16

CORE = "cv32e40p_top"
CORE_PORTS: dict[str, tuple[str, int]] = {
    **{f"{name}_i": ("in", 1) for name in (
        "clk", "pulp_clock_en", "scan_cg_en", "instr_gnt", "instr_rvalid", "data_gnt", "data_rvalid",
        "debug_req", "fetch_enable")},
    "rst_ni": ("in", 1),
    **{f"{name}_i": ("in", 32) for name in (
        "boot_addr", "mtvec_addr", "dm_halt_addr", "hart_id", "dm_exception_addr", "instr_rdata", "data_rdata", "irq")},
    "instr_req_o": ("out", 1), "instr_addr_o": ("out", 32), "data_req_o": ("out", 1), "data_we_o": ("out", 1),
    "data_be_o": ("out", 4), "data_addr_o": ("out", 32), "data_wdata_o": ("out", 32), "core_sleep_o": ("out", 1),
}  # fmt: skip
"""Ports of the host's core, cv32e40p, as the host uses them: direction and bits."""

CORE_PARAMETERS = {
    "COREV_PULP": 0, "COREV_CLUSTER": 0, "FPU": 0, "FPU_ADDMUL_LAT": 0, "FPU_OTHERS_LAT": 0, "ZFINX": 0,
    "NUM_MHPMCOUNTERS": 0}
"""Its parameters, and what the host gives, or they are."""

_CORE = Path(pythondata_cpu_cv32e40p.data_location)


def core_files() -> list[Path]:
    """SystemVerilog sources of the core, packages first; from its manifest, with the simulation's clock gate."""
    files = []
    for line in (_CORE / "cv32e40p_manifest.flist").read_text().splitlines():
        if line.startswith("${DESIGN_RTL_DIR}"):
            path = (_CORE / "rtl" / line.removeprefix("${DESIGN_RTL_DIR}/").strip()).resolve()
            if "tracer" not in path.name and "tb_wrapper" not in path.name:
                files.append(path)
    return files


def core_include_dirs() -> list[Path]:
    """Include folders of the core."""
    return [_CORE / "rtl" / "include"]


@dataclass(frozen=True)
class HostMap:
    """Where the core finds its instruction memory, which begins with the reset vector, its data memory and the
    registers: the last two at powers of two."""

    imem: int
    dmem: int
    mmio: int

    def __post_init__(self) -> None:
        if not (is_power_of_two(self.dmem) and is_power_of_two(self.mmio)) or self.dmem == self.mmio:
            raise HdlError(f"data memory at {self.dmem:#x} and registers at {self.mmio:#x}: both must lie at powers of "
                           "two, and not at the same")  # fmt: skip


class Cv32e40pHost(wiring.Component):
    """Core, 1-cycle memories, and the address decoder of the data bus.

    Data memory and registers answer where the map says: one bit of the address chooses each, the bits above what it
    holds are not looked at. With neither bit a read gives 0 and a write is lost. The instruction bus sees only the
    instruction memory. Neither bus ever waits.

    A port writes both memories from outside, 32 bits at a time: the instruction memory only while the core does not
    fetch, the data memory in cycles in which the core does not use it. So one port a memory is enough.

    Ports:
        run: The core fetches; once it has begun it goes on.
        load_valid, load_imem, load_addr, load_data: Write a word of the instruction (else data) memory; done in cycles
            with ``load_ready``.
        irq: Interrupt line 16, level.
        in_frame: An inference is in progress (for the counters).
        mmio_addr, mmio_r_en, mmio_r_data, mmio_w_en, mmio_w_data: Registers; read data in the next cycle.
        counters: 32 bits each, see `EngineCounters`.
        sleeping: In WFI. ``pc``: Address of the last instruction fetch. ``probe_state``: the counter of the cycle
            before.

    Args:
        counters: What is counted: BUSY, WAIT_DATA (it sleeps, or does not run yet, in an inference), IDLE, and others
            that stay 0 here.
    """

    def __init__(self, imem_bytes: int, dmem_bytes: int, at: HostMap, counters: type[enum.IntEnum]):
        self.imem_bytes = imem_bytes
        self.dmem_bytes = dmem_bytes
        self.at = at
        self._categories = counters
        super().__init__({
            "irq": In(1), "in_frame": In(1), "run": In(1),
            "load_valid": In(1), "load_imem": In(1), "load_addr": In(18), "load_data": In(32), "load_ready": Out(1),
            "mmio_addr": Out(8), "mmio_r_en": Out(1), "mmio_r_data": In(32),
            "mmio_w_en": Out(1), "mmio_w_data": Out(32),
            "counters": Out(COUNTER_BITS * len(counters)), "sleeping": Out(1), "pc": Out(32),
            "probe_state": Out(state_bits(counters)),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        dmem_bit, mmio_bit = self.at.dmem.bit_length() - 1, self.at.mmio.bit_length() - 1
        instr_req, instr_addr, instr_rdata, instr_rvalid = (
            Signal(name="instr_req"), Signal(32, name="instr_addr"), Signal(32, name="instr_rdata"),
            Signal(name="instr_rvalid"))
        data_req, data_we, data_be, data_rvalid = (
            Signal(name="data_req"), Signal(name="data_we"), Signal(4, name="data_be"), Signal(name="data_rvalid"))
        data_addr, data_wdata, data_rdata = (
            Signal(32, name="data_addr"), Signal(32, name="data_wdata"), Signal(32, name="data_rdata"))
        m.submodules.core = Instance(
            CORE,
            p_COREV_PULP=0, p_COREV_CLUSTER=0, p_FPU=0, p_NUM_MHPMCOUNTERS=0,
            i_clk_i=ClockSignal(), i_rst_ni=~ResetSignal(), i_pulp_clock_en_i=Const(1), i_scan_cg_en_i=Const(0),
            i_boot_addr_i=Const(self.at.imem, 32), i_mtvec_addr_i=Const(self.at.imem, 32),
            i_dm_halt_addr_i=Const(0, 32), i_hart_id_i=Const(0, 32), i_dm_exception_addr_i=Const(0, 32),
            o_instr_req_o=instr_req, i_instr_gnt_i=instr_req, i_instr_rvalid_i=instr_rvalid,
            o_instr_addr_o=instr_addr, i_instr_rdata_i=instr_rdata,
            o_data_req_o=data_req, i_data_gnt_i=data_req, i_data_rvalid_i=data_rvalid, o_data_we_o=data_we,
            o_data_be_o=data_be, o_data_addr_o=data_addr, o_data_wdata_o=data_wdata, i_data_rdata_i=data_rdata,
            i_irq_i=Cat(Const(0, IRQ_LINE), self.irq, Const(0, 31 - IRQ_LINE)),
            i_debug_req_i=Const(0), i_fetch_enable_i=self.run, o_core_sleep_o=self.sleeping,
        )
        m.submodules.imem = imem = SramStack(self.imem_bytes // 4, 32)
        m.submodules.dmem = dmem = SramStack(self.dmem_bytes // 4, 32, write_granularity=8)
        m.d.sync += [instr_rvalid.eq(instr_req), data_rvalid.eq(data_req)]
        m.d.comb += [imem.r_en.eq(instr_req), imem.r_addr.eq(instr_addr[2:]), instr_rdata.eq(imem.r_data)]
        with m.If(instr_req):
            m.d.sync += self.pc.eq(instr_addr)

        to_mmio, to_dmem, from_mmio, from_dmem = (
            Signal(name="to_mmio"), Signal(name="to_dmem"), Signal(name="from_mmio"), Signal(name="from_dmem"))
        m.d.comb += [
            to_mmio.eq(data_req & data_addr[mmio_bit]),
            to_dmem.eq(data_req & ~data_addr[mmio_bit] & data_addr[dmem_bit]),
            dmem.r_en.eq(to_dmem & ~data_we), dmem.r_addr.eq(data_addr[2:]),
            self.load_ready.eq(self.load_imem | ~to_dmem),
            imem.w_en.eq(self.load_valid & self.load_imem), imem.w_addr.eq(self.load_addr),
            imem.w_data.eq(self.load_data),
            dmem.w_en.eq(Mux(to_dmem, Mux(data_we, data_be, 0), (self.load_valid & ~self.load_imem).replicate(4))),
            dmem.w_addr.eq(Mux(to_dmem, data_addr[2:], self.load_addr)),
            dmem.w_data.eq(Mux(to_dmem, data_wdata, self.load_data)),
            self.mmio_addr.eq(data_addr), self.mmio_w_data.eq(data_wdata),
            self.mmio_r_en.eq(to_mmio & ~data_we), self.mmio_w_en.eq(to_mmio & data_we),
            data_rdata.eq(Mux(from_dmem, dmem.r_data, Mux(from_mmio, self.mmio_r_data, 0))),
        ]
        m.d.sync += [from_mmio.eq(to_mmio), from_dmem.eq(to_dmem)]

        m.submodules.counter = counter = EngineCounters(self._categories)
        busy, waits, idle = (self._categories[name] for name in ("BUSY", "WAIT_DATA", "IDLE"))
        state = Signal(state_bits(self._categories), init=no_state(self._categories))
        m.d.comb += [self.counters.eq(counter.counters), counter.state.eq(state), self.probe_state.eq(state)]
        m.d.sync += [
            state.eq(Mux(self.sleeping | ~self.run, Mux(self.in_frame, waits, idle), busy)),
        ]
        return m
