// SPDX-License-Identifier: Apache-2.0
// The core of the AIE-ML-like tile and its data memory, cycle by cycle. See iss.py, and hdl/aie_ml/MANUAL.md.
#include <cstdint>
#include <cstring>
#include <vector>

#include "isa.h"  // generated: FIELD_<slot>_<field> as {offset, bits, signed}, enumerations, latencies

namespace {

constexpr int kRing = 16;
constexpr int kPairBeats = 512;

struct Word { uint64_t low, high; };
struct Field { int offset, bits; bool is_signed; };

int64_t get(const Word& w, Field f) {
    unsigned __int128 all = static_cast<unsigned __int128>(w.high) << 64 | w.low;
    uint64_t raw = static_cast<uint64_t>(all >> f.offset) & ((uint64_t{1} << f.bits) - 1);
    if (f.is_signed && raw >> (f.bits - 1)) return static_cast<int64_t>(raw) - (int64_t{1} << f.bits);
    return static_cast<int64_t>(raw);
}

struct Access { bool valid; int op, reg, form, half, pointer, post, step; };
struct Op {
    Access load[2], store;
    int mac, a, b, acc, clear, a_signed, b_signed;
    int move, dest, source, form, half, wide, set_register, set_value;
    int control, control_register, control_value, count, body, srs_shift, srs_rounding, srs_saturation, srs_signed;
};

Op decode(const Word& w) {
    Op o{};
#define G(name) static_cast<int>(get(w, Field name))
    o.load[0] = {G(FIELD_load_a_valid) != 0, 0, G(FIELD_load_a_vector), 0, 0, G(FIELD_load_a_pointer),
                 G(FIELD_load_a_post), G(FIELD_load_a_step)};
    o.load[1] = {G(FIELD_load_b_valid) != 0, 0, G(FIELD_load_b_vector), 0, 0, G(FIELD_load_b_pointer),
                 G(FIELD_load_b_post), G(FIELD_load_b_step)};
    o.store = {G(FIELD_store_op) != StoreOp_NONE, G(FIELD_store_op), G(FIELD_store_source), G(FIELD_store_form),
               G(FIELD_store_half), G(FIELD_store_pointer), G(FIELD_store_post), G(FIELD_store_step)};
    o.mac = G(FIELD_vector_op); o.a = G(FIELD_vector_a); o.b = G(FIELD_vector_b); o.acc = G(FIELD_vector_acc);
    o.clear = G(FIELD_vector_clear); o.a_signed = G(FIELD_vector_a_signed); o.b_signed = G(FIELD_vector_b_signed);
    o.move = G(FIELD_move_op); o.dest = G(FIELD_move_dest); o.source = G(FIELD_move_source);
    o.form = G(FIELD_move_form); o.half = G(FIELD_move_half); o.wide = G(FIELD_move_wide);
    o.set_register = G(FIELD_move_set_register); o.set_value = G(FIELD_move_set_value);
    o.control = G(FIELD_control_op);
    o.control_register = G(FIELD_set_register); o.control_value = G(FIELD_set_value);
    o.count = G(FIELD_loop_count); o.body = G(FIELD_loop_body);
    o.srs_shift = G(FIELD_srs_shift); o.srs_rounding = G(FIELD_srs_rounding);
    o.srs_saturation = G(FIELD_srs_saturation); o.srs_signed = G(FIELD_srs_signed);
#undef G
    return o;
}

struct Vec { uint8_t byte[32]; };
struct Acc { uint32_t lane[32]; };
struct Pointer { int at, inc, s1, s2, n1, n2, c1, c2; };
struct Loop { int first, last, turns; };
struct VecWrite { int reg; Vec value; };
struct AccWrite { int reg; Acc value; };
struct MacStage { bool valid; int op, acc, clear; Acc dot; };
struct Pending { bool load[2]; int load_beat[2], load_reg[2]; bool store; int store_beat; Vec store_data; };

#pragma pack(push, 4)  // as numpy has it
struct StoreRecord { uint64_t cycle; uint32_t beat, issued, stalls; uint8_t data[32]; };
#pragma pack(pop)
struct Problem { uint64_t cycle; uint32_t pc, code; };
enum { kTwoWrites = 1, kTwoUses = 2, kLoops = 3, kEnd = 4, kRegister = 5, kOneUnit = 6 };

int64_t term(const Vec& v, int index, int bytes, bool is_signed) {
    uint16_t raw = v.byte[index * bytes];
    if (bytes == 2) raw = static_cast<uint16_t>(raw | v.byte[index * 2 + 1] << 8);
    if (bytes == 1) return is_signed ? static_cast<int8_t>(raw) : raw;
    return is_signed ? static_cast<int16_t>(raw) : raw;
}

Acc dot_product(const Op& o, const Vec* vectors) {
    Acc out{};
    const Vec &a = vectors[o.a], &b0 = vectors[o.b], &b1 = vectors[(o.b + 1) % VECTORS];
    if (o.mac == Mac_I8X8) {
        for (int m = 0; m < 4; m++)
            for (int n = 0; n < 8; n++) {
                int32_t sum = 0;
                for (int k = 0; k < 8; k++) {
                    int at = n * 8 + k;
                    sum += static_cast<int32_t>(term(a, k / 4 * 16 + m * 4 + k % 4, 1, o.a_signed) *
                                                term(at < 32 ? b0 : b1, at % 32, 1, o.b_signed));
                }
                out.lane[n / 4 * 16 + m * 4 + n % 4] = static_cast<uint32_t>(sum);
            }
    } else if (o.mac == Mac_I16X8) {
        for (int m = 0; m < 4; m++)
            for (int n = 0; n < 8; n++) {
                int64_t sum = 0;
                for (int k = 0; k < 4; k++) sum += term(a, m * 4 + k, 2, o.a_signed) * term(b0, n * 4 + k, 1, o.b_signed);
                out.lane[n / 4 * 16 + m * 4 + n % 4] = static_cast<uint32_t>(sum);
            }
    } else {
        for (int m = 0; m < 4; m++)
            for (int n = 0; n < 4; n++) {
                int64_t sum = 0;
                for (int k = 0; k < 4; k++) sum += term(a, m * 4 + k, 2, o.a_signed) * term(b0, n * 4 + k, 2, o.b_signed);
                std::memcpy(&out.lane[2 * (m * 4 + n)], &sum, 8);
            }
    }
    return out;
}

void accumulate(Acc& acc, const MacStage& s) {
    if (s.clear) acc = Acc{};
    if (s.op == Mac_I16X16) {
        uint64_t a[16], d[16];
        std::memcpy(a, acc.lane, 128);
        std::memcpy(d, s.dot.lane, 128);
        for (int i = 0; i < 16; i++) a[i] += d[i];
        std::memcpy(acc.lane, a, 128);
    } else {
        for (int i = 0; i < 32; i++) acc.lane[i] += s.dot.lane[i];
    }
}

struct Srs { int shift, rounding, saturation, is_signed; };

int64_t shift_round(int64_t value, int shift, int rounding) {
    if (shift == 0) return value;
    int64_t floor = value >> shift;
    uint64_t rest = static_cast<uint64_t>(value) & ((uint64_t{1} << shift) - 1), half = uint64_t{1} << (shift - 1);
    bool negative = floor < 0, tie = rest == half, up = false;
    switch (rounding) {
        case RoundingCode_CEIL: up = rest != 0; break;
        case RoundingCode_TOWARD_ZERO: up = rest != 0 && negative; break;
        case RoundingCode_AWAY: up = rest != 0 && !negative; break;
        case RoundingCode_HALF_DOWN: up = rest > half; break;
        case RoundingCode_HALF_UP: up = rest >= half; break;
        case RoundingCode_HALF_TOWARD_ZERO: up = rest > half || (tie && negative); break;
        case RoundingCode_HALF_AWAY: up = rest > half || (tie && !negative); break;
        case RoundingCode_HALF_EVEN: up = rest > half || (tie && (floor & 1)); break;
        case RoundingCode_HALF_ODD: up = rest > half || (tie && !(floor & 1)); break;
        default: break;
    }
    return floor + up;
}

Vec requantize(const Acc& acc, int form, int half, const Srs& s) {
    int count = form == Form_ACC32_8 ? 32 : form == Form_ACC64_32 ? 8 : 16, bits = 256 / count;
    bool halves = form == Form_ACC32_16 || form == Form_ACC64_32, wide = form == Form_ACC64_16 || form == Form_ACC64_32;
    Vec out{};
    for (int i = 0; i < count; i++) {
        int lane = (halves && half ? count : 0) + i;
        int64_t value = static_cast<int32_t>(acc.lane[lane]);
        if (wide) std::memcpy(&value, &acc.lane[2 * lane], 8);
        value = shift_round(value, s.shift, s.rounding);
        int64_t top = s.is_signed ? (int64_t{1} << (bits - 1)) - 1 : (int64_t{1} << bits) - 1;
        int64_t low = !s.is_signed ? 0 : s.saturation == Saturation_SYMMETRIC ? -top : -top - 1;
        if (s.saturation != Saturation_NONE) value = value > top ? top : value < low ? low : value;
        for (int k = 0; k < bits / 8; k++) out.byte[i * bits / 8 + k] = static_cast<uint8_t>(value >> 8 * k);
    }
    return out;
}

class Tile {
  public:
    std::vector<uint8_t> memory = std::vector<uint8_t>(32 * MEMORY_BEATS);
    std::vector<StoreRecord> stores;
    std::vector<Problem> problems;
    uint64_t cycle = 0, issued = 0, stalls = 0;
    bool halted = true;

    explicit Tile(uint64_t seed) : state_(seed * 2 + 1) {
        for (auto& byte : memory) byte = random();
        for (auto& vector : vectors_) for (auto& byte : vector.byte) byte = random();
        for (auto& acc : accs_) for (auto& lane : acc.lane) lane = random() * 0x1010101u ^ random();
    }

    void load(const uint8_t* data, uint64_t words) {
        program_.clear();
        for (uint64_t k = 0; k < words; k++) {
            Word word;
            std::memcpy(&word, data + 16 * k, 16);
            program_.push_back(decode(word));
        }
    }

    void start() {
        pc_ = 0;
        left_ = -1;
        loops_.clear();
        cycle = issued = stalls = 0;
        time_ = 0;
        halted = false;
        stores.clear();
        problems.clear();
        for (auto& each : vec_writes_) each.clear();
        for (auto& each : acc_writes_) each.clear();
        for (auto& each : macs_) each = MacStage{};
        for (auto& each : pending_) each = Pending{};
    }

    void run(uint64_t limit) {
        while (!halted && cycle < limit && problems.size() < 16) step();
    }

  private:
    std::vector<Op> program_;
    uint64_t state_;
    Vec vectors_[32];
    Acc accs_[16];
    Pointer pointers_[8] = {};
    Srs srs_ = {};
    std::vector<Loop> loops_;
    int pc_ = 0, left_ = -1;
    uint64_t time_ = 0;  // cycles without stalls
    std::vector<VecWrite> vec_writes_[kRing];
    std::vector<AccWrite> acc_writes_[kRing];
    MacStage macs_[kRing] = {};
    Pending pending_[kRing] = {};

    uint8_t random() {
        state_ ^= state_ << 13; state_ ^= state_ >> 7; state_ ^= state_ << 17;
        return static_cast<uint8_t>(state_ >> 24);
    }

    void problem(int code) { problems.push_back({cycle, static_cast<uint32_t>(pc_), static_cast<uint32_t>(code)}); }

    int at(int later) const { return static_cast<int>((time_ + static_cast<uint64_t>(later)) % kRing); }

    void step() {
        land();
        stall();
        MacStage& mac = macs_[at(kRing - LATENCY_mac_reads)];
        if (mac.valid) {
            Acc sum = accs_[mac.acc];
            accumulate(sum, mac);
            acc_writes_[at(LATENCY_mac - LATENCY_mac_reads)].push_back({mac.acc, sum});
            mac.valid = false;
        }
        if (left_ < 0) issue();
        else if (--left_ == 0) halted = true;
        time_++;
        cycle++;
    }

    void land() {
        auto& vecs = vec_writes_[at(0)];
        for (size_t i = 0; i < vecs.size(); i++) {
            for (size_t j = 0; j < i; j++) if (vecs[i].reg == vecs[j].reg) problem(kTwoWrites);
            vectors_[vecs[i].reg] = vecs[i].value;
        }
        vecs.clear();
        auto& accs = acc_writes_[at(0)];
        for (size_t i = 0; i < accs.size(); i++) {
            for (size_t j = 0; j < i; j++) if (accs[i].reg == accs[j].reg) problem(kTwoWrites);
            accs_[accs[i].reg] = accs[i].value;
        }
        accs.clear();
    }

    // Accesses of this cycle: of a pair of banks one at a time, the store first, then load a, load b.
    void stall() {
        Pending& load = pending_[at(kRing - LATENCY_load_memory)];
        Pending& store = pending_[at(kRing - LATENCY_store_memory)];
        int count[4] = {}, most = 1;
        auto use = [&](int beat) {
            int& here = count[beat / kPairBeats % 4];
            if (++here > most) most = here;
            return here - 1;  // cycles that it waits
        };
        if (store.store) {
            use(store.store_beat);
            StoreRecord record{cycle, static_cast<uint32_t>(store.store_beat), static_cast<uint32_t>(issued),
                               static_cast<uint32_t>(stalls), {}};
            std::memcpy(record.data, store.store_data.byte, 32);
            stores.push_back(record);
            std::memcpy(&memory[32 * store.store_beat], store.store_data.byte, 32);
            store.store = false;
        }
        for (int k = 0; k < 2; k++)
            if (load.load[k]) {
                use(load.load_beat[k]);
                VecWrite write{load.load_reg[k], {}};
                std::memcpy(write.value.byte, &memory[32 * load.load_beat[k]], 32);
                vec_writes_[at(LATENCY_load - LATENCY_load_memory)].push_back(write);
                load.load[k] = false;
            }
        cycle += static_cast<uint64_t>(most - 1);
        stalls += static_cast<uint64_t>(most - 1);
    }

    int used(const Access& access, int& taken) {
        if (taken >> access.pointer & 1) problem(kTwoUses);
        taken |= 1 << access.pointer;
        Pointer& p = pointers_[access.pointer];
        int beat = p.at & (MEMORY_BEATS - 1);
        if (access.post == Post_ADD) p.at += access.step;
        if (access.post == Post_WALK) {
            if (p.c1 + 1 < p.n1) { p.at += p.inc; p.c1++; }
            else {
                p.c1 = 0;
                if (p.c2 + 1 < p.n2) { p.at += p.s1; p.c2++; }
                else { p.at += p.s2; p.c2 = 0; }
            }
        }
        p.at &= 4095;
        return beat;
    }

    void set(int reg, int value, int taken) {
        Pointer& p = pointers_[reg & 7];
        switch (reg >> 3) {
            case AguRegister_POINTER:
                if (taken >> (reg & 7) & 1) problem(kTwoUses);
                p.at = value & 4095; p.c1 = p.c2 = 0; break;
            case AguRegister_INC: p.inc = value; break;
            case AguRegister_N1: p.n1 = value & 2047; break;
            case AguRegister_S1: p.s1 = value; break;
            case AguRegister_N2: p.n2 = value & 2047; break;
            case AguRegister_S2: p.s2 = value; break;
            default: break;
        }
    }

    // Registers that do not exist, and SRS in both slots, which share the unit.
    void check(const Op& o) {
        bool fused = o.store.valid && o.store.op == StoreOp_VST_SRS;
        bool vectors = o.mac == Mac_NONE || (o.a < VECTORS && o.b + (o.mac == Mac_I8X8) < VECTORS);
        for (const Access& load : o.load) vectors &= !load.valid || load.reg < VECTORS;
        vectors &= !o.store.valid || fused || o.store.reg < VECTORS;
        vectors &= o.move != MoveOp_BIAS || o.source < VECTORS;
        vectors &= o.move != MoveOp_MAX || (o.source < VECTORS && o.dest < VECTORS);
        vectors &= o.move != MoveOp_SRS || o.dest < VECTORS;
        bool accs = (o.mac == Mac_NONE || o.acc < ACCUMULATORS) && (!fused || o.store.reg < ACCUMULATORS);
        accs &= o.move != MoveOp_BIAS || o.dest < ACCUMULATORS;
        accs &= o.move != MoveOp_SRS || o.source < ACCUMULATORS;
        if (!vectors || !accs) problem(kRegister);
        if (fused && o.move == MoveOp_SRS) problem(kOneUnit);
    }

    void issue() {
        if (pc_ >= static_cast<int>(program_.size())) { problem(kEnd); halted = true; return; }
        const Op& o = program_[static_cast<size_t>(pc_)];
        issued++;
        check(o);
        int taken = 0;
        Pending& now = pending_[at(0)];
        now = Pending{};
        for (int k = 0; k < 2; k++)
            if (o.load[k].valid) {
                now.load[k] = true;
                now.load_beat[k] = used(o.load[k], taken);
                now.load_reg[k] = o.load[k].reg;
            }
        if (o.store.valid) {
            now.store = true;
            now.store_beat = used(o.store, taken);
            bool fused = o.store.op == StoreOp_VST_SRS;
            now.store_data = fused ? requantize(accs_[o.store.reg & 15], o.store.form, o.store.half, srs_) : vectors_[o.store.reg];
        }
        if (o.mac != Mac_NONE) macs_[at(0)] = {true, o.mac, o.acc, o.clear, dot_product(o, vectors_)};
        move(o, taken);
        control(o, taken);
    }

    void move(const Op& o, int taken) {
        switch (o.move) {
            case MoveOp_NONE: break;
            case MoveOp_SET: set(o.set_register, o.set_value, taken); break;
            case MoveOp_BIAS: {
                AccWrite write{o.dest & 15, {}};
                for (int i = 0; i < 32; i++) {
                    int word = o.wide ? i / 2 % 4 * 2 + i % 2 : i / 16 * 4 + i % 4;
                    std::memcpy(&write.value.lane[i], &vectors_[o.source].byte[4 * word], 4);
                }
                acc_writes_[at(LATENCY_bias)].push_back(write);
                break;
            }
            case MoveOp_SRS:
                vec_writes_[at(LATENCY_srs)].push_back({o.dest, requantize(accs_[o.source & 15], o.form, o.half, srs_)});
                break;
            case MoveOp_MAX: {
                VecWrite write{o.dest, vectors_[o.source]};
                int bytes = o.wide ? 2 : 1;
                for (int i = 0; i < 32; i += bytes)
                    if (write.value.byte[i + bytes - 1] >> 7) std::memset(&write.value.byte[i], 0, static_cast<size_t>(bytes));
                vec_writes_[at(LATENCY_max)].push_back(write);
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

extern "C" {
Tile* nncosim_aie_create(uint64_t seed) { return new Tile(seed); }
void nncosim_aie_destroy(Tile* t) { delete t; }
void nncosim_aie_load(Tile* t, const uint8_t* data, uint64_t words) { t->load(data, words); }
uint8_t* nncosim_aie_memory(Tile* t) { return t->memory.data(); }
void nncosim_aie_start(Tile* t) { t->start(); }
void nncosim_aie_run(Tile* t, uint64_t limit) { t->run(limit); }
int nncosim_aie_halted(Tile* t) { return t->halted; }
uint64_t nncosim_aie_cycle(Tile* t) { return t->cycle; }
uint64_t nncosim_aie_issued(Tile* t) { return t->issued; }
uint64_t nncosim_aie_stalls(Tile* t) { return t->stalls; }
const StoreRecord* nncosim_aie_stores(Tile* t, uint64_t* n) { *n = t->stores.size(); return t->stores.data(); }
const Problem* nncosim_aie_problems(Tile* t, uint64_t* n) { *n = t->problems.size(); return t->problems.data(); }
}
