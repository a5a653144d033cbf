// SPDX-License-Identifier: Apache-2.0
// What passes the boundaries between the blocks, kept until somebody reads it. The structs are generated from a table of
// layouts (nncosim.tb.boundaries.layouts), and the RTL's taps have the same.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

// Of what is done only while something is kept: it must not cost the rest its place in the caches, nor its inlining.
#define SEEING __attribute__((noinline, cold))

struct SeenStreams {
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
};
