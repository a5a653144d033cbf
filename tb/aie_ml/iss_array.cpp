// SPDX-License-Identifier: Apache-2.0
// The array: tiles, cascades, streams and the shim, cycle by cycle. See iss_array.py, and hdl/aie_ml/MANUAL.md.
#include <memory>

#include "iss_core.h"
#include "iss_dma.h"
#include "iss_stream.h"

namespace {

constexpr int kMasters = 20, kLocal = 2, kShimIn = 6, kShimOut = 4;
constexpr int kNorth = 0, kSouth = 1, kWest = 2, kEast = 3;
// Of each side: the first master and slave, and how many masters.
constexpr int kMaster[4] = {2, 8, 12, 16}, kSlave[4] = {2, 6, 12, 16}, kOut[4] = {6, 4, 4, 4};

#pragma pack(push, 4)  // as numpy has it
struct ArrayStore { uint64_t cycle; uint32_t tile, beat; uint8_t data[32]; };
#pragma pack(pop)
struct Result { uint64_t cycle, stream, word, unused; };
struct State { uint64_t cycle, tile, state, pc; };
struct Feeder { std::vector<uint32_t> words; size_t at = 0; int fifo = -1; };

struct Node {
    std::unique_ptr<Core> core;
    Dma dma;
    bool used = false, started = false;
    uint32_t turn = 0;  // banks that are the core's in this cycle: words made it wait there in the one before
    int slave[20], state = -1;   // first buffer of each slave, or -1
    int master[kMasters];  // listens to that slave, or -1
};

class Array {
  public:
    std::vector<Node> nodes;
    std::vector<ArrayStore> stores;
    std::vector<Result> results;
    std::vector<State> states;
    std::vector<Problem> problems;
    uint64_t since = 0;

    Array(int columns, int rows, uint64_t seed) : columns_(columns), rows_(rows) {
        nodes.resize(static_cast<size_t>(columns * rows));
        for (size_t k = 0; k < nodes.size(); k++) {
            nodes[k].core = std::make_unique<Core>(seed + k);
            for (int& slave : nodes[k].slave) slave = -1;
            for (int& master : nodes[k].master) master = -1;
        }
        feeders_.resize(static_cast<size_t>(columns * kShimIn));
    }

    // A word of the configuration. Addresses as in nncosim.hdl.aie_ml.config.
    void write(int tile, uint32_t at, uint32_t word) {
        Node& node = nodes[static_cast<size_t>(tile)];
        uint32_t number = at >> 2 & 255;
        node.used = true;
        switch (at >> 10) {
            case CONFIG_LOCKS >> 10: node.core->locks.value[number & 15] = static_cast<int>(word & 63); break;
            case CONFIG_BDS >> 10: node.dma.configure(number, word); break;
            case CONFIG_STARTS >> 10: node.dma.start(static_cast<int>(number), static_cast<int>(word & 15)); break;
            case CONFIG_SWITCH >> 10:
                if (number < kMasters) node.master[number] = word >> 5 & 1 && (word & 31) < 20 ? word & 31 : -1;
                break;
            case CONFIG_CORE >> 10:
                if (word & 1) { node.core->start(); node.started = true; }
                break;
            default: break;
        }
    }

    void feed(int stream, const uint32_t* words, uint64_t count) {
        Feeder& feeder = feeders_[static_cast<size_t>(stream)];
        feeder.words.assign(words, words + count);
        feeder.at = 0;
    }

    // Circuits from the switches' settings; then until nothing moves any more.
    void begin(uint64_t settle) {
        if (!connected_) {
            connect();
            for (uint64_t k = 0; k < settle; k++) step(false);
            connected_ = true;
        }
        since = 0;
        stores.clear();
        results.clear();
        states.clear();
        for (Node& node : nodes) node.state = -1;
    }

    // Whether so many words of results came within `limit` cycles.
    bool run(uint64_t words, uint64_t limit) {
        while (since < limit && problems.empty()) {
            step(true);
            if (results.size() >= words) return true;
        }
        return false;
    }

  private:
    int columns_, rows_;
    bool connected_ = false;
    Streams streams_;
    std::vector<Feeder> feeders_;
    std::vector<std::pair<int, int>> outs_;  // (buffer, stream of the shim)

    int neighbour(int tile, int side) const {
        int column = tile / rows_, row = tile % rows_;
        if (side == kNorth) return row + 1 < rows_ ? tile + 1 : -1;
        if (side == kSouth) return row > 0 ? tile - 1 : -1;
        if (side == kWest) return column > 0 ? tile - rows_ : -1;
        return column + 1 < columns_ ? tile + rows_ : -1;
    }

    // The first buffer of a slave, with the hop to its second one. Heads' hops come later.
    int slave(int tile, int number) {
        Node& node = nodes[static_cast<size_t>(tile)];
        if (node.slave[number] < 0) {
            int first = streams_.add(), head = streams_.add();
            streams_.hops.push_back({first, {head}});
            node.slave[number] = first;
        }
        return node.slave[number];
    }

    void connect() {
        for (int tile = 0; tile < columns_ * rows_; tile++) {
            Node& node = nodes[static_cast<size_t>(tile)];
            std::vector<int> listeners[20];
            for (int number = 0; number < kMasters; number++)
                if (node.master[number] >= 0) listeners[node.master[number]].push_back(master(tile, number));
            for (int number = 0; number < 20; number++)
                if (!listeners[number].empty()) streams_.hops.push_back({slave(tile, number) + 1, listeners[number]});
            for (int channel = 0; channel < 2; channel++) {
                node.dma.out[channel] = streams_.add();
                streams_.hops.push_back({node.dma.out[channel], {slave(tile, channel)}});
            }
        }
        for (size_t stream = 0; stream < feeders_.size(); stream++) {
            Feeder& feeder = feeders_[stream];
            int tile = static_cast<int>(stream) / kShimIn * rows_, number = static_cast<int>(stream) % kShimIn;
            if (feeder.words.empty() && nodes[static_cast<size_t>(tile)].slave[kSlave[kSouth] + number] < 0) continue;
            feeder.fifo = streams_.add();
            streams_.hops.push_back({feeder.fifo, {slave(tile, kSlave[kSouth] + number)}});
        }
    }

    // The buffer of a master, with its link to the neighbour, the shim or the DMA.
    int master(int tile, int number) {
        int out = streams_.add();
        if (number < kLocal) {
            nodes[static_cast<size_t>(tile)].dma.in[number] = out;
            return out;
        }
        int link = streams_.add();
        streams_.hops.push_back({out, {link}});
        for (int side = 0; side < 4; side++) {
            int k = number - kMaster[side], other = neighbour(tile, side);
            if (k < 0 || k >= kOut[side]) continue;
            int opposite = side == kNorth ? kSouth : side == kSouth ? kNorth : side == kWest ? kEast : kWest;
            if (other >= 0) streams_.hops.push_back({link, {slave(other, kSlave[opposite] + k)}});
            else if (side == kSouth) outs_.push_back({link, tile / rows_ * kShimOut + k});
        }
        return out;
    }

    void step(bool counted) {
        for (Feeder& feeder : feeders_) {
            if (feeder.fifo < 0 || !counted || feeder.at >= feeder.words.size()) continue;
            Fifo& fifo = streams_.fifos[static_cast<size_t>(feeder.fifo)];
            if (fifo.room()) fifo.push(feeder.words[feeder.at++]);
        }
        for (auto& [buffer, stream] : outs_) {
            Fifo& fifo = streams_.fifos[static_cast<size_t>(buffer)];
            if (counted && fifo.valid()) results.push_back({since, static_cast<uint64_t>(stream), fifo.pop(), 0});
        }
        for (size_t k = 0; k < nodes.size(); k++)
            if (nodes[k].used) tile(k, counted);
        streams_.move();
        for (size_t k = 0; k < nodes.size(); k++) {
            if (!nodes[k].used) continue;
            int east = neighbour(static_cast<int>(k), kEast);
            if (east < 0) continue;
            Cascade& from = nodes[k].core->to_east;
            Cascade& to = nodes[static_cast<size_t>(east)].core->from_west;
            if (from.valid() && to.room()) to.push(from.pop());
        }
        for (Node& node : nodes) {
            node.core->to_east.settle();
            node.core->from_west.settle();
        }
        streams_.settle();
        since++;
    }

    // A tile's cycle: the DMA's words come first, bank by bank, unless it is the core's turn there; then the core's
    // beats, pair by pair.
    void tile(size_t number, bool counted) {
        Node& node = nodes[number];
        Core& core = *node.core;
        core.cycle = since;
        core.locks.served = false;
        node.dma.ask(streams_);
        uint32_t words = node.dma.access(core.memory.data(), node.turn), banks = words;
        node.turn = 0;
        int state = 0;
        uint64_t pc = 0;
        if (node.started) {
            core.begin();
            for (int port : {kStore, kLoadA, kLoadB}) {
                uint32_t pair = core.wants(port) ? 3u << (core.beat(port) / 512 % 4 * 2) : 0;
                if (pair && !(banks & pair)) core.grant(port);
                if (words & pair) node.turn |= pair;
                banks |= pair;
            }
            pc = static_cast<uint64_t>(core.pc());
            state = core.end();
            if (counted)
                for (const StoreRecord& each : core.stores) {
                    ArrayStore record{each.cycle, static_cast<uint32_t>(number), each.beat, {}};
                    std::memcpy(record.data, each.data, 32);
                    stores.push_back(record);
                }
            core.stores.clear();
            if (core.halted) node.started = false;
            for (const Problem& each : core.problems) problems.push_back(each);
            core.problems.clear();
        }
        node.dma.end(core.locks, streams_);
        if (counted && state != node.state) states.push_back({since, number, static_cast<uint64_t>(state), pc});
        node.state = state;
    }
};

}  // namespace

extern "C" {
Array* nncosim_aiearray_create(int columns, int rows, uint64_t seed) { return new Array(columns, rows, seed); }
void nncosim_aiearray_destroy(Array* a) { delete a; }
uint8_t* nncosim_aiearray_memory(Array* a, int tile) { return a->nodes[static_cast<size_t>(tile)].core->memory.data(); }
void nncosim_aiearray_program(Array* a, int tile, const uint8_t* data, uint64_t words) {
    a->nodes[static_cast<size_t>(tile)].core->load(data, words);
}
void nncosim_aiearray_write(Array* a, int tile, uint32_t at, uint32_t word) { a->write(tile, at, word); }
void nncosim_aiearray_feed(Array* a, int stream, const uint32_t* words, uint64_t n) { a->feed(stream, words, n); }
void nncosim_aiearray_begin(Array* a, uint64_t settle) { a->begin(settle); }
int nncosim_aiearray_run(Array* a, uint64_t words, uint64_t limit) { return a->run(words, limit); }
uint64_t nncosim_aiearray_cycle(Array* a) { return a->since; }
const ArrayStore* nncosim_aiearray_stores(Array* a, uint64_t* n) { *n = a->stores.size(); return a->stores.data(); }
const Result* nncosim_aiearray_results(Array* a, uint64_t* n) { *n = a->results.size(); return a->results.data(); }
const State* nncosim_aiearray_states(Array* a, uint64_t* n) { *n = a->states.size(); return a->states.data(); }
const Problem* nncosim_aiearray_problems(Array* a, uint64_t* n) { *n = a->problems.size(); return a->problems.data(); }
}
