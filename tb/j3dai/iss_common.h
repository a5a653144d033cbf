// SPDX-License-Identifier: Apache-2.0
// Shared by the parts of the J3DAI simulator: fields of words, memories, requantization.
//
// "j3dai_formats.h" is generated from hdl/j3dai/{isa,regs,timing}.py when the simulator is built, so field
// positions, opcodes, register offsets and latencies have no second definition here.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

struct Field {
    int offset, width;
    bool is_signed;
};

#include "j3dai_formats.h"

// The value of a field in a word of up to 256 bits, least significant 64 bits first.
static inline int64_t get(const uint64_t* words, Field f) {
    const int at = f.offset >> 6, shift = f.offset & 63;
    uint64_t raw = words[at] >> shift;
    if (shift + f.width > 64) raw |= words[at + 1] << (64 - shift);
    if (f.width == 64) return int64_t(raw);
    raw &= (uint64_t(1) << f.width) - 1;
    if (f.is_signed && raw >> (f.width - 1)) raw -= uint64_t(1) << f.width;
    return int64_t(raw);
}

static inline int64_t get(uint64_t word, Field f) { return get(&word, f); }

constexpr int WORD = 16;   // bytes
constexpr int LANES = 16;  // NCBs of a cluster, bytes of a word
constexpr int PES = 8;
constexpr int MAX_CLUSTERS = 8;
constexpr int SEMAPHORES = 8;
constexpr int COUNTERS = 6;
constexpr int SPACE_L1 = 0, SPACE_WMEM = 1, SPACE_IMEM = 2;

// Sizes of the machine, and whether tensor data is computed (0: control flow and cycles only).
struct Config {
    int32_t clusters, beat_words, data;
    uint32_t l2_words, l1_words, wmem_words, imem_words;
};

// Eight-bit counters that saturate.
struct Semaphores {
    uint8_t value[SEMAPHORES] = {};

    // One cycle's increments (one bit each) and at most one decrement: together they cancel.
    void update(uint8_t increments, int taken) {
        for (int i = 0; i < SEMAPHORES; ++i) {
            const bool up = increments >> i & 1, down = taken == i;
            if (up && !down && value[i] != 255) ++value[i];
            if (down && !up) --value[i];
        }
    }
};

// A requantization record (RequantRecord), decoded.
struct Requant {
    int64_t m = 0, c = 0, lo = 0, hi = 0;
    int s = 0, rounding = 0;

    void decode(const uint8_t* record) {
        uint64_t words[2];
        memcpy(words, record, 16);
        m = get(words, RequantRecord_m);
        c = get(words, RequantRecord_c);
        s = int(get(words, RequantRecord_s));
        lo = get(words, RequantRecord_lo);
        hi = get(words, RequantRecord_hi);
        rounding = int(get(words, RequantRecord_rounding));
        if (s == 63) s = 62;
    }

    int64_t sum(int32_t acc, int64_t addend) const {
        return int64_t(uint64_t(int64_t(acc)) * uint64_t(m) + uint64_t(addend));
    }

    uint8_t finish(int64_t total) const {
        const int64_t floor = total >> s;
        const int64_t rest = int64_t(uint64_t(total) - (uint64_t(floor) << s));
        const int64_t half = (int64_t(1) << s) >> 1;
        const bool inexact = rest != 0, above = rest > half, tie = inexact && rest == half, negative = total < 0;
        bool up = false;
        switch (rounding) {
            case ROUNDING_FLOOR: break;
            case ROUNDING_CEIL: up = inexact; break;
            case ROUNDING_TOWARD_ZERO: up = inexact && negative; break;
            case ROUNDING_AWAY: up = inexact && !negative; break;
            case ROUNDING_HALF_UP: up = above || tie; break;
            case ROUNDING_HALF_EVEN: up = above || (tie && (floor & 1)); break;
            case ROUNDING_HALF_AWAY: up = above || (tie && !negative); break;
            case ROUNDING_HALF_TOWARD_ZERO: up = above || (tie && negative); break;
        }
        int64_t q = floor + up;
        if (q < lo) q = lo;
        if (q > hi) q = hi;
        return uint8_t(q);
    }
};
