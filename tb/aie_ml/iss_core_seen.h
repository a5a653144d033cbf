// SPDX-License-Identifier: Apache-2.0
// Of a core: its records, in the cycle in which the RTL has them at its boundaries. Members of Core.

    Vec requantized(const Acc& acc, int form, int half) {
        Vec out = requantize(acc, form, half, srs_);
        if (seen) requantized_[at(kSrsCycles)] = out, requantizes_[at(kSrsCycles)] = true;
        return out;
    }

    SEEING void see_requantized() {
        if (!requantizes_[at(0)]) return;
        requantizes_[at(0)] = false;
        std::memcpy(seen.add<SeenRequantized>().data, requantized_[at(0)].byte, BEAT_BYTES);
    }

    SEEING void see_issue(const Op& o) const {
        SeenIssue& record = seen.add<SeenIssue>();
        record.pc = static_cast<uint32_t>(pc_);
        std::memcpy(record.instruction, &o.word, 16);
        if (!o.load[0].valid && !o.load[1].valid && !o.store.valid) return;
        SeenAddress& address = seen.add<SeenAddress>();
        auto given = [&](const Access& access) {
            return static_cast<uint16_t>(access.valid ? pointers_[access.pointer].at : 0);
        };
        address.used = static_cast<uint16_t>(o.load[0].valid | o.load[1].valid << 1 | o.store.valid << 2);
        address.load_a = given(o.load[0]);
        address.load_b = given(o.load[1]);
        address.store = given(o.store);
    }

    SEEING void see_load(int slot, int beat, const uint8_t* bytes) const {
        SeenLoad& record = seen.add<SeenLoad>();
        record.slot = static_cast<uint32_t>(slot), record.beat = static_cast<uint32_t>(beat);
        std::memcpy(record.data, bytes, BEAT_BYTES);
    }

    SEEING void see_store(int beat, const Vec& data) const {
        SeenStore& record = seen.add<SeenStore>();
        record.beat = static_cast<uint32_t>(beat);
        std::memcpy(record.data, data.byte, BEAT_BYTES);
        seen.write_beat(beat, data.byte);
    }

    // What goes to the west neighbour in this cycle.
    SEEING void see_west() {
        const Group* group = accesses.sent();
        if (!group) return;
        SeenWest& record = seen.add<SeenWest>();
        for (int port = 0; port < 3; port++)
            if (group->wanted[port]) {
                record.asks |= 1u << port;
                record.beats[port] = static_cast<uint16_t>(group->beat[port]);
            }
        if (group->wanted[kStore]) std::memcpy(record.data, group->data.byte, BEAT_BYTES);
    }

    // Registers are written at the end of the cycle before.
    SEEING void see_vector(const VecWrite& write) const {
        SeenVector& record = seen.add<SeenVector>(-1);
        record.port = static_cast<uint32_t>(write.port), record.reg = static_cast<uint32_t>(write.reg);
        std::memcpy(record.data, write.value.byte, BEAT_BYTES);
    }

    SEEING void see_accumulator(int reg, int parts, int port, const Acc& value) const {
        for (int part = 0; part < kParts; part++) {
            if (!(parts >> part & 1)) continue;
            SeenAccumulator& record = seen.add<SeenAccumulator>(-1);
            record.port = static_cast<uint16_t>(port), record.part = static_cast<uint16_t>(part);
            record.reg = static_cast<uint32_t>(reg);
            std::memcpy(record.data, &value.lane[kPartLanes * part], sizeof(Part));
        }
    }
