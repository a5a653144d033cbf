// SPDX-License-Identifier: Apache-2.0
// The locks of a tile.
#pragma once
#include "iss_seen.h"

namespace {

enum LockCode { kAtLeast, kEqual, kRelease };
constexpr int kOwnCore = 0, kEastCore = 1, kFirstChannel = 2;  // of a core tile; a memory tile has channels only
// One request a cycle is served.
struct Locks {
    int value[64] = {};  // a core tile has 16
    bool served = false;
    int fault = -1;     // the first one that left its range, or -1
    bool told = false;  // of it
    Watched seen;
    // asker: who asks, in the order in which they are served.
    bool serve(int lock, int code, int amount, int asker) {
        int& held = value[lock];
        if (served || (code == kAtLeast && held < amount) || (code == kEqual && held != amount)) return false;
        held += code == kRelease ? amount : -amount;
        if (held < 0 || held > 63) { if (fault < 0) fault = lock; held = held < 0 ? 0 : 63; }
        if (seen) see(lock, code, amount, asker);
        return served = true;
    }

    SEEING void see(int lock, int code, int amount, int asker) const {
        SeenLock& record = seen.add<SeenLock>();
        record.asker = static_cast<uint16_t>(asker), record.op = static_cast<uint16_t>(code);
        record.lock = static_cast<uint32_t>(lock), record.amount = amount;
        record.after = static_cast<uint32_t>(value[lock]);
    }
};

}  // namespace
