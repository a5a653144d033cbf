// SPDX-License-Identifier: Apache-2.0
// The locks of a tile.
#pragma once

namespace {

enum LockCode { kAtLeast, kEqual, kRelease };
// One request a cycle is served.
struct Locks {
    int value[64] = {};  // a core tile has 16
    bool served = false;
    int fault = -1;     // the first one that left its range, or -1
    bool told = false;  // of it
    bool serve(int lock, int code, int amount) {
        int& held = value[lock];
        if (served || (code == kAtLeast && held < amount) || (code == kEqual && held != amount)) return false;
        held += code == kRelease ? amount : -amount;
        if (held < 0 || held > 63) { if (fault < 0) fault = lock; held = held < 0 ? 0 : 63; }
        return served = true;
    }
};

}  // namespace
