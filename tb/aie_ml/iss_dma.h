// SPDX-License-Identifier: Apache-2.0
// The DMAs of core tiles and of memory tiles, by the cycle table of hdl/aie_ml/dma_channel.py.
#pragma once
#include <cstdint>
#include <cstring>

#include "iss_core.h"
#include "iss_stream.h"

namespace {

enum DmaState { kIdle, kFetch, kLoad, kAcquire, kMove, kRelease_ };

int field(uint32_t word, int first, int bits) { return static_cast<int>(word >> first & ((1u << bits) - 1)); }
int signed_field(uint32_t word, int first, int bits) {
    int value = field(word, first, bits);
    return value >> (bits - 1) ? value - (1 << bits) : value;
}

// Of either kind: a dimension that a kind lacks is of one word. Of dimension 3 there is no end.
struct Descriptor {
    int base, length, step[4], count[3], before[3], after[3], iteration_step, iterations;
    int next, use_next, acquire, acquire_lock, acquire_value, at_least, release, release_lock, release_delta;
};

struct TileFormat {
    static constexpr bool cores = true;
    static constexpr int streams = 2, descriptors = 16, pools = 1, iteration_word = 4, words = 6;
    static constexpr int address_mask = BEAT_BYTES * MEMORY_BEATS / WORD_BYTES - 1;
    static uint32_t bank(int line) { return 1u << (line / (MEMORY_BEATS / 2) << 1 | (line & 1)); }
    static Descriptor read(const uint32_t* w) {
        return {field(w[0], 0, 14), field(w[0], 16, 15),
                {signed_field(w[1], 0, 15), signed_field(w[2], 0, 15), 0, signed_field(w[3], 0, 15)},
                {field(w[1], 16, 10), field(w[2], 16, 10), 1}, {}, {}, signed_field(w[4], 0, 15), field(w[4], 16, 6),
                field(w[5], 0, 4), field(w[5], 4, 1), field(w[5], 5, 1), field(w[5], 6, 4), field(w[5], 10, 6),
                field(w[5], 16, 1), field(w[5], 17, 1), field(w[5], 18, 4), signed_field(w[5], 22, 7)};
    }
};

struct MemoryFormat {
    static constexpr bool cores = false;
    static constexpr int streams = 6, descriptors = 48, pools = 2, iteration_word = 6, words = 8;
    static constexpr int address_mask = MEMORY_TILE_BYTES / WORD_BYTES - 1;
    static uint32_t bank(int line) { return 1u << (line & (MEMORY_BANKS - 1)); }
    static Descriptor read(const uint32_t* w) {
        return {field(w[0], 0, 17), field(w[1], 0, 18),
                {signed_field(w[2], 0, 18), signed_field(w[3], 0, 18), signed_field(w[4], 0, 18),
                 signed_field(w[5], 0, 18)},
                {field(w[2], 18, 10), field(w[3], 18, 10), field(w[4], 18, 10)},
                {field(w[0], 17, 6), field(w[1], 18, 5), field(w[1], 28, 4)},
                {field(w[0], 23, 6), field(w[1], 23, 5), field(w[5], 25, 4)},
                signed_field(w[6], 0, 18), field(w[6], 18, 6), field(w[7], 0, 6), field(w[7], 6, 1),
                field(w[7], 7, 1), field(w[7], 8, 6), field(w[5], 18, 6), field(w[5], 24, 1), field(w[7], 14, 1),
                field(w[7], 15, 6), signed_field(w[7], 21, 7)};
    }
};

struct Channel {
    int state = kIdle, bd = 0;
    bool started = false;  // ever
    bool zero = false;     // the next word is padding
    bool here = false;     // S2MM: a line is being gathered; MM2S: a word waits for the buffer
    bool known = false, asks = false, granted = false;
    int left = 0, at = 0, addr = 0, mask = 0;
    StreamWord data[4] = {}, word = 0;
    int first = 0, index[4] = {};
    Descriptor now = {};  // in hand

    void load(const Descriptor& descriptor, int offset, bool pads) {
        now = descriptor;
        for (int d = 0; d < 3; d++) {
            if (!now.count[d]) now.count[d] = 1;
            if (!pads) now.before[d] = now.after[d] = 0;
        }
        first = now.base + offset;
        left = now.length;
        for (int& each : index) each = 0;
        known = false;
        state = now.acquire ? kAcquire : kMove;
    }

    // Where the word of this index lies, or that it is padding.
    void find(int address_mask) {
        uint32_t place = static_cast<uint32_t>(first) + static_cast<uint32_t>(index[3] * int64_t{now.step[3]});
        zero = false;
        for (int d = 0; d < 3; d++) {
            int inside = index[d] - now.before[d];
            zero |= inside < 0 || inside >= now.count[d];
            place += static_cast<uint32_t>(inside * now.step[d]);
        }
        at = static_cast<int>(place) & address_mask;
    }

    void walk(int address_mask) {
        left--;
        int d = 0;
        while (d < 3 && ++index[d] == now.before[d] + now.count[d] + now.after[d]) index[d++] = 0;
        if (d == 3) index[3]++;
        find(address_mask);
    }

    void over() {
        state = now.use_next ? kFetch : kIdle;
        bd = now.next;
    }

    void moved() {
        if (now.release) state = kRelease_;
        else over();
    }

    bool serve(Locks& locks, int asker) const {
        if (state == kRelease_) return locks.serve(now.release_lock, kRelease, now.release_delta, asker);
        return locks.serve(now.acquire_lock, now.at_least ? kAtLeast : kEqual, now.acquire_value, asker);
    }
};

// Channels S2MM 0, 1, ..., MM2S 0, 1, ... A kind's channel of number n has pool n % pools of the descriptors.
template <typename Format>
struct Dma {
    static constexpr int kStreams = Format::streams, kChannels = 2 * kStreams;
    static constexpr int kPool = Format::descriptors / Format::pools;
    static constexpr int kAsker = Format::cores ? kFirstChannel : 0;

    Channel channel[kChannels];
    uint32_t busy = 0;  // channels, a bit each
    int in[kStreams], out[kStreams];  // buffers of the streams, or -1
    uint32_t descriptor[Format::descriptors][8] = {};
    int offset[Format::descriptors] = {}, count[Format::descriptors] = {};

    Watched seen;

    Dma() {
        for (int& each : in) each = -1;
        for (int& each : out) each = -1;
    }

    void configure(uint32_t number, uint32_t word) {
        uint32_t bd = number >> 3;
        if (bd >= Format::descriptors) return;
        descriptor[bd][number & 7] = word;
        if ((number & 7) == Format::iteration_word) offset[bd] = count[bd] = 0;
    }

    void start(uint32_t number, int bd) {
        if (number >= kChannels || channel[number].state != kIdle) return;
        channel[number].state = kFetch;
        channel[number].started = true;
        busy |= 1u << number;
        channel[number].bd = bd;
        if (seen) see_state(static_cast<int>(number), 0);
    }

    // Of a channel that names it so.
    static int descriptor_of(int k, int bd) { return k % kStreams % Format::pools * kPool + bd % kPool; }

    // What the channels want of memory in this cycle.
    void ask(const Streams& streams) {
        for (uint32_t rest = busy; rest; rest &= rest - 1) {
            int k = __builtin_ctz(rest);
            Channel& c = channel[k];
            c.asks = c.granted = false;
            if (c.state != kMove) continue;
            if (k < kStreams) {
                bool other = c.here && some(c, streams, in[k]) && c.addr != c.at >> 2;
                c.asks = c.here && (c.mask == 15 || !c.left || other);
            } else {
                bool wants = c.left && (!c.here || streams.room(out[k - kStreams]));
                c.asks = wants && !c.zero && !(c.known && c.addr == c.at >> 2);
            }
        }
    }

    // Accesses, the first channel first, but for banks that are the core's in this cycle. The banks that are taken, a
    // bit each.
    uint32_t access(uint8_t* memory, uint32_t cores) {
        uint32_t banks = cores;
        for (uint32_t rest = busy; rest; rest &= rest - 1) {
            int k = __builtin_ctz(rest);
            Channel& c = channel[k];
            if (!c.asks) continue;
            int line = k < kStreams ? c.addr : c.at >> 2;
            uint32_t bank = Format::bank(line);
            if (banks & bank) continue;
            banks |= bank;
            c.granted = true;
            for (int lane = 0; lane < 4; lane++) {
                uint8_t* bytes = memory + LINE_BYTES * line + WORD_BYTES * lane;
                if (k >= kStreams) std::memcpy(&c.data[lane], bytes, WORD_BYTES);
                else if (c.mask >> lane & 1) std::memcpy(bytes, &c.data[lane], WORD_BYTES);
            }
            if (seen) see_access(k, line);
        }
        return banks & ~cores;
    }

    // Whether anything is not as it was.
    bool end(Locks& locks, Streams& streams) {
        bool fetched[Format::pools] = {}, changed = false;
        for (uint32_t rest = busy; rest; rest &= rest - 1) {
            int k = __builtin_ctz(rest);
            Channel& c = channel[k];
            bool left = k >= kStreams && c.here && give(c, streams, out[k - kStreams]), moved = false;
            bool& served = fetched[k % kStreams % Format::pools];
            int before = c.state;
            switch (c.state) {
                case kFetch:
                    if (!served) c.state = kLoad;
                    served = true;
                    break;
                case kLoad: load(k); break;
                case kAcquire:
                    if (c.serve(locks, kAsker + k)) c.state = kMove;
                    break;
                case kRelease_:
                    if (c.serve(locks, kAsker + k)) c.over();
                    break;
                case kMove:
                    if (k < kStreams) moved = gather(k, streams);
                    else moved = read(k, left);
                    break;
                default: break;
            }
            if (left && !moved) c.here = false;
            if (c.state == kIdle && !c.here) busy &= ~(1u << k);
            if (seen && c.state != before) see_state(k, 1);
            changed |= left || moved || c.asks || c.state != before;
        }
        return changed;
    }

  private:
    static bool some(const Channel& c, const Streams& streams, int buffer) { return c.left && streams.valid(buffer); }

    void load(int k) {
        Channel& c = channel[k];
        int bd = descriptor_of(k, c.bd);
        Descriptor now = Format::read(descriptor[bd]);
        c.load(now, offset[bd], k >= kStreams);
        c.find(Format::address_mask);
        if (seen) see_descriptor(k, bd);
        bool again = count[bd] + 1 < now.iterations;
        offset[bd] = again ? (offset[bd] + now.iteration_step) & Format::address_mask : 0;
        count[bd] = again ? count[bd] + 1 : 0;
    }

    // Whether a word comes.
    bool gather(int k, Streams& streams) {
        Channel& c = channel[k];
        int buffer = in[k];
        bool goes = c.asks && c.granted, merges = c.here && !goes;
        bool taken = some(c, streams, buffer) && (!c.here || goes || (c.addr == c.at >> 2 && c.mask != 15));
        bool done = !c.left && (!c.here || goes);
        if (taken) {
            c.mask = (merges ? c.mask : 0) | 1 << (c.at & 3);
            c.data[c.at & 3] = streams.take(buffer);
            c.addr = c.at >> 2;
            c.here = true;
            if (seen) see_moved(k, c.data[c.at & 3]);
            c.walk(Format::address_mask);
        } else if (goes) c.here = false;
        if (done) c.moved();
        return taken;
    }

    // Whether the word that was read last leaves.
    static bool give(const Channel& c, Streams& streams, int buffer) {
        if (!streams.room(buffer)) return false;
        streams.put(buffer, c.word);
        return true;
    }

    // Whether another one comes, which needs its place.
    bool read(int k, bool left) {
        Channel& c = channel[k];
        bool moves = c.left && (!c.here || left) && (!c.asks || c.granted);
        bool done = !c.left || (moves && c.left == 1);
        if (moves) {
            c.word = c.zero ? 0 : c.data[c.at & 3];
            if (!c.zero) {
                c.addr = c.at >> 2;
                c.known = true;
            }
            c.here = true;
            if (seen) see_moved(k, c.word);
            c.walk(Format::address_mask);
        }
        if (done) c.moved();
        return moves;
    }

    SEEING void see_state(int k, int later) const {
        SeenDmaState& record = seen.add<SeenDmaState>(later);
        record.channel = static_cast<uint16_t>(k), record.state = static_cast<uint16_t>(channel[k].state);
        record.descriptor = channel[k].state == kIdle ? 0 : static_cast<uint32_t>(channel[k].bd);
    }

    SEEING void see_descriptor(int k, int bd) const {
        SeenDescriptor& record = seen.add<SeenDescriptor>();
        record.channel = static_cast<uint32_t>(k), record.offset = static_cast<uint32_t>(offset[bd]);
        std::memcpy(record.words, descriptor[bd], Format::words * sizeof(uint32_t));
    }

    SEEING void see_access(int k, int line) const {
        const Channel& c = channel[k];
        SeenAccess& record = seen.add<SeenAccess>();
        record.channel = static_cast<uint16_t>(k), record.write = k < kStreams, record.line = static_cast<uint32_t>(line);
        record.mask = k < kStreams ? static_cast<uint32_t>(c.mask) : 0;
        uint32_t lanes = 0;
        for (int lane = 0; lane < 4; lane++)
            if (k >= kStreams || c.mask >> lane & 1) {
                std::memcpy(record.data + WORD_BYTES * lane, &c.data[lane], WORD_BYTES);
                lanes |= ((1u << WORD_BYTES / 4) - 1) << WORD_BYTES / 4 * lane;
            }
        if (k < kStreams) seen.write(line, lanes, record.data);
    }

    SEEING void see_moved(int k, StreamWord word) const {
        const Channel& c = channel[k];
        SeenMoved& record = seen.add<SeenMoved>();
        record.channel = static_cast<uint16_t>(k), record.padding = c.zero;
        record.address = c.zero ? 0 : static_cast<uint32_t>(c.at);
        std::memcpy(record.data, &word, WORD_BYTES);
    }
};

}  // namespace
