// SPDX-License-Identifier: Apache-2.0
// The array: tiles, cascades, streams and the shim, cycle by cycle. See iss_array.py, and hdl/aie_ml/MANUAL.md.
#include <algorithm>
#include <array>

#include "iss_banks.h"
#include "iss_waits.h"

namespace {

constexpr int kShimIn = 6, kShimOut = 4;
constexpr size_t kAhead = 2;  // by so many tiles, memory is fetched into the host's cache
constexpr int kWaitsForLock = 3, kWaitsForCascade = 4, kFetches = 5;  // states of a core

#pragma pack(push, 4)  // as numpy has it
struct ArrayStore { uint64_t cycle; uint32_t tile, beat; uint8_t data[BEAT_BYTES]; };
#pragma pack(pop)
struct Result { uint64_t cycle, stream, word, unused; };
struct State { uint64_t cycle, tile, state, pc; };
struct LockFault { uint64_t cycle, node, lock, unused; };  // cycle: all ones before the first inference
struct Feeder { std::vector<StreamWord> words; size_t at = 0; int fifo = -1; };

// Nodes are numbered column by column, from the shim up.
class Array {
  public:
    std::vector<Node> nodes;
    std::vector<ArrayStore> stores;
    std::vector<Result> results;
    std::vector<State> states;
    std::vector<Problem> problems;
    std::vector<LockFault> lock_faults;
    uint64_t since = 0;
    Account account;     // of the moment when it was given
    bool quiet = false;  // nothing goes on any more, whatever time passes
    Seen seen;

    Array(int columns, int memory_rows, int rows, uint64_t seed)
        : columns_(columns), height_(memory_rows + rows), seed_(seed) {
        nodes.resize(static_cast<size_t>(columns * height_));
        for (int k = 0; k < columns * height_; k++) {
            int row = k % height_;
            if (row < memory_rows) at(k).ports = &kMemoryPorts;
            else at(k).number = k / height_ * rows + row - memory_rows;
        }
        streams_.awake.assign(nodes.size(), 1);
        feeders_.resize(static_cast<size_t>(columns * kShimIn));
    }

    // What is not used costs nothing: memories come when they are asked for.
    Core& core(int number) {
        Node& node = at(number);
        if (!node.core) node.core = std::make_unique<Core>(seed_ + static_cast<uint64_t>(node.number));
        return *node.core;
    }
    MemoryTile& memory_tile(int number) {
        Node& node = at(number);
        if (!node.memory) node.memory = std::make_unique<MemoryTile>(seed_ + static_cast<uint64_t>(number));
        return *node.memory;
    }
    uint8_t* data(int number) {
        return at(number).is_memory() ? memory_tile(number).data.data() : core(number).memory.data();
    }

    // The next word of the configuration, in the order of the bus. Addresses as in nncosim.hdl.aie_ml.config. What starts
    // something does so when the word is there, a cycle after the word before and later the farther it is; all else holds
    // from the first cycle on.
    void write(int number, uint32_t address, uint32_t word) {
        Node& node = at(number);
        if (!node.used) used_.push_back(number);
        node.used = true;
        uint64_t when = written_++ + static_cast<uint64_t>(number / height_ + number % height_);
        if (starts(node, address)) starts_.push_back({when, number, address, word});
        else set(number, address, word);
    }

    void set(int number, uint32_t address, uint32_t word) {
        Node& node = at(number);
        if (node.is_memory()) return write_memory_tile(number, address, word);
        Core& own = core(number);
        uint32_t place = address >> 2 & 255;
        switch (address >> 10) {
            case CONFIG_LOCKS >> 10: own.locks.value[place & 15] = static_cast<int>(word & 63); break;
            case CONFIG_BDS >> 10: node.dma.configure(place, word); break;
            case CONFIG_STARTS >> 10: node.dma.start(place, static_cast<int>(word & 15)); break;
            case CONFIG_SWITCH >> 10: listen(node, place, word); break;
            case CONFIG_CORE >> 10:
                // It takes no start while it is busy, which it was in the cycle before.
                if ((word & 1) && !node.started && !node.fetching && node.halts != seen.now) {
                    node.fetching = FETCH_CYCLES - 1;  // the next cycle is the one behind the start
                    node.ever = true;
                }
                break;
            default: break;
        }
    }

    void feed(int stream, const StreamWord* words, uint64_t count) {
        Feeder& feeder = feeders_[static_cast<size_t>(stream)];
        feeder.words.assign(words, words + count);
        feeder.at = 0;
    }

    // Circuits from the switches' settings; then until nothing moves any more.
    void begin(uint64_t settle) {
        if (!connected_) {
            connect();
            if (sees_) watch_all();
            auto sooner = [](const Start& one, const Start& other) { return one.when < other.when; };
            std::stable_sort(starts_.begin(), starts_.end(), sooner);
            if (!starts_.empty()) seen.now = first_start_ + starts_[0].when;
            for (size_t k = 0; k < starts_.size(); k++) {
                for (uint64_t now = starts_[k ? k - 1 : 0].when; now < starts_[k].when; now++) step(false);
                set(starts_[k].node, starts_[k].address, starts_[k].word);
                streams_.awake[static_cast<size_t>(starts_[k].node)] = 1;
            }
            for (uint64_t k = 0; k < settle && step(false); k++) {}
            connected_ = true;
            seen.now = first_inference_;
        } else if (sees_) {
            for (uint64_t k = 0; k < gap_; k++) step(false);
        }
        since = 0;
        quiet = false;
        stores.clear();
        results.clear();
        states.clear();
        for (Node& node : nodes) node.state = -1;
        streams_.awake.assign(nodes.size(), 1);
    }

    // Whether so many words of results came within `limit` cycles.
    bool run(uint64_t words, uint64_t limit) {
        while (since < limit && problems.empty() && lock_faults.empty() && !quiet) {
            quiet = !step(true);
            if (results.size() >= words) return true;
        }
        return false;
    }

    // From now on keep what passes the boundaries between the blocks. first_start: the cycle since reset in which a core
    // or a channel sees the first word of the configuration; first_inference: that of the first word of data; gap: cycles
    // between the inferences.
    void watch(uint64_t first_start, uint64_t first_inference, uint64_t gap) {
        sees_ = true;
        first_start_ = first_start, first_inference_ = first_inference, gap_ = gap;
    }

    void give_account() {
        account = {};
        for (int number : used_) {
            int west = neighbour(number, kWest);
            bool there = west >= 0 && at(west).core;
            account.add(number, at(number), streams_, west, there ? &at(west) : nullptr);
        }
        account.add(streams_);
    }

  private:
    struct Start { uint64_t when; int node; uint32_t address, word; };

    int columns_, height_;
    uint64_t seed_;
    uint64_t written_ = 0;
    bool connected_ = false, sees_ = false;
    uint64_t first_start_ = 0, first_inference_ = 0, gap_ = 0;
    std::vector<Start> starts_;
    Streams streams_;
    std::vector<int> used_, runs_;  // that are configured; with those whose memory another one uses
    std::vector<Feeder> feeders_;
    std::vector<std::pair<int, int>> outs_;      // (buffer, stream of the shim)
    std::vector<std::pair<int, int>> cascades_;  // from, to
    std::vector<std::pair<int, int>> links_;     // whose memory it is, who asks
    std::vector<std::array<const uint8_t*, 2>> coming_;  // of each node, what its core reads next
    std::vector<uint8_t> ran_;                   // of each node, in this cycle

    Node& at(int number) { return nodes[static_cast<size_t>(number)]; }

    int neighbour(int number, int side) const {
        int column = number / height_, row = number % height_;
        if (side == kNorth) return row + 1 < height_ ? number + 1 : -1;
        if (side == kSouth) return row > 0 ? number - 1 : -1;
        if (side == kWest) return column > 0 ? number - height_ : -1;
        return column + 1 < columns_ ? number + height_ : -1;
    }

    static bool starts(const Node& node, uint32_t address) {
        if (node.is_memory()) return address >> 6 == CONFIG_MEMORY_STARTS >> 6;
        return address >> 10 == CONFIG_STARTS >> 10 || address >> 10 == CONFIG_CORE >> 10;
    }

    void write_memory_tile(int number, uint32_t address, uint32_t word) {
        MemoryTile& tile = memory_tile(number);
        auto within = [&](uint32_t base, uint32_t words) { return address >= base && address < base + 4 * words; };
        if (within(CONFIG_MEMORY_LOCKS, 64))
            tile.locks.value[(address - CONFIG_MEMORY_LOCKS) >> 2] = static_cast<int>(word & 63);
        else if (within(CONFIG_MEMORY_BDS, 8 * MemoryFormat::descriptors))
            tile.dma.configure((address - CONFIG_MEMORY_BDS) >> 2, word);
        else if (within(CONFIG_MEMORY_STARTS, 2 * MemoryFormat::streams))
            tile.dma.start((address - CONFIG_MEMORY_STARTS) >> 2, static_cast<int>(word & 63));
        else if (within(CONFIG_MEMORY_SWITCH, 16))
            listen(at(number), (address - CONFIG_MEMORY_SWITCH) >> 2, word);
    }

    static void listen(Node& node, uint32_t master, uint32_t word) {
        bool listens = word >> 5 & 1 && static_cast<int>(word & 31) < node.ports->slaves;
        if (static_cast<int>(master) < node.ports->masters) node.master[master] = listens ? word & 31 : -1;
    }

    // The first buffer of a slave, with the way to its second one, its head. Whither that goes comes later.
    int slave(int number, int port) {
        int& first = at(number).slave[port];
        if (first < 0) {
            first = streams_.add(number, kSlaveFirst, port);
            streams_.join(first, {streams_.add(number, kSlaveHead, port)});
        }
        return first;
    }

    void connect() {
        std::sort(used_.begin(), used_.end());
        for (int number : used_) {
            Node& node = at(number);
            std::vector<int> listeners[kMostPorts];
            for (int port = 0; port < node.ports->masters; port++)
                if (node.master[port] >= 0) listeners[node.master[port]].push_back(master(number, port));
            for (int port = 0; port < node.ports->slaves; port++)
                if (!listeners[port].empty()) streams_.join(slave(number, port) + 1, listeners[port]);
            for (int channel = 0; channel < node.ports->local; channel++) {
                int out = streams_.add(number, kMm2s, channel);
                streams_.at(out).writer = number;
                streams_.join(out, {slave(number, channel)});
                (node.is_memory() ? node.memory->dma.out : node.dma.out)[channel] = out;
            }
            int east = node.core ? neighbour(number, kEast) : -1;
            if (east >= 0) {
                core(east);
                cascades_.push_back({number, east});
            }
        }
        runs_ = used_;
        for (int number : used_)
            if (at(number).core && !at(number).core->program().empty()) connect_west(number);
        std::sort(runs_.begin(), runs_.end());
        for (size_t stream = 0; stream < feeders_.size(); stream++) {
            int number = static_cast<int>(stream) / kShimIn * height_;
            int port = at(number).ports->slave[kSouth] + static_cast<int>(stream) % kShimIn;
            feeders_[stream].fifo = streams_.add(-1, kShim, static_cast<int>(stream));
            streams_.join(feeders_[stream].fifo, {slave(number, port)});
        }
        ran_.assign(nodes.size(), 0);
        coming_.assign(nodes.size(), {});
    }

    // A core's way to its west neighbour's memory and locks, which serve it whatever else that tile does.
    void connect_west(int number) {
        int west = neighbour(number, kWest);
        if (west < 0) return;
        West& link = at(number).core->accesses.west;
        core(west);
        at(west).east = &link;
        link.there = true;
        links_.push_back({west, number});
        if (!at(west).used) runs_.push_back(west);
    }

    // The buffer of a master, with its link to the neighbour, the shim or the DMA.
    int master(int number, int port) {
        Node& node = at(number);
        int out = streams_.add(number, kMaster, port);
        if (port < node.ports->local) {
            (node.is_memory() ? node.memory->dma.in : node.dma.in)[port] = out;
            streams_.at(out).reader = number;
            return out;
        }
        int link = streams_.add(number, kLink, port);
        streams_.join(out, {link});
        for (int side = 0; side < 4; side++) {
            int k = port - node.ports->master[side], other = neighbour(number, side);
            if (k < 0 || k >= node.ports->go[side]) continue;
            int opposite = side == kNorth ? kSouth : side == kSouth ? kNorth : side == kWest ? kEast : kWest;
            if (other >= 0) streams_.join(link, {slave(other, at(other).ports->slave[opposite] + k)});
            else if (side == kSouth) outs_.push_back({link, number / height_ * kShimOut + k});
        }
        return out;
    }

    void watch_all() {
        streams_.seen = &seen;
        for (size_t k = 0; k < nodes.size(); k++) {
            int number = static_cast<int>(k);
            Watched share{&seen, static_cast<uint32_t>(number / height_ << 4 | (number % height_ + 1))};
            streams_.units.push_back(share.unit);
            Node& node = nodes[k];
            if (node.core) node.core->seen = node.core->locks.seen = node.dma.seen = share;
            if (node.memory) node.memory->locks.seen = node.memory->dma.seen = share;
        }
    }

    // A part of an accumulator that has come from the west.
    SEEING void see_arrival(const Core& core) {
        core.see_cascade(kComes, core.from_west.word[core.from_west.count - 1]);
    }

    // A cycle. Whether anything changed; if not, nothing ever will.
    bool step(bool counted) {
        streams_.moved = false;
        for (Feeder& feeder : feeders_)
            if (counted && feeder.at < feeder.words.size() && streams_.room(feeder.fifo))
                streams_.put(feeder.fifo, feeder.words[feeder.at++]);
        for (auto& [buffer, stream] : outs_)
            if (counted && streams_.valid(buffer))
                results.push_back({since, static_cast<uint64_t>(stream), streams_.take(buffer), 0});
        bool changed = false;
        for (size_t i = 0; i < runs_.size(); i++) {
            int number = runs_[i];
            size_t k = static_cast<size_t>(number);
            if (i + kAhead < runs_.size())
                for (const uint8_t* place : coming_[static_cast<size_t>(runs_[i + kAhead])]) __builtin_prefetch(place);
            ran_[k] = streams_.awake[k];
            if (!ran_[k]) continue;
            bool again = at(number).is_memory() ? memory_cycle(number, counted) : tile(number, counted);
            streams_.awake[k] = again;
            changed |= again;
        }
        streams_.move();
        for (auto [west, east] : cascades_) {
            size_t one = static_cast<size_t>(west), other = static_cast<size_t>(east);
            if (!ran_[one] && !ran_[other]) continue;
            Cascade &from = nodes[one].core->to_east, &to = nodes[other].core->from_west;
            if (from.valid() && to.room()) {
                to.push(from.pop());
                if (sees_) see_arrival(*nodes[other].core);
                streams_.awake[one] = streams_.awake[other] = 1;
                changed = true;
            }
            from.settle();
            to.settle();
        }
        for (auto [west, asking] : links_) {
            size_t one = static_cast<size_t>(west), other = static_cast<size_t>(asking);
            West& link = nodes[other].core->accesses.west;
            if (!link.active() || !link.settle()) continue;
            streams_.awake[one] = streams_.awake[other] = 1;
            changed = true;
        }
        streams_.settle();
        since++;
        seen.now++;
        return changed || streams_.moved;
    }

    void note_fault(int number, Locks& locks, bool counted) {
        if (locks.fault < 0 || locks.told) return;
        locks.told = true;
        lock_faults.push_back({counted ? since : ~uint64_t{0}, static_cast<uint64_t>(number),
                               static_cast<uint64_t>(locks.fault), 0});
    }

    bool memory_cycle(int number, bool counted) {
        MemoryTile& own = *at(number).memory;
        own.locks.served = false;
        own.dma.ask(streams_);
        own.dma.access(own.data.data(), 0);
        bool changed = own.dma.end(own.locks, streams_);
        note_fault(number, own.locks, counted);
        return changed;
    }

    // A tile's cycle: the DMA's words come first, bank by bank, unless it is the cores' turn there; then the cores'
    // beats, pair by pair. Whether anything changed: if not, nothing does before its streams, its cascades or its
    // neighbours bring it.
    bool tile(int place, bool counted) {
        Node& node = at(place);
        Core& core = *node.core;
        core.cycle = since;
        core.locks.served = false;
        node.dma.ask(streams_);
        uint32_t words = node.dma.access(core.memory.data(), node.turn);
        node.turn = 0;
        int state = 0;
        uint64_t pc = 0;
        if (node.started) core.begin();
        grant_beats(node, words);
        if (node.started) {
            pc = static_cast<uint64_t>(core.pc());
            state = core.end();
            coming_[static_cast<size_t>(place)] = {core.coming(kLoadA), core.coming(kLoadB)};
            if (counted)
                for (const StoreRecord& each : core.stores) {
                    ArrayStore record{each.cycle, static_cast<uint32_t>(node.number), each.beat, {}};
                    std::memcpy(record.data, each.data, BEAT_BYTES);
                    stores.push_back(record);
                }
            core.stores.clear();
            if (core.halted) {
                node.started = false;
                node.halts = seen.now + 1;
            }
            for (const Problem& each : core.problems) problems.push_back(each);
            core.problems.clear();
        }
        if (node.fetching) {
            state = kFetches;
            if (--node.fetching == 0) {
                core.start();
                node.started = true;
            }
        }
        if (node.east) node.east->serve(core.locks);
        bool changed = node.dma.end(core.locks, streams_);
        note_fault(place, core.locks, counted);
        if (counted && node.used && state != node.state)
            states.push_back({since, static_cast<uint64_t>(node.number), static_cast<uint64_t>(state), pc});
        if (core.seen && state != node.seen_state) core.seen.add<SeenState>().state = static_cast<uint32_t>(state);
        node.state = node.seen_state = state;
        return changed || core.locks.served || (state && state != kWaitsForLock && state != kWaitsForCascade);
    }
};

}  // namespace

extern "C" {
Array* nncosim_aiearray_create(int columns, int memory_rows, int rows, uint64_t seed) {
    return new Array(columns, memory_rows, rows, seed);
}
void nncosim_aiearray_destroy(Array* a) { delete a; }
uint8_t* nncosim_aiearray_memory(Array* a, int node) { return a->data(node); }
void nncosim_aiearray_program(Array* a, int node, const uint8_t* data, uint64_t words) {
    a->core(node).load(data, words);
}
void nncosim_aiearray_write(Array* a, int node, uint32_t at, uint32_t word) { a->write(node, at, word); }
void nncosim_aiearray_feed(Array* a, int stream, const StreamWord* words, uint64_t n) { a->feed(stream, words, n); }
void nncosim_aiearray_begin(Array* a, uint64_t settle) { a->begin(settle); }
int nncosim_aiearray_run(Array* a, uint64_t words, uint64_t limit) { return a->run(words, limit); }
void nncosim_aiearray_account(Array* a) { a->give_account(); }
int nncosim_aiearray_quiet(Array* a) { return a->quiet; }
void nncosim_aiearray_watch(Array* a, uint64_t start, uint64_t first, uint64_t gap) { a->watch(start, first, gap); }
const uint8_t* nncosim_aiearray_seen(Array* a, uint32_t number, uint64_t* n) {
    *n = a->seen.streams[number].count;
    return a->seen.streams[number].items;
}
uint64_t nncosim_aiearray_cycle(Array* a) { return a->since; }
#define LIST(name, type, list) \
    const type* nncosim_aiearray_##name(Array* a, uint64_t* n) { *n = (list).size(); return (list).data(); }
LIST(stores, ArrayStore, a->stores)
LIST(results, Result, a->results)
LIST(states, State, a->states)
LIST(problems, Problem, a->problems)
LIST(lock_faults, LockFault, a->lock_faults)
LIST(waits, Wait, a->account.waits)
LIST(givers, Giver, a->account.givers)
LIST(buffers, Buffer, a->account.buffers)
LIST(ways, Way, a->account.ways)
}
