# SPDX-License-Identifier: Apache-2.0
"""Cluster programs: from a plan's steps to instructions, with the events that the transfer order is made from.

Code is made step by step without loops; `fold` then makes hardware loops of equal neighbouring pieces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nncosim.compiler.j3dai.fold import Instr, Unit
from nncosim.compiler.j3dai.plan import Plan, Region, TileStep, WeightMode, jobs_of
from nncosim.compiler.j3dai.semaphores import ToCluster, ToDmpa
from nncosim.compiler.tiling.chunks import Chunk
from nncosim.compiler.tiling.tiles import Tile
from nncosim.hdl.j3dai.isa import Agu, Drain, MacOp
from nncosim.hdl.j3dai.timing import CONTROLLER_CYCLES
from nncosim.kernels.j3dai.common import fetch_cycles, job_cycles
from nncosim.kernels.j3dai.nest import Nest
from nncosim.platforms.j3dai import J3dai

__all__ = ["ClusterCode", "TileEmitter", "cluster_code", "weight_loads"]

_MAC_START = 4  # cycles from MAC to its first micro-operation, about
_WRAP = 1 << 14


@dataclass
class ClusterCode:
    """Code of one cluster as units in execution order, and what it makes the DMPA wait for.

    events: ("wait", semaphore), ("signal", semaphore) or ("run", cycles), in order.
    """

    units: list[Unit] = field(default_factory=list)
    events: list[tuple[str, int]] = field(default_factory=list)
    _unit: list[Instr] = field(default_factory=list)
    _last: dict[object, Instr] = field(default_factory=dict)

    def add(self, method: str, **fields: object) -> None:
        self._unit.append(Instr(method, tuple(fields.items())))
        self._spend(CONTROLLER_CYCLES)

    def set(self, key: object, method: str, **fields: object) -> None:
        """Like `add`, but only if the register does not hold these values already."""
        instr = Instr(method, tuple(fields.items()))
        if self._last.get(key) != instr:
            self._last[key] = instr
            self._unit.append(instr)
            self._spend(CONTROLLER_CYCLES)

    def wait(self, semaphore: ToCluster) -> None:
        self.add("wait", semaphore=semaphore)
        self.events.append(("wait", semaphore))

    def signal(self, semaphore: ToDmpa) -> None:
        self.add("signal", semaphore=semaphore)
        self.events.append(("signal", semaphore))

    def run(self, cycles: int) -> None:
        self._spend(cycles + _MAC_START)

    def _spend(self, cycles: int) -> None:
        if self.events and self.events[-1][0] == "run":
            self.events[-1] = ("run", self.events[-1][1] + cycles)
        else:
            self.events.append(("run", cycles))

    def close(self) -> None:
        """End of a unit: the smallest piece that may become a loop's body."""
        if self._unit:
            self.units.append(tuple(self._unit))
            self._unit = []


class TileEmitter:
    """Emits the jobs of one nest on tiles in L1. Registers keep their values, so only changes are emitted.

    Several may share a `ClusterCode`, one for each nest of a fused group. `gates`: what comes right before the next
    MAC, after all that can be set up meanwhile: semaphores to wait for, and None for a FENCE.
    """

    def __init__(self, code: ClusterCode, nest: Nest, platform: J3dai):
        self.code, self.nest, self.platform = code, nest, platform
        self.pes = platform.pes_per_ncb
        self.gates: list[ToCluster | None] = []
        self.pset = 0
        self.base, self.x, self.y = 0, 0, 0

    def maps(
        self, tile: Tile, b0: int, blocks: int, base: int, *, apart: int | None = None, whole: bool = True
    ) -> None:
        """AGU A and the window for output blocks b0.. of a tile.

        Args:
            base: word address in L1 of the tile's input rectangle.
            apart: words from the first to the second operand of a pair; None: one lies behind the other.
            whole: a job reads all its windows in one go (else `_inner` is set for each piece).
        """
        nest, code = self.nest, self.code
        width, height = tile.width, tile.height
        if nest.upsample != (1, 1):
            width, height = width * height, 1  # a tile of whole rows is walked as one row
        sy, sx = nest.stride
        dy, dx = nest.dilation
        spread = 0 if nest.upsample[1] > 2 else sx
        code.set("i", "seti", width=width, height=height, pstride=spread, xpstep=spread, pad=nest.pad_value)
        kh, kw = nest.kernel
        if whole:
            self._inner(kw, dx, kh, dy, 1 if nest.depthwise else nest.reads[b0][1], tile.width, tile.height)
        self._outer(tile, blocks, apart)
        x = tile.x0 * sx - nest.pads[1] - tile.ix0
        y = tile.y0 * sy - nest.pads[0] - tile.iy0
        self.base, self.x, self.y = base + y * tile.width + x, x, y
        code.add("setb", agu=Agu.A, base=self.base % _WRAP, x=x, y=y, rewind=1)

    def _dim(self, agu: Agu, dim: int, count: int = 1, step: int = 0, xstep: int = 0, ystep: int = 0) -> None:
        if count <= 1:
            count, step, xstep, ystep = 1, 0, 0, 0
        self.code.set((agu, dim), "setd", agu=agu, dim=dim, count=count, step=step, xstep=xstep, ystep=ystep)

    def _inner(self, columns: int, dx: int, rows: int, dy: int, blocks: int, width: int, height: int) -> None:
        self._dim(Agu.A, 0, columns, dx, dx, 0)
        self._dim(Agu.A, 1, rows, dy * width, 0, dy)
        self._dim(Agu.A, 2, blocks, width * height)

    def _outer(self, tile: Tile, blocks: int, apart: int | None) -> None:
        """Dimensions 3 to 5: one step a job."""
        nest, pes = self.nest, self.pes
        plane = tile.width * tile.height
        each = blocks if nest.depthwise else 1
        if nest.upsample != (1, 1):
            repeats = nest.upsample[1] if nest.upsample[1] <= 2 else -(-nest.upsample[1] // pes)
            pixels = pes if nest.upsample[1] <= 2 else 1
            self._dim(Agu.A, 3, repeats)
            self._dim(Agu.A, 4, -(-plane // pixels), pixels, pixels)
            self._dim(Agu.A, 5, each, plane)
            return
        sy, sx = nest.stride
        groups = -(-tile.columns // pes)
        if nest.pair:
            self._dim(Agu.A, 3, 2, plane * each if apart is None else apart)
            self._dim(Agu.A, 4, groups, pes, pes)
        else:
            self._dim(Agu.A, 3, groups, pes * sx, pes * sx)
            self._dim(Agu.A, 4, tile.rows, sy * tile.width, 0, sy)
        self._dim(Agu.A, 5, each, plane)

    def outputs(self, tile: Tile, blocks: int, base: int) -> None:
        """AGU O for the results of `blocks` blocks of a tile, packed from word address `base` of L1 on."""
        nest, code, pes = self.nest, self.code, self.pes
        factor = nest.upsample[1]
        if nest.upsample != (1, 1):
            pixels = tile.rows * tile.columns
            code.set("o", "seto", width=pixels if factor <= 2 else factor, ostride=int(factor == 2))
            if factor <= 2:
                self._dim(Agu.O, 0, factor, 1)
                self._dim(Agu.O, 1, -(-pixels // pes), pes * factor, pes)
            else:
                self._dim(Agu.O, 0, -(-factor // pes), pes, pes)
                self._dim(Agu.O, 1, pixels, factor)
            self._dim(Agu.O, 2, blocks, pixels * factor)
        elif nest.interleave > 1:
            low, high = nest.results(tile.x0, tile.x1)
            self._dim(Agu.O, 0, -(-tile.columns // pes), nest.interleave * pes, pes)
            self._dim(Agu.O, 1, tile.rows, high - low)
            self._dim(Agu.O, 2)
            return
        else:
            code.set("o", "seto", width=tile.columns, ostride=0)
            self._dim(Agu.O, 0, -(-tile.columns // pes), pes, pes)
            self._dim(Agu.O, 1, tile.rows, tile.columns)
            self._dim(Agu.O, 2, blocks, tile.rows * tile.columns)
        code.add("setb", agu=Agu.O, base=base, x=0, y=0, rewind=1)

    def block(
        self, tile: Tile, number: int, slot: int, records: int, weights: int | None, table: int, *, turn: int,
        next_w: bool = False,
    ) -> None:
        """All jobs of block `number` of a tile's results, which lie at word address `slot` of L1.

        Args:
            records, weights: word addresses in WMEM; weights None: the pointer is there. table: word address in L1.
            turn: neighbours in time with another parity do not wait for each other's parameter set.
            next_w: leave the pointer behind this block's weights.
        """
        nest, code, size = self.nest, self.code, self.platform.wmem_words
        self.records(records % size, turn)
        if nest.op is MacOp.MAC and weights is not None:
            code.add("setw", base=weights % size)
        elif nest.op is MacOp.TABLE:
            code.set("w", "setw", base=table)
        for part in range(nest.interleave):
            if nest.interleave > 1:
                self._interleaved(tile, slot, number, part)
            self._mac(tile, part * nest.lane_step, next_w and part + 1 == nest.interleave)

    def records(self, base: int, turn: int) -> None:
        """Load a block's requantization into one of the two parameter sets (a pair's into both)."""
        if self.nest.pair:
            self.code.add("ldp", pset=0, base=base)
            self.code.add("ldp", pset=1, base=base + self.nest.record_words // 2)
        else:
            self.pset = turn & 1
            self.code.add("ldp", pset=self.pset, base=base)

    def _interleaved(self, tile: Tile, slot: int, block: int, part: int) -> None:
        """AGU O for every second result of a block, from number `part` on."""
        low, high = self.nest.results(tile.x0, tile.x1)
        each, columns = self.nest.interleave, high - low
        self.code.set("o", "seto", width=-(-(columns - part) // each), ostride=each - 1)
        base = slot + block * tile.rows * columns + part
        self.code.add("setb", agu=Agu.O, base=base, x=0, y=0, rewind=1)

    def _mac(self, tile: Tile, lane: int, next_w: bool) -> None:
        nest, code = self.nest, self.code
        jobs = jobs_of(nest, tile) // nest.interleave
        for gate in self.gates:
            if gate is None:
                code.add("fence")
            else:
                code.wait(gate)
        self.gates = []
        common = {
            "op": nest.op, "depthwise": int(nest.depthwise), "first": 1, "last": 1, "advance": 1,
            "lanes": 0 if nest.depthwise and nest.op is not MacOp.TABLE else nest.lanes - 1, "lane": lane,
            "rewind_w": 1, "next_w": int(next_w), **nest.products.fields,
        }
        if nest.pair and nest.signed[0] != nest.signed[1]:
            code.add("mixed", jobs=jobs // 2, signed=nest.signed, **common)
            code.run(max(jobs * job_cycles(nest), jobs // 2 * 4 * CONTROLLER_CYCLES))
            return
        drain = Drain.PAIR if nest.pair else Drain.WRITE
        pset = 0 if nest.pair else self.pset
        code.add("mac", **common, signed_a=int(nest.signed[0]), pset=pset, drain=drain, repeat=jobs - 1)
        code.run(jobs * job_cycles(nest))


class _PlanEmitter(TileEmitter):
    """Emits one cluster's steps of a plan."""

    def __init__(self, plan: Plan, region: Region):
        super().__init__(ClusterCode(), plan.nest, plan.platform)
        self.plan, self.region = plan, region
        self.inputs = len(_keys(region.steps))
        self.input_index = -1
        self.weight_loads = weight_loads(plan, region)
        self.weight_index = 0

    def emit(self) -> ClusterCode:
        steps, code, chunked = self.region.steps, self.code, self.plan.mode is WeightMode.CHUNK
        if chunked:
            code.wait(ToCluster.WEIGHTS_READY)
            code.close()
        for number, step in enumerate(steps):
            if number == 0 or step.key != steps[number - 1].key:
                code.wait(ToCluster.INPUT_READY)
                self.input_index += 1
            blocks = step.b1 - step.b0
            self.maps(step.tile, step.b0, blocks, self.plan.inputs.at(self.input_index), whole=not chunked)
            if self.plan.outputs.used_before(number):
                code.wait(ToCluster.OUTPUT_FREE)
            self.outputs(step.tile, blocks, self.plan.outputs.at(number))
            if chunked:
                self._chunked(step)
            else:
                self._blocks(step, number)
            code.signal(ToDmpa.OUTPUT_READY)
            ends = number + 1 == len(steps) or steps[number + 1].key != step.key
            if ends and self.plan.inputs.used_again(self.input_index, self.inputs):
                code.signal(ToDmpa.INPUT_FREE)
            code.close()
        code.add("halt")
        code.close()
        return code

    def _blocks(self, step: TileStep, number: int) -> None:
        """All jobs of a step, block after block; weights resident or one slot a step."""
        nest, plan, code = self.nest, self.plan, self.code
        load = self.weight_loads
        for _ in range(plan.weight_parts if plan.mode is WeightMode.STEP or number < len(load) else 0):
            code.wait(ToCluster.WEIGHTS_READY)
        stepwise = plan.mode is WeightMode.STEP
        first = plan.weight_slot(number) if stepwise else plan.resident_block(self.region, step.b0)
        for b in range(step.b1 - step.b0):
            base = first + b * nest.block_words
            self.block(
                step.tile, b, plan.outputs.at(number), base, base + nest.record_words, plan.table_slot,
                turn=step.b0 - self.region.b0 + b,
            )  # fmt: skip
        for part in range(plan.weight_parts if plan.mode is WeightMode.STEP else 0):
            if number * plan.weight_parts + part + plan.ring_parts < len(load) * plan.weight_parts:
                code.signal(ToDmpa.WEIGHTS_FREE)

    def _chunked(self, step: TileStep) -> None:
        """Every job reads its weights in pieces that come and go."""
        nest, plan, code = self.nest, self.plan, self.code
        self.records((step.b0 - self.region.b0) * nest.record_words, step.b0 - self.region.b0)
        jobs, chunks = jobs_of(nest, step.tile), plan.chunks
        code.close()
        for _ in range(jobs):
            for number in range(len(chunks)):
                self._chunk(step, number)

    def _chunk(self, step: TileStep, number: int) -> None:
        """One piece of a job's weights. Later pieces move AGU A relative to the one before, so that they look alike."""
        nest, plan, code, tile = self.nest, self.plan, self.code, step.tile
        dy, dx = nest.dilation
        chunk, chunks = plan.chunks[number], plan.chunks
        code.wait(ToCluster.WEIGHTS_READY)
        self._inner(chunk.columns, dx, chunk.rows, dy, chunk.blocks, tile.width, tile.height)
        offset, x, y = self._offset(step, chunk)
        if number == 0:
            code.add("setb", agu=Agu.A, base=self.base % _WRAP, x=self.x, y=self.y)
        else:
            before, bx, by = self._offset(step, chunks[number - 1])
            code.add("addb", agu=Agu.A, step=offset - before, xstep=x - bx, ystep=y - by)
        code.add("setw", base=plan.weights.at(self.weight_index))
        last = number + 1 == len(chunks)
        code.add(
            "mac", op=nest.op, first=int(number == 0), last=int(last), advance=int(last), lanes=nest.lanes - 1,
            rewind_w=1, signed_a=int(nest.signed[0]), pset=self.pset, drain=Drain.WRITE,
            **nest.products.fields,
        )
        code.run(chunk.words // nest.lanes * max(nest.lanes, fetch_cycles(nest)))
        if plan.weights.used_again(self.weight_index, len(self.weight_loads)):
            code.signal(ToDmpa.WEIGHTS_FREE)
        self.weight_index += 1
        code.close()

    def _offset(self, step: TileStep, chunk: Chunk) -> tuple[int, int, int]:
        """Where a chunk's first window lies relative to the step's: (words, columns, rows)."""
        dy, dx = self.nest.dilation
        width, height = step.tile.width, step.tile.height
        words = chunk.c0 * width * height + chunk.r0 * dy * width + chunk.k0 * dx
        return words, chunk.k0 * dx, chunk.r0 * dy


def _keys(steps: Iterable[TileStep]) -> list[TileStep]:
    """The first step of each run of steps that use the same input."""
    out: list[TileStep] = []
    before = None
    for step in steps:
        if step.key != before:
            out.append(step)
        before = step.key
    return out


def weight_loads(plan: Plan, region: Region) -> list[tuple[int, int, int]]:
    """Loads of weights in order: (step, job, chunk) in CHUNK mode, else (step, 0, 0)."""
    if plan.mode is WeightMode.CHUNK:
        return [
            (number, job, chunk)
            for number, step in enumerate(region.steps)
            for job in range(jobs_of(plan.nest, step.tile))
            for chunk in range(len(plan.chunks))
        ]
    count = len(region.steps)
    if plan.mode is WeightMode.RESIDENT:
        tile = region.steps[0].tile
        count = sum(step.tile == tile for step in region.steps)
    return [(number, 0, 0) for number in range(count)]


def cluster_code(plan: Plan, region: Region) -> ClusterCode:
    """Instructions and events of one cluster's part of a plan."""
    return _PlanEmitter(plan, region).emit()
