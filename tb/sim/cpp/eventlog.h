// SPDX-License-Identifier: Apache-2.0
// Event log: streams of fixed-size records that SystemVerilog or C++ monitors append to while a simulation
// runs, read as arrays afterwards. Appending is a copy into a growing vector: no Python, no file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace nncosim {

struct Stream {
    std::uint32_t record_words = 0;  // 32-bit words a record; set by the first record
    std::vector<std::uint32_t> words;
};

using EventLog = std::map<std::int32_t, Stream>;

// The log of the simulation that is being evaluated.
EventLog& current_log();
void select_log(EventLog* log);

// Appends one record; a second record size in one stream stops the simulation with a message.
void append(std::int32_t stream, std::uint32_t count, const std::uint32_t* words);

}  // namespace nncosim
