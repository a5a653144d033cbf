// SPDX-License-Identifier: Apache-2.0
// Event log functions for monitors written in SystemVerilog; include inside a module or package.
// Call them from a clocked process. Bits 31:0 of `record` are its first word.
`ifndef NNCOSIM_EVENTLOG_SVH
`define NNCOSIM_EVENTLOG_SVH
import "DPI-C" function void nncosim_log(input int stream, input int count, input bit [2047:0] record);
import "DPI-C" function void nncosim_log4(input int stream, input longint unsigned a, input longint unsigned b,
                                          input longint unsigned c, input longint unsigned d);
`endif
