// SPDX-License-Identifier: Apache-2.0
// The vector unit: MAC, and shift, round, saturate.
#pragma once
#include <cstdint>
#include <cstring>

#include "iss_words.h"

namespace {

constexpr int kSums = 8 * TILE_ROWS;  // of 32 bits in an accumulator; half as many of 64
constexpr int kHalf = kSums / 2;

struct Vec { uint8_t byte[BEAT_BYTES]; };
struct Acc { uint32_t lane[kSums]; };
struct MacStage { bool valid; int op, acc, clear; Acc dot; };

template <typename To, typename From, int rows, int columns>
void spread(const uint8_t* bytes, To (&out)[rows][columns]) {
    From raw[rows * columns];
    std::memcpy(raw, bytes, sizeof raw);
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < columns; k++) out[i][k] = raw[i * columns + k];
}

// spread, by whether the bytes are signed.
template <typename Signed, typename Unsigned, typename To, int rows, int columns>
void widen(const uint8_t* bytes, bool is_signed, To (&out)[rows][columns]) {
    if (is_signed) spread<To, Signed>(bytes, out);
    else spread<To, Unsigned>(bytes, out);
}

// out[m][n] = sum over k of a[m][k] b[n][k], in loops that a compiler makes vectors of.
template <typename T, int depth, int columns>
void product(const T (&a)[TILE_ROWS][depth], const T (&b)[columns][depth], T (&out)[TILE_ROWS][columns]) {
    T turned[depth][columns];
    for (int k = 0; k < depth; k++)
        for (int n = 0; n < columns; n++) turned[k][n] = b[n][k];
    for (int m = 0; m < TILE_ROWS; m++) {
        T row[columns] = {};
        for (int k = 0; k < depth; k++)
            for (int n = 0; n < columns; n++) row[n] += a[m][k] * turned[k][n];
        std::memcpy(out[m], row, sizeof row);
    }
}

void place(const int32_t (&sums)[TILE_ROWS][8], Acc& out) {
    for (int m = 0; m < TILE_ROWS; m++)
        for (int h = 0; h < 2; h++) std::memcpy(&out.lane[h * kHalf + m * 4], &sums[m][h * 4], 16);
}

// All sums fit: 8 products of bytes, 4 of 16 by 8 bits in 32, 4 of 16 by 16 in 64.
void dot_product(const Op& o, const Vec* vectors, Acc& out) {
    const Vec &first = vectors[o.a], &b0 = vectors[o.b];
    const uint8_t* narrow = b0.byte + (kPair ? 0 : BEAT_BYTES / 2 * o.b_half);  // a tile of 32 bytes
    if (o.mac == Mac_I8X8) {
        constexpr int kWord = WORD_BYTES;
        uint8_t turned[BEAT_BYTES], pair[64];
        for (int m = 0; m < TILE_ROWS; m++)
            for (int h = 0; h < 8 / kWord; h++)
                std::memcpy(turned + m * 8 + h * kWord, first.byte + (h * TILE_ROWS + m) * kWord, kWord);
        std::memcpy(pair, narrow, 32);
        std::memcpy(pair + 32, kPair ? vectors[(o.b + 1) % VECTORS].byte : b0.byte + 32, 32);
        int32_t a[TILE_ROWS][8], b[8][8], sums[TILE_ROWS][8];
        widen<int8_t, uint8_t>(turned, o.a_signed, a);
        widen<int8_t, uint8_t>(pair, o.b_signed, b);
        product(a, b, sums);
        place(sums, out);
    } else if (o.mac == Mac_I16X8) {
        int32_t a[TILE_ROWS][4], b[8][4], sums[TILE_ROWS][8];
        widen<int16_t, uint16_t>(first.byte, o.a_signed, a);
        widen<int8_t, uint8_t>(narrow, o.b_signed, b);
        product(a, b, sums);
        place(sums, out);
    } else {
        int64_t a[TILE_ROWS][4], b[4][4], sums[TILE_ROWS][4];
        widen<int16_t, uint16_t>(first.byte, o.a_signed, a);
        widen<int16_t, uint16_t>(narrow, o.b_signed, b);
        product(a, b, sums);
        std::memcpy(out.lane, sums, sizeof sums);
    }
}

// The product becomes the sum.
void accumulate(const Acc& acc, MacStage& s) {
    if (s.clear) return;
    if (s.op == Mac_I16X16) {
        uint64_t a[kHalf], d[kHalf];
        std::memcpy(a, acc.lane, sizeof a);
        std::memcpy(d, s.dot.lane, sizeof d);
        for (int i = 0; i < kHalf; i++) d[i] += a[i];
        std::memcpy(s.dot.lane, d, sizeof d);
    } else {
        for (int i = 0; i < kSums; i++) s.dot.lane[i] += acc.lane[i];
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

// Of a tile of bytes, the sum that byte i is of.
constexpr int sum_of_byte(int i) { return WORD_BYTES == 4 ? i : i % 8 / 4 * kHalf + i / 8 * 4 + i % 4; }

Vec requantize(const Acc& acc, int form, int half, const Srs& s) {
    int count = form == Form_ACC32_8 ? kSums : form == Form_ACC64_32 ? kSums / 4 : kHalf, bits = 8 * BEAT_BYTES / count;
    bool halves = form == Form_ACC32_16 || form == Form_ACC64_32, wide = form == Form_ACC64_16 || form == Form_ACC64_32;
    Vec out{};
    for (int i = 0; i < count; i++) {
        int lane = form == Form_ACC32_8 ? sum_of_byte(i) : (halves && half ? count : 0) + i;
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

}  // namespace
