# SPDX-License-Identifier: Apache-2.0
"""A pointer of the AIE-ML core, by the manual."""

from nncosim.hdl.aie_ml.agu import POINTER_BITS
from nncosim.hdl.aie_ml.isa import Post

__all__ = ["Generator"]

_MASK = (1 << POINTER_BITS) - 1


class Generator:
    """One pointer, by the manual."""

    def __init__(self):
        self.at = self.inc = self.n1 = self.s1 = self.n2 = self.s2 = self.c1 = self.c2 = 0

    def step(self, post: int, step: int) -> None:
        if post == Post.ADD.value:
            self.at += step
        elif post == Post.WALK.value:
            if self.c1 + 1 < self.n1:
                self.c1, self.at = self.c1 + 1, self.at + self.inc
            elif self.c2 + 1 < self.n2:
                self.c1, self.c2, self.at = 0, self.c2 + 1, self.at + self.s1
            else:
                self.c1, self.c2, self.at = 0, 0, self.at + self.s2
        self.at &= _MASK

    def set(self, which: int, value: int) -> None:
        if which == 0:
            self.at, self.c1, self.c2 = value & _MASK, 0, 0
        else:
            name = ("inc", "n1", "s1", "n2", "s2")[which - 1]
            setattr(self, name, value & 2047 if name in ("n1", "n2") else value)
