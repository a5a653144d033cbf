// SPDX-License-Identifier: Apache-2.0
// Who waits for what, and who would give it: for accounts of arrays in which nothing goes on. See deadlock.py.
#pragma once
#include "iss_node.h"

namespace {

enum WaitKind { kIdles, kGoesOn, kForLock, kForWords, kForRoom, kForCascade, kForCascadeRoom };
constexpr int kCore = -1, kNobody = -2;  // as agents; else a channel's number

// code: of LockCode. started: ever. fifo: -1 where there is no circuit. holder: whose lock it is.
struct Wait { int32_t node, agent, kind, lock, code, amount, value, fifo, bd, started, holder; };
// Who releases a lock: an instruction of the core (bd -1); a descriptor of those that the channel is to come to, or that
// nobody comes to.
struct Giver { int32_t node, agent, bd, lock, delta, holder; };
struct Buffer { int32_t role, node, number, count; };
struct Way { int32_t from, to; };

// west: the tile there, or null; west_number: its number.
Wait wait_of_core(int number, const Node& node, int west_number, const Node* west) {
    Wait out{number, kCore, kIdles, 0, 0, 0, 0, -1, -1, node.ever, number};
    if (!node.started) return out;
    const Op* next = node.core->waiting();
    if (node.state == 3 && next && next->control == ControlOp_ACQUIRE && (west || !next->lock_west)) {
        const Node& holder = next->lock_west ? *west : node;
        out.kind = kForLock;
        out.lock = next->lock;
        out.code = next->lock_equal ? kEqual : kAtLeast;
        out.amount = next->lock_value;
        out.value = holder.core->locks.value[next->lock];
        out.holder = next->lock_west ? west_number : number;
    } else if (node.state == 4 && next) {
        bool gets = next->move == MoveOp_GET && !node.core->from_west.valid();
        out.kind = gets ? kForCascade : kForCascadeRoom;
    } else out.kind = kGoesOn;
    return out;
}

template <typename Format>
void add_channels(int number, const Dma<Format>& dma, const Locks& locks, const Streams& streams,
                  std::vector<Wait>& out) {
    for (int k = 0; k < Dma<Format>::kChannels; k++) {
        const Channel& c = dma.channel[k];
        bool sends = k >= Format::streams;
        int fifo = sends ? dma.out[k - Format::streams] : dma.in[k];
        Wait wait{number, k, kGoesOn, 0, 0, 0, 0, fifo, dma.descriptor_of(k, c.bd), c.started, number};
        if (c.state == kIdle) wait.kind = kIdles;
        if (c.state == kAcquire) {
            wait.kind = kForLock;
            wait.lock = c.now.acquire_lock;
            wait.code = c.now.at_least ? kAtLeast : kEqual;
            wait.amount = c.now.acquire_value;
            wait.value = locks.value[c.now.acquire_lock];
        }
        if (c.state == kMove && !sends && c.left && !streams.valid(fifo)) wait.kind = kForWords;
        if (c.state == kMove && sends && c.here && !streams.room(fifo)) wait.kind = kForRoom;
        out.push_back(wait);
    }
}

template <typename Format>
void add_descriptors(int number, const Dma<Format>& dma, std::vector<Giver>& out) {
    bool any[Format::descriptors] = {};
    auto add = [&](int agent, int bd, const Descriptor& each) {
        if (each.release) out.push_back({number, agent, bd, each.release_lock, each.release_delta, number});
    };
    for (int k = 0; k < Dma<Format>::kChannels; k++) {
        if (dma.channel[k].state == kIdle) continue;
        if (dma.channel[k].state > kLoad) add(k, -1, dma.channel[k].now);
        bool seen[Format::descriptors] = {};
        bool more = dma.channel[k].state <= kLoad || dma.channel[k].now.use_next;
        int bd = dma.channel[k].state <= kLoad ? dma.channel[k].bd : dma.channel[k].now.next;
        while (more && !seen[bd = dma.descriptor_of(k, bd)]) {
            Descriptor each = Format::read(dma.descriptor[bd]);
            seen[bd] = any[bd] = true;
            add(k, bd, each);
            more = each.use_next;
            bd = each.next;
        }
        any[dma.descriptor_of(k, dma.channel[k].bd)] = true;
    }
    for (int bd = 0; bd < Format::descriptors; bd++)
        if (!any[bd]) add(kNobody, bd, Format::read(dma.descriptor[bd]));
}

struct Account {
    std::vector<Wait> waits;
    std::vector<Giver> givers;
    std::vector<Buffer> buffers;
    std::vector<Way> ways;

    void add(int number, const Node& node, const Streams& streams, int west_number, const Node* west) {
        if (node.is_memory()) {
            add_channels(number, node.memory->dma, node.memory->locks, streams, waits);
            add_descriptors(number, node.memory->dma, givers);
            return;
        }
        waits.push_back(wait_of_core(number, node, west_number, west));
        add_channels(number, node.dma, node.core->locks, streams, waits);
        add_descriptors(number, node.dma, givers);
        for (const Op* each : node.core->program())
            if (each->control == ControlOp_RELEASE)
                givers.push_back({number, kCore, -1, each->lock, each->lock_value,
                                  each->lock_west ? west_number : number});
    }

    void add(const Streams& streams) {
        for (const Fifo& each : streams.fifos) {
            int number = static_cast<int>(buffers.size());
            buffers.push_back({each.role, each.node, each.number, each.count});
            for (int k = 0; k < each.targets; k++)
                ways.push_back({number, streams.targets[static_cast<size_t>(each.first + k)]});
        }
    }
};

}  // namespace
