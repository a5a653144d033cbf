# SPDX-License-Identifier: Apache-2.0
"""Data memory of a tile: eight single-port banks, and who gets them."""

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.counters import COUNTER_BITS
from nncosim.hdl.logic import pick, register
from nncosim.hdl.sram import Sram
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation
from nncosim.platforms.base import is_power_of_two

__all__ = ["PAIRS", "VECTOR_PORTS", "WORD_PORTS", "DataMemory"]

PAIRS = 4
"""Logical banks: two banks side by side."""
VECTOR_PORTS = 6
"""Load a, load b and store of the tile's own core; the same of its east neighbour's, whose west memory this is."""
WORD_PORTS = 4
"""The DMA channels."""
PORTS_PER_CORE = 3
LANE_BITS = 32
"""Of a word, what can be written by itself: the configuration's words are no longer."""
_CHOSEN = ("write", "row", "w_data", "w_mask")
_ORDER = (2, 0, 1)
"""Within a core: what it stores leaves its pipeline later than what it loads, so it comes first."""


@dataclass(frozen=True)
class _Access:
    """What is asked of a pair or of a bank, if anything is. Its data counts only if it writes."""

    valid: Value
    write: Value
    row: Value
    w_data: Value
    w_mask: Value


class DataMemory(wiring.Component):
    """Beat a lies in banks 2 (a // words) (its low half) and the one after it, row a % words; submodules bank0..bank7.

    A bank has one access a cycle, and a vector access takes both banks of its pair or waits. DMA words come first, in
    the order of their ports; then the cores: on each pair the core that was granted last comes second (after reset:
    east), and of a core's own ports the store comes before load a, load a before load b. Where words made a core wait
    in the cycle before, the pair is the cores' in this one: words take at most every second cycle from them.

    A channel with words in a row asks once in four cycles; one whose words lie apart may ask in every cycle, and leaves
    the channels behind it nothing on that bank while its buffer lasts. A core asks for nothing new before all it asks
    for is granted: an access waits at most 5 cycles for the other core and its own, and twice that and one more with
    words on its pair.

    Ports:
        vector (array of `VECTOR_PORTS`): valid, addr (beats: 2 bits + those of `words`), write, w_data (In);
            grant (Out): valid and done in this cycle, combinational from valid and addr of all ports; r_data
            (Out): what was read, in the cycle after the grant only.
        word (array of `WORD_PORTS`): the same with words of a bank, 128 bits (AIE-MLv2: 256); addr is 2 beat + half.
            w_mask (In): which 32 bits are written.
        urgent (In): what the first word port asks for is done in this cycle, whosever turn it is.
        clear (In), conflicts (Out, 3 of 32 bits): cycles since then in which a valid port of the own core, the east
            core, the channels was not granted; in the cycle of `clear` nothing is counted.

    Args:
        words: in each bank, a power of two; by default 64 KB in all.
    """

    vector: list[wiring.PureInterface]
    word: list[wiring.PureInterface]
    conflicts: list[Signal]

    def __init__(self, words: int | None = None, generation: Generation = AIE_ML):
        words = words or generation.beats // PAIRS
        assert is_power_of_two(words) and words > 1
        self.word_bits, self.lanes = generation.line_bits, generation.line_bits // LANE_BITS
        self.words = words
        self.row_bits = (words - 1).bit_length()
        vector, word = (wiring.Signature({
            "valid": In(1), "addr": In(self.row_bits + bits), "write": In(1), "w_data": In(width), **mask,
            "grant": Out(1), "r_data": Out(width),
        }) for bits, width, mask in ((2, 2 * self.word_bits, {}), (3, self.word_bits, {"w_mask": In(self.lanes)})))
        super().__init__({
            "vector": Out(vector).array(VECTOR_PORTS), "word": Out(word).array(WORD_PORTS),
            "urgent": In(1), "clear": In(1), "conflicts": Out(COUNTER_BITS).array(3),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        vector_goes: list[list[Value]] = [[] for _ in self.vector]  # on each pair
        word_goes: list[list[Value]] = [[] for _ in self.word]  # on each bank
        banks = []
        for pair in range(PAIRS):
            turn = Signal(name=f"cores_turn{pair}")
            asked = [self._words(m, 2 * pair + half, turn, word_goes) for half in range(2)]
            chosen = self._vectors(m, pair, ~(asked[0].valid | asked[1].valid), turn, vector_goes)
            banks += [self._bank(m, 2 * pair + half, asked[half], chosen, half) for half in range(2)]
        pairs = [Cat(banks[2 * pair: 2 * pair + 2]) for pair in range(PAIRS)]
        for number, port in enumerate(self.vector):
            self._answer(m, port, f"pair_of_{number}", self._pair_of(port), vector_goes[number], pairs)
        for number, port in enumerate(self.word):
            self._answer(m, port, f"bank_of_{number}", self._bank_of(port), word_goes[number], banks)
        self._count(m)
        return m

    def _pair_of(self, port: wiring.PureInterface) -> Value:
        return port.addr[-2:]

    def _bank_of(self, port: wiring.PureInterface) -> Value:
        return Cat(port.addr[0], self._pair_of(port))

    def _answer(self, m: Module, port: wiring.PureInterface, name: str, place: Value, goes: list[Value],
                read: Sequence[Value]) -> None:
        """Grant, and data from the bank or pair that was asked a cycle ago, whatever is asked for by then."""
        taken = register(place.shape(), name)
        with m.If(port.valid):
            m.d.sync += taken.eq(place)
        m.d.comb += [port.grant.eq(Cat(goes).any()), port.r_data.eq(pick(read, taken))]

    def _words(self, m: Module, bank: int, turn: Signal, goes: list[list[Value]]) -> _Access:
        """What the channels ask of a bank: it is done at once, unless it is the cores' turn."""
        asked = []
        for number, port in enumerate(self.word):
            may = ~turn | self.urgent if number == 0 else ~turn
            valid = port.valid & may & (self._bank_of(port) == bank)
            asked.append(_Access(valid, port.write, port.addr[1:-2], port.w_data, port.w_mask))
        return self._first(m, f"word{bank}", asked, goes)

    def _vectors(self, m: Module, pair: int, free: Value, turn: Signal, goes: list[list[Value]]) -> _Access:
        """What is done of what the cores ask of a pair: it is theirs if it is `free`, else in the next cycle."""
        cores, firsts = [], []
        for core, name in enumerate(("own", "east")):
            asked = []
            for number in _ORDER:
                port = self.vector[PORTS_PER_CORE * core + number]
                valid = port.valid & (self._pair_of(port) == pair)
                asked.append(_Access(valid, port.write, port.addr[:-2], port.w_data, self._all))
            first: list[list[Value]] = [[] for _ in asked]
            cores.append(self._first(m, f"{name}{pair}", asked, first))
            firsts.append(first)
        own, east = cores
        own_was_last, east_comes = Signal(name=f"own_was_last{pair}"), Signal(name=f"east_comes{pair}")
        valid = Signal(name=f"vector{pair}_valid")
        m.d.comb += [east_comes.eq(east.valid & (own_was_last | ~own.valid)), valid.eq(free & (own.valid | east.valid))]
        m.d.sync += turn.eq((own.valid | east.valid) & ~free)
        with m.If(valid):
            m.d.sync += own_was_last.eq(~east_comes)
        for core, comes in enumerate((~east_comes, east_comes)):
            for number, (first,) in zip(_ORDER, firsts[core], strict=True):
                goes[PORTS_PER_CORE * core + number].append(first & free & comes)
        return _Access(valid, Mux(east_comes, east.write, own.write), Mux(east_comes, east.row, own.row),
                       Mux(east_comes, east.w_data, own.w_data), self._all)

    @property
    def _all(self) -> Const:
        """All lanes of a word."""
        return Const((1 << self.lanes) - 1, self.lanes)

    def _first(self, m: Module, name: str, asked: Sequence[_Access], goes: list[list[Value]]) -> _Access:
        """The first valid one, as signals; to each one's list in `goes` is added whether it is that one."""
        chosen, before = asked[-1], Value.cast(0)
        for one in reversed(asked[:-1]):
            chosen = _Access(one.valid, *(Mux(one.valid, getattr(one, field), getattr(chosen, field))
                                          for field in _CHOSEN))
        for one, each in zip(asked, goes, strict=True):
            each.append(one.valid & ~before)
            before = before | one.valid
        out = {field: Signal.like(getattr(chosen, field), name=f"{name}_{field}") for field in ("valid", *_CHOSEN)}
        m.d.comb += [out["valid"].eq(before), *(out[field].eq(getattr(chosen, field)) for field in _CHOSEN)]
        return _Access(**out)

    def _bank(self, m: Module, number: int, word: _Access, vector: _Access, half: int) -> Value:
        """The macro, with the word that is asked for, or else its half of the vector. What it gives."""
        m.submodules[f"bank{number}"] = bank = Sram(self.words, self.word_bits, LANE_BITS, ports=1)
        write, valid = Mux(word.valid, word.write, vector.write), word.valid | vector.valid
        m.d.comb += [
            bank.addr.eq(Mux(word.valid, word.row, vector.row)), bank.r_en.eq(valid & ~write),
            bank.w_en.eq(Mux(valid & write, Mux(word.valid, word.w_mask, (1 << self.lanes) - 1), 0)),
            bank.w_data.eq(Mux(word.valid, word.w_data, vector.w_data.word_select(half, self.word_bits))),
        ]
        return bank.r_data

    def _count(self, m: Module) -> None:
        classes = (self.vector[:PORTS_PER_CORE], self.vector[PORTS_PER_CORE:], self.word)
        for ports, conflicts in zip(classes, self.conflicts, strict=True):
            with m.If(self.clear):
                m.d.sync += conflicts.eq(0)
            with m.Elif(Cat(port.valid & ~port.grant for port in ports).any()):
                m.d.sync += conflicts.eq(conflicts + 1)
