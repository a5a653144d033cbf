# SPDX-License-Identifier: Apache-2.0
"""The VLIW core: slots issue together, results come when `MANUAL.md` says, nothing interlocks."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.access import LoadPath, StorePath
from nncosim.hdl.aie_ml.agu import POINTER_BITS, AddressGenerators
from nncosim.hdl.aie_ml.fetch import Fetch
from nncosim.hdl.aie_ml.isa import (
    LATENCY,
    ControlOp,
    Instruction,
    LockOp,
    LockUse,
    Mac,
    MoveOp,
    MoveSet,
    Set,
    Srs,
    StoreOp,
)
from nncosim.hdl.aie_ml.neighbour import ToWest, neighbour_of
from nncosim.hdl.aie_ml.registers import PART_BITS, Accumulators, RegisterFile
from nncosim.hdl.aie_ml.srs import ShiftRoundSaturate
from nncosim.hdl.aie_ml.stream import Elastic
from nncosim.hdl.aie_ml.vmac import VectorMac
from nncosim.hdl.logic import delayed, register, view
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = ["CASCADE", "DRAIN_CYCLES", "MEMORY_PORTS", "Core"]

MEMORY_PORTS = 3
"""Load a, load b, store."""
CASCADE = stream.Signature(PART_BITS)
DRAIN_CYCLES = 8
"""Cycles after HALT in which what was issued before it ends."""


class Core(wiring.Component):
    """See `MANUAL.md`.

    Ports:
        start (In): begin at program counter 0; ignored while `busy` (Out) is high.
        issue (Out): an instruction is issued in this cycle; issued_pc (Out): its address.
        stalled (Out): the core waits for memory, a lock or a cascade; waits (Out, 3 bits): which of these.
        config_write (4: a mask of 32 bits), config_addr, config_data (In): into the program memory, while not busy.
        west (In), east (Out): cascades. lock_valid, lock, lock_op, lock_value (Out), lock_grant (In): of `Locks`.
        locks_set (In): a lock is written by the configuration; none is granted.
        request, addr (beats), grant, r_data (arrays of `MEMORY_PORTS`), w_data (of the store): of the own memory.
            west_memory (Out): `neighbour_of`.

    Args:
        instructions: That the program memory holds.
    """

    def __init__(self, instructions: int, generation: Generation = AIE_ML):
        self.instructions, self.generation, bits = instructions, generation, generation.beat_bits
        self.fetch = Fetch(instructions)
        super().__init__({
            "start": In(1), "busy": Out(1), "issue": Out(1), "issued_pc": Out(self.fetch.pc_bits), "stalled": Out(1),
            "config_write": In(4), "config_addr": In(self.fetch.pc_bits), "config_data": In(32),
            "waits": Out(3), "west": In(CASCADE), "east": Out(CASCADE), "lock_valid": Out(1), "lock": Out(4),
            "lock_op": Out(LockOp), "lock_value": Out(signed(7)), "lock_grant": In(1), "locks_set": In(1),
            "request": Out(1).array(MEMORY_PORTS), "addr": Out(POINTER_BITS).array(MEMORY_PORTS),
            "grant": In(1).array(MEMORY_PORTS), "r_data": In(bits).array(2), "w_data": Out(bits),
            "west_memory": Out(neighbour_of(generation)),
        })

    def elaborate(self, platform: object) -> Module:
        m, generation = Module(), self.generation
        m.submodules.fetch = fetch = self.fetch
        m.submodules.agus = agus = AddressGenerators()
        m.submodules.vectors = vectors = RegisterFile.vectors(generation)
        m.submodules.accumulators = accumulators = Accumulators(generation)
        m.submodules.load_a, m.submodules.load_b = loads = LoadPath(generation), LoadPath(generation)
        m.submodules.store, m.submodules.to_west = store, west = StorePath(generation), ToWest(generation)
        word = view(Instruction, fetch.instruction)
        m.d.comb += [
            fetch.write.eq(self.config_write), fetch.write_addr.eq(self.config_addr),
            fetch.write_data.eq(self.config_data.replicate(4)),
        ]
        advance = Signal(name="advance")
        m.d.comb += [
            self.waits[0].eq(loads[0].waiting | loads[1].waiting | store.waiting | west.waiting),
            self.stalled.eq(self.waits != 0), advance.eq(~self.stalled),
            self.issue.eq(fetch.valid & advance), self.issued_pc.eq(fetch.issued_pc),
        ]
        self._sequence(m, word, advance)
        self._cascade(m, word, accumulators, advance)
        self._lock(m, word, west, advance)
        self._west(m, west, loads, store, advance)
        self._pointers(m, agus, word)
        for number, (path, slot) in enumerate(zip(loads, (word.load_a, word.load_b), strict=True)):
            self._load(m, path, slot, agus.at[number], number, advance)
            m.d.comb += [
                vectors.write[number].eq(path.write & advance), vectors.write_to[number].eq(path.write_dest),
                vectors.write_data[number].eq(path.write_data),
            ]
        self._multiply(m, word, vectors, accumulators, advance)
        result = self._requantize(m, word, accumulators, advance)
        self._store(m, store, word, agus.at[2], vectors, result, advance)
        self._move(m, word, vectors, accumulators, result, advance)
        return m

    def _sequence(self, m: Module, word: data.View, advance: Signal) -> None:
        """Start, HALT, and the drain behind it, in which no start is taken."""
        begin = Signal(name="begin")
        left = Signal(range(DRAIN_CYCLES + 1), name="draining")
        halt = self.fetch.valid & (word.control.op == ControlOp.HALT)
        m.d.comb += [
            begin.eq(self.start & ~self.busy), self.fetch.start.eq(begin), self.fetch.advance.eq(advance),
            self.fetch.stop.eq(halt),
        ]
        with m.If(begin):
            m.d.sync += self.busy.eq(1)
        with m.If(advance):
            with m.If(halt):
                m.d.sync += left.eq(DRAIN_CYCLES)
            with m.Elif(left != 0):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 1):
                    m.d.sync += self.busy.eq(0)

    def _cascade(self, m: Module, word: data.View, accumulators: Accumulators, advance: Signal) -> None:
        """GET and PUT, with the buffers at this end of each cascade."""
        slot, parts = word.move, self.generation.acc_parts
        part = slot.half if parts == 2 else Cat(slot.half, slot.high)
        m.submodules.from_west, m.submodules.to_east = west, east = Elastic(PART_BITS), Elastic(PART_BITS)
        wiring.connect(m, wiring.flipped(self.west), west.i)
        wiring.connect(m, east.o, wiring.flipped(self.east))
        get, put = Signal(name="get"), Signal(name="put")
        m.d.comb += [
            get.eq(self.fetch.valid & (slot.op == MoveOp.GET)), put.eq(self.fetch.valid & (slot.op == MoveOp.PUT)),
            self.waits[2].eq((get & ~west.o.valid) | (put & ~east.i.ready)), west.o.ready.eq(get & advance),
            east.i.valid.eq(put & advance), east.i.payload.eq(accumulators.read_data[1].word_select(part, PART_BITS)),
        ]
        to_end = LATENCY["cascade_get"] - 1
        # A stage takes a word only where there is one: the others' flip-flops need not toggle.
        value, valid = west.o.payload, get
        for stage in range(1, to_end + 1):
            held, here = register(PART_BITS, f"got{stage}"), valid
            with m.If(advance & here):
                m.d.sync += held.eq(value)
            valid = delayed(m, advance, here, 1, f"get_valid{stage}_", reset=True)
            value = held
        m.d.comb += [
            accumulators.write[2].eq(advance & valid),
            accumulators.write_to[2].eq(delayed(m, advance, slot.dest, to_end, "get_dest")),
            accumulators.halves[2].eq(_one_of(parts, delayed(m, advance, part, to_end, "get_half"))),
            accumulators.write_data[2].eq(value.replicate(parts)),
        ]

    def _lock(self, m: Module, word: data.View, west: ToWest, advance: Signal) -> None:
        """ACQUIRE is asked for from registers, whatever else holds the core; what was got is kept until it is issued.
        RELEASE is asked for when nothing else holds the core, which does not look at the grant: as the first requester
        it gets it, and that of a lock in the west goes behind. So no path goes from the grants of memory through the
        locks back into the core."""
        op, use = word.control.op, view(LockUse, word.control.payload)
        acquire, release, got = Signal(name="acquire"), Signal(name="release"), Signal(name="got_lock")
        grant, lock_op = Signal(name="lock_granted"), Signal(LockOp, name="op")
        m.d.comb += [
            acquire.eq(self.fetch.valid & (op == ControlOp.ACQUIRE) & ~got),
            release.eq(self.fetch.valid & (op == ControlOp.RELEASE)),
            lock_op.eq(Mux(release, LockOp.RELEASE,
                           Mux(use.equal, LockOp.ACQUIRE_EQUAL, LockOp.ACQUIRE_AT_LEAST))),
            self.lock_valid.eq((acquire | (release & ~self.waits[0] & ~self.waits[2])) & ~use.west),
            grant.eq(Mux(use.west, west.lock_grant, self.lock_grant)),
            self.waits[1].eq((acquire & ~grant) | (release & Mux(use.west, ~west.lock_free, self.locks_set))),
            self.lock.eq(use.lock), self.lock_value.eq(use.value), self.lock_op.eq(lock_op),
            west.acquire.eq(acquire & use.west), west.release.eq(release & use.west),
            west.lock.eq(use.lock), west.lock_value.eq(use.value), west.lock_op.eq(lock_op),
        ]
        with m.If(advance):
            m.d.sync += got.eq(0)
        with m.Elif(acquire & grant):
            m.d.sync += got.eq(1)

    def _pointers(self, m: Module, agus: AddressGenerators, word: data.View) -> None:
        used = (word.load_a.valid, word.load_b.valid, word.store.op != StoreOp.NONE)
        for use, slot, valid in zip(agus.use, (word.load_a, word.load_b, word.store), used, strict=True):
            m.d.comb += [
                use.valid.eq(self.issue & valid), use.pointer.eq(slot.pointer), use.post.eq(slot.post),
                use.step.eq(slot.step),
            ]
        move, control = view(MoveSet, word.move.as_value()), view(Set, word.control.payload)
        sets = ((word.move.op == MoveOp.SET, move), (word.control.op == ControlOp.SET, control))
        for setting, (valid, given) in zip(agus.set, sets, strict=True):
            m.d.comb += [
                setting.valid.eq(self.issue & valid), setting.register.eq(given.register),
                setting.value.eq(given.value),
            ]

    def _load(self, m: Module, path: LoadPath, slot: data.View, at: Value, number: int, advance: Signal) -> None:
        m.d.comb += [
            path.valid.eq(self.fetch.valid & slot.valid), path.addr.eq(at), path.dest.eq(slot.vector),
            path.advance.eq(advance), self.request[number].eq(path.request), self.addr[number].eq(path.request_addr),
            path.grant.eq(self.grant[number]), path.data.eq(self.r_data[number]),
        ]

    def _west(
        self, m: Module, west: ToWest, loads: tuple[LoadPath, LoadPath], store: StorePath, advance: Signal
    ) -> None:
        """What the slots ask of the west neighbour's memory, and what comes back."""
        wiring.connect(m, west.link, wiring.flipped(self.west_memory))
        paths: tuple[LoadPath | StorePath, ...] = (*loads, store)
        m.d.comb += [
            west.goes.eq(Cat(path.goes_west for path in paths)), west.advance.eq(advance),
            *(addr.eq(path.west_addr) for addr, path in zip(west.addr, paths, strict=True)),
            west.w_data.eq(store.west_data),
        ]
        for number, path in enumerate(loads):
            m.d.comb += [path.came.eq(west.came[number]), path.came_data.eq(west.r_data[number])]

    def _multiply(
        self, m: Module, word: data.View, vectors: RegisterFile, accumulators: Accumulators, advance: Signal
    ) -> None:
        m.submodules.vmac = vmac = VectorMac(self.generation)
        slot, second = word.vector, vectors.read_data[1]
        if self.generation.wide_words:  # of a tile of half a vector, the half that is meant comes first
            b = Cat(Mux(slot.b_half, second[256:], second[:256]), second[256:])
        else:
            b = Cat(second, vectors.read_data[2])
        m.d.comb += [
            vectors.read[0].eq(slot.a), vectors.read[1].eq(slot.b), vectors.read[2].eq(slot.b + 1), vmac.en.eq(advance),
            vmac.op.eq(slot.op), vmac.a.eq(vectors.read_data[0]),
            vmac.b.eq(b), vmac.a_signed.eq(slot.a_signed),
            vmac.b_signed.eq(slot.b_signed), vmac.clear.eq(slot.clear),
        ]
        read = delayed(m, advance, slot.acc, LATENCY["mac_reads"], "mac_reads")
        to_end = LATENCY["mac"] - 1
        m.d.comb += [accumulators.read[0].eq(read), vmac.acc.eq(accumulators.read_data[0])]
        m.d.comb += [
            accumulators.write[0].eq(advance & delayed(m, advance, self.fetch.valid & (slot.op != Mac.NONE), to_end,
                                                       "mac_valid", reset=True)),
            accumulators.write_to[0].eq(delayed(m, advance, read, to_end - LATENCY["mac_reads"], "mac_writes")),
            accumulators.write_data[0].eq(vmac.result),
            accumulators.halves[0].eq((1 << self.generation.acc_parts) - 1),
        ]

    def _requantize(self, m: Module, word: data.View, accumulators: Accumulators, advance: Signal) -> Value:
        """One shift-round-saturate unit for the move and the store slot; its result, three cycles later."""
        m.submodules.srs = srs = ShiftRoundSaturate(self.generation)
        settings = register(20, "srs_settings")
        with m.If(self.issue & (word.control.op == ControlOp.SRS)):
            m.d.sync += settings.eq(word.control.payload)
        now = view(Srs, settings)
        stores = word.store.op == StoreOp.VST_SRS
        m.d.comb += [
            accumulators.read[1].eq(Mux(stores, word.store.source, word.move.source)), srs.en.eq(advance),
            srs.acc.eq(accumulators.read_data[1]), srs.form.eq(Mux(stores, word.store.form, word.move.form)),
            srs.half.eq(Mux(stores, word.store.half, word.move.half)), srs.shift.eq(now.shift),
            srs.rounding.eq(now.rounding), srs.saturation.eq(now.saturation), srs.signed.eq(now.signed),
        ]
        return srs.result

    def _store(
        self, m: Module, path: StorePath, word: data.View, at: Value, vectors: RegisterFile, result: Value,
        advance: Signal,
    ) -> None:
        slot = word.store
        m.d.comb += [
            vectors.read[4].eq(slot.source), path.plain.eq(vectors.read_data[4]),
            path.valid.eq(self.fetch.valid & (slot.op != StoreOp.NONE)), path.addr.eq(at),
            path.fused.eq(slot.op == StoreOp.VST_SRS), path.requantized.eq(result), path.advance.eq(advance),
            self.request[2].eq(path.request), self.addr[2].eq(path.request_addr), self.w_data.eq(path.request_data),
            path.grant.eq(self.grant[2]),
        ]

    def _move(
        self, m: Module, word: data.View, vectors: RegisterFile, accumulators: Accumulators, result: Value,
        advance: Signal,
    ) -> None:
        slot, generation, half = word.move, self.generation, self.generation.sums // 2
        m.d.comb += vectors.read[3].eq(slot.source)
        source, size = vectors.read_data[3], generation.beat_bytes
        greatest = register(generation.beat_bits, "max_result")
        words: list[Value] = [Mux(source[16 * k + 15], Const(0, 16), source[16 * k:16 * k + 16])
                              for k in range(size // 2)]
        bytes_: list[Value] = [Mux(source[8 * k + 7], Const(0, 8), source[8 * k:8 * k + 8]) for k in range(size)]
        narrow = Cat(source.word_select(4 * (lane // half) + lane % 4, 32) for lane in range(2 * half))
        wide = Cat(source.word_select(lane % 4, 64) for lane in range(half))
        bias = register(generation.acc_bits, "bias_now")
        with m.If(advance):
            m.d.sync += [
                greatest.eq(Mux(slot.wide, Cat(words), Cat(bytes_))), bias.eq(Mux(slot.wide, wide, narrow)),
            ]
        late = delayed(m, advance, bias, LATENCY["bias"] - 2, "bias_late")
        m.d.comb += accumulators.halves[1].eq((1 << generation.acc_parts) - 1)
        targets: dict[MoveOp, tuple[Accumulators | RegisterFile, int, Value]] = {
            MoveOp.BIAS: (accumulators, 1, late), MoveOp.SRS: (vectors, 2, result), MoveOp.MAX: (vectors, 3, greatest),
        }
        for op, (file, port, value) in targets.items():
            name = op.name.lower()
            to_end = LATENCY[name] - 1
            valid = delayed(m, advance, self.fetch.valid & (slot.op == op), to_end, f"{name}_valid", reset=True)
            m.d.comb += [
                file.write[port].eq(valid & advance), file.write_data[port].eq(value),
                file.write_to[port].eq(delayed(m, advance, slot.dest, to_end, f"{name}_dest")),
            ]


def _one_of(parts: int, number: Value) -> Value:
    """A bit for each part, of which that one is set."""
    return Mux(number, 2, 1) if parts == 2 else (Const(1, 1) << number)[:parts]
