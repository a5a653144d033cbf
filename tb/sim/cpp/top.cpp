// SPDX-License-Identifier: Apache-2.0
// The only part of the shim that knows the design; compiled with its generated code.
#include "top.h"

#include "Vtop.h"
#include "verilated_save.h"

namespace nncosim {

static Vtop* model(Top* top) { return reinterpret_cast<Vtop*>(top); }

// The name "" makes scopes appear without a "TOP." prefix.
Top* top_create(VerilatedContext* context) { return reinterpret_cast<Top*>(new Vtop{context, ""}); }
void top_destroy(Top* top) { delete model(top); }
void top_eval(Top* top) { model(top)->eval(); }
void top_eval_step(Top* top) { model(top)->eval_step(); }
void top_eval_end_step(Top* top) { model(top)->eval_end_step(); }
void top_final(Top* top) { model(top)->final(); }
bool top_events_pending(Top* top) { return model(top)->eventsPending(); }
std::uint64_t top_next_time(Top* top) { return model(top)->nextTimeSlot(); }
void top_save(Top* top, VerilatedSerialize& out) { out << *model(top); }
void top_restore(Top* top, VerilatedDeserialize& in) { in >> *model(top); }

void top_trace(Top* top, VerilatedTraceBaseC* trace, int depth) {
#if VM_TRACE
    model(top)->trace(trace, depth);
#else
    (void)top, (void)trace, (void)depth;
#endif
}

}  // namespace nncosim
