/* SPDX-License-Identifier: Apache-2.0 */
/* The stream engine's kernels. `memory` is the data memory; the structures are those of machine.py. */
#include <stdint.h>
typedef uint8_t u8; typedef uint32_t u32; typedef int64_t i64;

struct command {
    u32 opcode, task, a, b, out, weights, records, a_type, b_type, out_type;
    u32 channels, height, width, out_channels, out_height, out_width;
    u32 kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, groups, dilation_h, dilation_w;
    int32_t pad_value;
    uint64_t waits;
};
struct record { i64 m0, m1, c, s, lo, hi; };

static i64 load(const u8 *memory, u32 base, u32 type, u32 index)
{
    u32 bits = type & 255, raw = memory[base + index * bits / 8];
    if (bits == 4) raw = raw >> (index % 2 * 4) & 15;
    return type & 256 && raw >> (bits - 1) ? (i64)raw - (1 << bits) : (i64)raw;
}

static void store(u8 *memory, u32 base, u32 type, u32 index, i64 value)
{
    u8 *byte = memory + base + index * (type & 255) / 8;
    u32 shift = index % 2 * 4;
    *byte = (u8)((type & 255) == 8 ? value : (*byte & ~(15 << shift)) | (value & 15) << shift);
}

static i64 window(const struct command *k, const u8 *memory, u32 c, u32 y, u32 x)
{
    i64 result = 0;
    for (u32 i = 0; i < k->kernel_h; i++)
        for (u32 j = 0; j < k->kernel_w; j++) {
            int row = (int)(y * k->stride_h + i - k->pad_top), column = (int)(x * k->stride_w + j - k->pad_left);
            int inside = row >= 0 && row < (int)k->height && column >= 0 && column < (int)k->width;
            i64 value = k->pad_value;
            if (inside) value = load(memory, k->a, k->a_type, (c * k->height + (u32)row) * k->width + (u32)column);
            if (k->opcode == 3) result += value;
            else if ((i == 0 && j == 0) || value > result) result = value;
        }
    return result;
}

void run(const struct command *k, u8 *memory)
{
    u32 index = 0;
    const struct record *r = (const struct record *)(memory + k->records);
    for (u32 c = 0; c < k->out_channels; c++, r++)
        for (u32 y = 0; y < k->out_height; y++)
            for (u32 x = 0; x < k->out_width; x++, index++) {
                i64 a = k->opcode <= 3 ? window(k, memory, c, y, x) : load(memory, k->a, k->a_type, index);
                i64 b = k->opcode == 4 ? load(memory, k->b, k->b_type, index) : 0;
                i64 q = (a * r->m0 + b * r->m1 + r->c) >> r->s;
                store(memory, k->out, k->out_type, index, q < r->lo ? r->lo : q > r->hi ? r->hi : q);
            }
}
