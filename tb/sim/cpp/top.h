// SPDX-License-Identifier: Apache-2.0
// The Verilated top as the rest of the shim sees it: everything else is compiled once for all designs.
#pragma once

#include <cstdint>

class VerilatedContext;
class VerilatedDeserialize;
class VerilatedSerialize;
class VerilatedTraceBaseC;

namespace nncosim {

class Top;  // a Vtop

Top* top_create(VerilatedContext* context);
void top_destroy(Top* top);
void top_eval(Top* top);
void top_eval_step(Top* top);
void top_eval_end_step(Top* top);
void top_final(Top* top);
bool top_events_pending(Top* top);
std::uint64_t top_next_time(Top* top);
void top_trace(Top* top, VerilatedTraceBaseC* trace, int depth);
void top_save(Top* top, VerilatedSerialize& out);
void top_restore(Top* top, VerilatedDeserialize& in);

}  // namespace nncosim
