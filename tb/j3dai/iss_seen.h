// SPDX-License-Identifier: Apache-2.0
// What passes the boundaries between the blocks, kept until somebody reads it. The structs are generated from taps.py, and
// the RTL's taps have the same.
#pragma once

#include "iss_common.h"

// Of what is done only while something is kept: it must not cost the rest its place in the caches, nor its inlining.
#define SEEING __attribute__((noinline, cold))

struct Seen {
    struct Stream {
        uint8_t* items = nullptr;
        uint64_t count = 0, room = 0;
        ~Stream() { free(items); }
    } streams[SEEN];

    // A new record, all other fields 0.
    template <typename T> T& add(uint64_t cycle, uint32_t unit) {
        Stream& to = streams[T::number];
        if (to.count == to.room) {
            to.room = to.room ? 2 * to.room : 1024;
            to.items = static_cast<uint8_t*>(realloc(to.items, to.room * sizeof(T)));
        }
        T* const record = reinterpret_cast<T*>(to.items) + to.count++;
        memset(static_cast<void*>(record), 0, sizeof(T));
        record->cycle = cycle, record->unit = unit;
        return *record;
    }

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
