// SPDX-License-Identifier: Apache-2.0
// The DMPA: list queue, descriptors, beats between L2 and the clusters. Cycle by cycle.
#pragma once

#include "iss_cluster.h"

constexpr uint32_t LISTS = 4;
constexpr uint32_t DESCRIPTOR = 32;  // bytes
constexpr uint32_t LINE = PES * WORD;
constexpr uint32_t PER_LINE = LINE / DESCRIPTOR;
constexpr uint32_t DESCRIPTOR_WORDS = DESCRIPTOR / WORD;
constexpr uint32_t L2_MASK = (1u << 20) - 1;
constexpr uint32_t BYTE_MASK = WORD * (L2_MASK + 1) - 1;  // byte addresses of GATHER wrap where word addresses do

struct DescriptorFields {
    int op = 0;
    bool end = false;
    uint8_t clusters = 0, wait_mask = 0, signal_mask = 0;
    int wait_semaphore = 0, signal_semaphore = 0;
    uint32_t l2 = 0, space = 0, local = 0, n0 = 0, n1 = 1, n2 = 1;
    int32_t l2_step1 = 0, local_step1 = 0, l2_step2 = 0, local_step2 = 0;
    uint32_t offset = 0, step = 0, used = 0, left = 0, length = 0, fill = 0;  // GATHER
    uint64_t words[4] = {};

    void decode(const uint64_t* w) {
        memcpy(words, w, sizeof words);
        op = int(get(w, Descriptor_op)), end = get(w, Descriptor_end);
        clusters = uint8_t(get(w, Descriptor_clusters));
        wait_mask = uint8_t(get(w, Descriptor_wait_mask)), wait_semaphore = int(get(w, Descriptor_wait_semaphore));
        signal_mask = uint8_t(get(w, Descriptor_signal_mask));
        signal_semaphore = int(get(w, Descriptor_signal_semaphore));
        l2 = uint32_t(get(w, Descriptor_l2)), n0 = uint32_t(get(w, Descriptor_n0));
        space = uint32_t(get(w, Descriptor_local)) >> 14, local = uint32_t(get(w, Descriptor_local)) & ADDRESS_MASK;
        n1 = uint32_t(get(w, Descriptor_n1)), n2 = uint32_t(get(w, Descriptor_n2));
        n1 = n1 ? n1 : 1, n2 = n2 ? n2 : 1;
        l2_step1 = int32_t(get(w, Descriptor_l2_step1)), local_step1 = int32_t(get(w, Descriptor_local_step1));
        l2_step2 = int32_t(get(w, Descriptor_l2_step2)), local_step2 = int32_t(get(w, Descriptor_local_step2));
        offset = uint32_t(get(w, Descriptor_offset)), step = uint32_t(get(w, Descriptor_step));
        used = uint32_t(get(w, Descriptor_used)), left = uint32_t(get(w, Descriptor_left));
        length = uint32_t(get(w, Descriptor_length)), fill = uint32_t(get(w, Descriptor_fill));
    }

    bool gathers() const { return op == DMPAOP_GATHER; }
    bool loads() const { return op == DMPAOP_LOAD || gathers(); }

    bool bad(int cluster_count) const {
        const bool load = loads(), store = op == DMPAOP_STORE;
        if (!load && !store) return op != DMPAOP_SYNC;
        if (gathers() && (offset >= WORD || !step || step > WORD || !used || used > WORD || left >= used || !length))
            return true;
        return !n0 || !clusters || clusters >> cluster_count || (load ? space == 3 : space != SPACE_L1);
    }
};

// Walk of one descriptor over its runs, beat by beat. GATHER: `l2`, `run_l2` and `plane_l2` are bytes, of the run's
// first byte; `done` words of the run have been moved.
struct BeatWalk {
    uint32_t done = 0;
    uint32_t l2 = 0, local = 0, run_l2 = 0, run_local = 0, plane_l2 = 0, plane_local = 0;
    uint32_t rest0 = 0, rest1 = 0, rest2 = 0;

    void load(const DescriptorFields& d) {
        done = 0;
        l2 = run_l2 = plane_l2 = d.gathers() ? (d.l2 * WORD + d.offset) & BYTE_MASK : d.l2, local = run_local = plane_local = d.local;
        rest0 = d.n0, rest1 = d.n1 - 1, rest2 = d.n2 - 1;
    }
    uint32_t count(uint32_t beat) const { return rest0 < beat ? rest0 : beat; }
    bool last(uint32_t beat) const { return rest0 <= beat && !rest1 && !rest2; }

    void step(const DescriptorFields& d, uint32_t beat) {
        if (rest0 > beat) {
            done += beat;
            // A run of words does not go on at 0 behind the end of the largest L2.
            rest0 -= beat, l2 = d.gathers() ? l2 : l2 + beat, local = (local + beat) & ADDRESS_MASK;
            return;
        }
        rest0 = d.n0, done = 0;
        if (rest1) {
            --rest1;
            run_l2 += uint32_t(d.l2_step1), run_local += uint32_t(d.local_step1);
        } else if (rest2) {
            --rest2, rest1 = d.n1 - 1;
            run_l2 = plane_l2 += uint32_t(d.l2_step2), run_local = plane_local += uint32_t(d.local_step2);
        }
        l2 = run_l2 &= d.gathers() ? BYTE_MASK : L2_MASK, local = run_local &= ADDRESS_MASK;
    }
};

// A beat on its way.
struct Beat {
    bool valid = false;
    uint8_t clusters = 0;
    uint32_t space = 0, l2 = 0, local = 0, count = 0, list = 0;
    uint8_t data[LINE] = {};  // also of the words that a short beat has not: they are logged
};

// What is told when a descriptor's last beat has landed.
struct Event {
    bool valid = false, end = false;
    uint8_t mask = 0;
    int semaphore = 0;
};

// One record of the log of L2's writes.
struct L2Write {
    uint64_t cycle;
    uint32_t list, address, mask, unused;
    uint8_t data[LINE];
};

struct Dmpa {
    const Config* config = nullptr;
    uint8_t* l2 = nullptr;
    bool trap = false;
    uint32_t lists_done = 0;
    Counters counters;
    TransferCounters transfers;
    Activity activity;
    Watched seen;
    SeenLevels levels;
    SeenAccount account;
    bool account_known = false;
    bool levels_known = false;
    // Queue and descriptor fetch.
    uint32_t places[LISTS] = {}, first = 0, queued = 0;
    bool active = false, on_port = false, arriving = false, buffered = false, next_valid = false;
    uint32_t line_addr = 0, slot = 0, list_index = UINT32_MAX, next_list = 0, next_addr = 0;
    uint64_t buffer[LINE / 8];
    DescriptorFields next, current;
    Semaphores outputs[MAX_CLUSTERS];
    // Issue.
    bool running = false;
    uint32_t current_list = 0, current_addr = 0;
    BeatWalk walk;
    uint64_t last_load = 0, last_store = 0;  // cycle of issue + 1; 0: never
    Beat loads[8], stores[8];  // rings by cycle of issue; a beat is valid until it has been written
    Event events[8];           // ring by cycle of completion
    uint64_t events_until = 0;
    const char* reason = "";

    bool empty() const { return !(active || queued || next_valid); }
    bool nothing() const { return empty() && !running; }
    bool in_flight(uint64_t cycle) const { return cycle <= events_until && events_until; }
    bool idle(uint64_t cycle) const { return nothing() && !in_flight(cycle); }

    // The STORE beat at the clusters' read inputs, or null.
    const Beat* reading(uint64_t cycle) const {
        const Beat& beat = stores[(cycle - STORE_TO_CLUSTER) & 7];
        return beat.valid ? &beat : nullptr;
    }

    uint8_t waiting() const {
        uint8_t mask = 0;
        for (int c = 0; c < config->clusters; ++c)
            if (next.wait_mask >> c & 1 && !outputs[c].value[next.wait_semaphore]) mask |= uint8_t(1 << c);
        return mask;
    }

    // Only a semaphore or the host can make it do anything more.
    bool stuck(uint64_t cycle) const {
        return trap || idle(cycle) || (next_valid && !running && waiting() && !in_flight(cycle));
    }

    // Nothing is under way, and nothing begins, until a semaphore or the host does something.
    bool quiet(uint64_t cycle) const {
        const bool fetching = on_port || arriving || ((active || queued) && !buffered);
        return !trap && !fetching && stuck(cycle);
    }

    void count_quiet(uint64_t cycle, uint32_t cycles, bool in_frame) {
        counters.count(!nothing() ? COUNTER_WAIT_DATA : in_frame ? COUNTER_WAIT_HOST : COUNTER_IDLE, cycles);
        TransferCounters::Cycle what;
        what.kind = kind(), what.wait_data = !nothing();
        transfers.count(what);
        if (seen) see_account(cycle, what);
        if (what.wait_data) transfers.value[what.kind][TRANSFERCOUNTER_WAIT_DATA] += cycles - 1;
        note(cycle, cycles - 1);
    }

    // Of the descriptor that runs, or waits to.
    int kind() const {
        const int op = running ? current.op : next.op;
        return op == DMPAOP_LOAD || op == DMPAOP_GATHER ? TRANSFER_LOAD : op == DMPAOP_STORE ? TRANSFER_STORE : TRANSFER_SYNC;
    }

    // What this cycle was counted as, and for which descriptor.
    void note(uint64_t cycle, uint32_t extra = 0) {
        if (!activity.log) return;
        uint32_t key = running ? KEY_SEQUENCING | current_addr << KEY_VALUE : uint32_t(counters.state);
        if (!running && counters.state == COUNTER_WAIT_DATA)
            key |= next_addr << KEY_VALUE | uint32_t(next.wait_semaphore) << KEY_SEMAPHORE;
        activity.note(cycle, key, 0, counters, extra);
    }

    // One cycle. `push`: address written to DMPA_PUSH, or -1; `drains`: bit c, a drain of cluster c writes when a LOAD
    // beat issued now would; `later_drains`: it uses L1 when a STORE beat would, and there is one port; `signal_out`: by
    // cluster. Gives what happens to the clusters' semaphores.
    Event step(uint64_t cycle, int64_t push, uint8_t drains, uint8_t later_drains, const uint8_t* signal_out,
               bool in_frame) {
        if (seen) see_levels(cycle);
        const Event event = take_event(cycle);
        const bool stop = trap;
        const bool wanted = (active || queued) && !buffered && !on_port && !arriving && !stop;
        const uint32_t fetch_addr = active ? line_addr : places[first];
        const bool bad_line = wanted && fetch_addr >= config->l2_words;
        const bool store_next = stores[(cycle + 1 - STORE_TO_L2) & 7].valid;
        const bool fetch = wanted && !bad_line && !store_next;

        const bool load = current.loads(), store = current.op == DMPAOP_STORE;
        const bool apart = store ? !(last_load && cycle < last_load - 1 + LOAD_TO_STORE)
                                 : !(last_store && cycle < last_store - 1 + STORE_TO_LOAD);
        const bool ordered = running && !stop && apart;
        const uint32_t count = walk.count(beat_words());
        const bool beyond = ordered && (load || store) && (current.gathers()
            ? uint64_t(walk.l2) + current.length > uint64_t(config->l2_words) * WORD : walk.l2 + count > config->l2_words);
        const bool blocked = current.clusters & drains, read_blocked = current.clusters & later_drains;
        const bool port_wait = ordered && ((load && (fetch || blocked)) || (store && read_blocked));
        const bool issue = ordered && !port_wait && !beyond;
        const bool finished = issue && (!(load || store) || walk.last(beat_words()));
        const bool turn = next_valid && (!running || finished) && !stop;
        const bool refuse = turn && next.bad(config->clusters);
        const uint8_t lacking = next_valid ? waiting() : 0;
        const bool take = turn && !refuse && !lacking;
        const bool no_line = bad_line && !next_valid && !running;

        count_cycle(issue && (load || store), port_wait, next_valid && !running && lacking, in_frame);
        TransferCounters::Cycle what;
        what.kind = kind(), what.beat = issue && (load || store), what.done = finished;
        what.words = count, what.copies = load ? uint32_t(__builtin_popcount(current.clusters)) : 1;
        what.wait_data = next_valid && !running && lacking && !stop, what.wait_turn = running && !stop && !apart;
        what.wait_port = port_wait, what.fetch = fetch, what.fetch_wait = wanted && !bad_line && store_next;
        transfers.count(what);
        if (seen) see_account(cycle, what);
        note(cycle);
        for (int c = 0; c < config->clusters; ++c) {
            const bool taken = take && next.wait_mask >> c & 1;
            if (signal_out[c] || taken) outputs[c].update(signal_out[c], taken ? next.wait_semaphore : -1);
        }
        if (issue) issue_beat(cycle, count, load, store, finished);
        if (finished) running = false;
        if (take && seen) {
            SeenDescriptor& record = seen.to->add<SeenDescriptor>(cycle, 0);
            record.address = next_addr, record.list = next_list;
            memcpy(record.fields, next.words, sizeof record.fields);
        }
        if (take) running = true, current = next, current_list = next_list, current_addr = next_addr, walk.load(next);
        if (event.end) ++lists_done;
        if (refuse) fail("descriptor's fields are not allowed");
        if (beyond) fail("transfer beyond the end of L2");
        if (no_line) fail("descriptor list beyond the end of L2");
        if (fetch && seen) see_list(cycle, fetch_addr);
        fetch_step(fetch, fetch_addr, take);
        push_step(stop ? -1 : push);
        return event;
    }

    // STORE beats read L1 (before this cycle's writes); called with the clusters' memories.
    void capture(uint64_t cycle, uint8_t* const* l1) {
        Beat& beat = stores[(cycle - STORE_TO_CLUSTER - 1) & 7];
        if (!beat.valid || !config->data) return;
        const uint8_t* from = l1[__builtin_ctz(beat.clusters)];
        for (uint32_t i = 0; i < beat.count; ++i)
            memcpy(beat.data + i * WORD, from + size_t((beat.local + i) & (config->l1_words - 1)) * WORD, WORD);
        if (seen)
            seen.to->lines<SeenStored>(cycle - STORE_TO_CLUSTER - 1, uint32_t(__builtin_ctz(beat.clusters)), beat.data,
                                       beat.count, [](SeenStored&) {});
    }

  private:
    bool popped = false;

    // Of the descriptor that runs.
    uint32_t beat_words() const {
        const uint32_t beat = uint32_t(config->beat_words);
        if (!current.gathers()) return beat;
        const uint32_t within = (LINE - 2 * WORD + 1) / current.step + 1;  // so many words lie in a line, wherever it begins
        return within < beat ? within : beat;
    }

    // A GATHER beat's words, byte by byte: position `at` of the run is byte `at` - left of what lies in L2.
    void gather(uint8_t* words, uint32_t count) const {
        for (uint32_t i = 0; i < count; ++i)
            for (uint32_t j = 0; j < WORD; ++j) {
                const int64_t at = int64_t(walk.done + i) * current.step + j - current.left;
                const bool inside = at >= 0 && at < int64_t(current.length);
                words[i * WORD + j] = j >= current.used ? 0 : inside ? l2[walk.l2 + at] : uint8_t(current.fill);
            }
    }

    void fail(const char* text) {
        if (!trap) reason = text;
        trap = true;
    }

    Event take_event(uint64_t cycle) {
        Event& slot = events[cycle & 7];
        const Event event = slot.valid ? slot : Event{};
        slot.valid = false;
        return event;
    }

    void count_cycle(bool busy, bool port, bool waits, bool in_frame) {
        counters.count(busy ? COUNTER_BUSY : trap ? COUNTER_IDLE : port ? COUNTER_WAIT_PORT : waits ? COUNTER_WAIT_DATA
                       : !nothing() ? COUNTER_CONTROL : in_frame ? COUNTER_WAIT_HOST : COUNTER_IDLE);
    }

    SEEING void see_levels(uint64_t cycle) {
        SeenLevels now{};
        now.cycle = cycle;
        now.flags = running | trap << 1 | idle(cycle) << 2 | (LISTS - queued) << 3;
        now.flags |= uint32_t(next_valid) << 6 | uint32_t(next_valid && !waiting()) << 7;
        for (int c = 0; c < config->clusters; ++c) memcpy(now.semaphores[c], outputs[c].value, SEMAPHORES);
        seen.to->level(cycle, 0, now, levels, levels_known);
    }

    SEEING void see_beat(uint64_t cycle, uint32_t count, bool load, bool store, bool last) const {
        SeenBeat& record = seen.to->add<SeenBeat>(cycle, 0);
        record.kind = load | store << 1 | last << 2, record.list = current_list;
        if (!load && !store) return;
        record.l2 = current.gathers() ? 0 : walk.l2, record.local = walk.local, record.mask = (1u << count) - 1;
    }

    SEEING void see_account(uint64_t cycle, const TransferCounters::Cycle& what) {
        SeenAccount now{};
        now.cycle = cycle;
        const bool own = what.beat || what.done || what.wait_data || what.wait_turn || what.wait_port;
        now.flags = (own ? uint32_t(what.kind) : 0) | what.beat << 2 | what.done << 3 | what.wait_data << 4;
        now.flags |= what.wait_turn << 5 | what.wait_port << 6 | what.fetch << 7 | what.fetch_wait << 8;
        now.words = what.beat ? what.words : 0, now.copies = what.beat && what.kind == TRANSFER_LOAD ? what.copies : 0;
        seen.to->level(cycle, 0, now, account, account_known);
    }

    SEEING void see_list(uint64_t cycle, uint32_t address) const {
        seen.to->lines<SeenListRead>(cycle, 0, l2 + size_t(address) * WORD, PES,
                                     [&](SeenListRead& record) { record.address = address; });
    }

    void issue_beat(uint64_t cycle, uint32_t count, bool load, bool store, bool finished) {
        if (seen) see_beat(cycle, count, load, store, finished);
        if (load && seen && !current.gathers())
            seen.to->lines<SeenL2Read>(cycle, 0, l2 + size_t(walk.l2) * WORD, count, [](SeenL2Read&) {});
        if (load || store) {
            Beat& beat = (load ? loads : stores)[cycle & 7];
            beat.valid = true, beat.clusters = current.clusters, beat.space = current.space, beat.l2 = walk.l2;
            beat.local = walk.local, beat.count = count, beat.list = current_list;
            if (load) {
                last_load = cycle + 1;
                const bool wanted = config->data || beat.space == SPACE_IMEM;
                if (wanted && current.gathers())
                    gather(beat.data, count);
                else if (wanted)
                    memcpy(beat.data, l2 + size_t(walk.l2) * WORD, size_t(count) * WORD);
            } else {
                last_store = cycle + 1;
            }
            walk.step(current, beat_words());
        }
        if (!finished) return;
        const uint64_t at = cycle + (store ? STORE_TO_SIGNAL : LOAD_TO_SIGNAL);
        events[at & 7] = {true, current.end, current.signal_mask, current.signal_semaphore};
        events_until = at;
    }

    void fetch_step(bool fetch, uint32_t fetch_addr, bool take) {
        const bool fill = buffered && (take || !next_valid), arrives = arriving;
        popped = fetch && !active;
        arriving = on_port, on_port = fetch;
        if (fetch) {
            memcpy(buffer, l2 + size_t(fetch_addr) * WORD, sizeof buffer);  // nothing writes L2 in the next cycle
            active = true, line_addr = fetch_addr + PES, slot = 0, list_index += popped;
        }
        if (arrives) buffered = true;
        if (take) next_valid = false;
        if (!fill) return;
        next.decode(buffer + DESCRIPTOR / 8 * slot);
        next_valid = true, next_list = list_index, next_addr = (line_addr - PES + DESCRIPTOR_WORDS * slot) & L2_MASK;
        if (next.end) active = buffered = false;
        else if (slot == PER_LINE - 1) buffered = false;
        slot = (slot + 1) % PER_LINE;
    }

    void push_step(int64_t push) {
        const uint32_t before = queued;
        if (popped) first = (first + 1) % LISTS, --queued;
        if (push < 0) return;
        if (before == LISTS) return fail("DMPA_PUSH to a full queue");
        if (push % PES || push >= int64_t(config->l2_words)) return fail("DMPA_PUSH of an address that is no line of L2");
        places[(first + queued) % LISTS] = uint32_t(push), ++queued;
    }
};
