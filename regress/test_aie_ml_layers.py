# SPDX-License-Identifier: Apache-2.0
"""Dense layers and networks on the tile's RTL and its simulator: every bit, every cycle; and what a wrong bit does."""

from itertools import pairwise

import numpy as np
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.hdl.aie_ml.isa import Instruction
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.dense_models import DenseSpec, dense_network, random_inputs
from nncosim.tb.aie_ml.bench import BENCH

LAYERS = {
    "64x64x64": DenseSpec((64, 64), batch=64, relu=False),
    "64x64x64, Relu": DenseSpec((64, 64), batch=64, last_relu=True),
    "64x128x128": DenseSpec((128, 128), batch=64),
    "16x16x16": DenseSpec((16, 16), batch=16),
    "16x16x16, Relu, unsigned": DenseSpec((16, 16), batch=16, last_relu=True, unsigned=True),
    "one row, 256x64": DenseSpec((256, 64), batch=1, last_relu=True),
    "three rows, 33x9": DenseSpec((33, 9), batch=3),
    "int16 x int8, 64x64x64": DenseSpec((64, 64), batch=64, bits=16),
    "int16 x int16, 64x32x64": DenseSpec((32, 64), batch=64, bits=16, weight_bits=16, last_relu=True),
    "64-64-32-32-10, batch 8": DenseSpec((64, 64, 32, 32, 10), batch=8, unsigned=True),
    "16-64-32-32-8, batch 8": DenseSpec((16, 64, 32, 32, 8), batch=8),
    "40-48-20, int16, batch 5": DenseSpec((40, 48, 20), batch=5, bits=16),
}
CYCLES = {
    "64x64x64": 1052, "64x64x64, Relu": 1059, "64x128x128": 4125, "16x16x16": 45, "one row, 256x64": 546,
    "int16 x int8, 64x64x64": 2080, "int16 x int16, 64x32x64": 2083,
}  # fmt: skip
"""From the start to the core's being idle: a slower schedule is to be seen. A faster one moves the figure."""


def random_spec(seed: int) -> DenseSpec:
    rng = np.random.default_rng(seed)
    bits = int(rng.choice([8, 8, 16]))
    sizes: tuple[int, ...] = (128, 128, 128)
    while sum(-(-a // 16) * -(-b // 16) for a, b in pairwise(sizes)) * 256 * bits // 8 > 16384:  # what a bank holds
        sizes = tuple(int(n) for n in rng.integers(1, 90, int(rng.integers(2, 5))))
    relu, unsigned, bias, last_relu = (bool(n) for n in rng.integers(2, size=4))
    weight_bits = 16 if bits == 16 and rng.random() < 0.4 else 8
    return DenseSpec(sizes, int(rng.integers(1, 17)), bits, weight_bits, relu, unsigned, bias, last_relu, seed)


def compiled(spec: DenseSpec):
    network = import_model(dense_network(spec), name="dense", keep_batch=True)
    return compile_network(network, PLATFORM)


def frames_of(spec: DenseSpec, network, count: int) -> list[dict[str, np.ndarray]]:
    (name,) = network.inputs
    values = random_inputs(spec, count, 11).reshape(count, *network.tensors[name].shape)
    return [{name: each} for each in values]


def check(spec: DenseSpec, count: int = 2, driver: str = "direct") -> int:
    """Both backends; the cycles of the first inference."""
    made = compiled(spec)
    given, image = frames_of(spec, made.network, count), made.image.to_bytes()
    runs = [BENCH.run(PLATFORM, image, given, backend=backend, driver=driver if backend == "rtl" else None, seed=3)
            for backend in ("rtl", "iss")]  # fmt: skip
    for run in runs:
        assert run.diagnosis is None and len(run.frames) == count
        for frame, inputs in zip(run.frames, given, strict=True):
            want = evaluate(made.network, inputs)
            assert {op.output for op in made.network.ops} == set(frame.tensors)
            for name, values in (*frame.tensors.items(), *frame.memory.items()):
                assert (values == (want | inputs)[name]).all(), f"{run.backend}: {name}"
            assert frame.cycles == made.iss_cycles == sum(i.end - i.start for i in frame.intervals)
            assert all(sum(i.counters["core"].values()) == i.end - i.start for i in frame.intervals)
    (output,) = made.network.outputs
    results = runs[0].frames[0].memory[output]
    kind = made.network.tensors[output].type
    if results.size > 200:
        saturated = np.mean((results >= kind.hi) | (results <= kind.lo) & (kind.lo < 0))
        assert saturated < 0.02 and len(np.unique(results)) > 40
    return made.iss_cycles


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    cycles = check(LAYERS[name])
    assert cycles <= CYCLES.get(name, cycles)


@pytest.mark.parametrize("seed", range(24))
def test_random_layers(seed):
    check(random_spec(seed), count=1)


def test_under_cocotb():
    check(LAYERS["16-64-32-32-8, batch 8"], driver="cocotb")


def first_mac(program: bytes) -> int:
    """The byte with the registers that the first MAC of a program reads."""
    slot = Instruction.as_shape()["vector"].offset
    numbers = range(len(program) // 16)
    first = next(k for k in numbers if int.from_bytes(program[16 * k : 16 * k + 16], "little") >> slot & 3)
    return 16 * first + slot // 8


@pytest.mark.parametrize("backend", ["rtl", "iss"])
def test_a_wrong_bit_of_an_image_is_seen(backend):
    """In weights, bias and program: another result, other cycles, or no end."""
    spec = LAYERS["16x16x16"]
    made = compiled(spec)
    given = frames_of(spec, made.network, 1)
    want = evaluate(made.network, given[0])["y"]
    for number, segment in enumerate(made.image.segments):
        data = bytearray(segment.data)
        at = len(data) // 2 + 1 if segment.memory == "data" else first_mac(segment.data)
        data[at] ^= 0x55
        segments = list(made.image.segments)
        segments[number] = Segment(segment.memory, segment.address, bytes(data), segment.flags)
        spoilt = Image(tuple(segments), made.image.entry, tiles=made.image.tiles, notes=made.image.notes)
        run = BENCH.run(PLATFORM, spoilt.to_bytes(), given, backend=backend, seed=3, limit_cycles=2000,
                        driver="direct" if backend == "rtl" else None)  # fmt: skip
        frame = run.frames[0]
        same = run.diagnosis is None and (frame.tensors.get("y", ~want) == want).all()
        assert not same or frame.cycles != made.iss_cycles, segment.memory
