// SPDX-License-Identifier: Apache-2.0
// A tile by itself: the core with its data memory, and its west neighbour's with the locks there, which nobody else
// uses.
// Nobody takes from its cascade, or gives to it.
#include "iss_core.h"

namespace {

constexpr int kPairBeats = 512;

struct Tile : Core {
    std::vector<uint8_t> west_memory = std::vector<uint8_t>(32 * MEMORY_BEATS);
    Locks west_locks;

    explicit Tile(uint64_t seed) : Core(seed) {
        accesses.west.there = true;
        for (auto& byte : west_memory) byte = poison();
    }

    void run(uint64_t limit) {
        while (!halted && cycle < limit && problems.size() < 16) step();
    }

    // Of a pair of banks one access at a time: the store first, then load a, load b.
    void step() {
        begin();
        West& west = accesses.west;
        uint32_t taken = 0, there = 0;
        for (int port : {kStore, kLoadA, kLoadB}) {
            uint32_t pair = wants(port) ? 1u << (beat(port) / kPairBeats) : 0;
            if (pair && !(taken & pair)) grant(port);
            taken |= pair;
            pair = west.asks() && west.wants(port) ? 1u << (west.beat(port) / kPairBeats) : 0;
            if (pair && !(there & pair)) west.grant(port, west_memory.data());
            there |= pair;
        }
        west_locks.served = false;
        west.serve(west_locks);
        locks.served = false;
        end();
        west.settle();
        to_east.settle();
    }
};

}  // namespace

extern "C" {
Tile* nncosim_aie_create(uint64_t seed) { return new Tile(seed); }
void nncosim_aie_destroy(Tile* t) { delete t; }
void nncosim_aie_load(Tile* t, const uint8_t* data, uint64_t words) { t->load(data, words); }
uint8_t* nncosim_aie_memory(Tile* t) { return t->memory.data(); }
uint8_t* nncosim_aie_west_memory(Tile* t) { return t->west_memory.data(); }
void nncosim_aie_start(Tile* t) { t->start(); }
void nncosim_aie_run(Tile* t, uint64_t limit) { t->run(limit); }
int nncosim_aie_halted(Tile* t) { return t->halted; }
uint64_t nncosim_aie_cycle(Tile* t) { return t->cycle; }
uint64_t nncosim_aie_issued(Tile* t) { return t->issued; }
uint64_t nncosim_aie_stalls(Tile* t) { return t->stalls; }
const StoreRecord* nncosim_aie_stores(Tile* t, uint64_t* n) { *n = t->stores.size(); return t->stores.data(); }
const Problem* nncosim_aie_problems(Tile* t, uint64_t* n) { *n = t->problems.size(); return t->problems.data(); }
const Problem* nncosim_aie_remarks(Tile* t, uint64_t* n) { *n = t->remarks.size(); return t->remarks.data(); }
}
