// SPDX-License-Identifier: Apache-2.0
// Address generators: an odometer of counted dimensions over an address and two coordinates.
#pragma once

#include "iss_seen.h"

constexpr uint32_t ADDRESS_MASK = (1u << 14) - 1;
constexpr uint32_t COORDINATE_MASK = (1u << 13) - 1;

struct Odometer {
    struct Dimension {
        uint32_t count = 0, index = 0;
        int32_t step = 0, xstep = 0, ystep = 0;    // as set by SETD
        uint32_t offset = 0, xoffset = 0, yoffset = 0;  // wrap; reduced where they are used
    };

    explicit Odometer(int dims, int inner, int rewound) : dims(dims), inner(inner), rewound(rewound) {}

    int dims, inner, rewound;  // all dimensions; those of a job; the first one that SETB.rewind zeroes
    uint32_t base = 0, x0 = 0, y0 = 0;
    Dimension dim[6];
    // Current values: kept up to date by refresh().
    uint32_t address = 0, x = 0, y = 0;

    void refresh() {
        uint32_t a = base, xx = x0, yy = y0;
        for (int d = 0; d < dims; ++d) a += dim[d].offset, xx += dim[d].xoffset, yy += dim[d].yoffset;
        address = a & ADDRESS_MASK, x = xx & COORDINATE_MASK, y = yy & COORDINATE_MASK;
    }

    void set_base(uint64_t word) {
        base = uint32_t(get(word, SetB_base)), x0 = uint32_t(get(word, SetB_x)), y0 = uint32_t(get(word, SetB_y));
        if (get(word, SetB_rewind))
            for (int d = rewound; d < dims; ++d)
                dim[d].index = dim[d].offset = dim[d].xoffset = dim[d].yoffset = 0;
        refresh();
    }

    void add_base(uint64_t word) {
        base += uint32_t(get(word, AddB_step)), x0 += uint32_t(get(word, AddB_xstep));
        y0 += uint32_t(get(word, AddB_ystep));
        refresh();
    }

    void set_dim(uint64_t word) {
        const int d = int(get(word, SetD_dim));
        if (d >= dims) return;
        dim[d].count = uint32_t(get(word, SetD_count)), dim[d].step = int32_t(get(word, SetD_step));
        dim[d].xstep = int32_t(get(word, SetD_xstep)), dim[d].ystep = int32_t(get(word, SetD_ystep));
    }

    // Whether all inner dimensions are at their last position.
    bool inner_last() const {
        for (int d = 0; d < inner; ++d)
            if (dim[d].index + 1 < dim[d].count) return false;
        return true;
    }

    // One position on; `outer`: the dimensions above the inner ones may step too.
    void advance(bool outer) {
        const int end = outer ? dims : inner;
        for (int d = 0; d < end; ++d) {
            Dimension& at = dim[d];
            if (at.index + 1 < at.count) {
                ++at.index;
                at.offset += uint32_t(at.step), at.xoffset += uint32_t(at.xstep), at.yoffset += uint32_t(at.ystep);
                break;
            }
            at.index = at.offset = at.xoffset = at.yoffset = 0;
        }
        refresh();
    }
};
