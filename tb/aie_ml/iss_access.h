// SPDX-License-Identifier: Apache-2.0
// A core's accesses to data memories, from their issue on.
#pragma once
#include "iss_west.h"

namespace {

constexpr int kRing = 8;  // cycles: more than any latency
constexpr int kTaken = LATENCY_load - 1;  // from the issue of a load: at the end of that cycle its register takes it

// Of an instruction: `wanted` of the own memory and not granted yet, or of the west neighbour's; `beat` of load a, load
// b, store.
struct Pending {
    bool wanted[3], west[3];
    int beat[3], load_reg[2];
    Vec store_data;

    void place(int port, int at) {
        west[port] = at >= MEMORY_BEATS;
        wanted[port] = !west[port];
        beat[port] = at & (MEMORY_BEATS - 1);
    }
    bool goes_west() const { return west[kLoadA] || west[kLoadB] || west[kStore]; }
};

class Accesses {
  public:
    West west;

    void forget() {
        bool there = west.there;
        west = West{};
        west.there = there;
        stored_west_ = false;
        time_ = 0;
        for (auto& each : pending_) each = Pending{};
    }

    // Of an instruction that is issued now.
    Pending& issue() { return pending_[at(0)] = Pending{}; }

    // Of the own memory.
    bool wants(int port) const { return here(port).wanted[port]; }
    const Pending& here(int port) const { return pending_[stage(port)]; }
    void granted(int port) { pending_[stage(port)].wanted[port] = false; }

    // Whether the core cannot go on: something is not granted; a vector from the west is not there when its register is
    // to take it; or a group is to go there and has no room.
    bool wait() const {
        if (wants(kLoadA) || wants(kLoadB) || wants(kStore)) return true;
        const Pending& last = pending_[at(-kTaken)];
        if ((last.west[kLoadA] && !west.has(kLoadA)) || (last.west[kLoadB] && !west.has(kLoadB))) return true;
        bool goes = false;
        for (int port : {kStore, kLoadA, kLoadB}) goes |= pending_[at(1 - cycles(port))].west[port];
        return goes && !west.room();
    }

    // Whether a vector from the west comes to its register at the end of this cycle.
    bool lands(int slot) const { return pending_[at(-kTaken)].west[slot]; }
    int reg(int slot) const { return pending_[at(-kTaken)].load_reg[slot]; }
    Vec take(int slot) {
        pending_[at(-kTaken)].west[slot] = false;
        return west.take(slot);
    }

    // A cycle further, where something is asked of the west.
    void go_on() {
        time_++;
        Group group = {};
        bool any = false;
        for (int port : {kStore, kLoadA, kLoadB}) {
            group.wanted[port] = here(port).west[port];
            group.beat[port] = here(port).beat[port];
            any |= group.wanted[port];
        }
        if (!any) return;
        stored_west_ = group.wanted[kStore];
        if (stored_west_) group.data = here(kStore).store_data;
        pending_[stage(kStore)].west[kStore] = false;
        west.send(group);
    }

    // What has been sent there in this cycle, or null.
    const Group* sent() const { return west.sent(); }

    // Once for each store that has been sent there.
    bool stored_west() {
        bool out = stored_west_;
        stored_west_ = false;
        return out;
    }

  private:
    Pending pending_[kRing] = {};
    uint64_t time_ = 0;  // cycles without stalls
    bool stored_west_ = false;

    int at(int later) const { return static_cast<int>((time_ + static_cast<uint64_t>(kRing + later)) % kRing); }
    static int cycles(int port) { return port == kStore ? LATENCY_store_memory : LATENCY_load_memory; }
    int stage(int port) const { return at(-cycles(port)); }
};

}  // namespace
