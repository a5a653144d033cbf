// SPDX-License-Identifier: Apache-2.0
// Streams: buffers of two words, and the hops between them that circuits make.
#pragma once
#include <cstdint>
#include <vector>

#include "iss_elastic.h"

namespace {

using Fifo = Elastic<uint32_t>;

// A word leaves `from` when all of `to` have room, for all of them.
struct Hop {
    int from;
    std::vector<int> to;
};

struct Streams {
    std::vector<Fifo> fifos;
    std::vector<Hop> hops;

    int add() {
        fifos.emplace_back();
        return static_cast<int>(fifos.size()) - 1;
    }

    void move() {
        for (const Hop& hop : hops) {
            Fifo& from = fifos[static_cast<size_t>(hop.from)];
            if (!from.valid()) continue;
            bool room = true;
            for (int to : hop.to) room &= fifos[static_cast<size_t>(to)].room();
            if (!room) continue;
            uint32_t word = from.pop();
            for (int to : hop.to) fifos[static_cast<size_t>(to)].push(word);
        }
    }

    void settle() {
        for (Fifo& fifo : fifos) fifo.settle();
    }
};

}  // namespace
