# SPDX-License-Identifier: Apache-2.0
"""Pointers with three-dimensional post-increment."""

from amaranth.hdl import Array, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.isa import POINTERS, AguRegister, Post
from nncosim.hdl.logic import register

__all__ = ["COUNT_BITS", "POINTER_BITS", "SETS", "USES", "AddressGenerators"]

POINTER_BITS = 12
COUNT_BITS = 11
USES, SETS = 3, 2
"""Slots that use pointers in a cycle (two loads, a store), and slots that set their registers (move, control)."""

Use = data.StructLayout({"valid": 1, "pointer": 3, "post": 2, "step": signed(7)})
Setting = data.StructLayout({"valid": 1, "register": 6, "value": signed(16)})


class AddressGenerators(wiring.Component):
    """The pointers of a core. What a cycle does holds from the next on.

    Ports:
        use (In, one a slot): the pointer, and what becomes of it; `valid` only while the core advances.
        set (In, one a slot): an `AguRegister` of a pointer, and its value.
        at (Out, one a `use`): the pointer's value in this cycle, in beats.
    """

    use: list[data.View]
    set: list[data.View]

    def __init__(self) -> None:
        super().__init__({
            "use": In(Use).array(USES), "set": In(Setting).array(SETS), "at": Out(POINTER_BITS).array(USES),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pointers = Array(self._generator(m, number) for number in range(POINTERS))
        for slot in range(USES):
            m.d.comb += self.at[slot].eq(pointers[self.use[slot].pointer])
        return m

    def _generator(self, m: Module, number: int) -> Signal:
        at = Signal(POINTER_BITS, name=f"p{number}")
        inc, s1, s2 = (register(POINTER_BITS, f"p{number}_{name}") for name in ("inc", "s1", "s2"))
        n1, n2 = (register(COUNT_BITS, f"p{number}_{name}") for name in ("n1", "n2"))
        c1, c2 = (register(COUNT_BITS, f"p{number}_{name}") for name in ("c1", "c2"))
        change = Signal(POINTER_BITS, name=f"p{number}_change")
        walk = Signal(name=f"p{number}_walk")
        for use in self.use:
            with m.If(use.valid & (use.pointer == number)):
                with m.If(use.post == Post.ADD):
                    m.d.comb += change.eq(use.step)
                m.d.comb += walk.eq(use.post == Post.WALK)
        with m.If(walk):
            with m.If(c1 + 1 < n1):
                m.d.comb += change.eq(inc)
                m.d.sync += c1.eq(c1 + 1)
            with m.Else():
                m.d.sync += c1.eq(0)
                with m.If(c2 + 1 < n2):
                    m.d.comb += change.eq(s1)
                    m.d.sync += c2.eq(c2 + 1)
                with m.Else():
                    m.d.comb += change.eq(s2)
                    m.d.sync += c2.eq(0)
        m.d.sync += at.eq(at + change)
        self._sets(m, number, at, {
            AguRegister.INC: inc, AguRegister.N1: n1, AguRegister.S1: s1, AguRegister.N2: n2, AguRegister.S2: s2,
        }, (c1, c2))  # fmt: skip
        return at

    def _sets(
        self, m: Module, number: int, at: Signal, registers: dict[AguRegister, Signal], counters: tuple[Value, Value]
    ) -> None:
        for setting in self.set:
            with m.If(setting.valid & (setting.register[:3] == number)):
                with m.Switch(setting.register[3:]):
                    with m.Case(AguRegister.POINTER):
                        m.d.sync += [at.eq(setting.value), *(each.eq(0) for each in counters)]
                    for which, target in registers.items():
                        with m.Case(which):
                            m.d.sync += target.eq(setting.value)
