// SPDX-License-Identifier: Apache-2.0
// What passes the boundaries between the blocks of the array; the structs are generated from taps.py.
#pragma once

#include "isa.h"
#include "seen.h"

namespace {

// now: cycles since reset.
struct Seen : SeenStreams { uint64_t now = 0; };

// A tile's share in it; none without `to`.
struct Watched {
    Seen* to = nullptr;
    uint32_t unit = 0;
    explicit operator bool() const { return to != nullptr; }
    // A record of this cycle, or of one so many later.
    template <typename T> T& add(int later = 0) const {
        return to->add<T>(to->now + static_cast<uint64_t>(static_cast<int64_t>(later)), unit);
    }
    // Words of a line of memory that are written; mask: 32 bits each.
    SEEING void write(int line, uint32_t mask, const uint8_t* bytes) const {
        SeenWrite& record = add<SeenWrite>();
        record.line = static_cast<uint32_t>(line);
        record.mask = mask;
        for (int k = 0; k < LINE_BYTES / 4; k++)
            if (mask >> k & 1) std::memcpy(record.data + 4 * k, bytes + 4 * k, 4);
    }
    // A beat of memory that is written, which is two lines.
    void write_beat(int beat, const uint8_t* bytes) const {
        for (int half = 0; half < 2; half++)
            write(2 * beat + half, (1u << LINE_BYTES / 4) - 1, bytes + half * LINE_BYTES);
    }
};

}  // namespace
