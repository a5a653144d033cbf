// SPDX-License-Identifier: Apache-2.0
// One simulation of a Verilated top, and the C functions that Python calls through ctypes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "eventlog.h"
#include "top.h"
#include "verilated.h"

#if VM_TRACE
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using NncosimTrace = VerilatedFstC;
#else
#include "verilated_vcd_c.h"
using NncosimTrace = VerilatedVcdC;
#endif
#endif

namespace nncosim {

struct TopDeleter {
    void operator()(Top* top) const { top_destroy(top); }
};

struct Simulation {
    // Declared before `top`: the model is destroyed before the context it lives in.
    std::unique_ptr<VerilatedContext> context;
    std::unique_ptr<Top, TopDeleter> top;
    EventLog log;
    CData* clock = nullptr;         // the port that tick() toggles; null when there is none
    std::uint64_t half_period = 5000;  // of simulated time units
    std::uint64_t cycles = 0;       // complete clock cycles since creation (restored with a saved state)
    std::string error;              // why the simulation cannot go on; empty while it can
    bool throws = true;             // whether a fatal error unwinds to the C ABI, or ends the process
#if VM_TRACE
    std::unique_ptr<NncosimTrace> trace;
    std::uint64_t trace_from = 0;   // first and one past the last cycle that is written
    std::uint64_t trace_until = UINT64_MAX;
    bool trace_wanted() const { return trace && cycles >= trace_from && cycles < trace_until; }
#endif

    // Makes this simulation the one that runtime callbacks (errors, $time, the event log) refer to.
    void select();
    // One clock phase: sets the clock, evaluates, writes the trace, advances time.
    void phase(CData level);
    void cycle() {
        phase(1);
        phase(0);
        ++cycles;
    }
    bool stopped() const { return !error.empty() || context->gotFinish(); }
};

std::unique_ptr<Simulation> create(int argc, const char** argv, bool throws);
CData* find_clock(Simulation& simulation, const char* name);
Simulation* selected_simulation();

}  // namespace nncosim
