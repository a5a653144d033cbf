// SPDX-License-Identifier: Apache-2.0
// What a core asks of its west neighbour's memory and locks, on its way there and back. See hdl/aie_ml/neighbour.py.
#pragma once
#include <cstdint>
#include <cstring>

#include "iss_locks.h"
#include "iss_vector.h"

namespace {

enum { kLoadA = 0, kLoadB = 1, kStore = 2 };
constexpr int kAnswers = 3;  // loads of a slot between the request and the register, at most

// What is asked for one cycle: nothing of it is served before all of the group before it.
struct Group { bool wanted[3]; int beat[3]; Vec data; };

// Both ends' view is that of the begin of a cycle; what they do is there for the other end when the cycle has ended.
class West {
  public:
    bool there = false;  // a neighbour

    // The core that asks.
    bool room() const { return under_way_ < WEST_GROUPS; }
    bool has(int slot) const { return answers_[slot] > 0; }
    void send(const Group& group) {
        fresh_ = group;
        sent_ = active_ = true;
        under_way_++;
    }
    const Group* sent() const { return sent_ ? &fresh_ : nullptr; }
    Vec take(int slot) {
        Vec out = answer_[slot][0];
        for (int k = 1; k < kAnswers; k++) answer_[slot][k - 1] = answer_[slot][k];
        answers_[slot]--;
        return out;
    }
    bool lock_is_free() const { return !lock_busy_; }
    bool lock_done() const { return lock_done_; }
    void ask(int lock, int code, int amount) {
        lock_ = lock;
        code_ = code;
        amount_ = amount;
        lock_busy_ = lock_sent_ = active_ = true;
    }

    // The neighbour, whose memory and locks they are.
    bool asks() const { return groups_ > 0; }
    bool wants(int port) const { return group_[0].wanted[port]; }
    int beat(int port) const { return group_[0].beat[port]; }
    const Vec& stored() const { return group_[0].data; }
    void grant(int port, uint8_t* memory) {
        Group& group = group_[0];
        uint8_t* place = memory + BEAT_BYTES * group.beat[port];
        group.wanted[port] = false;
        if (port == kStore) std::memcpy(place, group.data.byte, BEAT_BYTES);
        else {
            std::memcpy(read_[port].byte, place, BEAT_BYTES);
            is_read_[port] = true;
        }
        active_ = true;
    }
    void serve(Locks& locks) {
        if (!lock_waits_ || ahead_ || !locks.serve(lock_, code_, amount_, kEastCore)) return;
        lock_waits_ = false;
        lock_served_ = active_ = true;
    }

    bool active() const { return active_; }

    // The cycle ends. Whether anything moved, or is to be served.
    bool settle() {
        bool moved = sent_ || lock_sent_ || lock_served_ || lock_done_;
        lock_done_ = lock_served_;
        if (lock_done_) lock_busy_ = false;
        lock_served_ = false;
        for (int k = 0; k < 2; k++) {
            moved |= comes_[k] || is_read_[k];
            if (comes_[k]) answer_[k][answers_[k]++] = coming_[k];
            comes_[k] = is_read_[k];
            coming_[k] = read_[k];
            is_read_[k] = false;
        }
        if (groups_ && !group_[0].wanted[0] && !group_[0].wanted[1] && !group_[0].wanted[2]) {
            group_[0] = group_[1];
            groups_--;
            under_way_--;
            if (ahead_) ahead_--;
        }
        if (lock_sent_) {
            lock_waits_ = true;
            ahead_ = code_ == kRelease ? groups_ : 0;
        }
        if (sent_) group_[groups_++] = fresh_;
        sent_ = lock_sent_ = false;
        return active_ = moved || groups_;
    }

  private:
    Group fresh_ = {}, group_[WEST_GROUPS] = {};
    bool active_ = false, sent_ = false, is_read_[2] = {}, comes_[2] = {};
    int under_way_ = 0, groups_ = 0, answers_[2] = {};
    Vec read_[2] = {}, coming_[2] = {}, answer_[2][kAnswers] = {};
    bool lock_busy_ = false, lock_sent_ = false, lock_waits_ = false, lock_served_ = false, lock_done_ = false;
    int lock_ = 0, code_ = 0, amount_ = 0, ahead_ = 0;  // groups that a RELEASE waits for
};

}  // namespace
