// SPDX-License-Identifier: Apache-2.0
// Counts what changes (counting.py): of nets between one clock and the next, when all gates have settled; without
// delays, so that no net changes twice in a cycle. A record of the event log for each span of cycles.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "eventlog.h"
#include "svdpi.h"

namespace {

// Cycles: how many at the beginning do not count; after how many a record is due, 0: never.
struct Counting {
    std::uint32_t from = 0, every = 0;
};

// When a record is due: after so many cycles, and after each in which the stream of marks has grown.
class Spans {
public:
    enum class At { COUNTS, BEGINS, ENDS };

    At clock(const Counting& counting, std::int32_t marks) {
        const auto& log = nncosim::current_log();
        const auto found = log.find(marks);
        const std::size_t size = found == log.end() ? 0 : found->second.words.size();
        const bool grown = size > seen_;
        seen_ = size;
        if (++clocks_ <= counting.from) return At::BEGINS;
        ++cycles_;
        return grown || (counting.every && cycles_ % counting.every == 0) ? At::ENDS : At::COUNTS;
    }
    std::uint32_t cycles() const { return cycles_; }

private:
    std::size_t seen_ = 0;
    std::uint32_t clocks_ = 0, cycles_ = 0;
};

template <int C> struct Bytes { typedef std::uint8_t type __attribute__((vector_size(C))); };

// Bits that are set, in all lanes that there are, of N words: of what changed in them, or (ONES) as they are.
template <class W, int N, bool ONES = false> class Tally {
    static constexpr int B = sizeof(W), C = B == 1 ? 32 : B, BYTES = N * B, FULL = BYTES / C * C;
    static constexpr int MOST = 31;  // clocks until the eight bits of a byte could be more than it holds
    using Chunk = typename Bytes<C>::type;

public:
    void add(const W* now, W lanes) {
        const auto* from = reinterpret_cast<const std::uint8_t*>(now);
        Chunk mask;
        for (int k = 0; k < C; ++k) mask[k] = reinterpret_cast<const std::uint8_t*>(&lanes)[k % B];
        for (int at = 0; at < FULL; at += C) part<C>(from + at, at, mask);
        if constexpr (FULL < BYTES) part<BYTES - FULL>(from + FULL, FULL, mask);
        if (++clocks_ == MOST) flush();
    }
    void clear() {
        flush();
        std::memset(totals_, 0, sizeof totals_);
    }
    void take(std::vector<std::uint32_t>& into) {
        flush();
        into.insert(into.end(), totals_, totals_ + N);
        std::memset(totals_, 0, sizeof totals_);
    }

private:
    template <int SIZE> void part(const std::uint8_t* from, int at, Chunk mask) {
        Chunk now{}, old{}, sum{};
        std::memcpy(&now, from, SIZE);
        std::memcpy(&sum, sums_ + at, SIZE);
        Chunk x = now;
        if constexpr (!ONES) {
            std::memcpy(&old, old_ + at, SIZE);
            std::memcpy(old_ + at, &now, SIZE);
            x ^= old;
        }
        x &= mask;
        x -= (x >> 1) & 0x55;
        x = (x & 0x33) + ((x >> 2) & 0x33);
        x = (x + (x >> 4)) & 0x0F;
        sum += x;
        std::memcpy(sums_ + at, &sum, SIZE);
    }
    void flush() {
        clocks_ = 0;
        for (int net = 0; net < N; ++net) {
            std::uint32_t sum = 0;
            for (int k = 0; k < B; ++k) sum += sums_[net * B + k];
            totals_[net] += sum;
        }
        std::memset(sums_, 0, sizeof sums_);
    }
    int clocks_ = 0;
    alignas(64) std::uint8_t old_[BYTES] = {}, sums_[BYTES] = {};
    std::uint32_t totals_[N] = {};
};
template <class W, bool ONES> class Tally<W, 0, ONES> {
public:
    void add(const W*, W) {}
    void clear() {}
    void take(std::vector<std::uint32_t>&) {}
};

inline void record(std::int32_t stream, const Spans& spans, std::vector<std::uint32_t>& words) {
    words[0] = spans.cycles();
    nncosim::append(stream, static_cast<std::uint32_t>(words.size()), words.data());
}

// The same of one instance whose nets come as a vector of bits. `group_of`: of some nets, which group they are in; a
// group counts the clocks in which any of its nets changes. Of `ones` each bit counts the clocks in which it is set.
class BitTally {
public:
    BitTally(Counting counting, std::int32_t stream, std::int32_t marks, int nets, int first, int members,
             const std::uint32_t* group_of, int groups, int ones)
        : counting_(counting), stream_(stream), marks_(marks), nets_(nets), first_(first), members_(members),
          group_of_(group_of), old_((nets + 31) / 32), counts_(nets + groups + ones), changed_(groups), ones_(ones) {}

    void clock(const svBitVecVal* nets, const svBitVecVal* ones) {
        ++clock_;
        for (std::size_t word = 0; word < old_.size(); ++word) {
            std::uint32_t differ = nets[word] ^ old_[word];
            old_[word] = nets[word];
            for (; differ; differ &= differ - 1) changed(static_cast<int>(32 * word) + __builtin_ctz(differ));
        }
        const std::size_t last = counts_.size() - ones_;
        for (int k = 0; k < ones_; ++k) counts_[last + k] += ones[k / 32] >> k % 32 & 1;
        const Spans::At at = spans_.clock(counting_, marks_);
        if (at == Spans::At::COUNTS) return;
        if (at == Spans::At::ENDS) {
            std::vector<std::uint32_t> words(1);
            words.insert(words.end(), counts_.begin(), counts_.end());
            record(stream_, spans_, words);
        }
        counts_.assign(counts_.size(), 0);
    }

private:
    void changed(int net) {
        if (net >= nets_) return;
        ++counts_[net];
        if (net < first_ || net >= first_ + members_) return;
        const std::uint32_t group = group_of_[net - first_];
        if (changed_[group] == clock_) return;
        changed_[group] = clock_;
        ++counts_[nets_ + group];
    }
    Counting counting_;
    std::int32_t stream_, marks_;
    int nets_, first_, members_;
    const std::uint32_t* group_of_;
    std::vector<std::uint32_t> old_, counts_;
    std::vector<std::uint64_t> changed_;
    int ones_;
    std::uint64_t clock_ = 0;
    Spans spans_;
};

}  // namespace
