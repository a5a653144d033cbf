# SPDX-License-Identifier: Apache-2.0
"""The ports of the host's core, cv32e40p, as the host uses them, for a bench to play on."""

from nncosim.regress.puppet import puppet_verilog

__all__ = ["CORE_PORTS", "CORE_VERILOG"]

CORE_PORTS = {
    **{f"{name}_i": ("in", 1) for name in (
        "clk", "rst_n", "pulp_clock_en", "scan_cg_en", "instr_gnt", "instr_rvalid", "data_gnt", "data_rvalid",
        "debug_req", "fetch_enable")},
    **{f"{name}_i": ("in", 32) for name in (
        "boot_addr", "mtvec_addr", "dm_halt_addr", "hart_id", "dm_exception_addr", "instr_rdata", "data_rdata", "irq")},
    "instr_req_o": ("out", 1), "instr_addr_o": ("out", 32), "data_req_o": ("out", 1), "data_we_o": ("out", 1),
    "data_be_o": ("out", 4), "data_addr_o": ("out", 32), "data_wdata_o": ("out", 32), "core_sleep_o": ("out", 1),
}
CORE_PORTS["rst_ni"] = CORE_PORTS.pop("rst_n_i")
CORE_VERILOG = puppet_verilog("cv32e40p_top", CORE_PORTS, (
    "COREV_PULP", "COREV_CLUSTER", "FPU", "FPU_ADDMUL_LAT", "FPU_OTHERS_LAT", "ZFINX", "NUM_MHPMCOUNTERS"))
