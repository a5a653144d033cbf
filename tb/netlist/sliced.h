// SPDX-License-Identifier: Apache-2.0
// What the C++ of a slice (sliced.py) stands on: words of bits, and the lanes of a design's instances.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "svdpi.h"

namespace {

// A net of L bytes, a bit for each of 8 L instances at most: a byte, or a vector of as many bytes as a register has.
constexpr int padded(int bytes) { return bytes <= 16 ? 16 : bytes <= 32 ? 32 : bytes <= 64 ? 64 : 128; }
template <int L> struct WordOf { typedef std::uint8_t type __attribute__((vector_size(padded(L)))); };
template <> struct WordOf<1> { using type = std::uint8_t; };
template <int L> using Word = typename WordOf<L>::type;

// Of a module inside: the part of a net that is instance k's, to read and to write, and the same to all of them.
template <int L, class V> Word<L> taken(const V& from, int k) {
    Word<L> value{};
    std::memcpy(&value, reinterpret_cast<const char*>(&from) + k * L, L);
    return value;
}
template <int L, class V> void given(V& to, int k, Word<L> value) {
    std::memcpy(reinterpret_cast<char*>(&to) + k * L, &value, L);
}
template <int L, int N, class V> void spread(V& to, Word<L> value) {
    if constexpr (L == 1) to = V{} + value;
    else for (int k = 0; k < N; ++k) given<L>(to, k, value);
}

// The gate that is wrong in a run, if any, and the instance of which it is.
template <int L> class Wrong {
public:
    Wrong(int gate = -1, int lane = 0) : gate_(gate) {
        reinterpret_cast<std::uint8_t*>(&at_)[lane / 8 % L] = static_cast<std::uint8_t>(1 << lane % 8);
    }
    Word<L> of(int gate, Word<L> right, Word<L> wrong) const {
        return gate == gate_ ? Word<L>((right & ~at_) | (wrong & at_)) : right;
    }

private:
    int gate_;
    Word<L> at_{};
};

template <class V> std::uint8_t& byte_of(V& word, int at) { return reinterpret_cast<std::uint8_t*>(&word)[at]; }

template <class T> void copy(T& to, const T& from) { std::memcpy(&to, &from, sizeof to); }
template <int L, class Random> void fill(Word<L>& word, Random& random) {
    for (int k = 0; k < L; ++k) reinterpret_cast<std::uint8_t*>(&word)[k] = static_cast<std::uint8_t>(random());
}

// Bytes of eight lanes, each with eight bits in a row, as bytes of eight bits, each with a lane in a bit; and back.
inline std::uint64_t transposed(std::uint64_t x) {
    std::uint64_t t = (x ^ (x >> 7)) & 0x00AA00AA00AA00AAULL;
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000CCCC0000CCCCULL;
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x00000000F0F0F0F0ULL;
    return x ^ t ^ (t << 28);
}

// Records a difference; nothing where no module has a twin.
#ifdef NNCOSIM_DIFFERENCES
void told(std::uint64_t cycle, std::uint32_t module, std::uint32_t lane, std::uint32_t at, std::uint32_t right) {
    const std::uint32_t record[] = {std::uint32_t(cycle), std::uint32_t(cycle >> 32), module, lane, at, right};
    nncosim::append(NNCOSIM_DIFFERENCES, 6, record);
}
#else
void told(std::uint64_t, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t) {}
#endif

// The instances of a module in a design: as many as it has shells. Shells of one simulation ask for their lanes one
// after the other, before its first clock.
template <class Module, int INSTANCES> class Sliced {
public:
    struct Lane { Sliced* all; int number; };

    static void* next_lane(unsigned seed, int gate, int lane_of_gate) {
        static Sliced* open = nullptr;
        if (open == nullptr) open = new Sliced(seed, gate, lane_of_gate);
        Lane* lane = &open->lanes_[open->taken_++];
        if (open->taken_ == INSTANCES) open = nullptr;
        return lane;
    }
    static void put(void* handle, const svBitVecVal* values) {
        const Lane* lane = static_cast<Lane*>(handle);
        Sliced& all = *lane->all;
        std::memcpy(all.come_[lane->number], values, (Module::INPUTS + 7) / 8);
        if (++all.given_ == INSTANCES) all.clock();
    }
    static void get(void* handle, svBitVecVal* values) {
        const Lane* lane = static_cast<Lane*>(handle);
        std::memcpy(values, lane->all->go_[lane->number], OUT);
    }
    // Registers before the next clock beside those of the RTL, of which some are known; under reset they take their
    // values. Then outputs, whose values in the RTL follow those of the registers. The first that differs is recorded.
    static void check(void* handle, std::uint64_t cycle, bool reset, const svBitVecVal* values, const char* known,
                      const svBitVecVal* outputs, std::uint32_t count, std::uint32_t module) {
        const Lane* lane = static_cast<Lane*>(handle);
        Sliced& all = *lane->all;
        std::uint32_t index = 0, bit = 0;
        all.module_->visit(lane->number, [&](std::uint8_t& byte) {
            const std::uint32_t at = index++;
            if (!known[at]) return;
            const bool right = values[bit / 32] >> bit % 32 & 1;
            ++bit;
            if ((byte >> lane->number % 8 & 1) == right) return;
            if (reset) {
                byte ^= static_cast<std::uint8_t>(1 << lane->number % 8);
            } else if (!all.told_) {
                all.told_ = true;
                told(cycle, module, lane->number, at, right);
            }
        });
        for (std::uint32_t k = 0; k < count && !reset && !all.told_; ++k, ++bit) {
            const bool right = values[bit / 32] >> bit % 32 & 1;
            if ((outputs[k / 32] >> k % 32 & 1) == right) continue;
            all.told_ = true;
            told(cycle, module, lane->number, index + k, right);
        }
    }
    // A test bench's back door: registers of an instance take the bits that a file has, in lines of a module, a lane, a
    // register's number and a bit.
    static void load(void* handle, const char* module, const char* path) {
        const Lane* lane = static_cast<Lane*>(handle);
        std::vector<std::uint8_t*> registers;
        lane->all->module_->visit(lane->number, [&](std::uint8_t& byte) { registers.push_back(&byte); });
        const auto mask = static_cast<std::uint8_t>(1 << lane->number % 8);
        std::ifstream file(path);
        std::string name;
        int number = 0;
        std::size_t at = 0;
        for (bool bit = false; file >> name >> number >> at >> bit;)
            if (name == module && number == lane->number)
                *registers.at(at) = static_cast<std::uint8_t>(bit ? *registers[at] | mask : *registers[at] & ~mask);
        lane->all->module_->settle();
    }
    static void end(void* handle) {
        Sliced* all = static_cast<Lane*>(handle)->all;
        if (--all->taken_ == 0) delete all;
    }

private:
    static constexpr int L = Module::L, IN = (Module::INPUTS + 7) / 8, OUT = (Module::OUTPUTS + 31) / 32 * 4;
    static_assert(INSTANCES <= 8 * L);
    using W = typename Module::W;

    Sliced(unsigned seed, int gate, int lane) : module_(new Module()) {
        for (int k = 0; k < INSTANCES; ++k) lanes_[k] = {this, k};
        std::mt19937 random(seed);
        module_->power_up(random, gate, lane);
        show();
    }
    void clock() {
        given_ = 0;
        for (int part = 0; part < L; ++part)
            for (int at = 0; at < IN; ++at) {
                std::uint64_t bytes = 0;
                for (int k = 8 * part; k < 8 * part + 8 && k < INSTANCES; ++k)
                    bytes |= std::uint64_t(come_[k][at]) << 8 * (k % 8);
                bytes = transposed(bytes);
                for (int bit = 0; bit < 8 && 8 * at + bit < Module::INPUTS; ++bit)
                    byte_of(module_->in[8 * at + bit], part) = static_cast<std::uint8_t>(bytes >> 8 * bit);
            }
        module_->next();
        module_->commit();
        show();
    }
    void show() {
        for (int part = 0; part < L; ++part)
            for (int at = 0; at < OUT; ++at) {
                std::uint64_t bytes = 0;
                for (int bit = 0; bit < 8 && 8 * at + bit < Module::OUTPUTS; ++bit)
                    bytes |= std::uint64_t(byte_of(module_->out[8 * at + bit], part)) << 8 * bit;
                bytes = transposed(bytes);
                for (int k = 8 * part; k < 8 * part + 8 && k < INSTANCES; ++k)
                    go_[k][at] = static_cast<std::uint8_t>(bytes >> 8 * (k % 8));
            }
    }
    std::unique_ptr<Module> module_;
    Lane lanes_[INSTANCES];
    int taken_ = 0, given_ = 0;
    bool told_ = false;
    std::uint8_t come_[INSTANCES][IN] = {}, go_[INSTANCES][OUT] = {};
};

}  // namespace
