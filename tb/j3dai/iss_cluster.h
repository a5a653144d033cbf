// SPDX-License-Identifier: Apache-2.0
// A cluster: controller, semaphores, loops, traps, around the sequencer. Cycle by cycle.
#pragma once

#include "iss_mac.h"

constexpr int LOOP_LEVELS = 4;
constexpr uint32_t PC_MASK = 511;
constexpr int START_SEMAPHORE = 7;
constexpr uint32_t PER_WORD = WORD / 8;   // instructions
// Cycles, more than a SIGNAL takes; a power of two.
constexpr uint32_t SIGNAL_RING = MOST_DRAIN + DRAIN_TO_SETTLED + SIGNAL_CYCLES < 128 ? 128 : 1024;
static_assert(MOST_DRAIN + DRAIN_TO_SETTLED + SIGNAL_CYCLES < SIGNAL_RING, "ring of SIGNALs");

// What a cluster is given in a cycle.
struct ClusterInputs {
    bool start = false;
    uint32_t start_pc = 0;
    bool rd_valid = false;  // a STORE beat: no window fetch is issued
    bool wr_l1 = false;     // a LOAD beat for L1, which it reaches in the next cycle
    uint8_t signal_in = 0;
    bool in_frame = false, dmpa_idle = false;
};

struct Cluster {
    uint8_t *l1 = nullptr, *wmem = nullptr, *imem = nullptr;
    const Config* config = nullptr;
    Sequencer sequencer;
    Semaphores inputs;
    bool running = false, armed = false, trap = false;
    bool fetch = false, decode = false, execute = false;
    uint32_t pc = 0, start_pc = 0;
    uint64_t fetched = 0, ir = 0;
    struct {
        uint32_t first, last, left;
    } loop[LOOP_LEVELS];
    int depth = 0;
    uint8_t signals[SIGNAL_RING] = {};  // ring of SIGNALs on their way, by cycle
    uint64_t signals_until = 0;
    uint64_t records_free = 0;  // LDP may execute from this cycle on: the one before it has read its records
    Counters counters;
    Activity activity;
    Watched seen;
    SeenControl levels;
    bool levels_known = false;

    int opcode() const { return int(ir & 63); }

    uint8_t signal_out(uint64_t cycle) {
        uint8_t& slot = signals[cycle & (SIGNAL_RING - 1)];
        const uint8_t out = slot;
        slot = 0;
        return out;
    }

    bool waits() const {
        if (!running) return armed;
        return execute && opcode() == OPCODE_WAIT && !sequencer.busy && !inputs.value[get(ir, Wait_semaphore)];
    }

    // Nothing but a semaphore or the host can make this cluster do anything more.
    bool stuck(uint64_t cycle) const {
        if (trap) return true;
        if (sequencer.busy || cycle < sequencer.in_flight_until || cycle <= signals_until) return false;
        return running ? waits() : !armed || !inputs.value[START_SEMAPHORE];
    }

    void read_ports(uint64_t cycle) {
        if (config->data) sequencer.read_ports(cycle, l1, config->l1_words, wmem, config->wmem_words);
        else sequencer.pending.valid = false;
        if (fetch) memcpy(&fetched, imem + size_t(pc / PER_WORD & (config->imem_words - 1)) * WORD + pc % PER_WORD * 8, 8);
    }

    // See `Drain::invert_written`.
    void invert_drained(uint64_t cycle) {
        if (sequencer.drain.count && config->data) sequencer.drain.invert_written(cycle, l1, config->l1_words);
    }

    void write_ports(uint64_t cycle) {
        if (sequencer.drain.count) sequencer.drain.write_port(cycle, l1, config->l1_words, config->data);
    }

    // Everything behind the memory ports.
    void step(uint64_t cycle, const ClusterInputs& in) {
        if (seen) see_levels(cycle);
        const bool begins = armed && !running && !trap && inputs.value[START_SEMAPHORE];
        const bool is_waiting = waits(), was_running = running;
        bool loop_fault = false, done = false, fault = false;
        const bool sequencing = sequencer.busy;
        const uint32_t pc_before = pc, semaphore = running ? uint32_t(get(ir, Wait_semaphore)) : START_SEMAPHORE;
        if (execute) {
            loop_fault = opcode() == OPCODE_LOOP && (!get(ir, Loop_count) || !get(ir, Loop_body) || depth == LOOP_LEVELS);
            bool known = true;
            const bool is_ready = ready(cycle, known);
            fault = loop_fault || (!known && !sequencing);
            done = known && is_ready && !fault;
        }
        Sequencer::Outcome outcome{false, false};
        const bool writes = L1_PORTS == 1 && (in.wr_l1 || sequencer.drain.writes_in(cycle, 1));
        if (sequencing) outcome = sequencer.step(cycle, in.rd_valid || writes, config->wmem_words, config->data);
        else if (sequencer.spacing) --sequencer.spacing;

        const int taken = begins ? START_SEMAPHORE
                          : done && opcode() == OPCODE_WAIT ? int(get(ir, Wait_semaphore)) : -1;
        if (in.signal_in || taken >= 0) inputs.update(in.signal_in, taken);
        advance(cycle, begins, done, fault);
        arm(in, begins, fault || (in.start && armed && !begins));

        const int state = outcome.issued ? COUNTER_BUSY
                          : is_waiting ? COUNTER_WAIT_DATA
                          : outcome.port_wait ? COUNTER_WAIT_PORT
                          : was_running ? COUNTER_CONTROL
                          : in.in_frame && in.dmpa_idle ? COUNTER_WAIT_HOST : COUNTER_IDLE;
        counters.count(state);
        if (activity.log) {
            const uint32_t key = sequencing ? KEY_SEQUENCING : uint32_t(state) | (is_waiting ? semaphore << KEY_SEMAPHORE : 0);
            activity.note(cycle, key | (was_running ? KEY_RUNNING : 0), pc_before << KEY_VALUE, counters);
        }
    }

    // `count` cycles without anything from outside: no beats, no semaphores, no start.
    void run(uint64_t cycle, uint64_t count, const ClusterInputs& in) {
        const uint64_t end = cycle + count;
        while (cycle < end) {
            if (stuck(cycle) && fetched_all()) return idle(cycle, end - cycle, in);
            const uint64_t burst = blocked() ? sequencer.burst() : 0, k = burst < end - cycle ? burst : end - cycle;
            if (!k) invert_drained(cycle);  // a burst reads no L1
            read_ports(cycle);
            if (!k) invert_drained(cycle);
            if (k) {
                for (uint64_t i = 0; i < k && sequencer.drain.count; ++i) write_ports(cycle + i);
                counters.count(COUNTER_BUSY, uint32_t(k));
                sequencer.run_burst(cycle, uint32_t(k), wmem, config->wmem_words, config->data);
                cycle += k;
                continue;
            }
            write_ports(cycle);
            step(cycle, in);
            if (trap && trapped_at == UINT64_MAX) trapped_at = cycle;
            ++cycle;
        }
    }

    uint64_t trapped_at = UINT64_MAX;

  private:
    SEEING void see_levels(uint64_t cycle) {
        SeenControl now{};
        now.cycle = cycle, now.unit = seen.unit;
        now.flags = running | armed << 1 | trap << 2 | sequencer.busy << 3 | (cycle >= sequencer.in_flight_until) << 4;
        for (int k = 0; k < 2; ++k) now.flags |= uint32_t(cycle < sequencer.drain.set_free[k]) << (5 + k);
        now.flags |= uint32_t(sequencer.fetch.staged) << 7;
        now.flags |= uint32_t(sequencer.fetch.staged && sequencer.fetch.staged_last) << 8;
        now.flags |= uint32_t(waits()) << 9;
        memcpy(now.semaphores, inputs.value, sizeof now.semaphores);
        seen.to->level(cycle, seen.unit, now, levels, levels_known);
    }

    // The instruction to execute next waits for the sequencer.
    bool blocked() const { return execute && opcode() != OPCODE_NOP && opcode() != OPCODE_LOOP; }

    bool fetched_all() const { return !fetch && !decode && !sequencer.pending.valid; }

    // `count` cycles in which nothing changes but the counters.
    void idle(uint64_t cycle, uint64_t count, const ClusterInputs& in) {
        step(cycle, in);
        counters.value[counters.state] += uint32_t(count - 1);
    }

    void arm(const ClusterInputs& in, bool begins, bool traps) {
        if (begins) running = true, armed = false, pc = start_pc, ++sequencer.drain.written.run;
        if (in.start) armed = true, start_pc = in.start_pc;
        if (trap) fetch = decode = execute = running = false;
        if (traps) trap = true;
    }

    bool ready(uint64_t cycle, bool& known) const {
        const bool idle = !sequencer.busy;
        switch (opcode()) {
            case OPCODE_NOP: case OPCODE_LOOP: return true;
            case OPCODE_HALT: case OPCODE_FENCE: return idle && cycle >= sequencer.in_flight_until;
            case OPCODE_WAIT: return idle && inputs.value[get(ir, Wait_semaphore)];
            case OPCODE_LDP: return idle && cycle >= records_free && cycle >= sequencer.drain.set_free[get(ir, LdP_pset)];
            case OPCODE_SIGNAL: case OPCODE_SETB: case OPCODE_SETD: case OPCODE_SETI: case OPCODE_SETO:
            case OPCODE_SETW: case OPCODE_ADDB: case OPCODE_ADDW: case OPCODE_MAC: return idle;
        }
        known = false;
        return false;
    }

    // The three stages of the controller.
    void advance(uint64_t cycle, bool begins, bool done, bool fault) {
        const bool decoded = decode;
        decode = fetch, fetch = false;
        if (done) {
            execute = false, fetch = opcode() != OPCODE_HALT;
            if (opcode() == OPCODE_HALT) running = false;
            perform(cycle);
            follow();
        }
        if (decoded) ir = fetched, execute = true;
        if (begins) fetch = true, depth = 0;
        if (fault) execute = running = false;
    }

    void perform(uint64_t cycle) {
        if (seen) {
            SeenExecute& record = seen.to->add<SeenExecute>(cycle, seen.unit);
            record.pc = pc, record.instruction = ir;
        }
        Sequencer& s = sequencer;
        switch (opcode()) {
            case OPCODE_SIGNAL:
                signals_until = cycle + SIGNAL_CYCLES > s.in_flight_until ? cycle + SIGNAL_CYCLES : s.in_flight_until;
                signals[signals_until & (SIGNAL_RING - 1)] |= uint8_t(1 << get(ir, Signal_semaphore));
                s.in_flight_until = signals_until + 1;
                break;
            case OPCODE_SETB: (get(ir, SetB_agu) ? s.drain.agu : s.fetch.agu).set_base(ir); break;
            case OPCODE_ADDB: (get(ir, AddB_agu) ? s.drain.agu : s.fetch.agu).add_base(ir); break;
            case OPCODE_SETD: (get(ir, SetD_agu) ? s.drain.agu : s.fetch.agu).set_dim(ir); break;
            case OPCODE_SETI: s.fetch.set(ir); break;
            case OPCODE_SETO: s.drain.set(ir); break;
            case OPCODE_SETW: s.set_w(ir); break;
            case OPCODE_ADDW: s.add_w(ir); break;
            case OPCODE_LDP: records_free = cycle + RECORD_LINES, load_parameters(cycle); break;
            case OPCODE_MAC: s.start(ir); break;
        }
    }

    void load_parameters(uint64_t cycle) {
        if (!config->data) return;
        const uint32_t base = uint32_t(get(ir, LdP_base)) & ~uint32_t(PES - 1);
        for (uint32_t k = 0; k < RECORD_LINES && seen; ++k) {
            const uint8_t* const line = wmem + size_t((base + k * PES) & (config->wmem_words - 1)) * WORD;
            seen.to->lines<SeenParameters>(cycle + k, seen.unit, line, PES,
                                           [this](SeenParameters& record) { record.set = uint32_t(get(ir, LdP_pset)); });
        }
        for (uint32_t n = 0; n < LANES; ++n)
            sequencer.drain.sets[get(ir, LdP_pset)].decode(
                int(n), wmem + ((size_t(base) * WORD + n * RECORD) & (size_t(config->wmem_words) * WORD - 1)));
    }

    // The program counter after an instruction, and the loop stack.
    void follow() {
        const uint32_t next = (pc + 1) & PC_MASK;
        if (opcode() == OPCODE_LOOP) {
            loop[depth++] = {next, (pc + uint32_t(get(ir, Loop_body))) & PC_MASK, uint32_t(get(ir, Loop_count)) - 1};
        } else if (depth && loop[depth - 1].last == pc) {
            if (loop[depth - 1].left) {
                --loop[depth - 1].left;
                pc = loop[depth - 1].first;
                return;
            }
            --depth;
        }
        pc = next;
    }
};
