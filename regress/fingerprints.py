# SPDX-License-Identifier: Apache-2.0
"""What a change of the compiler must leave alone: the loadable bytes and the cycles of many images.

    python -m nncosim.regress.fingerprints > before.txt      # digits, the zoo, 200 random layers, three on ten machines
    python -m nncosim.regress.fingerprints --quick           # without the zoo, 20 random layers
    diff before.txt after.txt

A line an image: its name, the SHA-256 of its loadable segments (memory, address, bytes), and its cycles on the ISS.
Two runs at one commit print the same lines.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from nncosim.compiler.compile import compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.network import Network
from nncosim.platforms.parameters import parse_overrides
from nncosim.platforms.registry import get_platform
from nncosim.regress import zoo
from nncosim.regress.cases import case
from nncosim.regress.harness import digits_network
from nncosim.regress.random_layers import LAYERS, random_layer

__all__ = ["fingerprint"]

SEED = 1
QUICK_LAYERS = 20
ON_MACHINES = ("digits", "inverted_residuals", "mobilenet_like")
MACHINES = {"j3dai": (
    "clusters=1", "clusters=8", "dmpa_bits=512", "l2_bytes=0x280000", "l1_bytes=0x8000", "wmem_bytes=0x10000",
    "ncbs_per_requantizer=4,l1_ports=1", "ncbs_per_cluster=8,pes_per_ncb=4,dmpa_bits=256", "ncbs_per_cluster=32",
    "clusters=2,pes_per_ncb=16,dmpa_bits=512",
)}  # fmt: skip
"""By platform: settings of other machines than the default one."""


def _network(name: str) -> Network:
    """By name: "digits", a network of the zoo, a case of several layers, or the number of a random layer."""
    if name.isdecimal():
        return random_layer(SEED, int(name))[1]
    if name in ON_MACHINES[1:]:
        return case(name).build(SEED)
    return digits_network() if name == "digits" else import_model(zoo.model_path(name))


def fingerprint(name: str, settings: str = "", platform: str = "j3dai") -> str:
    """The line of one network on the platform's machine with `settings`, "clusters=2,dmpa_bits=512"."""
    base = get_platform(platform)
    chosen = parse_overrides(base, filter(None, settings.split(",")))
    compiled = compile_network(_network(name), base.with_parameters(**chosen))
    digest = hashlib.sha256()
    for segment in compiled.image.segments:
        digest.update(f"{segment.memory} {segment.address} {len(segment.data)} ".encode() + segment.data)
    return f"{name:18} {settings or 'default':44} {digest.hexdigest()[:32]} {compiled.iss_cycles:>9}"


def _cases(quick: bool, platform: str) -> Iterator[tuple[str, str]]:
    yield from ((name, "") for name in (["digits"] if quick else ["digits", *zoo.NETWORKS]))
    yield from ((name, settings) for name in ON_MACHINES for settings in MACHINES.get(platform, ()))
    yield from ((str(index), "") for index in range(QUICK_LAYERS if quick else LAYERS))


def main() -> None:
    """Print a line an image, always in the same order."""
    parser = argparse.ArgumentParser(prog="python -m nncosim.regress.fingerprints", description="Bytes and cycles.")
    parser.add_argument("--quick", action="store_true", help="without the zoo, 20 random layers")
    parser.add_argument("--platform", default="j3dai", help="its name (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default %(default)s)")
    chosen = parser.parse_args()
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for line in pool.map(
            partial(fingerprint, platform=chosen.platform), *zip(*_cases(chosen.quick, chosen.platform), strict=True)
        ):
            print(line, flush=True)


if __name__ == "__main__":
    main()
