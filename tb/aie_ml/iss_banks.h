// SPDX-License-Identifier: Apache-2.0
// Who gets the banks of a core tile's data memory, where the DMA's words leave them.
#pragma once
#include "iss_node.h"

namespace {

uint32_t pair_of(int beat) { return 3u << (beat / (MEMORY_BEATS / 4) * 2); }

// What the east neighbour's core is given, or gives.
SEEING void see_east(const Core& core, const West& other, int port) {
    SeenEast& record = core.seen.add<SeenEast>();
    record.slot = static_cast<uint32_t>(port), record.beat = static_cast<uint32_t>(other.beat(port));
    const uint8_t* bytes = port == kStore ? other.stored().byte : &core.memory[static_cast<size_t>(BEAT_BYTES * other.beat(port))];
    std::memcpy(record.data, bytes, BEAT_BYTES);
    if (port == kStore) core.seen.write_beat(other.beat(port), bytes);
}

// A beat a pair of banks and cycle: the own core's, or the east neighbour's, in turn. words: banks that words have.
void grant_beats(Node& node, uint32_t words) {
    Core& core = *node.core;
    uint32_t banks = words;
    auto own_pair = [&](int port) { return node.started && core.wants(port) ? pair_of(core.beat(port)) : 0; };
    if (node.east && node.east->asks()) {
        West& other = *node.east;
        uint32_t own = 0;
        for (int port : {kStore, kLoadA, kLoadB}) own |= own_pair(port);
        uint32_t comes = node.own_was_last | ~own;  // the east's, if it wants them
        for (int port : {kStore, kLoadA, kLoadB}) {
            uint32_t pair = other.wants(port) ? pair_of(other.beat(port)) : 0;
            if (words & pair) node.turn |= pair;
            if (!(pair & comes) || banks & pair) continue;
            if (core.seen) see_east(core, other, port);
            other.grant(port, core.memory.data());
            node.own_was_last &= ~pair;
            banks |= pair;
        }
    }
    for (int port : {kStore, kLoadA, kLoadB}) {
        uint32_t pair = own_pair(port);
        if (pair && !(banks & pair)) {
            core.grant(port);
            node.own_was_last |= pair;
        }
        if (words & pair) node.turn |= pair;
        banks |= pair;
    }
}

}  // namespace
