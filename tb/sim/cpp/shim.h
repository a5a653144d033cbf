// SPDX-License-Identifier: Apache-2.0
// One simulation of a Verilated top, and the C functions that Python calls through ctypes.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

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

// A waveform is written while low <= port < high.
struct TraceCondition {
    const void* data;
    std::uint32_t bytes;  // 1, 2, 4 or 8
    std::uint64_t low, high;
    bool holds() const {
        std::uint64_t value = 0;
        std::memcpy(&value, data, bytes);
        return value >= low && value < high;
    }
};

// A further clock of the design: it toggles by itself, every half period.
struct OtherClock {
    CData* level;
    std::uint64_t half_period;  // of simulated time units
    std::uint64_t edge;         // time of the next
};

struct Simulation {
    // Declared before `top`: the model is destroyed before the context it lives in.
    std::unique_ptr<VerilatedContext> context;
    std::unique_ptr<Top, TopDeleter> top;
    EventLog log;
    CData* clock = nullptr;         // the port that tick() toggles; null when there is none
    std::uint64_t half_period = 5000;  // of simulated time units
    std::vector<OtherClock> other_clocks;
    std::uint64_t cycles = 0;       // complete clock cycles since creation (restored with a saved state)
    std::string error;              // why the simulation cannot go on; empty while it can
    bool throws = true;             // whether a fatal error unwinds to the C ABI, or ends the process
#if VM_TRACE
    std::unique_ptr<NncosimTrace> trace;
    std::uint64_t trace_from = 0;   // first and one past the last cycle that is written
    std::uint64_t trace_until = UINT64_MAX;
    std::vector<TraceCondition> trace_when;  // what is written besides must fulfil all of them
    bool trace_wanted() const {
        if (!trace || cycles < trace_from || cycles >= trace_until) return false;
        for (const TraceCondition& condition : trace_when)
            if (!condition.holds()) return false;
        return true;
    }
#endif

    // Makes this simulation the one that runtime callbacks (errors, $time, the event log) refer to.
    void select();
    // One clock phase: sets the clock, evaluates, writes the trace, advances time; with what other clocks do meanwhile.
    void phase(CData level);
    // Evaluates at the present time, with the edges that other clocks have now.
    void settle();
    void cycle() {
        phase(1);
        phase(0);
        ++cycles;
    }
    bool stopped() const { return !error.empty() || context->gotFinish(); }
};

std::unique_ptr<Simulation> create(int argc, const char** argv, bool throws);
CData* find_clock(Simulation& simulation, const char* name);
// Starts a waveform; gives false when the model was built without, the file cannot be written, or a condition of `when`
// ("port:low:high,port:low:high...", null for none) names no port of at most 64 bits.
bool trace_on(Simulation& simulation, const char* path, int depth, std::uint64_t from, std::uint64_t until,
              const char* when);
Simulation* selected_simulation();

}  // namespace nncosim
