// SPDX-License-Identifier: Apache-2.0
// The simulator executable that hosts cocotb: event loop as in cocotb's own Verilator main, over the same
// Simulation object as the direct driver, with clocks that need no callbacks.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "shim.h"
#include "verilated_vpi.h"

extern "C" void vlog_startup_routines_bootstrap(void);

namespace {

using nncosim::NEVER;

nncosim::Simulation* simulation = nullptr;
CData* counted = nullptr;   // the free clock whose cycles count: the last that was started while none ran
bool counted_fell = false;  // in the time step being evaluated: it ends a cycle

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
    simulation->cycles += counted_fell;
    counted_fell = false;
}

// The edges that come next, of all clocks that have one then.
void toggle_free_clocks() {
    const CData before = *counted;
    simulation->free_clocks.toggle();
    counted_fell = before && !*counted;
}

// Clock edges that no callback waits for. Returns true when a watched value changed: the time step of that
// edge is then to be evaluated in full. Returns false when a timer is due, or Python waits for a phase.
// A watched clock wakes Python before its edge (and those at the same time) is evaluated, so that it reads values from before the edge,
// as in any event-driven simulator; other signals wake it after.
bool run_quiet_edges() {
    if (VerilatedVpi::hasCbs(cbNextSimTime) || VerilatedVpi::hasCbs(cbReadWriteSynch)
        || VerilatedVpi::hasCbs(cbReadOnlySynch)) {
        return false;
    }
    const std::uint64_t deadline = VerilatedVpi::cbNextDeadline();
    const nncosim::FreeClocks& clocks = simulation->free_clocks;
    while (clocks.next < deadline && !simulation->context->gotFinish()) {
        simulation->context->time(clocks.next);
        toggle_free_clocks();
        if (VerilatedVpi::callValueCbs()) return true;
        nncosim::top_eval(simulation->top.get());
        if (VerilatedVpi::callValueCbs()) return true;
        finish_time_step();
    }
    return false;
}

bool advance_time() {
    std::uint64_t next = std::min<std::uint64_t>(VerilatedVpi::cbNextDeadline(), simulation->free_clocks.next);
    if (nncosim::top_events_pending(simulation->top.get())) next = std::min(next, nncosim::top_next_time(simulation->top.get()));
    if (next == NEVER) return false;
    simulation->context->time(next);
    VerilatedVpi::callCbs(cbNextSimTime);
    settle_value_callbacks();
    if (next == simulation->free_clocks.next) toggle_free_clocks();
    VerilatedVpi::callTimedCbs();
    settle_value_callbacks();
    return true;
}

void run() {
    while (!simulation->context->gotFinish()) {
        evaluate_time_step();
        finish_time_step();
        if (simulation->free_clocks.next != NEVER && run_quiet_edges()) continue;
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

// Starts a clock on a one-bit input that has none. Its first rising edge comes `phase` from now (both in simulated time
// units); who calls sets the port: to 1 when `phase` is 0, and else to 0. Returns 0 when there is no such input, -1 when
// a clock drives it already, and else 1.
int nncosim_start_clock(const char* port, std::uint64_t half_period, std::uint64_t phase) {
    CData* const clock = nncosim::find_clock(*simulation, port);
    nncosim::FreeClocks& clocks = simulation->free_clocks;
    if (!clock) return 0;
    if (clocks.drives(clock)) return -1;
    if (clocks.running.empty()) counted = clock;
    if (clock == counted && *clock && phase) counted_fell = true;  // stopped when high, it ends that cycle now
    clocks.add(clock, half_period, simulation->context->time() + (phase ? phase : half_period));
    return 1;
}

// The port keeps its value.
void nncosim_stop_clock(const char* port) {
    simulation->free_clocks.remove(nncosim::find_clock(*simulation, port));
}
}

int main(int argc, char** argv) {
    const std::unique_ptr<nncosim::Simulation> owner = nncosim::create(argc, const_cast<const char**>(argv), false);
    simulation = owner.get();
    Verilated::fatalOnVpiError(false);  // cocotb probes for objects that need not exist
    // Modules that were compiled by themselves, with their memories and their waveforms, are there from here on.
    nncosim::top_eval(simulation->top.get());
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
