// SPDX-License-Identifier: Apache-2.0
// The buffer that streams and cascades are made of: two words. And what lands in a register in one cycle.
#pragma once

namespace {

// `now`: as many words as there were when the cycle began, which is what both ends see.
template <typename Word>
struct Elastic {
    Word word[2] = {};
    int count = 0, now = 0;
    bool valid() const { return now > 0; }
    bool room() const { return now < 2; }
    void push(const Word& w) { word[count++] = w; }
    Word pop() { Word w = word[0]; word[0] = word[1]; count--; return w; }
    void settle() { now = count; }  // the cycle ends
};

// What lands in one cycle.
template <typename Write, int most>
struct Landing {
    int count = 0;
    Write write[most];
    void add(const Write& each) { write[count++] = each; }
};

}  // namespace
