// SPDX-License-Identifier: Apache-2.0
// What a simulation that was built for coverage has counted; linked into such ones only.
#include "verilated_cov.h"
#include "shim.h"

extern "C" void nncosim_coverage(void* handle, const char* path) {
    auto* const simulation = static_cast<nncosim::Simulation*>(handle);
    simulation->select();
    simulation->context->coveragep()->write(path);
}
