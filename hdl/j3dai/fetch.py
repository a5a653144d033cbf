# SPDX-License-Identifier: Apache-2.0
"""Window fetch: walks AGU A, issues the read phases of each window, finds the words that are padding."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.isa import COUNT_BITS, AddB, Agu, Opcode, SetB, SetD, SetI
from nncosim.hdl.logic import view
from nncosim.hdl.odometer import Odometer
from nncosim.platforms.j3dai import J3dai

__all__ = ["ADDRESS_BITS", "COORDINATE_BITS", "WindowFetch", "base_command", "dim_command"]

ADDRESS_BITS = 14
COORDINATE_BITS = 13

def base_command(m: Module, odometer: Odometer, ir: Signal, executes: Signal, agu: Agu) -> None:
    """Connect SETB and ADDB of `agu` in instruction register `ir`; `executes` has one bit per opcode."""
    fields, added = view(SetB, ir), view(AddB, ir)
    add = executes[Opcode.ADDB]
    wide = {"a": ADDRESS_BITS, "x": COORDINATE_BITS, "y": COORDINATE_BITS}
    at_set = {"a": fields.base, "x": fields.x, "y": fields.y}
    at_add = {"a": added.step, "x": added.xstep, "y": added.ystep}
    m.d.comb += [
        odometer.base_we.eq((executes[Opcode.SETB] & (fields.agu == agu)) | (add & (added.agu == agu))),
        odometer.base_add.eq(add), odometer.base_rewind.eq(~add & fields.rewind),
    ]
    for name in odometer.coordinates:
        value = Signal(wide[name], name=f"{agu.name.lower()}_base_{name}")
        m.d.comb += [value.eq(Mux(add, at_add[name], at_set[name])), getattr(odometer, f"base_{name}").eq(value)]


def dim_command(m: Module, odometer: Odometer, ir: Signal, executes: Signal, agu: Agu) -> None:
    """Connect SETD of `agu`."""
    fields = view(SetD, ir)
    steps = {"a": fields.step, "x": fields.xstep, "y": fields.ystep}
    m.d.comb += odometer.dim_count.eq(fields.count)
    for d in range(odometer.dims):
        m.d.comb += odometer.dim_we[d].eq(executes[Opcode.SETD] & (fields.agu == agu) & (fields.dim == d))
    for name in odometer.coordinates:
        m.d.comb += getattr(odometer, f"dim_step_{name}").eq(steps[name])


class WindowFetch(wiring.Component):
    """Issues window reads for the jobs of a MAC; one window ahead of the micro-operations.

    Ports:
        ir, executes: instruction register and what executes, one bit per opcode (SETB, ADDB, SETD, SETI).
        start (In): begin; repeat (In, 16): jobs less one; outer (In): `advance`, held during the MAC.
        take (In): the first micro-operation of the staged window is issued in this cycle. hold (In): do not fetch.
        blocked (In): L1's read port is taken in this cycle.
        staged (Out): a window is fetched and not taken; staged_last (Out): it is its job's last.
        wants (Out): there is a phase to issue; go (Out): it is issued; address (Out, 14) with it.
        Two cycles after `go`, when the words are at L1's outputs: words2 (Out, a bit a PE): the words of the window
        that this phase brings; spread2, single2 (Out): word p is the one 2p modulo the PEs, or 0, after `address`, and
        otherwise p; padded2 (Out, a bit a PE): the words that are padding; pad (Out, 9).
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        pes = platform.pes_per_ncb
        super().__init__({
            "ir": In(64), "executes": In(32), "start": In(1), "repeat": In(16), "outer": In(1),
            "take": In(1), "hold": In(1), "blocked": In(1),
            "staged": Out(1), "staged_last": Out(1), "wants": Out(1), "go": Out(1), "address": Out(ADDRESS_BITS),
            "words2": Out(pes), "spread2": Out(1), "single2": Out(1), "padded2": Out(pes), "pad": Out(9),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        coordinates = {"a": ADDRESS_BITS, "x": COORDINATE_BITS, "y": COORDINATE_BITS}
        self._agu = m.submodules.agu = Odometer(6, 3, coordinates, {"a": 14, "x": 8, "y": 8}, COUNT_BITS)
        base_command(m, self._agu, self.ir, self.executes, Agu.A)
        dim_command(m, self._agu, self.ir, self.executes, Agu.A)
        settings = self._settings(m)
        phase = self._phases(m, settings)
        self._padding(m, settings, phase)
        return m

    def _settings(self, m: Module) -> Signal:
        settings = Signal(SetI)
        # what a pstride of 0 means, as after reset
        self._spread, self._single = Signal(name="spread"), Signal(init=1, name="single")
        fields = view(SetI, self.ir)
        with m.If(self.executes[Opcode.SETI]):
            m.d.sync += [
                settings.eq(fields),
                self._spread.eq(fields.pstride == 2), self._single.eq((fields.pstride != 1) & (fields.pstride != 2)),
            ]
        m.d.comb += self.pad.eq(settings.pad)
        return settings

    def _phases(self, m: Module, settings: Signal) -> Signal:
        """Stage 0: which phase of which window; keeps `staged` and the number of jobs."""
        pes = self.platform.pes_per_ncb
        running, jobs, phase = Signal(name="running"), Signal(16, name="jobs"), Signal(range(pes), name="phase")
        next_address = Signal(ADDRESS_BITS)
        last_phase, done = Signal(name="last_phase"), Signal(name="done")
        m.d.comb += [
            self.wants.eq(running & ~self.hold & (~self.staged | self.take)),
            self.go.eq(self.wants & ~self.blocked),
            last_phase.eq(phase == Mux(self._single, pes - 1, self._spread)),
            done.eq(self.go & last_phase),
            self.address.eq(Mux(phase == 0, self._agu.at_a, next_address)),
            self._agu.advance.eq(done), self._agu.outer.eq(self.outer),
        ]
        with m.If(self.take):
            m.d.sync += self.staged.eq(0)
        with m.If(self.go):
            m.d.sync += [
                phase.eq(Mux(last_phase, 0, phase + 1)),
                next_address.eq(self.address + Mux(self._spread, pes, settings.pstride)),
            ]
        with m.If(done):
            m.d.sync += [self.staged.eq(1), self.staged_last.eq(self._agu.inner_last)]
            with m.If(self._agu.inner_last):
                m.d.sync += [jobs.eq(jobs - 1), running.eq(jobs != 0)]
        with m.If(self.start):
            m.d.sync += [running.eq(1), jobs.eq(self.repeat)]
        return phase

    def _padding(self, m: Module, settings: Signal, phase: Signal) -> None:
        """Stages 1 and 2: the x of each word, whether it lies in the map."""
        y_outside = Signal()
        pes = self.platform.pes_per_ncb
        phase_1, go_1 = Signal(range(pes), name="phase_1"), Signal(name="go_1")
        m.d.sync += [phase_1.eq(phase), go_1.eq(self.go), y_outside.eq(self._agu.at_y >= settings.height)]
        for p in range(pes):
            offset = Signal(COORDINATE_BITS, name=f"x_offset{p}")
            x_1 = Signal(COORDINATE_BITS, name=f"x{p}_1")
            m.d.sync += [offset.eq(settings.xpstep * p), x_1.eq(self._agu.at_x + offset)]
            # A negative coordinate is a large unsigned one, so one comparison does for both ends.
            m.d.sync += self.padded2[p].eq(y_outside | (x_1 >= settings.width))
        half = Cat(phase_1 == 0, phase_1 == 1)
        for p in range(pes):
            chosen = Mux(self._single, phase_1 == p, Mux(self._spread, half[p // (pes // 2)], 1))
            m.d.sync += self.words2[p].eq(go_1 & chosen)
        m.d.sync += [self.spread2.eq(self._spread), self.single2.eq(self._single)]
