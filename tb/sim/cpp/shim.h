// SPDX-License-Identifier: Apache-2.0
// One simulation of a Verilated top, and the C functions that Python calls through ctypes.
#pragma once

#include <algorithm>
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

constexpr std::uint64_t NEVER = UINT64_MAX;

// A clock that toggles by itself, every half period.
struct FreeClock {
    CData* level;
    std::uint64_t half_period;  // of simulated time units
    std::uint64_t edge;         // time of the next
};

// Edges at the same time are one change of the inputs: all toggle, then the model is evaluated once, so that every
// register samples what was before all of them, in whichever order the clocks were started.
struct FreeClocks {
    std::vector<FreeClock> running;
    std::uint64_t next = NEVER;  // time of the earliest edge

    void add(CData* level, std::uint64_t half_period, std::uint64_t edge) {
        running.push_back({level, half_period, edge});
        find_next();
    }
    void remove(const CData* level) {
        running.erase(std::remove_if(running.begin(), running.end(),
                                     [level](const FreeClock& clock) { return clock.level == level; }),
                      running.end());
        find_next();
    }
    bool drives(const CData* level) const {
        return std::any_of(running.begin(), running.end(),
                           [level](const FreeClock& clock) { return clock.level == level; });
    }
    void toggle() {
        if (running.size() == 1) {  // what most designs have, at no cost for there being others
            flip(running.front());
            next = running.front().edge;
            return;
        }
        for (FreeClock& clock : running)
            if (clock.edge == next) flip(clock);
        find_next();
    }
    static void flip(FreeClock& clock) {
        *clock.level ^= 1;
        clock.edge += clock.half_period;
    }
    void find_next() {
        next = NEVER;
        for (const FreeClock& clock : running) next = std::min(next, clock.edge);
    }
};

struct Simulation {
    // Declared before `top`: the model is destroyed before the context it lives in.
    std::unique_ptr<VerilatedContext> context;
    std::unique_ptr<Top, TopDeleter> top;
    EventLog log;
    CData* clock = nullptr;         // the port that tick() toggles; null when there is none
    std::uint64_t half_period = 5000;  // of simulated time units
    FreeClocks free_clocks;         // besides `clock`; under cocotb those that Python started
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
    // One clock phase: sets the clock, evaluates, writes the trace, advances time; with what free clocks do meanwhile.
    void phase(CData level);
    // Evaluates at the present time, with the edges that free clocks have now.
    void settle();
    void cycle() {
        phase(1);
        phase(0);
        ++cycles;
    }
    bool stopped() const { return !error.empty() || context->gotFinish(); }
};

std::unique_ptr<Simulation> create(int argc, const char** argv, bool throws);
// A one-bit port that can be driven; null when there is none of that name.
CData* find_clock(Simulation& simulation, const char* name);
// Starts a waveform; gives false when the model was built without, the file cannot be written, or a condition of `when`
// ("port:low:high,port:low:high...", null for none) names no port of at most 64 bits.
bool trace_on(Simulation& simulation, const char* path, int depth, std::uint64_t from, std::uint64_t until,
              const char* when);
Simulation* selected_simulation();

}  // namespace nncosim
