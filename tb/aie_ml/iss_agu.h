// SPDX-License-Identifier: Apache-2.0
// The address generator of a pointer.
#pragma once
#include "iss_words.h"

namespace {

constexpr int kPointerMask = 2 * MEMORY_BEATS - 1;

struct Pointer {
    int at, inc, s1, s2, n1, n2, c1, c2;

    void go_on(const Access& access) {
        if (access.post == Post_ADD) at += access.step;
        if (access.post == Post_WALK) {
            if (c1 + 1 < n1) { at += inc; c1++; }
            else {
                c1 = 0;
                if (c2 + 1 < n2) { at += s1; c2++; }
                else { at += s2; c2 = 0; }
            }
        }
        at &= kPointerMask;
    }

    // which: of AguRegister.
    void set(int which, int value) {
        switch (which) {
            case AguRegister_POINTER: at = value & kPointerMask; c1 = c2 = 0; break;
            case AguRegister_INC: inc = value; break;
            case AguRegister_N1: n1 = value & 2047; break;
            case AguRegister_S1: s1 = value; break;
            case AguRegister_N2: n2 = value & 2047; break;
            case AguRegister_S2: s2 = value; break;
            default: break;
        }
    }
};

}  // namespace
