// SPDX-License-Identifier: Apache-2.0
// What stands at a place of the array: a core tile or a memory tile.
#pragma once
#include <memory>

#include "iss_core.h"
#include "iss_dma.h"

namespace {

constexpr int kNorth = 0, kSouth = 1, kWest = 2, kEast = 3, kMostPorts = 20;

// Of a switch: `local` of each kind for the own DMA; the first master and slave of each side, and how many masters.
struct Ports { int local, masters, slaves, master[4], slave[4], go[4]; };
constexpr Ports kTilePorts = {2, 20, 20, {2, 8, 12, 16}, {2, 6, 12, 16}, {6, 4, 4, 4}};
constexpr Ports kMemoryPorts = {6, 16, 16, {6, 12, 16, 16}, {6, 10, 16, 16}, {6, 4, 0, 0}};

struct MemoryTile {
    std::vector<uint8_t> data = std::vector<uint8_t>(MEMORY_TILE_BYTES);
    Locks locks;
    Dma<MemoryFormat> dma;

    explicit MemoryTile(uint64_t seed) {
        for (size_t k = 0; k < data.size(); k += 8) {
            uint64_t poison = mixed(seed += kSplit);
            std::memcpy(&data[k], &poison, 8);
        }
    }

    static constexpr uint64_t kSplit = 0x9E3779B97F4A7C15;
    static uint64_t mixed(uint64_t z) {  // splitmix64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
        z = (z ^ z >> 27) * 0x94D049BB133111EB;
        return z ^ z >> 31;
    }
};

struct Node {
    const Ports* ports = &kTilePorts;
    std::unique_ptr<Core> core;          // of a core tile that is used, or is beside one
    std::unique_ptr<MemoryTile> memory;  // of a memory tile that is used
    Dma<TileFormat> dma;                 // of a core tile
    bool used = false, started = false, ever = false;
    uint64_t halts = ~uint64_t{0};  // the first cycle in which the core is done
    int fetching = 0;  // cycles until the core that was started issues something
    uint32_t turn = 0;  // banks that are the cores' in this cycle: words made one wait there in the one before
    uint32_t own_was_last = 0;  // banks that the own core had last, not the east neighbour's
    West* east = nullptr;  // what the east neighbour's core asks
    int number = -1;    // of core tiles
    int seen_state = 0;
    int slave[kMostPorts], state = -1;   // first buffer of each slave, or -1
    int master[kMostPorts];  // listens to that slave, or -1

    Node() {
        for (int& each : slave) each = -1;
        for (int& each : master) each = -1;
    }
    bool is_memory() const { return ports == &kMemoryPorts; }
};

}  // namespace
