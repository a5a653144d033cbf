// SPDX-License-Identifier: Apache-2.0
#include "eventlog.h"

#include <string>

#include "svdpi.h"
#include "verilated.h"

namespace nncosim {

static EventLog* selected = nullptr;

EventLog& current_log() {
    static EventLog fallback;
    return selected ? *selected : fallback;
}

void select_log(EventLog* log) { selected = log; }

void append(std::int32_t stream, std::uint32_t count, const std::uint32_t* words) {
    Stream& target = current_log()[stream];
    if (target.record_words == 0) target.record_words = count;
    if (target.record_words != count) {
        const std::string message = "nncosim_log: stream " + std::to_string(stream) + " has records of "
                                    + std::to_string(target.record_words) + " words, not "
                                    + std::to_string(count);
        vl_fatal(__FILE__, __LINE__, "", message.c_str());
        return;
    }
    target.words.insert(target.words.end(), words, words + count);
}

}  // namespace nncosim

extern "C" {

// Declared in eventlog.svh: the first `count` words of a record of up to 64.
void nncosim_log(int stream, int count, const svBitVecVal* record) {
    nncosim::append(stream, static_cast<std::uint32_t>(count), record);
}

// Declared in eventlog.svh: a record of four 64-bit values, cheaper for small events.
void nncosim_log4(int stream, unsigned long long a, unsigned long long b, unsigned long long c,
                  unsigned long long d) {
    const std::uint64_t values[4] = {a, b, c, d};
    nncosim::append(stream, 8, reinterpret_cast<const std::uint32_t*>(values));
}
}
