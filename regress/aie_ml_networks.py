# SPDX-License-Identifier: Apache-2.0
"""`python -m nncosim.regress.aie_ml_networks`: dense networks on the AIE-ML array, six of them beside AIE4ML's cycles.

Latency: cycles from the first word into the array to the last one out of it, batch 8, int8, words at the shim row after
row as a user has them. AIE4ML's: the best of each network in its repository's table, in AMD's simulator. Interval:
mean cycles between batches in a long stream without gaps. Each search has its own objective.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from nncosim.compiler.compile import Compiled
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.registry import get_platform
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.tb.aie_ml.bench import BENCH
from rich.console import Console
from rich.table import Table

__all__ = ["NETWORKS", "Published", "cycles_of", "main", "tiles_of"]


@dataclass(frozen=True)
class Published:
    """A network's layer sizes; AIE4ML's cycles, and the tiles it takes for them; None where nothing is published."""

    sizes: tuple[int, ...]
    cycles: int | None = None
    tiles: int | None = None

    @property
    def spec(self) -> DenseSpec:
        return DenseSpec(self.sizes, batch=8)


NETWORKS = {
    "jet_tagger": Published((16, 64, 32, 32, 8), 909, 18),
    "tau_event_selection": Published((160, 64, 64, 64, 8), 1241, 38),
    "vae_lhc_medium": Published((64, 64, 32, 8, 32, 64, 64), 1439, 52),
    "vae_lhc_large": Published((64, 128, 64, 12, 64, 128, 64), 1813, 88),
    "multi_qubit_readout": Published((256, 128, 128, 128, 128, 8), 2124, 164),
    "deep_autoencoder": Published((128, 128, 128, 128, 128, 8, 128, 128, 128, 128), 3724, 117),
    "seven of 512": Published((512,) * 8),
    "fourteen of 64": Published((64,) * 15),
}


def tiles_of(made: Compiled) -> int:
    """Tiles with a part of a layer."""
    return len({engine for step in made.image.notes.steps for engine in step.engines})


def cycles_of(made: Compiled, spec: DenseSpec, backend: str) -> int:
    """Every bit of every tensor compared, and the cycles with those that were predicted.

    Raises:
        ValueError: a difference.
    """
    (inputs,), platform = frames_of(spec, made.network, 1), made.platform
    assert isinstance(platform, AieMl)
    run = BENCH.run(platform, made.image.to_bytes(), [inputs], backend=backend,
                    driver="direct" if backend == "rtl" else None)  # fmt: skip
    frame, want = run.frames[0], evaluate(made.network, inputs)
    found = {**frame.tensors, **{f"{name} out": values for name, values in frame.memory.items()}}
    wrong = [name for name, values in found.items() if not np.array_equal(values, want[name.removesuffix(" out")])]
    if run.diagnosis or wrong or len(found) != len(made.network.ops) + 1 or frame.cycles != made.iss_cycles:
        raise ValueError(f"{spec.name}: {run.diagnosis or wrong or frame.cycles}")
    return frame.cycles


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("rtl", "iss"), default="iss")
    parser.add_argument("--platform", choices=("aie_ml", "aie_ml_v2"), default="aie_ml")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help="some of the names; default: all")
    given = parser.parse_args()
    unknown = [name for name in given.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"there is no network {unknown[0]!r}; the networks are {', '.join(NETWORKS)}")
    platform = get_platform(given.platform)
    assert isinstance(platform, AieMl)
    title = f"Dense networks, batch 8, int8, {platform.name} on {given.backend}; cycles, and tiles in brackets"
    table = Table(title=title, box=None)
    for column in ("network", "AIE4ML on AIE-ML", "with no more tiles", "its splits", "least latency", "least interval",
                   "fewest tiles"):  # fmt: skip
        table.add_column(column, justify="left" if column in ("network", "its splits") else "right")
    for name in given.networks:
        table.add_row(name, *_row(NETWORKS[name], platform, given.backend))
    Console(width=160).print(table)


def _row(published: Published, platform: AieMl, backend: str) -> list[str]:
    spec, cells = published.spec, ["-", "-", "-"]
    if published.tiles is not None:
        few = compiled(spec, platform, most_tiles=published.tiles)
        splits = " ".join(str(box.split) for box in few.lowered.private.boxes)
        cells = [f"{published.cycles:,} ({published.tiles})", _with_tiles(cycles_of(few, spec, backend), few), splits]
    latency, throughput, fewest = (compiled(spec, platform, objective=each)
                                   for each in ("latency", "throughput", "fewest"))  # fmt: skip
    cycles_of(throughput, spec, backend)
    interval = BENCH.interval(platform, throughput.image.to_bytes())
    return [*cells, _with_tiles(cycles_of(latency, spec, backend), latency), _with_tiles(interval, throughput),
            _with_tiles(cycles_of(fewest, spec, backend), fewest)]  # fmt: skip


def _with_tiles(cycles: float | None, made: Compiled) -> str:
    return f"{cycles:,.1f} ({tiles_of(made)})" if isinstance(cycles, float) else f"{cycles:,} ({tiles_of(made)})"


if __name__ == "__main__":
    main()
