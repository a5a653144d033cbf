// SPDX-License-Identifier: Apache-2.0
// Instruction words, decoded once.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <utility>

#include "isa.h"  // generated: FIELD_<slot>_<field> as {offset, bits, signed}, enumerations, latencies

namespace {

constexpr bool kPair = BEAT_BYTES == 32;   // a tile of 64 bytes of the second operand is in two vectors
constexpr int kParts = TILE_ROWS / 2;      // words of a cascade in an accumulator

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
    Word word;
    Access load[2], store;
    int mac, a, b, b_half, acc, clear, a_signed, b_signed;
    int move, dest, source, form, half, part, wide, set_register, set_value;
    int control, control_register, control_value, count, body, srs_shift, srs_rounding, srs_saturation, srs_signed;
    int lock, lock_value, lock_equal, lock_west;
    uint32_t vectors_read, accs_read;  // when it is issued, a bit each; the MAC's accumulator is read later
    bool no_register, one_unit, two_sets, no_name, locks_west;
};

// The vectors and accumulators that are read in the cycle of the issue.
void find_reads(Op& o) {
    bool fused = o.store.op == StoreOp_VST_SRS;
    auto vector = [&](bool read, int reg) { if (read) o.vectors_read |= 1u << (reg & 31); };
    vector(o.mac != Mac_NONE, o.a);
    vector(o.mac != Mac_NONE, o.b);
    vector(kPair && o.mac == Mac_I8X8, (o.b + 1) % VECTORS);
    vector(o.store.valid && !fused, o.store.reg);
    vector(o.move == MoveOp_BIAS || o.move == MoveOp_MAX, o.source);
    if (fused) o.accs_read |= 1u << (o.store.reg & 15);
    if (o.move == MoveOp_SRS || o.move == MoveOp_PUT) o.accs_read |= 1u << (o.source & 15);
}

// Registers that do not exist, SRS or PUT beside a VST.SRS, two SETs of one register, codes that isa.py does not name.
void find_faults(Op& o) {
    bool fused = o.store.op == StoreOp_VST_SRS;
    bool vectors = o.mac == Mac_NONE || (o.a < VECTORS && o.b + (kPair && o.mac == Mac_I8X8) < VECTORS);
    for (const Access& load : o.load) vectors &= !load.valid || load.reg < VECTORS;
    vectors &= !o.store.valid || fused || o.store.reg < VECTORS;
    vectors &= o.move != MoveOp_BIAS || o.source < VECTORS;
    vectors &= o.move != MoveOp_MAX || (o.source < VECTORS && o.dest < VECTORS);
    vectors &= o.move != MoveOp_SRS || o.dest < VECTORS;
    bool accs = (o.mac == Mac_NONE || o.acc < ACCUMULATORS) && (!fused || o.store.reg < ACCUMULATORS);
    accs &= (o.move != MoveOp_BIAS && o.move != MoveOp_GET) || o.dest < ACCUMULATORS;
    accs &= (o.move != MoveOp_SRS && o.move != MoveOp_PUT) || o.source < ACCUMULATORS;
    o.no_register = !vectors || !accs;
    o.one_unit = fused && (o.move == MoveOp_SRS || o.move == MoveOp_PUT);
    o.two_sets = o.move == MoveOp_SET && o.control == ControlOp_SET && o.set_register == o.control_register;
    o.locks_west = o.lock_west && (o.control == ControlOp_ACQUIRE || o.control == ControlOp_RELEASE);
    o.no_name = o.store.op > StoreOp_VST_SRS || o.move > MoveOp_PUT ||
                (o.control > ControlOp_RELEASE && o.control != ControlOp_HALT) ||
                (o.move == MoveOp_SET && o.set_register >> 3 > AguRegister_S2) ||
                (o.control == ControlOp_SET && o.control_register >> 3 > AguRegister_S2);
    for (const Access& each : {o.load[0], o.load[1], o.store}) o.no_name |= each.valid && each.post > Post_WALK;
}

Op decode(const Word& w) {
    Op o{};
    o.word = w;
#define G(name) static_cast<int>(get(w, Field name))
    o.load[0] = {G(FIELD_load_a_valid) != 0, 0, G(FIELD_load_a_vector), 0, 0, G(FIELD_load_a_pointer),
                 G(FIELD_load_a_post), G(FIELD_load_a_step)};
    o.load[1] = {G(FIELD_load_b_valid) != 0, 0, G(FIELD_load_b_vector), 0, 0, G(FIELD_load_b_pointer),
                 G(FIELD_load_b_post), G(FIELD_load_b_step)};
    o.store = {G(FIELD_store_op) != StoreOp_NONE, G(FIELD_store_op), G(FIELD_store_source), G(FIELD_store_form),
               G(FIELD_store_half), G(FIELD_store_pointer), G(FIELD_store_post), G(FIELD_store_step)};
    o.mac = G(FIELD_vector_op); o.a = G(FIELD_vector_a); o.b = G(FIELD_vector_b); o.acc = G(FIELD_vector_acc);
    o.clear = G(FIELD_vector_clear); o.a_signed = G(FIELD_vector_a_signed); o.b_signed = G(FIELD_vector_b_signed);
    o.b_half = G(FIELD_vector_b_half);
    o.move = G(FIELD_move_op); o.dest = G(FIELD_move_dest); o.source = G(FIELD_move_source);
    o.form = G(FIELD_move_form); o.half = G(FIELD_move_half); o.wide = G(FIELD_move_wide);
    o.part = (o.half + 2 * G(FIELD_move_high)) % kParts;
    o.set_register = G(FIELD_move_set_register); o.set_value = G(FIELD_move_set_value);
    o.control = G(FIELD_control_op);
    o.control_register = G(FIELD_set_register); o.control_value = G(FIELD_set_value);
    o.count = G(FIELD_loop_count); o.body = G(FIELD_loop_body);
    o.lock = G(FIELD_lock_lock); o.lock_value = G(FIELD_lock_value); o.lock_equal = G(FIELD_lock_equal);
    o.lock_west = G(FIELD_lock_west);
    o.srs_shift = G(FIELD_srs_shift); o.srs_rounding = G(FIELD_srs_rounding);
    o.srs_saturation = G(FIELD_srs_saturation); o.srs_signed = G(FIELD_srs_signed);
#undef G
    find_reads(o);
    find_faults(o);
    return o;
}

// Cores with the same instruction share it: that of a whole array stays in the host's cache.
const Op* decoded(const Word& w) {
    static std::map<std::pair<uint64_t, uint64_t>, std::unique_ptr<Op>> all;
    std::unique_ptr<Op>& op = all[{w.high, w.low}];
    if (!op) op = std::make_unique<Op>(decode(w));
    return op.get();
}

}  // namespace
