// SPDX-License-Identifier: Apache-2.0
// The MAC instruction: window fetch, micro-operations, accumulators, drains. Cycle by cycle.
#pragma once

#include "iss_agu.h"

// A window as operands: 9-bit values of a word a PE, and the bytes they came from.
struct Window {
    int16_t operand[PES][LANES];
    uint8_t raw[PES][LANES];
    PixelMask padded = 0;  // bit p: word p is padding
};

// Walks AGU A and reads windows, one ahead of the micro-operations.
struct WindowFetch {
    Odometer agu{6, 3, 3};
    uint32_t width = 0, height = 0;
    int32_t pstride = 0, xpstep = 0, pad = 0;
    bool running = false, staged = false, staged_last = false, outer = false;
    uint32_t jobs = 0, phase = 0, next_address = 0;
    // The phase issued in the last cycle: L1 is read in this one.
    bool read = false;
    uint32_t read_address = 0, read_phase = 0;
    PixelMask read_padded = 0;
    bool read_signed = false;
    Window window;  // the staged one
    Watched seen;

    void set(uint64_t word) {
        width = uint32_t(get(word, SetI_width)), height = uint32_t(get(word, SetI_height));
        pstride = int32_t(get(word, SetI_pstride)), xpstep = int32_t(get(word, SetI_xpstep));
        pad = int32_t(get(word, SetI_pad));
    }

    void start(uint32_t repeat, bool advance) { running = true, jobs = repeat, outer = advance; }

    bool wants(bool take, bool hold) const { return running && !hold && (!staged || take); }

    PixelMask padding() const {
        if (agu.y >= height) return PixelMask((1u << PES) - 1);  // a negative coordinate is a large unsigned one
        PixelMask mask = 0;
        for (int p = 0; p < PES; ++p)
            if (((agu.x + uint32_t(xpstep * p)) & COORDINATE_MASK) >= width) mask |= PixelMask(1 << p);
        return mask;
    }

    // One cycle: `go` issues a phase.
    void step(uint64_t cycle, bool take, bool go, bool data) {
        if (take) staged = false;
        if (!go) return;
        const uint32_t phases = pstride == 1 ? 1 : pstride == 2 ? 2 : PES;
        const uint32_t address = phase == 0 ? agu.address : next_address;
        if (seen) seen.to->add<SeenFetch>(cycle, seen.unit).address = address;
        if (data) read = true, read_address = address, read_phase = phase, read_padded = padding();
        next_address = (address + uint32_t(pstride == 2 ? PES : pstride)) & ADDRESS_MASK;
        if (++phase < phases) return;
        phase = 0, staged = true, staged_last = agu.inner_last();
        agu.advance(outer);
        if (staged_last) running = jobs != 0, --jobs;
    }

    // L1's read port, in the cycle after a phase was issued.
    void read_port(const uint8_t* l1, uint32_t l1_words, bool signed_a) {
        if (!read) return;
        read = false;
        uint32_t from = 0, count = PES, stride = 1;
        if (pstride == 2) from = read_phase * (PES / 2), count = PES / 2, stride = 2;
        else if (pstride != 1) from = read_phase, count = 1;
        for (uint32_t i = 0; i < count; ++i) {
            const uint8_t* word = l1 + size_t((read_address + i * stride) & (l1_words - 1)) * WORD;
            const uint32_t p = from + i;
            memcpy(window.raw[p], word, WORD);
            int16_t* operand = window.operand[p];
            if (read_padded >> p & 1)
                for (int n = 0; n < LANES; ++n) operand[n] = int16_t(pad);
            else if (signed_a)
                for (int n = 0; n < LANES; ++n) operand[n] = int8_t(word[n]);
            else
                for (int n = 0; n < LANES; ++n) operand[n] = word[n];
        }
        window.padded = read_padded;
    }
};

// One record of the log of what results wrote to L1; layout as in l1_capture.py.
struct L1Write {
    uint64_t cycle;
    uint32_t cluster, run, mask, unused;
    uint16_t address[PES];
    uint8_t data[PES][WORD];
};

// A cluster's share in that log; none without `log`. `run`: which of its programs, from 0.
struct L1Log {
    Log<L1Write>* log = nullptr;
    uint32_t cluster = 0, run = UINT32_MAX;
};

// A drain on its way into L1. `at`: when its results use L1's write port.
struct DrainJob {
    uint64_t at;
    uint32_t address, x, width;
    bool ostride;
    uint8_t results[PES][LANES];
};

// Drains in flight: PES cycles apart at least; a power of two.
constexpr uint32_t DRAINS = PES < 8 ? 8 : 4;
static_assert((DRAINS - 2) * PES >= DRAIN_TO_L1_WRITE + 1, "drains in flight");
constexpr uint32_t MOST_DRAIN = 4 * DRAIN_ONCE;

// How a job is drained.
struct DrainMode {
    bool keep = false, add = false, wide_x = false, wide_m = false;
    int pset = 0;

    uint32_t cycles() const { return keep ? 1 : DRAIN_ONCE << (int(wide_x || add) + int(wide_m)); }
};

// The requantizers and AGU O.
struct Drain {
    Odometer agu{3, 0, 0};
    uint32_t width = 0;
    bool ostride = false;
    ParameterSet sets[2];
    int32_t kept[PES][LANES] = {};
    DrainJob jobs[DRAINS];
    uint32_t first = 0, count = 0;
    uint64_t set_free[2] = {0, 0};  // LDP may execute from this cycle on
    L1Log written;
    Watched seen;

    void set(uint64_t word) {
        width = uint32_t(get(word, SetO_width)), ostride = get(word, SetO_ostride) != 0;
    }

    DrainJob& issue(uint64_t cycle, const DrainMode& mode) {
        DrainJob& job = jobs[(first + count++) & (DRAINS - 1)];
        job.at = cycle + mode.cycles() + DRAIN_TO_L1_WRITE;
        job.address = agu.address, job.x = agu.x, job.width = width, job.ostride = ostride;
        for (int k = 0; k < 2; ++k)
            if (mode.add || mode.pset == k) set_free[k] = cycle + mode.cycles() + DRAIN_TO_PARAMETERS;
        agu.advance(true);
        return job;
    }

    void keep(const int32_t acc[PES][LANES]) {
        for (int p = 0; p < PES; ++p) narrow(acc[p], KEPT_BITS, kept[p]);
    }

    void requantize(DrainJob& job, const int32_t acc[PES][LANES], const DrainMode& mode) {
        const ParameterSet& set = sets[mode.add ? 1 : mode.pset];
        for (int p = 0; p < PES; ++p) {
            int64_t total[LANES];
            int32_t x[LANES];
            narrow(acc[p], mode.add ? KEPT_BITS : mode.wide_x ? 32 : NARROW_X_BITS, x);
            if (mode.add) sets[0].sums(kept[p], mode.wide_m, sets[0].c, total);
            else for (int n = 0; n < LANES; ++n) kept[p][n] = acc[p][n] >> KEPT_BITS;
            set.sums(x, mode.wide_m, mode.add ? total : set.c, total);
            set.finish(total, job.results[p]);
        }
        if (seen) see_requantized(job.at - mode.cycles() - DRAIN_TO_L1_WRITE, job, mode);
    }

    // A pixel after the other, of one NCB of each requantizer; `cycle`: of the issue.
    SEEING void see_requantized(uint64_t cycle, const DrainJob& job, const DrainMode& mode) const {
        constexpr uint32_t shared = DRAIN_ONCE / PES;
        const uint32_t passes = mode.cycles() / DRAIN_ONCE;
        for (uint32_t n = 0; n < shared; ++n)
            for (uint32_t p = 0; p < PES; ++p) {
                SeenRequantized& record = seen.to->add<SeenRequantized>(cycle + (n * PES + p + 1) * passes - 1, seen.unit);
                record.pixel = uint16_t(p), record.ncb = uint16_t(n);
                for (uint32_t g = 0; g < LANES / shared; ++g) record.data[g] = job.results[p][shared * g + n];
            }
    }

    // Whether results use L1's write port `ahead` cycles after `cycle`.
    bool writes_in(uint64_t cycle, uint64_t ahead) const {
        for (uint32_t k = 0; k < count; ++k) {
            const DrainJob& job = jobs[(first + k) & (DRAINS - 1)];
            if (job.at == cycle + ahead || (job.ostride && job.at + 1 == cycle + ahead)) return true;
        }
        return false;
    }

    // L1's write port: half of the words in each of two cycles with ostride, else all in one.
    void write_port(uint64_t cycle, uint8_t* l1, uint32_t l1_words, bool data) {
        for (uint32_t k = 0; k < count; ++k) {
            DrainJob& job = jobs[(first + k) & (DRAINS - 1)];
            if (!data) continue;
            if (cycle == job.at) write(cycle, job, 0, job.ostride ? PES / 2 : PES, l1, l1_words);
            if (job.ostride && cycle == job.at + 1) write(cycle, job, PES / 2, PES, l1, l1_words);
        }
        while (count && cycle > jobs[first & (DRAINS - 1)].at) ++first, --count;
    }

    // Words of L1 that are written in this cycle, inverted: what an SRAM gives to who reads a word that is being written
    // is undefined, and in the RTL's simulation the old word inverted. A second call restores them.
    void invert_written(uint64_t cycle, uint8_t* l1, uint32_t l1_words) const {
        for (uint32_t k = 0; k < count; ++k) {
            const DrainJob& job = jobs[(first + k) & (DRAINS - 1)];
            const bool lower = cycle == job.at, upper = job.ostride && cycle == job.at + 1;
            if (!(lower || upper)) continue;
            const uint32_t from = upper ? PES / 2 : 0, to = lower && job.ostride ? PES / 2 : PES;
            for (uint32_t p = from; p < to; ++p)
                if (((job.x + p) & COORDINATE_MASK) < job.width)
                    invert(l1 + size_t((job.address + p * (job.ostride ? 2 : 1)) & (l1_words - 1)) * WORD);
        }
    }

    void write(uint64_t cycle, const DrainJob& job, uint32_t from, uint32_t to, uint8_t* l1, uint32_t l1_words) {
        L1Write record;
        record.mask = 0;
        for (uint32_t p = from; p < to; ++p)
            if (((job.x + p) & COORDINATE_MASK) < job.width) {
                const uint32_t word = (job.address + p * (job.ostride ? 2 : 1)) & (l1_words - 1);
                memcpy(l1 + size_t(word) * WORD, job.results[p], WORD);
                record.mask |= 1u << p, record.address[p] = uint16_t(word);
            }
        if (seen) see(cycle, job, record);
        if (!written.log || !record.mask) return;
        record.cycle = cycle, record.cluster = written.cluster, record.run = written.run, record.unused = 0;
        memcpy(record.data, job.results, sizeof record.data);
        written.log->add() = record;
    }

    // Its words at the drain, and at the memory.
    SEEING void see(uint64_t cycle, const DrainJob& job, const L1Write& record) const {
        for (uint32_t p = 0; p < PES; ++p) {
            if (!(record.mask >> p & 1)) continue;
            SeenResult& result = seen.to->add<SeenResult>(cycle, seen.unit);
            SeenWrite& write = seen.to->add<SeenWrite>(cycle, seen.unit);
            result.word = write.word = record.address[p], write.space = SPACE_L1;
            memcpy(result.data, job.results[p], WORD), memcpy(write.data, job.results[p], WORD);
        }
    }
};

// A micro-operation between its issue and the next cycle, in which the memories are read for it.
struct MicroOp {
    bool valid = false, first = false;
    DrainMode mode;
    uint32_t lane = 0, pointer = 0, base = 0;
    uint8_t index[PES];  // TABLE: the bytes looked up, and which of them are padding
    PixelMask padded = 0;
    DrainJob* drain = nullptr;
};

// Issues the micro-operations of one MAC after the other.
struct Sequencer {
    WindowFetch fetch;
    Drain drain;
    // The MAC in execution.
    uint64_t mac = 0;
    int op = 0, mode = 0, pset = 0;
    bool wide_x = false, wide_m = false;
    bool depthwise = false, signed_a = false, use_first = false, last = false, rewind_w = false, next_w = false;
    uint32_t lane0 = 0, lanes = 0;
    bool busy = false, odd = false, job_start = false, first_window = false;
    uint32_t jobs = 0, spacing = 0;
    // Position in the current window.
    bool in_window = false, in_last = false;
    uint32_t left = 0, lane = 0, wait = 0;
    // TABLE: the lane selected and not yet looked up.
    bool table_valid = false, table_ends = false, table_first = false;
    uint32_t table_lane = 0;
    uint8_t table_index[PES] = {};
    PixelMask table_padded = 0;
    uint32_t w_base = 0, pointer = 0;
    alignas(64) int32_t acc[PES][LANES] = {};
    Window window;
    MicroOp pending;
    Watched seen;
    uint64_t in_flight_until = 0;  // FENCE and HALT may execute from this cycle on, SIGNALs be told

    void set_w(uint64_t word) { w_base = pointer = uint32_t(get(word, SetW_base)); }
    void add_w(uint64_t word) { w_base = pointer = (w_base + uint32_t(get(word, AddW_step))) & ADDRESS_MASK; }

    void start(uint64_t word) {
        mac = word;
        op = int(get(word, Mac_op)), mode = int(get(word, Mac_drain)), pset = int(get(word, Mac_pset));
        wide_x = get(word, Mac_wide_x), wide_m = get(word, Mac_wide_m);
        depthwise = get(word, Mac_depthwise), signed_a = get(word, Mac_signed_a), use_first = get(word, Mac_first);
        last = get(word, Mac_last), rewind_w = get(word, Mac_rewind_w), next_w = get(word, Mac_next_w);
        lane0 = uint32_t(get(word, Mac_lane) | get(word, Mac_lane_high) << 4) & LANE_MASK;
        lanes = uint32_t(get(word, Mac_lanes) | get(word, Mac_lanes_high) << 4) & LANE_MASK;
        jobs = uint32_t(get(word, Mac_repeat));
        busy = true, odd = false, job_start = true, first_window = true;
        fetch.start(jobs, get(word, Mac_advance) != 0);
    }

    // What a cycle did, for the counters.
    struct Outcome {
        bool issued, port_wait;
    };

    Outcome step(uint64_t cycle, bool blocked, uint32_t wmem_words, bool data) {
        const bool table = op == MACOP_TABLE;
        const bool clear = spacing == 0 || !last;
        const uint32_t current_left = in_window ? left : (depthwise && !table) ? 0 : lanes;
        const uint32_t current_lane = in_window ? lane : lane0;
        const bool last_lane = current_left == 0 && !(table && !in_window);
        const bool current_last = in_window ? in_last : fetch.staged_last;
        const bool table_goes = table_valid && !blocked && (clear || !table_ends);
        const bool table_free = !table_valid || table_goes;
        bool goes = busy;
        if (table) goes = goes && (in_window ? wait == 0 && table_free : fetch.staged);
        else goes = goes && (in_window || fetch.staged) && (clear || !(last_lane && current_last));
        const bool take = goes && !in_window;
        const bool hold = table && (in_window || take || table_valid);
        const bool issue = (goes && !table) || table_goes;
        const bool ends_job = issue && (table ? table_ends : last_lane && current_last);
        const bool wants = fetch.wants(take, hold);
        const bool select = goes && table && in_window;
        const bool port_wait = blocked && (wants || table_valid);

        if (spacing) --spacing;
        if (wait) --wait;
        if (take && data) window = fetch.window;
        if (take && data && seen) see_window(cycle);
        if (issue) issue_op(cycle, ends_job, table ? table_lane : current_lane, table ? table_first : job_start,
                            wmem_words);
        if (table_goes) table_valid = false;
        if (select) select_lane(current_lane, last_lane && current_last);
        if (goes) {
            in_window = !last_lane, left = (current_left - 1) & LANE_MASK, lane = (current_lane + 1) & LANE_MASK;
            in_last = current_last;
            if (table && take) left = lanes, lane = lane0, wait = TABLE_LATENCY;
            if (last_lane) first_window = current_last;
        }
        fetch.step(cycle, take, wants && !blocked, data);
        return {issue, port_wait};
    }

    // TABLE: one lane of the window register goes on; the register may be replaced before the look-up.
    void select_lane(uint32_t at_lane, bool ends) {
        table_valid = true, table_lane = at_lane, table_ends = ends, table_first = first_window;
        for (int p = 0; p < PES; ++p) table_index[p] = window.raw[p][at_lane];
        table_padded = window.padded;
    }

    void issue_op(uint64_t cycle, bool ends_job, uint32_t at_lane, bool starts, uint32_t wmem_words) {
        uint32_t at = job_start && rewind_w ? w_base : pointer;
        pending.valid = true, pending.first = use_first && starts, pending.lane = at_lane, pending.pointer = at;
        pending.base = w_base;
        pending.drain = nullptr, pending.mode.keep = false;
        if (op == MACOP_TABLE) memcpy(pending.index, table_index, PES), pending.padded = table_padded;
        if (op == MACOP_MAC) at = (at + 1) & (wmem_words - 1);
        pointer = at, job_start = false;
        settled_in(cycle, ISSUE_TO_SETTLED);
        if (!ends_job) return;
        if (last) {
            pending.mode = drain_mode(), spacing = pending.mode.cycles() - 1;
            if (!pending.mode.keep) {
                pending.drain = &drain.issue(cycle, pending.mode);
                settled_in(cycle, pending.mode.cycles() + DRAIN_TO_SETTLED);
            }
        }
        job_start = true, odd = !odd;
        if (jobs == 0) {
            busy = false;
            if (next_w) w_base = at;
        }
        --jobs;
    }

    void settled_in(uint64_t cycle, uint32_t cycles) {
        if (in_flight_until < cycle + cycles) in_flight_until = cycle + cycles;
    }

    // How the job that ends now is drained.
    DrainMode drain_mode() const {
        const bool pair = mode == DRAIN_PAIR;
        return {mode == DRAIN_KEEP || (pair && !odd), mode == DRAIN_ADD || (pair && odd), wide_x, wide_m, pset};
    }

    // How many micro-operations follow each other, one a cycle, before anything else happens here.
    uint32_t burst() const {
        const bool quiet = !fetch.read && (fetch.staged || !fetch.running);
        return busy && op != MACOP_TABLE && in_window && quiet ? left : 0;
    }

    // Issue and compute `count` of them; WMEM must not change in the meantime.
    void run_burst(uint64_t cycle, uint32_t count, const uint8_t* wmem, uint32_t wmem_words, bool data) {
        spacing = spacing > count ? spacing - count : 0;
        settled_in(cycle + count - 1, ISSUE_TO_SETTLED);
        if (data) compute_burst(count, wmem, wmem_words);
        if (op == MACOP_MAC) pointer = (pointer + count) & (wmem_words - 1);
        left -= count, lane = (lane + count) & LANE_MASK;
    }

    void compute_burst(uint32_t count, const uint8_t* wmem, uint32_t wmem_words) {
        if (op != MACOP_MAC) {
            pending.first = false;
            for (uint32_t i = 0; i < count; ++i) pending.lane = (lane + i) & LANE_MASK, compute(nullptr, 0, nullptr);
            return;
        }
        alignas(64) int32_t w[LANES][LANES];
        for (uint32_t i = 0; i < count; ++i) {
            const uint8_t* word = wmem + size_t((pointer + i) & (wmem_words - 1)) * WORD;
            for (int n = 0; n < LANES; ++n) w[i][n] = int8_t(word[n]);
        }
        for (int p = 0; p < PES; ++p) {
            uint32_t sum[LANES];
            for (int n = 0; n < LANES; ++n) sum[n] = uint32_t(acc[p][n]);
            for (uint32_t i = 0; i < count; ++i) {
                const int32_t a = window.operand[p][(lane + i) & LANE_MASK];
                for (int n = 0; n < LANES; ++n) sum[n] += uint32_t(a * w[i][n]);
            }
            for (int n = 0; n < LANES; ++n) acc[p][n] = int32_t(sum[n]);
        }
    }

    // The read ports, for what was issued in the last cycle.
    void read_ports(uint64_t cycle, const uint8_t* l1, uint32_t l1_words, const uint8_t* wmem, uint32_t wmem_words) {
        if (pending.valid) {
            pending.valid = false;
            const uint8_t* const weights = wmem + size_t(pending.pointer & (wmem_words - 1)) * WORD;
            if (seen) see_operation(cycle - 1, l1, l1_words, weights);
            compute(l1, l1_words, weights);
            if (seen && (pending.mode.keep || pending.drain)) see_sums(cycle - 1), see_shadow(cycle - 1);
            if (pending.mode.keep) drain.keep(acc);
            if (pending.drain) drain.requantize(*pending.drain, acc, pending.mode);
        }
        fetch.read_port(l1, l1_words, signed_a);
    }

    void compute(const uint8_t* l1, uint32_t l1_words, const uint8_t* weights) {
        if (op == MACOP_TABLE) return look_up(l1, l1_words);
        if (op == MACOP_MAC) {
            int32_t w[LANES];
            for (int n = 0; n < LANES; ++n) w[n] = int8_t(weights[n]);
            if (pending.first) memset(acc, 0, sizeof acc);
            if (depthwise) multiply_own(w);
            else multiply_lane(w);
            return;
        }
        for (int p = 0; p < PES; ++p)
            for (int n = 0; n < LANES; ++n) {
                const int32_t a = window.operand[p][depthwise ? n : int(pending.lane)];
                if (pending.first || (op == MACOP_MAX && a > low_bits(acc[p][n], MAX_BITS))) acc[p][n] = a;
                else if (op == MACOP_ADD) acc[p][n] = int32_t(uint32_t(acc[p][n]) + uint32_t(a));
            }
    }

    // acc += own byte * weight. Operands have 9 bits and weights 8, so products never wrap.
    void multiply_own(const int32_t* w) {
        for (int p = 0; p < PES; ++p)
            for (int n = 0; n < LANES; ++n)
                acc[p][n] = int32_t(uint32_t(acc[p][n]) + uint32_t(window.operand[p][n] * w[n]));
    }

    void multiply_lane(const int32_t* w) {
        for (int p = 0; p < PES; ++p) {
            const int32_t a = window.operand[p][pending.lane];
            for (int n = 0; n < LANES; ++n) acc[p][n] = int32_t(uint32_t(acc[p][n]) + uint32_t(a * w[n]));
        }
    }

    int32_t looked_up(int p, const uint8_t* l1, uint32_t l1_words) const {
        const uint8_t b = pending.index[p];
        const uint32_t word = ((pending.base / PES + b / WORD) * PES + uint32_t(p)) & (l1_words - 1);
        const uint8_t byte = l1[size_t(word) * WORD + b % WORD];
        return pending.padded >> p & 1 ? fetch.pad : signed_a ? int8_t(byte) : byte;
    }

    void look_up(const uint8_t* l1, uint32_t l1_words) {
        for (int p = 0; p < PES; ++p) {
            const int32_t a = looked_up(p, l1, l1_words);
            int32_t& target = acc[p][pending.lane];
            target = pending.first ? a : int32_t(uint32_t(target) + uint32_t(a));
        }
    }

    // As the RTL's window register has it: bytes, and what extends them to nine bits.
    SEEING void see_window(uint64_t cycle) const {
        const PixelMask padded = window.padded, all = PixelMask((1u << PES) - 1);
        const PixelMask extend = signed_a ? PixelMask(~padded & all) : PixelMask(0);
        const PixelMask negative = fetch.pad < 0 ? padded : PixelMask(0);
        uint8_t words[PES * WORD];
        for (int p = 0; p < PES; ++p)
            for (int n = 0; n < LANES; ++n) words[p * WORD + n] = uint8_t(window.operand[p][n]);
        seen.to->lines<SeenWindow>(cycle, seen.unit, words, PES, [=](SeenWindow& record) {
            record.offered = record.padded = padded, record.extend = extend, record.negative = negative;
        });
    }

    SEEING void see_operation(uint64_t cycle, const uint8_t* l1, uint32_t l1_words, const uint8_t* weights) const {
        const bool table = op == MACOP_TABLE, own = depthwise && !table, weighted = op == MACOP_MAC;
        SeenOperation& record = seen.to->add<SeenOperation>(cycle, seen.unit);
        const bool ends = pending.mode.keep || pending.drain;
        record.lane = uint16_t(pending.lane), record.pointer = weighted ? pending.pointer : 0;
        record.flags = uint16_t(own | weighted << 1 | pending.first << 2 | (op == MACOP_MAX) << 3 | table << 4 | ends << 5
                                | weighted << 6);
        for (int p = 0; p < PES && !own; ++p) {
            const int32_t operand = table ? looked_up(p, l1, l1_words) : window.operand[p][pending.lane];
            record.operands[p] = uint16_t(operand & 0x1FF);
        }
        if (weighted) memcpy(record.weights, weights, WORD);
    }

    SEEING void see_sums(uint64_t cycle) const {
        for (int n = 0; n < LANES; ++n) {
            SeenSums& record = seen.to->add<SeenSums>(cycle, seen.unit);
            record.ncb = uint16_t(n), record.copy = pending.mode.keep ? 4 : pending.mode.add ? 2 : 1;
            for (int p = 0; p < PES; ++p) record.sums[p] = acc[p][n];
        }
    }

    // What the shadow registers hold then: of a job that only keeps, the high halves alone mean something.
    SEEING void see_shadow(uint64_t cycle) const {
        const DrainMode& mode = pending.mode;
        for (int n = 0; n < LANES; ++n) {
            SeenShadow& record = seen.to->add<SeenShadow>(cycle, seen.unit);
            record.ncb = uint16_t(n), record.copy = mode.keep ? 4 : mode.add ? 2 : 1;
            for (int p = 0; p < PES; ++p) {
                const uint32_t sum = uint32_t(acc[p][n]), low = sum & ((1u << KEPT_BITS) - 1);
                record.values[p] = int32_t(mode.keep ? sum << KEPT_BITS
                                           : mode.add ? uint32_t(drain.kept[p][n]) << KEPT_BITS | low : sum);
            }
        }
    }
};
