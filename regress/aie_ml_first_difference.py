# SPDX-License-Identifier: Apache-2.0
"""Where the RTL of AIE-ML's array parts first from its simulator, on small dense networks.

    python -m nncosim.regress.aie_ml_first_difference --platform aie_ml --json found.json
"""

from __future__ import annotations

from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.base import Platform
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.regress.first_difference import Found, Networks, of_networks, run_command
from nncosim.tb.errors import BenchError

__all__ = ["first_difference", "main"]


def _of_dense_layers(platform: AieMl) -> Networks:
    for spec in (DenseSpec((16, 64, 32)), DenseSpec((40, 24, 10), batch=16, unsigned=True), DenseSpec((256, 128, 64))):
        made = compiled(spec, platform)
        yield spec.name, made, frames_of(spec, made.network, 2)


def first_difference(platform: Platform) -> Found | None:
    """The first network of which the two differ; None without one.

    Raises:
        NncosimError: as `nncosim.tb.run.flow.run_program`; BenchError also of another platform.
    """
    if not isinstance(platform, AieMl):
        raise BenchError(f"these are networks of aie_ml, not of {platform.name}")
    return of_networks(platform, _of_dense_layers(platform))


def main() -> None:
    """The command."""
    run_command(first_difference, "aie_ml_first_difference")


if __name__ == "__main__":
    main()
