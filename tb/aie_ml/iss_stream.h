// SPDX-License-Identifier: Apache-2.0
// Streams: buffers of two words, and the ways between them that circuits make.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#include "iss_elastic.h"
#include "iss_seen.h"

#include "isa.h"

namespace {

using StreamWord = WORD_TYPE;

// What a buffer is: of a stream of the shim; first and second of a switch's slave; of a master; of a link; of MM2S.
enum Role { kShim, kSlaveFirst, kSlaveHead, kMaster, kLink, kMm2s };

enum { kEnters, kCrosses, kLeaves };  // a word and a switch

// A word goes on to all targets at once, when all of them have room.
struct Fifo : Elastic<StreamWord> {
    int targets = 0, first = 0;    // in Streams::targets
    int writer = -1, reader = -1;  // node whose DMA puts words in, takes them out
    int node = -1, role = kShim, number = 0;
    bool listed = false;           // in Streams::live
};

struct Streams {
    std::vector<Fifo> fifos;
    std::vector<int> targets;
    std::vector<int> live;       // those with words, and those that got or lost some in this cycle
    std::vector<uint8_t> awake;  // of each node: something happened to one of its DMA's buffers
    bool moved = false;          // anything, in this cycle
    Seen* seen = nullptr;
    std::vector<uint32_t> units;  // of each node, in records

    int add(int node, Role role, int number) {
        fifos.emplace_back();
        fifos.back().node = node;
        fifos.back().role = role;
        fifos.back().number = number;
        return static_cast<int>(fifos.size()) - 1;
    }

    void join(int from, const std::vector<int>& to) {
        at(from).first = static_cast<int>(targets.size());
        at(from).targets = static_cast<int>(to.size());
        targets.insert(targets.end(), to.begin(), to.end());
    }

    Fifo& at(int number) { return fifos[static_cast<size_t>(number)]; }
    const Fifo& at(int number) const { return fifos[static_cast<size_t>(number)]; }
    bool valid(int number) const { return number >= 0 && at(number).valid(); }
    bool room(int number) const { return at(number).room(); }

    StreamWord take(int number) {
        Fifo& fifo = at(number);
        moved = true;
        if (fifo.writer >= 0) awake[static_cast<size_t>(fifo.writer)] = 1;
        StreamWord word = fifo.pop();
        if (seen && fifo.role == kLink) see(fifo, word, kLeaves);
        return word;
    }

    void put(int number, StreamWord word) {
        Fifo& fifo = at(number);
        moved = true;
        if (fifo.reader >= 0) awake[static_cast<size_t>(fifo.reader)] = 1;
        if (!fifo.listed) {
            fifo.listed = true;
            live.push_back(number);
        }
        fifo.push(word);
        if (seen && fifo.role == kSlaveFirst) see(fifo, word, kEnters);
        if (seen && fifo.role == kMaster) see(fifo, word, kCrosses);
    }

    SEEING void see(const Fifo& fifo, StreamWord word, int place) const {
        SeenStream& record = seen->add<SeenStream>(seen->now, units[static_cast<size_t>(fifo.node)]);
        record.place = static_cast<uint16_t>(place), record.port = static_cast<uint16_t>(fifo.number);
        std::memcpy(record.data, &word, sizeof word);
    }

    void move() {
        // Those that come to the list meanwhile have nothing yet that can go on.
        for (size_t k = 0, count = live.size(); k < count; k++) {
            const Fifo& from = at(live[k]);
            if (!from.valid() || !from.targets) continue;
            const int* to = &targets[static_cast<size_t>(from.first)];
            bool all = true;
            for (int i = 0; i < from.targets; i++) all &= room(to[i]);
            if (!all) continue;
            StreamWord word = take(live[k]);
            for (int i = 0; i < from.targets; i++) put(to[i], word);
        }
    }

    void settle() {
        size_t kept = 0;
        for (int number : live) {
            Fifo& fifo = at(number);
            fifo.settle();
            fifo.listed = fifo.count > 0;
            if (fifo.listed) live[kept++] = number;
        }
        live.resize(kept);
    }
};

}  // namespace
