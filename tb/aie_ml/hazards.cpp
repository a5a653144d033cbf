// SPDX-License-Identifier: Apache-2.0
// What the array's top asks each cycle: tiles are compiled by themselves, and their monitors have no way to it.
#include "eventlog.h"

namespace {
constexpr int STREAM_HAZARD = 5;  // of aie_ml_hazards.sv
}

extern "C" int aie_ml_hazards() {
    const nncosim::EventLog& log = nncosim::current_log();
    const auto found = log.find(STREAM_HAZARD);
    return found != log.end() && !found->second.words.empty();
}
