// SPDX-License-Identifier: Apache-2.0
// What passes the boundaries between J3DAI's blocks; the structs are generated from taps.py.
#pragma once

#include "iss_common.h"
#include "seen.h"

struct Seen : SeenStreams {
    // The words of a line, in parts: so many of them, the others 0.
    template <typename T, typename F> void lines(uint64_t cycle, uint32_t unit, const uint8_t* words, uint32_t count, F fill) {
        for (uint32_t low = 0; low < PES; low += PART) {
            T& record = add<T>(cycle, unit);
            record.part = low;
            fill(record);
            for (uint32_t i = low; i < low + PART && i < count; ++i) memcpy(record.data[i - low], words + i * WORD, WORD);
        }
    }

    // Levels: a record where one has changed.
    template <typename T> void level(uint64_t cycle, uint32_t unit, const T& now, T& before, bool& known) {
        const size_t head = offsetof(T, flags);
        const auto *a = reinterpret_cast<const uint8_t*>(&now), *b = reinterpret_cast<const uint8_t*>(&before);
        if (known && !memcmp(a + head, b + head, sizeof(T) - head)) return;
        known = true, before = now;
        add<T>(cycle, unit) = now;
    }
};

// A block's share in it; none without `to`.
struct Watched {
    Seen* to = nullptr;
    uint32_t unit = 0;
    explicit operator bool() const { return to != nullptr; }
};
