// SPDX-License-Identifier: Apache-2.0
// After a register was changed from outside: everything that follows from registers without a clock edge.
#include "Vtop.h"
#include "shim.h"

// Verilator's own, run once at the beginning of a simulation: all combinational logic, until nothing changes.
void Vtop___024root___eval_settle(Vtop___024root* self);

extern "C" const char* nncosim_settle(void* handle) {
    auto* const simulation = static_cast<nncosim::Simulation*>(handle);
    simulation->select();
    try {
        Vtop___024root___eval_settle(reinterpret_cast<Vtop*>(simulation->top.get())->rootp);
    } catch (const std::exception& failure) {
        if (simulation->error.empty()) simulation->error = failure.what();
    }
    return simulation->error.c_str();
}
