// SPDX-License-Identifier: Apache-2.0
// The J3DAI accelerator without its host, cycle by cycle: control registers, DMPA, L2, clusters; as a C library.
// What the host does to the registers comes from outside (nncosim.tb.iss.hart).

#include "iss_dmpa.h"

constexpr int ENGINES = MAX_CLUSTERS + 2, DMPA_ENGINE = 8, HOST_ENGINE = 9;

// Why run() came back.
enum Reason : int32_t { REACHED = 0, INTERRUPT = 1, TRAPPED = 2, STUCK = 3, LOST = 4 };

// A list was completed: the counters of all engines, of all cycles before that one.
struct ListDone {
    uint64_t cycle;
    uint32_t counters[ENGINES][COUNTERS];
    uint32_t transfers[TRANSFERS][TRANSFER_COUNTERS];
};

// For messages: where everybody stands. Same layout as `Status` in iss_core.py.
struct Status {
    uint64_t cycle;
    uint32_t lists_done, frames_requested, frames_done, error;
    uint32_t dmpa_trap, dmpa_idle, dmpa_running, dmpa_op, dmpa_address, dmpa_list, dmpa_waiting, dmpa_semaphore;
    char dmpa_reason[64];
    struct {
        uint32_t running, armed, trap, pc, opcode, waits, semaphore, sequencer_busy, lost_inputs, lost_outputs;
    } cluster[MAX_CLUSTERS];
};

struct Core {
    Config config;
    Dmpa dmpa;
    Cluster clusters[MAX_CLUSTERS];
    uint64_t cycle = 0;
    bool sleeping = false, frame = false, log_writes = false;
    // Control registers.
    uint32_t requested = 0, frames_done = 0, error = 0, lists_seen = 0, frames_seen = 0, select = 0, inputs_free = 0;
    int32_t write_reg = -1;
    uint32_t write_value = 0;
    Counters host_counters;
    Log<ListDone> lists;
    Log<L2Write> writes;
    Log<L1Write> l1_writes;
    Log<Change> changes;
    Activity host_activity;
    Seen seen;
    bool sees = false, trap_seen = false;
    uint32_t registers_before = UINT32_MAX;

    bool irq() const { return dmpa.lists_done != lists_seen || requested != frames_seen; }

    bool trapped() const {
        bool any = dmpa.trap;
        for (int c = 0; c < config.clusters; ++c) any |= clusters[c].trap;
        return any;
    }

    // An increment of a semaphore was lost; nothing is simulated after that.
    bool lost() const {
        uint8_t any = 0;
        for (int c = 0; c < config.clusters; ++c) any |= clusters[c].inputs.lost | dmpa.outputs[c].lost;
        return any;
    }

    bool stuck() const {
        for (int c = 0; c < config.clusters; ++c)
            if (!clusters[c].stuck(cycle)) return false;
        return dmpa.stuck(cycle);
    }

    void step() {
        ClusterInputs in[MAX_CLUSTERS];
        const bool in_frame = requested != frames_done, dmpa_idle = dmpa.idle(cycle);
        const uint32_t levels = uint32_t(irq()) | uint32_t(in_frame) << 1;
        const int64_t push = take_write(in);
        if (sees) see_registers(levels, in, push);
        const Event& ending = dmpa.events[cycle & 7];
        if (ending.valid && ending.end) snapshot();
        invert_written();
        for (int c = 0; c < config.clusters; ++c) clusters[c].read_ports(cycle);
        capture();
        invert_written();
        move_beats();
        uint8_t drains = 0, later_drains = 0, signals[MAX_CLUSTERS];
        for (int c = 0; c < config.clusters; ++c) {
            clusters[c].write_ports(cycle);
            drains |= uint8_t(clusters[c].sequencer.drain.writes_in(cycle, DRAIN_AHEAD) << c);
            if (L1_PORTS == 1)
                later_drains |= uint8_t(clusters[c].sequencer.drain.writes_in(cycle, STORE_TO_CLUSTER + 1) << c);
            signals[c] = clusters[c].signal_out(cycle);
        }
        const Beat* reading = dmpa.reading(cycle);
        const uint8_t readers = reading ? uint8_t(reading->clusters & -reading->clusters) : 0;
        const Beat& loading = dmpa.loads[(cycle - LOAD_TO_CLUSTER) & 7];
        if (sees) see_ports(reading, readers, loading, signals);
        const Event event = dmpa.step(cycle, push, drains, later_drains, signals, in_frame);
        for (int c = 0; c < config.clusters; ++c) {
            in[c].rd_valid = readers >> c & 1;
            in[c].wr_l1 = loading.valid && loading.space == SPACE_L1 && loading.clusters >> c & 1;
            in[c].signal_in = event.valid && event.mask >> c & 1 ? uint8_t(1 << event.semaphore) : 0;
            in[c].in_frame = in_frame, in[c].dmpa_idle = dmpa_idle;
            if (sees && in[c].signal_in) seen.add<SeenSignalIn>(cycle, uint32_t(c)).semaphores = in[c].signal_in;
            clusters[c].step(cycle, in[c]);
        }
        count_host(in_frame, 1);
        requested += frame, frame = false;
        ++cycle;
    }

    void count_host(bool in_frame, uint32_t cycles) {
        const int state = !sleeping ? COUNTER_BUSY : in_frame ? COUNTER_WAIT_DATA : COUNTER_IDLE;
        host_counters.count(state, cycles);
        host_activity.note(cycle, uint32_t(state), 0, host_counters, cycles - 1);
    }

    void log_activity() {
        dmpa.activity = {&changes, DMPA_ENGINE}, host_activity = {&changes, HOST_ENGINE};
        for (int c = 0; c < config.clusters; ++c) clusters[c].activity = {&changes, uint32_t(c)};
    }

    void log_seen() {
        sees = true, dmpa.seen = {&seen, 0};
        for (int c = 0; c < config.clusters; ++c) {
            const Watched share{&seen, uint32_t(c)};
            Cluster& cluster = clusters[c];
            cluster.seen = cluster.sequencer.seen = cluster.sequencer.fetch.seen = cluster.sequencer.drain.seen = share;
        }
    }

    // In the cycle before this one somebody trapped.
    SEEING void see_trap() {
        trap_seen = true;
        SeenTrapped& record = seen.add<SeenTrapped>(cycle - 1, 0);
        record.units = uint32_t(dmpa.trap) << 8, record.port = 1;
        for (int c = 0; c < config.clusters; ++c) record.units |= uint32_t(clusters[c].trap) << c;
    }

    // What the control registers tell the others. `levels`: before what the host writes in this cycle.
    SEEING void see_registers(uint32_t levels, const ClusterInputs* in, int64_t push) {
        uint32_t start = 0, start_pc = 0;
        for (int c = 0; c < config.clusters; ++c)
            if (in[c].start) start |= 1u << c, start_pc = in[c].start_pc;
        if (levels == registers_before && !start && push < 0) return;
        registers_before = levels;
        SeenRegisters& record = seen.add<SeenRegisters>(cycle, 0);
        record.flags = levels | uint32_t(push >= 0) << 2, record.start = start, record.start_pc = start_pc;
        record.push_addr = push >= 0 ? uint32_t(push) : 0;
    }

    // Beats at the clusters' ports, and the SIGNALs that leave them.
    SEEING void see_ports(const Beat* reading, uint8_t readers, const Beat& loading, const uint8_t* signals) {
        for (int c = 0; c < config.clusters; ++c)
            if (signals[c]) seen.add<SeenSignalOut>(cycle, uint32_t(c)).semaphores = signals[c];
        if (reading) {
            SeenStore& record = seen.add<SeenStore>(cycle, 0);
            record.clusters = readers, record.address = reading->local;
        }
        if (!loading.valid) return;
        seen.lines<SeenLoad>(cycle, 0, loading.data, loading.count, [&loading](SeenLoad& record) {
            record.clusters = loading.clusters, record.space = loading.space, record.address = loading.local;
            record.mask = (1u << loading.count) - 1;
        });
    }

    // The write of a register that the host makes in this cycle; gives what goes to DMPA_PUSH, or -1.
    int64_t take_write(ClusterInputs* in) {
        const int32_t reg = write_reg;
        write_reg = -1;
        switch (reg) {
            case REG_FRAMES_DONE: frames_done = write_value; break;
            case REG_ERROR: error = write_value; break;
            case REG_IRQ_LISTS_SEEN: lists_seen = write_value; break;
            case REG_IRQ_FRAMES_SEEN: frames_seen = write_value; break;
            case REG_COUNTER_SELECT: select = write_value; break;
            case REG_INPUTS_FREE: inputs_free = write_value; break;
            case REG_DMPA_PUSH: return write_value;
            case REG_CLUSTER_START:
                for (int c = 0; c < config.clusters; ++c)
                    in[c].start = write_value >> c & 1, in[c].start_pc = write_value >> 16 & PC_MASK;
                break;
        }
        return -1;
    }

    // Beats that reach a memory in this cycle, after all reads of it.
    void move_beats() {
        Beat& load = dmpa.loads[(cycle - LOAD_TO_CLUSTER - 1) & 7];
        if (load.valid) {
            load.valid = false;
            if (config.data || load.space == SPACE_IMEM)
                for (int c = 0; c < config.clusters; ++c)
                    if (load.clusters >> c & 1) write_local(clusters[c], load);
        }
        Beat& store = dmpa.stores[(cycle - STORE_TO_L2) & 7];
        if (store.valid) {
            store.valid = false;
            if (config.data) write_l2(store);
        }
    }

    // STORE beats read L1.
    void capture() {
        uint8_t* l1[MAX_CLUSTERS];
        for (int c = 0; c < config.clusters; ++c) l1[c] = clusters[c].l1;
        dmpa.capture(cycle, l1);
    }

    // Words of the clusters' memories that are written in this cycle, for who reads them in it: `Drain::invert_written`.
    void invert_written() {
        const Beat& load = dmpa.loads[(cycle - LOAD_TO_CLUSTER - 1) & 7];
        const bool loads = load.valid && (config.data || load.space == SPACE_IMEM);
        for (int c = 0; c < config.clusters; ++c) {
            clusters[c].invert_drained(cycle);
            if (!loads || !(load.clusters >> c & 1)) continue;
            uint32_t words;
            uint8_t* const memory = local(clusters[c], load.space, words);
            for (uint32_t i = 0; i < load.count; ++i) invert(memory + size_t((load.local + i) & (words - 1)) * WORD);
        }
    }

    uint8_t* local(Cluster& cluster, uint32_t space, uint32_t& words) const {
        words = space == SPACE_L1 ? config.l1_words : space == SPACE_WMEM ? config.wmem_words : config.imem_words;
        return space == SPACE_L1 ? cluster.l1 : space == SPACE_WMEM ? cluster.wmem : cluster.imem;
    }

    void write_local(Cluster& cluster, const Beat& beat) {
        uint32_t words;
        uint8_t* const memory = local(cluster, beat.space, words);
        for (uint32_t i = 0; i < beat.count; ++i) {
            const uint32_t word = (beat.local + i) & (words - 1);
            memcpy(memory + size_t(word) * WORD, beat.data + i * WORD, WORD);
            if (!sees) continue;
            SeenWrite& record = seen.add<SeenWrite>(cycle, cluster.seen.unit);
            record.space = beat.space, record.word = word;
            memcpy(record.data, beat.data + i * WORD, WORD);
        }
    }

    void write_l2(const Beat& beat) {
        memcpy(dmpa.l2 + size_t(beat.l2) * WORD, beat.data, size_t(beat.count) * WORD);
        if (!log_writes) return;
        L2Write& record = writes.add();
        record.cycle = cycle, record.list = beat.list, record.address = beat.l2;
        record.mask = (1u << beat.count) - 1, record.unused = 0;
        memcpy(record.data, beat.data, sizeof record.data);
    }

    // As the host reads them: a cycle late.
    void counters(uint32_t (*out)[COUNTERS]) const {
        memset(out, 0, sizeof(uint32_t) * ENGINES * COUNTERS);
        for (int c = 0; c < config.clusters; ++c) memcpy(out[c], clusters[c].counters.value, sizeof *out);
        memcpy(out[DMPA_ENGINE], dmpa.counters.value, sizeof *out);
        memcpy(out[HOST_ENGINE], host_counters.value, sizeof *out);
    }

    void settled(uint32_t (*out)[COUNTERS]) const {
        memset(out, 0, sizeof(uint32_t) * ENGINES * COUNTERS);
        for (int c = 0; c < config.clusters; ++c) clusters[c].counters.settled(out[c]);
        dmpa.counters.settled(out[DMPA_ENGINE]);
        host_counters.settled(out[HOST_ENGINE]);
    }

    void snapshot() {
        ListDone& record = lists.add();
        record.cycle = cycle;
        settled(record.counters);
        dmpa.transfers.settled(record.transfers);
    }

    uint32_t read(uint32_t reg) const {
        uint32_t all[ENGINES][COUNTERS], value = 0;
        switch (reg) {
            case REG_ID: return ID_VALUE;
            case REG_FRAMES_REQUESTED: return requested;
            case REG_FRAMES_DONE: return frames_done;
            case REG_ERROR: return error;
            case REG_DMPA_STATUS: return (LISTS - dmpa.queued) | uint32_t(!dmpa.idle(cycle)) << 8 | uint32_t(dmpa.trap) << 16;
            case REG_LISTS_DONE: return dmpa.lists_done;
            case REG_CLUSTER_STATUS:
                for (int c = 0; c < config.clusters; ++c) {
                    const Cluster& at = clusters[c];
                    value |= uint32_t(at.running || at.armed) << c | uint32_t(at.armed) << (8 + c) | uint32_t(at.trap) << (16 + c);
                }
                return value;
            case REG_IRQ_LISTS_SEEN: return lists_seen;
            case REG_IRQ_FRAMES_SEEN: return frames_seen;
            case REG_COUNTER_SELECT: return select;
            case REG_INPUTS_FREE: return inputs_free;
            case REG_COUNTER_VALUE:
                if ((select & 15) >= TRANSFER_ENGINE && (select & 15) < TRANSFER_ENGINE + TRANSFERS)
                    return (select >> 4 & 7) < TRANSFER_COUNTERS
                               ? dmpa.transfers.value[(select & 15) - TRANSFER_ENGINE][select >> 4 & 7] : 0;
                counters(all);
                return (select & 15) < ENGINES && (select >> 4 & 7) < COUNTERS ? all[select & 15][select >> 4 & 7] : 0;
        }
        return 0;
    }

    // How many cycles the clusters can run without hearing from anybody: a SIGNAL takes its time to arrive.
    uint64_t quiet_cycles(uint64_t until) const {
        if (!config.batch || frame || write_reg >= 0 || !dmpa.quiet(cycle)) return 0;
        uint64_t count = until - cycle < SIGNAL_CYCLES ? until - cycle : SIGNAL_CYCLES;
        for (int c = 0; c < config.clusters; ++c)
            if (cycle <= clusters[c].signals_until)
                for (uint64_t i = 0; i < count; ++i)
                    if (clusters[c].signals[(cycle + i) & (SIGNAL_RING - 1)]) count = i;
        return count;
    }

    void run_quiet(uint64_t count) {
        ClusterInputs in;
        in.in_frame = requested != frames_done, in.dmpa_idle = dmpa.idle(cycle);
        uint64_t end = cycle + count;
        for (int c = 0; c < config.clusters; ++c) {
            clusters[c].run(cycle, count, in);
            if (clusters[c].trapped_at < end) end = clusters[c].trapped_at + 1;
        }
        dmpa.count_quiet(cycle, uint32_t(end - cycle), in.in_frame);
        count_host(in.in_frame, uint32_t(end - cycle));
        cycle = end;
    }

    int32_t run(uint64_t until, bool asleep) {
        sleeping = asleep;
        if (lost()) return LOST;
        while (cycle < until) {
            if (asleep && irq()) return INTERRUPT;
            if (asleep && stuck() && !frame && write_reg < 0) return STUCK;
            const uint64_t count = quiet_cycles(until);
            if (count > 1) run_quiet(count);
            else step();
            if (count <= 1 && lost()) return LOST;
            if (trapped()) {
                if (sees && !trap_seen) see_trap();
                return TRAPPED;
            }
        }
        return asleep && irq() ? INTERRUPT : REACHED;
    }

    void status(Status* out) const {
        memset(out, 0, sizeof *out);
        out->cycle = cycle, out->lists_done = dmpa.lists_done, out->frames_requested = requested;
        out->frames_done = frames_done, out->error = error;
        out->dmpa_trap = dmpa.trap, out->dmpa_idle = dmpa.idle(cycle), out->dmpa_running = dmpa.running;
        const DescriptorFields& d = dmpa.running ? dmpa.current : dmpa.next;
        out->dmpa_op = uint32_t(d.op), out->dmpa_address = dmpa.running ? dmpa.current_addr : dmpa.next_addr;
        out->dmpa_list = dmpa.running ? dmpa.current_list : dmpa.next_list;
        out->dmpa_waiting = dmpa.next_valid && !dmpa.running ? dmpa.waiting() : 0;
        out->dmpa_semaphore = uint32_t(dmpa.next.wait_semaphore);
        strncpy(out->dmpa_reason, dmpa.reason, sizeof out->dmpa_reason - 1);
        for (int c = 0; c < config.clusters; ++c) {
            const Cluster& at = clusters[c];
            auto& to = out->cluster[c];
            to.lost_inputs = at.inputs.lost, to.lost_outputs = dmpa.outputs[c].lost;
            to.running = at.running, to.armed = at.armed, to.trap = at.trap, to.pc = at.pc;
            to.opcode = uint32_t(at.opcode()), to.waits = at.waits(), to.sequencer_busy = at.sequencer.busy;
            to.semaphore = at.running ? uint32_t(get(at.ir, Wait_semaphore)) : START_SEMAPHORE;
        }
    }
};

extern "C" {

// Memories are the caller's: L1, WMEM and IMEM of all clusters one behind the other.
void* j3dai_create(const Config* config, uint8_t* l2, uint8_t* l1, uint8_t* wmem, uint8_t* imem, int log_writes) {
    Core* core = new Core;
    core->config = *config, core->log_writes = log_writes;
    core->dmpa.config = &core->config, core->dmpa.l2 = l2;
    for (int c = 0; c < config->clusters; ++c) {
        Cluster& cluster = core->clusters[c];
        cluster.config = &core->config;
        cluster.l1 = l1 + size_t(c) * config->l1_words * WORD;
        cluster.wmem = wmem + size_t(c) * config->wmem_words * WORD;
        cluster.imem = imem + size_t(c) * config->imem_words * WORD;
    }
    return core;
}

void j3dai_destroy(void* core) { delete static_cast<Core*>(core); }
int32_t j3dai_run(void* core, uint64_t until, int asleep) { return static_cast<Core*>(core)->run(until, asleep); }
uint64_t j3dai_cycle(void* core) { return static_cast<Core*>(core)->cycle; }
uint32_t j3dai_read(void* core, uint32_t reg) {
    Core& of = *static_cast<Core*>(core);
    const uint32_t value = of.read(reg);
    if (of.sees) {
        SeenBus& record = of.seen.add<SeenBus>(of.cycle, 0);
        record.reg = reg, record.value = value;
    }
    return value;
}
void j3dai_frame(void* core) { static_cast<Core*>(core)->frame = true; }
void j3dai_status(void* core, Status* out) { static_cast<Core*>(core)->status(out); }

// Takes effect in the next cycle simulated.
void j3dai_write(void* core, uint32_t reg, uint32_t value) {
    Core& of = *static_cast<Core*>(core);
    of.write_reg = int32_t(reg), of.write_value = value;
    if (!of.sees) return;
    SeenBus& record = of.seen.add<SeenBus>(of.cycle, 0);
    record.write = 1, record.reg = reg, record.value = value;
}

// From now on what passes the boundaries between the blocks is kept: `j3dai_seen`, by number of the layout.
void j3dai_log_seen(void* core) { static_cast<Core*>(core)->log_seen(); }

const void* j3dai_seen(void* core, uint32_t number, uint64_t* count) {
    const Seen::Stream& stream = static_cast<Core*>(core)->seen.streams[number];
    *count = stream.count;
    return stream.items;
}

const void* j3dai_lists(void* core, uint64_t* count) {
    *count = static_cast<Core*>(core)->lists.count;
    return static_cast<Core*>(core)->lists.items;
}

const void* j3dai_writes(void* core, uint64_t* count) {
    *count = static_cast<Core*>(core)->writes.count;
    return static_cast<Core*>(core)->writes.items;
}

void j3dai_clear_writes(void* core) { static_cast<Core*>(core)->writes.count = 0; }

void j3dai_log_l1(void* core) {
    Core* const of = static_cast<Core*>(core);
    for (uint32_t c = 0; c < MAX_CLUSTERS; ++c) {
        L1Log& written = of->clusters[c].sequencer.drain.written;
        written.log = &of->l1_writes, written.cluster = c;
    }
}

const void* j3dai_l1_writes(void* core, uint64_t* count) {
    *count = static_cast<Core*>(core)->l1_writes.count;
    return static_cast<Core*>(core)->l1_writes.items;
}

void j3dai_clear_l1_writes(void* core) { static_cast<Core*>(core)->l1_writes.count = 0; }

const void* j3dai_changes(void* core, uint64_t* count) {
    *count = static_cast<Core*>(core)->changes.count;
    return static_cast<Core*>(core)->changes.items;
}

void j3dai_log_activity(void* core) { static_cast<Core*>(core)->log_activity(); }
void j3dai_transfers(void* core, uint32_t (*out)[TRANSFER_COUNTERS]) { static_cast<Core*>(core)->dmpa.transfers.settled(out); }
void j3dai_counters(void* core, uint32_t (*out)[COUNTERS]) { static_cast<Core*>(core)->settled(out); }
}
