# SPDX-License-Identifier: Apache-2.0
"""Chains of operators for tests of fused groups, and what fusing is worth, group by group.

python -m nncosim.regress.fusion MODEL.onnx [--set clusters=4 ...]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.ir.network import Network, TensorType
from nncosim.compiler.j3dai.backend import J3daiBackend
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.platforms.parameters import parse_overrides
from nncosim.regress.builder import INT8, RELU6, UINT8, NetworkBuilder
from nncosim.tb.cli.main import invoke
from nncosim.tb.cli.options import PATH
from nncosim.tb.run.program import read_model, read_source
from nncosim.tb.system.terminal import Terminal, plain_table
from rich.markup import escape

__all__ = ["compile_fused", "gains", "random_chain"]

def random_chain(seed: int, index: int) -> Network:
    """Pointwise, depthwise, pooling, requantization and sums one after the other, in sizes that divide nothing."""
    rng = np.random.default_rng([seed, index, 11])
    b = NetworkBuilder(int(rng.integers(1 << 30)), rounding=None if rng.random() < 0.3 else 0)  # type: ignore[arg-type]
    kinds = (INT8, UINT8, RELU6)

    def kind() -> TensorType:
        return kinds[int(rng.integers(3))]

    at = b.input(int(rng.integers(1, 70)), int(rng.integers(3, 40)), int(rng.integers(3, 40)), kind())
    if rng.random() < 0.5:
        at = b.conv(at, int(rng.integers(4, 50)), 3, int(rng.integers(1, 3)), kind=kind())
    for _ in range(3):
        at = _block(b, rng, at, kind)
    return b.build(f"chain{index}", at)


def _block(b: NetworkBuilder, rng: np.random.Generator, at: str, kind: Any) -> str:
    before, small = at, min(b.shapes[at][1:]) < 4
    if rng.random() < 0.7:
        at = b.conv(at, int(rng.integers(10, 130)), 1, kind=kind())
    choice = rng.random()
    if choice < 0.75 or small:
        at = b.depthwise(at, int(rng.choice([3, 3, 5])), 1 if small else int(rng.choice([1, 1, 2])), kind())
    elif choice < 0.9:
        at = b.max_pool(at, 2, 2)
    else:
        at = b.requantize(at, kind())
    same = rng.random() < 0.6
    at = b.conv(at, b.shapes[before][0] if same else int(rng.integers(3, 80)), 1, kind=kind())
    if b.shapes[at] == b.shapes[before]:
        at = b.add(*((at, before) if rng.random() < 0.5 else (before, at)), kind())
    return at


def compile_fused(network: Network, fusion: str = "cost", platform: J3dai = PLATFORM) -> Compiled:
    """Compiled with operators fused "cost" where it is faster, "prefer" wherever possible, "off" nowhere."""
    return compile_network(network, platform, backend=J3daiBackend(fusion))


def gains(fused: Compiled, apart: Compiled) -> list[tuple[str, tuple[str, ...], int, int]]:
    """(group, members, its cycles on the ISS, those of its members as layers of their own), in order."""
    alone = {step.name: step.cycles.best for step in apart.image.notes.steps}
    return [
        (step.name, step.ops, step.cycles.best, sum(alone[op] for op in step.ops))
        for step in fused.image.notes.steps
        if len(step.ops) > 1
    ]


@click.command()
@click.argument("model", type=PATH)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the platform.")
def main(model: Path, settings: tuple[str, ...]) -> None:
    """What fusing operators of MODEL is worth on J3DAI, in cycles by the cycle model."""
    platform = PLATFORM.with_parameters(**parse_overrides(PLATFORM, settings))
    network = read_model(model, read_source(model))
    fused = compile_fused(network, "cost", platform)
    roomy = platform.with_parameters(l2_bytes=platform.most_l2_bytes)  # it need not fit without
    apart = compile_fused(network, "off", roomy)
    table = plain_table()
    for column in ("group", "fused", "apart", "saved"):
        table.add_column(column, justify="left" if column == "group" else "right")
    for _, members, together, alone in gains(fused, apart):
        table.add_row(escape(" + ".join(members)), f"{together:,}", f"{alone:,}", f"{1 - together / alone:.1%}")
    whole, before = fused.iss_cycles, apart.iss_cycles
    table.add_row("network", f"{whole:,}", f"{before:,}", f"{1 - whole / before:.1%}")
    Terminal().print(table)


if __name__ == "__main__":
    raise SystemExit(invoke(command=main, name="python -m nncosim.regress.fusion"))
