// SPDX-License-Identifier: Apache-2.0
// Shared by the parts of the J3DAI simulator: fields of words, memories, requantization.
//
// "j3dai_formats.h" is generated from hdl/j3dai/{isa,regs,timing}.py when the simulator is built, so field
// positions, opcodes, register offsets and latencies have no second definition here. It also says what a word and a line
// are (WORD bytes, PES words): the simulator is built once for each shape of a cluster.
#pragma once

#include <cstddef>
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

constexpr int LANES = WORD;  // NCBs of a cluster, bytes of a word
constexpr uint32_t LANE_MASK = LANES - 1;
constexpr int RECORD = 16;  // bytes of a requantization record
using PixelMask = uint16_t;  // a bit a PE
constexpr int MAX_CLUSTERS = 8;
constexpr int SEMAPHORES = 8;
constexpr int COUNTERS = 6, TRANSFERS = 4, TRANSFER_COUNTERS = 7;
constexpr int SPACE_L1 = 0, SPACE_WMEM = 1, SPACE_IMEM = 2;

// Sizes of the machine, whether tensor data is computed (0: control flow and cycles only), and whether several cycles
// are simulated at a time where nothing can interfere (0: strictly one by one; the results are the same).
struct Config {
    int32_t clusters, beat_words, data, batch;
    uint32_t l2_words, l1_words, wmem_words, imem_words;
};

// The performance counters of an engine: the state of a cycle is counted in the next one, as the hardware does.
struct Counters {
    uint32_t value[COUNTERS] = {};
    int state = -1;

    void count(int next, uint32_t cycles = 1) {
        if (state >= 0) ++value[state];
        value[next] += cycles - 1;
        state = next;
    }
    // What they will show a cycle later: all cycles before this one.
    void settled(uint32_t* out) const {
        memcpy(out, value, sizeof value);
        if (state >= 0) ++out[state];
    }
};

// The DMPA's counters by kind of transfer, as late.
struct TransferCounters {
    struct Cycle {
        int kind = 0;
        bool beat = false, done = false, wait_data = false, wait_turn = false, wait_port = false;
        bool fetch = false, fetch_wait = false;
        uint32_t words = 0, copies = 0;
    };
    uint32_t value[TRANSFERS][TRANSFER_COUNTERS] = {};
    Cycle last;

    void count(const Cycle& next) {
        uint32_t* const of = value[last.kind];
        if (last.beat) {
            ++of[TRANSFERCOUNTER_BEATS], of[TRANSFERCOUNTER_WORDS] += last.words;
            of[TRANSFERCOUNTER_DELIVERED] += last.words * last.copies;
        }
        of[TRANSFERCOUNTER_DESCRIPTORS] += last.done, of[TRANSFERCOUNTER_WAIT_DATA] += last.wait_data;
        of[TRANSFERCOUNTER_WAIT_TURN] += last.wait_turn, of[TRANSFERCOUNTER_WAIT_PORT] += last.wait_port;
        value[TRANSFER_FETCH][TRANSFERCOUNTER_BEATS] += last.fetch;
        value[TRANSFER_FETCH][TRANSFERCOUNTER_WAIT_PORT] += last.fetch_wait;
        last = next;
    }
    void settled(uint32_t (*out)[TRANSFER_COUNTERS]) const {
        TransferCounters later = *this;
        later.count({});
        memcpy(out, later.value, sizeof value);
    }
};

// Records that are kept until somebody reads them.
template <typename T> struct Log {
    T* items = nullptr;
    uint64_t count = 0, room = 0;

    T& add() {
        if (count == room) {
            room = room ? 2 * room : 1024;
            items = static_cast<T*>(realloc(items, room * sizeof(T)));
        }
        return items[count++];
    }
    ~Log() { free(items); }
};

// From `cycle` on `engine` does something else: what (`key`, see activity.py), and its counters up to there.
struct Change {
    uint64_t cycle;
    uint32_t engine, key, counters[COUNTERS];
};

constexpr uint32_t KEY_SEQUENCING = 1 << 3, KEY_RUNNING = 1 << 4, KEY_VALUE = 8, KEY_SEMAPHORE = 28;

// Notes when an engine turns to something else; does nothing without a log.
struct Activity {
    Log<Change>* log = nullptr;
    uint32_t engine = 0, key = UINT32_MAX;

    // Behind Counters::count of `cycle`. `detail` is recorded, but makes no change by itself. `extra`: cycles that
    // were counted already beyond this one, in state `next`.
    void note(uint64_t cycle, uint32_t next_key, uint32_t detail, const Counters& counters, uint32_t extra = 0) {
        if (!log || next_key == key) return;
        key = next_key;
        Change& change = log->add();
        change.cycle = cycle, change.engine = engine, change.key = next_key | detail;
        memcpy(change.counters, counters.value, sizeof change.counters);
        change.counters[counters.state] -= extra;
    }
};

// Eight-bit counters that saturate.
struct Semaphores {
    uint8_t value[SEMAPHORES] = {};
    uint8_t lost = 0;  // which were incremented at 255: no program may rely on what comes of that

    // One cycle's increments (one bit each) and at most one decrement: together they cancel.
    void update(uint8_t increments, int taken) {
        for (int i = 0; i < SEMAPHORES; ++i) {
            const bool up = increments >> i & 1, down = taken == i;
            if (up && !down) {
                if (value[i] == 255) lost |= uint8_t(1 << i);
                else ++value[i];
            }
            if (down && !up) --value[i];
        }
    }
};

inline void invert(uint8_t* word) {
    for (int n = 0; n < WORD; ++n) word[n] = uint8_t(~word[n]);
}

// The low `bits` of a value, as a signed number.
inline int32_t low_bits(int32_t value, int bits) { return int32_t(uint32_t(value) << (32 - bits)) >> (32 - bits); }

inline void narrow(const int32_t* from, int bits, int32_t* to) {
    for (int n = 0; n < LANES; ++n) to[n] = low_bits(from[n], bits);
}

// The requantization records of one parameter set, decoded for all channels at once.
//
// Rounding is an addition before the shift: floor((total + add) / 2**s), where `add` is `plain`, plus `negative` if
// total < 0, plus `odd` if floor(total / 2**s) is odd. No sum can overflow while |total| < 2**62; beyond, `exact` decides.
struct ParameterSet {
    int64_t m[LANES] = {}, c[LANES] = {}, s[LANES] = {}, lo[LANES] = {}, hi[LANES] = {};
    int64_t plain[LANES] = {}, negative[LANES] = {}, odd[LANES] = {};
    int rounding[LANES] = {};

    void decode(int n, const uint8_t* record) {
        uint64_t words[2];
        memcpy(words, record, RECORD);
        m[n] = get(words, RequantRecord_m), c[n] = get(words, RequantRecord_c), s[n] = get(words, RequantRecord_s);
        lo[n] = get(words, RequantRecord_lo), hi[n] = get(words, RequantRecord_hi);
        rounding[n] = int(get(words, RequantRecord_rounding));
        if (s[n] == 63) s[n] = 62;
        if (get(words, RequantRecord_wrap)) lo[n] = INT64_MIN, hi[n] = INT64_MAX;
        plain[n] = negative[n] = odd[n] = 0;
        if (s[n] == 0) return;
        const int64_t all = (int64_t(1) << s[n]) - 1, half = int64_t(1) << (s[n] - 1);
        switch (rounding[n]) {
            case ROUNDING_CEIL: plain[n] = all; break;
            case ROUNDING_TOWARD_ZERO: negative[n] = all; break;
            case ROUNDING_AWAY: plain[n] = all, negative[n] = -all; break;
            case ROUNDING_HALF_UP: plain[n] = half; break;
            case ROUNDING_HALF_EVEN: plain[n] = half - 1, odd[n] = 1; break;
            case ROUNDING_HALF_AWAY: plain[n] = half, negative[n] = -1; break;
            case ROUNDING_HALF_TOWARD_ZERO: plain[n] = half - 1, negative[n] = 1; break;
        }
    }

    // x * m + addend of all channels; wraps. Not `wide`: the low 25 bits of m.
    void sums(const int32_t* x, bool wide, const int64_t* addend, int64_t* total) const {
        const int shift = wide ? 0 : 32 - NARROW_M_BITS;
        for (int n = 0; n < LANES; ++n) {
            const int64_t factor = int32_t(uint32_t(m[n]) << shift) >> shift;
            total[n] = int64_t(uint64_t(int64_t(x[n]) * factor) + uint64_t(addend[n]));
        }
    }

    void finish(const int64_t* total, uint8_t* q) const {
        uint64_t large = 0;
        int64_t result[LANES];
        for (int n = 0; n < LANES; ++n) {
            const int64_t t = total[n], below = t >> 63;
            large |= (uint64_t(t) + (uint64_t(1) << 62)) >> 63;
            const uint64_t add = uint64_t(plain[n]) + uint64_t(below & negative[n]) + uint64_t((t >> s[n]) & odd[n]);
            int64_t v = int64_t(uint64_t(t) + add) >> s[n];
            v = v < lo[n] ? lo[n] : v;
            result[n] = v > hi[n] ? hi[n] : v;
        }
        for (int n = 0; n < LANES; ++n) q[n] = uint8_t(result[n]);
        if (large)
            for (int n = 0; n < LANES; ++n) q[n] = exact(n, total[n]);
    }

    uint8_t exact(int n, int64_t total) const {
        const int64_t floor = total >> s[n];
        const int64_t rest = int64_t(uint64_t(total) - (uint64_t(floor) << s[n]));
        const int64_t half = (int64_t(1) << s[n]) >> 1;
        const bool inexact = rest != 0, above = rest > half, tie = inexact && rest == half, below = total < 0;
        bool up = false;
        switch (rounding[n]) {
            case ROUNDING_CEIL: up = inexact; break;
            case ROUNDING_TOWARD_ZERO: up = inexact && below; break;
            case ROUNDING_AWAY: up = inexact && !below; break;
            case ROUNDING_HALF_UP: up = above || tie; break;
            case ROUNDING_HALF_EVEN: up = above || (tie && (floor & 1)); break;
            case ROUNDING_HALF_AWAY: up = above || (tie && !below); break;
            case ROUNDING_HALF_TOWARD_ZERO: up = above || (tie && below); break;
        }
        const int64_t v = floor + up < lo[n] ? lo[n] : floor + up;
        return uint8_t(v > hi[n] ? hi[n] : v);
    }
};
