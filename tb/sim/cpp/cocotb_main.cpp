// SPDX-License-Identifier: Apache-2.0
// The simulator executable that hosts cocotb: event loop as in cocotb's own Verilator main, over the same
// Simulation object as the direct driver, with a clock that needs no callbacks.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "shim.h"
#include "verilated_vpi.h"

extern "C" void vlog_startup_routines_bootstrap(void);

namespace {

constexpr std::uint64_t NEVER = ~0ULL;

nncosim::Simulation* simulation = nullptr;
CData* free_clock = nullptr;           // the clock generated here, if Python started one
std::uint64_t free_clock_edge = NEVER;  // time of its next edge
std::uint64_t free_clock_half = 0;
bool free_clock_fell = false;          // in the time step being evaluated: it ends a cycle

bool settle_value_callbacks() {
    bool any = false;
    while (VerilatedVpi::callValueCbs()) any = true;
    return any;
}

void evaluate_time_step() {
    do {
        do {
            nncosim::top_eval_step(simulation->top.get());
            VerilatedVpi::clearEvalNeeded();
            VerilatedVpi::doInertialPuts();
            settle_value_callbacks();
        } while (VerilatedVpi::evalNeeded());
        VerilatedVpi::callCbs(cbReadWriteSynch);
        VerilatedVpi::doInertialPuts();
        settle_value_callbacks();
    } while (VerilatedVpi::evalNeeded());
    nncosim::top_eval_end_step(simulation->top.get());
    VerilatedVpi::callCbs(cbReadOnlySynch);
}

void finish_time_step() {
#if VM_TRACE
    if (simulation->trace_wanted()) simulation->trace->dump(simulation->context->time());
#endif
    simulation->cycles += free_clock_fell;
    free_clock_fell = false;
}

void toggle_free_clock() {
    *free_clock ^= 1;
    free_clock_fell = *free_clock == 0;
    free_clock_edge += free_clock_half;
}

// Clock edges that no callback waits for. Returns true when a watched value changed: the time step of that
// edge is then to be evaluated in full. Returns false when a timer is due, or Python waits for a phase.
// A watched clock wakes Python before its edge is evaluated, so that it reads values from before the edge,
// as in any event-driven simulator; other signals wake it after.
bool run_quiet_edges() {
    if (VerilatedVpi::hasCbs(cbNextSimTime) || VerilatedVpi::hasCbs(cbReadWriteSynch)
        || VerilatedVpi::hasCbs(cbReadOnlySynch)) {
        return false;
    }
    const std::uint64_t deadline = VerilatedVpi::cbNextDeadline();
    while (free_clock_edge < deadline && !simulation->context->gotFinish()) {
        simulation->context->time(free_clock_edge);
        toggle_free_clock();
        if (VerilatedVpi::callValueCbs()) return true;
        nncosim::top_eval(simulation->top.get());
        if (VerilatedVpi::callValueCbs()) return true;
        finish_time_step();
    }
    return false;
}

bool advance_time() {
    std::uint64_t next = std::min<std::uint64_t>(VerilatedVpi::cbNextDeadline(), free_clock_edge);
    if (nncosim::top_events_pending(simulation->top.get())) next = std::min(next, nncosim::top_next_time(simulation->top.get()));
    if (next == NEVER) return false;
    simulation->context->time(next);
    VerilatedVpi::callCbs(cbNextSimTime);
    settle_value_callbacks();
    if (next == free_clock_edge) toggle_free_clock();
    VerilatedVpi::callTimedCbs();
    settle_value_callbacks();
    return true;
}

void run() {
    while (!simulation->context->gotFinish()) {
        evaluate_time_step();
        finish_time_step();
        if (free_clock && run_quiet_edges()) continue;
        if (simulation->context->gotFinish() || !advance_time()) break;
    }
}

std::uint64_t number(const char* variable, std::uint64_t otherwise) {
    const char* const text = std::getenv(variable);
    return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Gives false when a waveform was asked for and cannot be written.
bool open_trace() {
    const char* const path = std::getenv("NNCOSIM_TRACE");
    return !path || !*path
           || nncosim::trace_on(*simulation, path, 99, number("NNCOSIM_TRACE_START", 0),
                                number("NNCOSIM_TRACE_STOP", UINT64_MAX), std::getenv("NNCOSIM_TRACE_WHEN"));
}

}  // namespace

extern "C" {

// Starts (period > 0, in simulated time units) or stops the clock on a one-bit input. Returns 0 when
// there is no such port. The first rising edge is half a period from now.
int nncosim_free_clock(const char* port, std::uint64_t half_period) {
    CData* const clock = nncosim::find_clock(*simulation, port);
    if (!clock) return 0;
    free_clock = half_period ? clock : nullptr;
    free_clock_half = half_period;
    free_clock_edge = half_period ? simulation->context->time() + half_period : NEVER;
    if (half_period) *clock = 0;
    return 1;
}
}

int main(int argc, char** argv) {
    const std::unique_ptr<nncosim::Simulation> owner = nncosim::create(argc, const_cast<const char**>(argv), false);
    simulation = owner.get();
    Verilated::fatalOnVpiError(false);  // cocotb probes for objects that need not exist
    if (!open_trace()) {
        std::fprintf(stderr, "nncosim: cannot write the waveform %s\n", std::getenv("NNCOSIM_TRACE"));
        return 1;
    }
    vlog_startup_routines_bootstrap();
    VerilatedVpi::callCbs(cbStartOfSimulation);
    settle_value_callbacks();
    run();
    nncosim::top_final(simulation->top.get());
    VerilatedVpi::callCbs(cbEndOfSimulation);
#if VM_TRACE
    if (simulation->trace) simulation->trace->close();
#endif
    return simulation->context->errorCount() > 0 || !simulation->error.empty() ? 1 : 0;
}
