// SPDX-License-Identifier: Apache-2.0
// The core of the AIE-ML-like tile, cycle by cycle. See iss.py, and hdl/aie_ml/MANUAL.md.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#include "iss_access.h"
#include "iss_agu.h"
#include "iss_elastic.h"
#include "iss_locks.h"
#include "iss_seen.h"

namespace {

struct Loop { int first, last, turns; };
struct VecWrite { int reg; Vec value; int port; };  // port: of load a, load b, SRS, MAX
struct AccWrite { int reg, parts; Acc value; int port; };  // parts: of 512 bits, a bit each; port: of MAC, BIAS, GET

enum { kPuts, kComes };  // ends of cascades
enum { kSrsPort = 2, kMaxPort = 3, kMacPort = 0, kBiasPort = 1, kGetPort = 2 };
constexpr int kSrsCycles = LATENCY_srs - 1;  // until the unit gives its result
constexpr int kPartLanes = 16, kWhole = (1 << kParts) - 1;

// Part of an accumulator, on its way from one core to the next.
struct Part { uint32_t lane[kPartLanes]; };
using Cascade = Elastic<Part>;

#pragma pack(push, 4)  // as numpy has it
struct StoreRecord { uint64_t cycle; uint32_t beat, issued, stalls; uint8_t data[BEAT_BYTES]; };
#pragma pack(pop)
struct Problem { uint64_t cycle; uint32_t pc, code; };
enum { kTwoWrites = 1, kTwoUses = 2, kLoops = 3, kEnd = 4, kRegister = 5, kOneUnit = 6, kNoWest = 7 };  // illegal
enum { kEarlyVector = 16, kEarlyAcc = 17, kNoName = 18 };  // legal, and seldom meant

class Core {
  public:
    std::vector<uint8_t> memory = std::vector<uint8_t>(BEAT_BYTES * MEMORY_BEATS);
    std::vector<StoreRecord> stores;
    std::vector<Problem> problems, remarks;
    Cascade from_west, to_east;
    Locks locks;
    Accesses accesses;
    uint64_t cycle = 0, issued = 0, stalls = 0;
    bool halted = true;
    Watched seen;

    explicit Core(uint64_t seed) : state_(seed) {
        for (auto& byte : memory) byte = static_cast<uint8_t>(random());
        for (auto& vector : vectors_) for (auto& byte : vector.byte) byte = static_cast<uint8_t>(random());
        for (auto& acc : accs_) for (auto& lane : acc.lane) lane = static_cast<uint32_t>(random());
        for (auto& p : pointers_) p = {bits(12), bits(12), bits(12), bits(12), bits(11), bits(11), bits(11), bits(11)};
        srs_ = {bits(6), bits(4), bits(2), bits(1)};
    }

    void load(const uint8_t* data, uint64_t words) {
        program_.clear();
        for (uint64_t k = 0; k < words; k++) {
            Word word;
            std::memcpy(&word, data + 16 * k, 16);
            program_.push_back(decoded(word));
        }
        told_.assign(program_.size(), 0);
    }

    void start() {
        pc_ = 0;
        left_ = -1;
        got_lock_ = asked_west_ = false;
        loops_.clear();
        cycle = issued = stalls = 0;
        time_ = 0;
        halted = false;
        stores.clear();
        problems.clear();
        remarks.clear();
        told_.assign(program_.size(), 0);
        vectors_flying_ = accs_flying_ = 0;
        for (auto& each : vec_lands_) each = 0;
        for (auto& each : acc_lands_) each = 0;
        for (auto& each : vec_writes_) each.count = 0;
        for (auto& each : acc_writes_) each.count = 0;
        for (auto& each : macs_) each.valid = false;
        accesses.forget();
    }

    // A cycle has three parts: begin; grants of what it wants of memory; end.
    void begin() {
        land();
        if (accesses.stored_west()) record(MEMORY_BEATS);
    }
    bool wants(int port) const { return accesses.wants(port); }
    int beat(int port) const { return accesses.here(port).beat[port]; }

    void grant(int port) {
        const Pending& pending = accesses.here(port);
        accesses.granted(port);
        uint8_t* place = &memory[BEAT_BYTES * pending.beat[port]];
        if (port == kStore) {
            record(0);
            std::memcpy(place, pending.store_data.byte, BEAT_BYTES);
            if (seen) see_store(pending.beat[port], pending.store_data);
        } else {
            VecWrite write{pending.load_reg[port], {}, port};
            if (seen) see_load(port, pending.beat[port], place);
            std::memcpy(write.value.byte, place, BEAT_BYTES);
            vec_writes_[at(LATENCY_load - LATENCY_load_memory)].add(write);
        }
    }

    // What a port reads of memory in the next cycle, or null.
    const uint8_t* coming(int port) const {
        return wants(port) ? &memory[static_cast<size_t>(BEAT_BYTES * beat(port))] : nullptr;
    }

    SEEING void see_cascade(int end, const Part& word) const {
        SeenCascade& record = seen.add<SeenCascade>();
        record.end = static_cast<uint32_t>(end);
        std::memcpy(record.data, word.lane, sizeof word.lane);
    }

    uint8_t poison() { return static_cast<uint8_t>(random()); }
    int pc() const { return pc_; }
    const Op* waiting() const { return next(); }
    const std::vector<const Op*>& program() const { return program_; }

    // What the core did: 1 it issued, 2 waits for memory, 3 for a lock, 4 for a cascade, 5 drains.
    int end() {
        acquire();
        int state = accesses.wait() ? 2 : holds();
        if (state) stalls++;
        else {
            state = left_ < 0 ? 1 : 5;
            advance();
        }
        cycle++;
        return state;
    }

  private:
    std::vector<const Op*> program_;  // those of all cores that are alike are one
    uint64_t state_;
    Vec vectors_[32];
    Acc accs_[16];
    Pointer pointers_[8] = {};
    Srs srs_ = {};
    std::vector<Loop> loops_;
    int pc_ = 0, left_ = -1;
    bool got_lock_ = false, asked_west_ = false;  // of the ACQUIRE that is next
    uint64_t time_ = 0;  // cycles without stalls
    Landing<VecWrite, 4> vec_writes_[kRing];  // of two loads, SRS, MAX
    Landing<AccWrite, 2> acc_writes_[kRing];  // of BIAS, GET
    MacStage macs_[kRing] = {};               // by the cycle of the issue; first the product, then the sum
    uint32_t vectors_flying_ = 0, accs_flying_ = 0;  // with a write on its way, a bit each, and when the last one lands
    uint64_t vec_lands_[32] = {}, acc_lands_[16] = {};
    std::vector<uint32_t> told_;
    Vec requantized_[kRing] = {};  // what the unit gives in the cycles to come, where somebody looks at it
    bool requantizes_[kRing] = {};

    #include "iss_core_seen.h"

    uint64_t random() {  // splitmix64
        uint64_t z = state_ += 0x9E3779B97F4A7C15;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
        z = (z ^ z >> 27) * 0x94D049BB133111EB;
        return z ^ z >> 31;
    }

    int bits(int count) { return static_cast<int>(random() & ((uint64_t{1} << count) - 1)); }

    void problem(int code) { problems.push_back({cycle, static_cast<uint32_t>(pc_), static_cast<uint32_t>(code)}); }

    // The first time of each instruction and code.
    void remark(int code) {
        uint32_t& told = told_[static_cast<size_t>(pc_)];
        if (told >> code & 1) return;
        told |= 1u << code;
        remarks.push_back({cycle, static_cast<uint32_t>(pc_), static_cast<uint32_t>(code)});
    }

    int at(int later) const { return static_cast<int>((time_ + static_cast<uint64_t>(later)) % kRing); }

    // What is to be issued now; none behind HALT.
    const Op* next() const {
        bool none = left_ >= 0 || pc_ >= static_cast<int>(program_.size());
        return none ? nullptr : program_[static_cast<size_t>(pc_)];
    }

    // Asked for whatever else holds the core.
    void acquire() {
        const Op* o = next();
        if (!o || o->control != ControlOp_ACQUIRE || got_lock_) return;
        int code = o->lock_equal ? kEqual : kAtLeast;
        if (!o->lock_west) got_lock_ = locks.serve(o->lock, code, o->lock_value, kOwnCore);
        else if (asked_west_) got_lock_ = accesses.west.lock_done();
        else if (accesses.west.lock_is_free()) {
            if (!accesses.west.there) problem(kNoWest);  // it will never be issued
            accesses.west.ask(o->lock, code, o->lock_value);
            asked_west_ = true;
        }
    }

    // A store, in the cycle in which it is in memory, or is there to be written. first: beat of the memory.
    void record(uint32_t first) {
        const Pending& pending = accesses.here(kStore);
        StoreRecord out{cycle, first + static_cast<uint32_t>(pending.beat[kStore]), static_cast<uint32_t>(issued),
                        static_cast<uint32_t>(stalls), {}};
        std::memcpy(out.data, pending.store_data.byte, BEAT_BYTES);
        stores.push_back(out);
    }

    // Whether what is issued now waits for a cascade (4) or a lock (3). RELEASE is done when nothing holds it.
    int holds() {
        if (!next()) return 0;
        const Op& o = *next();
        if (o.move == MoveOp_GET && !from_west.valid()) return 4;
        if (o.move == MoveOp_PUT && !to_east.room()) return 4;
        if (o.control == ControlOp_RELEASE) return release(o) ? 0 : 3;
        if (o.control == ControlOp_ACQUIRE) return got_lock_ ? 0 : 3;
        return 0;
    }

    bool release(const Op& o) {
        if (!o.lock_west) return locks.serve(o.lock, kRelease, o.lock_value, kOwnCore);
        bool free = accesses.west.lock_is_free();
        if (free) accesses.west.ask(o.lock, kRelease, o.lock_value);
        return free;
    }

    void advance() {
        got_lock_ = asked_west_ = false;
        for (int slot : {kLoadA, kLoadB})
            if (accesses.lands(slot)) {
                int reg = accesses.reg(slot);
                vec_writes_[at(1)].add({reg, accesses.take(slot), slot});
            }
        MacStage& mac = macs_[at(kRing - LATENCY_mac_reads)];
        if (mac.valid) accumulate(accs_[mac.acc], mac);
        if (left_ < 0) issue();
        else if (--left_ == 0) halted = true;
        if (seen) see_requantized();
        time_++;
        accesses.go_on();
        if (seen) see_west();
    }

    void land() {
        auto& vecs = vec_writes_[at(0)];
        for (int i = 0; i < vecs.count; i++) {
            const VecWrite& write = vecs.write[i];
            for (int j = 0; j < i; j++) if (write.reg == vecs.write[j].reg) problem(kTwoWrites);
            vectors_[write.reg] = write.value;
            if (seen) see_vector(write);
            if (vec_lands_[write.reg] <= time_) vectors_flying_ &= ~(1u << write.reg);
        }
        vecs.count = 0;
        auto& accs = acc_writes_[at(0)];
        MacStage& mac = macs_[at(kRing - LATENCY_mac)];
        for (int i = 0; i < accs.count; i++) {
            const AccWrite& write = accs.write[i];
            bool both = mac.valid && write.reg == mac.acc;
            for (int j = 0; j < i; j++) both |= write.reg == accs.write[j].reg && write.parts & accs.write[j].parts;
            if (both) problem(kTwoWrites);
            for (int part = 0, at = 0; part < kParts; part++, at += kPartLanes)
                if (write.parts >> part & 1)
                    std::memcpy(&accs_[write.reg].lane[at], &write.value.lane[at], sizeof(Part));
            if (seen) see_accumulator(write.reg, write.parts, write.port, write.value);
            landed(write.reg);
        }
        accs.count = 0;
        if (mac.valid) {
            accs_[mac.acc] = mac.dot;
            if (seen) see_accumulator(mac.acc, kWhole, kMacPort, mac.dot);
            landed(mac.acc);
            mac.valid = false;
        }
    }

    void landed(int acc) {
        if (acc_lands_[acc] <= time_) accs_flying_ &= ~(1u << acc);
    }

    int used(const Access& access, int& taken) {
        if (taken >> access.pointer & 1) problem(kTwoUses);
        taken |= 1 << access.pointer;
        Pointer& p = pointers_[access.pointer];
        int beat = p.at;
        p.go_on(access);
        return beat;
    }

    void set(int reg, int value, int taken) {
        bool at = reg >> 3 == AguRegister_POINTER;
        if (at && taken >> (reg & 7) & 1) problem(kTwoUses);
        pointers_[reg & 7].set(reg >> 3, value);
    }

    // What the instruction breaks by itself, and what it reads while a write of it is in flight.
    void check(const Op& o) {
        if (o.no_register) problem(kRegister);
        if (o.one_unit) problem(kOneUnit);
        if (o.two_sets) problem(kTwoWrites);
        if (o.no_name) remark(kNoName);
        if (o.vectors_read & vectors_flying_) remark(kEarlyVector);
        bool early = o.accs_read & accs_flying_;
        early |= o.mac != Mac_NONE && !o.clear && acc_lands_[o.acc] > time_ + LATENCY_mac_reads;
        if (early) remark(kEarlyAcc);
    }

    void fly_vector(int reg, uint64_t cycles) {
        vectors_flying_ |= 1u << reg;
        if (vec_lands_[reg] < time_ + cycles) vec_lands_[reg] = time_ + cycles;
    }

    void fly_acc(int reg, uint64_t cycles) {
        accs_flying_ |= 1u << reg;
        if (acc_lands_[reg] < time_ + cycles) acc_lands_[reg] = time_ + cycles;
    }

    void multiply(const Op& o) {
        MacStage& mac = macs_[at(0)];
        mac.valid = true;
        mac.op = o.mac; mac.acc = o.acc; mac.clear = o.clear;
        dot_product(o, vectors_, mac.dot);
        fly_acc(o.acc, LATENCY_mac);
    }

    void issue() {
        if (pc_ >= static_cast<int>(program_.size())) { problem(kEnd); halted = true; return; }
        const Op& o = *program_[static_cast<size_t>(pc_)];
        issued++;
        check(o);
        int taken = 0;
        Pending& now = accesses.issue();
        if (seen) see_issue(o);
        for (int k = 0; k < 2; k++)
            if (o.load[k].valid) {
                now.place(k, used(o.load[k], taken));
                now.load_reg[k] = o.load[k].reg;
                fly_vector(o.load[k].reg, LATENCY_load);
            }
        if (o.store.valid) {
            now.place(kStore, used(o.store, taken));
            bool fused = o.store.op == StoreOp_VST_SRS;
            now.store_data = fused ? requantized(accs_[o.store.reg & 15], o.store.form, o.store.half)
                                   : vectors_[o.store.reg];
        }
        if ((now.goes_west() || o.locks_west) && !accesses.west.there) problem(kNoWest);
        if (o.mac != Mac_NONE) multiply(o);
        move(o, taken);
        control(o, taken);
    }

    void move(const Op& o, int taken) {
        switch (o.move) {
            case MoveOp_NONE: break;
            case MoveOp_SET: set(o.set_register, o.set_value, taken); break;
            case MoveOp_BIAS: {
                AccWrite write{o.dest & 15, kWhole, {}, kBiasPort};
                for (int i = 0; i < kSums; i++) {
                    int word = o.wide ? i / 2 % 4 * 2 + i % 2 : i / kHalf * 4 + i % 4;
                    std::memcpy(&write.value.lane[i], &vectors_[o.source].byte[4 * word], 4);
                }
                acc_writes_[at(LATENCY_bias)].add(write);
                fly_acc(write.reg, LATENCY_bias);
                break;
            }
            case MoveOp_SRS:
                vec_writes_[at(LATENCY_srs)].add(
                    {o.dest, requantized(accs_[o.source & 15], o.form, o.half), kSrsPort});
                fly_vector(o.dest, LATENCY_srs);
                break;
            case MoveOp_MAX: {
                VecWrite write{o.dest, vectors_[o.source], kMaxPort};
                int bytes = o.wide ? 2 : 1;
                for (int i = 0; i < BEAT_BYTES; i += bytes)
                    if (write.value.byte[i + bytes - 1] >> 7)
                        std::memset(&write.value.byte[i], 0, static_cast<size_t>(bytes));
                vec_writes_[at(LATENCY_max)].add(write);
                fly_vector(o.dest, LATENCY_max);
                break;
            }
            case MoveOp_GET: {
                AccWrite write{o.dest & 15, 1 << o.part, {}, kGetPort};
                Part word = from_west.pop();
                std::memcpy(&write.value.lane[kPartLanes * o.part], word.lane, sizeof word.lane);
                acc_writes_[at(LATENCY_cascade_get)].add(write);
                fly_acc(write.reg, LATENCY_cascade_get);
                break;
            }
            case MoveOp_PUT: {
                Part word;
                std::memcpy(word.lane, &accs_[o.source & 15].lane[kPartLanes * o.part], sizeof word.lane);
                to_east.push(word);
                if (seen) see_cascade(kPuts, word);
                break;
            }
            default: break;
        }
    }

    void control(const Op& o, int taken) {
        int next = pc_ + 1;
        if (!loops_.empty() && pc_ == loops_.back().last) {
            Loop& loop = loops_.back();
            if (loop.turns == 1) loops_.pop_back();
            else { if (loop.turns) loop.turns--; next = loop.first; }
        }
        switch (o.control) {
            case ControlOp_NONE: break;
            case ControlOp_SET: set(o.control_register, o.control_value, taken); break;
            case ControlOp_LOOP:
                if (loops_.size() >= LOOP_LEVELS || o.body < 2) problem(kLoops);
                loops_.push_back({pc_ + 1, pc_ + o.body, o.count});
                break;
            case ControlOp_SRS: srs_ = {o.srs_shift, o.srs_rounding, o.srs_saturation, o.srs_signed}; break;
            case ControlOp_HALT: left_ = DRAIN_CYCLES; break;
            default: break;
        }
        pc_ = next;
    }
};

}  // namespace
