# SPDX-License-Identifier: Apache-2.0
"""What the benches of J3DAI's blocks share: clusters of other sizes, instructions of extreme fields."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Shape
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.isa import INSTRUCTIONS, Opcode
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress.block_bench import corner

__all__ = ["MACHINES", "addresses", "any_word", "corners", "machine", "word"]

MACHINES = ((16, 8), (8, 4), (32, 16))
"""NCBs and PEs: the default machine, and two that differ from it in all that its 16 x 8 could hide."""


def machine(ncbs: int, pes: int) -> J3dai:
    """The default machine with clusters of this size, and with the memories that such a cluster can have."""
    size = ncbs // 16 or 1
    return PLATFORM.with_parameters(ncbs_per_cluster=ncbs, pes_per_ncb=pes, l1_bytes=64 * 1024 * size,
                                    dmpa_bits=min(1024, 8 * ncbs * pes))


def corners(rng: np.random.Generator, opcode: Opcode, often: float = 0.5, **fixed: int) -> dict[str, int]:
    """Fields of an instruction, each a `corner` of its width but for the `fixed` ones."""
    out = {}
    for name, field in INSTRUCTIONS[opcode].as_shape():
        shape = Shape.cast(field.shape)
        if name != "opcode":
            out[name] = fixed[name] if name in fixed else corner(rng, shape.width, shape.signed, often)
    return out


def word(opcode: Opcode, fields: dict[str, int]) -> int:
    return encode(INSTRUCTIONS[opcode], opcode=int(opcode), **fields)


def any_word(rng: np.random.Generator) -> int:
    """64 bits that look like an instruction: what stands in the instruction register while nothing executes."""
    return int(rng.choice([int(o) for o in Opcode])) | int(rng.integers(1 << 58)) << 6


def addresses(rng: np.random.Generator, line: int, words: int = 1 << 14) -> list[int]:
    """The first and the last line, word by word, and some between."""
    edge = list(range(2 * line))
    return [*edge, *(words - 1 - a for a in edge), *(corner(rng, words.bit_length() - 1) for _ in range(20))]
