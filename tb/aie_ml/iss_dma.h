// SPDX-License-Identifier: Apache-2.0
// A tile's DMA, by the cycle table of hdl/aie_ml/dma.py.
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

struct Channel {
    int state = kIdle, bd = 0;
    uint32_t words[6] = {};  // of the descriptor in hand
    int left = 0, at = 0, row = 0, plane = 0, column = 0, line = 0;
    bool here = false;  // S2MM: a line is being gathered; MM2S: a word waits for the buffer
    bool known = false, asks = false, granted = false;
    int addr = 0, mask = 0;
    uint32_t data[4] = {}, word = 0;

    void load(const uint32_t* descriptor, int offset) {
        std::memcpy(words, descriptor, sizeof words);
        at = row = plane = (field(words[0], 0, 14) + offset) & 16383;
        column = line = 0;
        left = field(words[0], 16, 15);
        known = false;
        state = words[5] >> 5 & 1 ? kAcquire : kMove;
    }

    void walk() {
        left--;
        if (column + 1 < field(words[1], 16, 10)) {
            column++;
            at = (at + signed_field(words[1], 0, 15)) & 16383;
        } else if (line + 1 < field(words[2], 16, 10)) {
            column = 0;
            line++;
            at = row = (row + signed_field(words[2], 0, 15)) & 16383;
        } else {
            column = line = 0;
            at = row = plane = (plane + signed_field(words[3], 0, 15)) & 16383;
        }
    }

    void over() {
        state = words[5] >> 4 & 1 ? kFetch : kIdle;
        bd = field(words[5], 0, 4);
    }

    void moved() {
        if (words[5] >> 17 & 1) state = kRelease_;
        else over();
    }

    bool serve(Locks& locks) const {
        uint32_t w = words[5];
        if (state == kRelease_) return locks.serve(field(w, 18, 4), kRelease, signed_field(w, 22, 7));
        return locks.serve(field(w, 6, 4), w >> 16 & 1 ? kAtLeast : kEqual, field(w, 10, 6));
    }
};

struct Dma {
    Channel channel[4];  // S2MM 0, 1, MM2S 0, 1
    int in[2] = {-1, -1}, out[2] = {-1, -1};  // buffers of the streams
    uint32_t descriptor[16][8] = {};
    int offset[16] = {}, count[16] = {};

    void configure(uint32_t number, uint32_t word) {
        descriptor[number >> 3 & 15][number & 7] = word;
        if ((number & 7) == 4) offset[number >> 3 & 15] = count[number >> 3 & 15] = 0;
    }

    void start(int number, int bd) {
        Channel& c = channel[number & 3];
        if (c.state != kIdle) return;
        c.state = kFetch;
        c.bd = bd;
    }

    static bool some(const Channel& c, const Fifo* stream) {
        return c.state == kMove && c.left && stream && stream->valid();
    }

    // What the channels want of memory in this cycle.
    void ask(Streams& streams) {
        for (int k = 0; k < 4; k++) {
            Channel& c = channel[k];
            if (k < 2) {
                bool other = some(c, buffer(streams, in[k])) && c.addr != c.at >> 2;
                c.asks = c.state == kMove && c.here && (c.mask == 15 || !c.left || other);
            } else {
                bool wants = c.state == kMove && c.left && (!c.here || buffer(streams, out[k - 2])->room());
                c.asks = wants && !(c.known && c.addr == c.at >> 2);
            }
            c.granted = false;
        }
    }

    // Accesses, the first channel first, but for banks that are the core's in this cycle. The banks that are taken, a
    // bit each.
    uint32_t access(uint8_t* memory, uint32_t cores) {
        uint32_t banks = cores;
        for (int k = 0; k < 4; k++) {
            Channel& c = channel[k];
            if (!c.asks) continue;
            int place = k < 2 ? c.addr : c.at >> 2;
            uint32_t bank = 1u << (place >> 10 << 1 | (place & 1));
            if (banks & bank) continue;
            banks |= bank;
            c.granted = true;
            for (int lane = 0; lane < 4; lane++) {
                uint8_t* bytes = memory + 16 * place + 4 * lane;
                if (k >= 2) std::memcpy(&c.data[lane], bytes, 4);
                else if (c.mask >> lane & 1) std::memcpy(bytes, &c.data[lane], 4);
            }
        }
        return banks & ~cores;
    }

    void end(Locks& locks, Streams& streams) {
        bool fetched = false;
        for (int k = 0; k < 4; k++) {
            Channel& c = channel[k];
            bool left = k >= 2 && give(c, buffer(streams, out[k - 2])), moved = false;
            switch (c.state) {
                case kFetch:
                    if (!fetched) c.state = kLoad;
                    fetched = true;
                    break;
                case kLoad: load(c); break;
                case kAcquire:
                    if (c.serve(locks)) c.state = kMove;
                    break;
                case kRelease_:
                    if (c.serve(locks)) c.over();
                    break;
                case kMove:
                    if (k < 2) gather(c, buffer(streams, in[k]));
                    else moved = read(c, left);
                    break;
                default: break;
            }
            if (left && !moved) c.here = false;
        }
    }

  private:
    static Fifo* buffer(Streams& streams, int number) {
        return number < 0 ? nullptr : &streams.fifos[static_cast<size_t>(number)];
    }

    void load(Channel& c) {
        int& at = offset[c.bd];
        const uint32_t* words = descriptor[c.bd];
        c.load(words, at);
        bool again = count[c.bd] + 1 < field(words[4], 16, 6);
        at = again ? (at + signed_field(words[4], 0, 15)) & 16383 : 0;
        count[c.bd] = again ? count[c.bd] + 1 : 0;
    }

    void gather(Channel& c, Fifo* stream) {
        bool goes = c.asks && c.granted, came = some(c, stream);
        bool merges = c.here && !goes;
        bool taken = came && (!c.here || goes || (c.addr == c.at >> 2 && c.mask != 15));
        bool done = !c.left && (!c.here || goes);
        if (taken) {
            c.mask = (merges ? c.mask : 0) | 1 << (c.at & 3);
            c.data[c.at & 3] = stream->pop();
            c.addr = c.at >> 2;
            c.here = true;
            c.walk();
        } else if (goes) c.here = false;
        if (done) c.moved();
    }

    // Whether the word that was read last leaves.
    static bool give(const Channel& c, Fifo* stream) {
        if (!c.here || !stream->room()) return false;
        stream->push(c.word);
        return true;
    }

    // Whether another one comes, which needs its place.
    static bool read(Channel& c, bool left) {
        bool moves = c.left && (!c.here || left) && (!c.asks || c.granted);
        bool done = !c.left || (moves && c.left == 1);
        if (moves) {
            c.word = c.data[c.at & 3];
            c.addr = c.at >> 2;
            c.known = c.here = true;
            c.walk();
        }
        if (done) c.moved();
        return moves;
    }
};

}  // namespace
