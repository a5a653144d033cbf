# SPDX-License-Identifier: Apache-2.0
"""What J3DAI's images say beyond what every image says: where lists and programs lie, what each descriptor means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nncosim.compiler.image.image import Image, ImageError
from nncosim.compiler.image.plain import PlainError
from nncosim.compiler.image.traffic import Traffic
from nncosim.compiler.ir.layout import Layout

__all__ = ["InsideNote", "J3daiNotes", "ListNote", "j3dai_notes"]


@dataclass(frozen=True)
class ListNote:
    """The descriptor list of a step. `word`: its first in L2; `clusters`: a bit each; `plan`: for people."""

    word: int
    descriptors: int
    clusters: int
    program_counter: int
    plan: str


@dataclass(frozen=True)
class InsideNote:
    """A tensor that stays in L1. Each piece: which of its cluster's programs in the inference writes it, the cluster,
    the number of the first line and how many among those that the program's results make, L1 word, first row and one
    past the last, columns likewise, and the width of the map as these count it. `layout`: of a piece."""

    layout: Layout
    pieces: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class J3daiNotes:
    """`lists`: of each step. `inside`: the tensors in L1. `traffic`: None of a stripped image. `word_bytes`: of a word
    of L2. `runs`: how many programs each cluster runs in an inference. `input_lists`: so many, the first ones, hold all
    reads of the inputs, of an image whose inputs may be streamed; else 0."""

    lists: tuple[ListNote, ...] = ()
    traffic: Traffic | None = None
    word_bytes: int = 0
    runs: tuple[int, ...] = ()
    input_lists: int = 0
    inside: Mapping[str, InsideNote] = field(default_factory=dict)


def j3dai_notes(image: Image) -> J3daiNotes:
    """Raises ImageError for an image of another platform, or a damaged one."""
    try:
        return image.notes.own_as(J3daiNotes)
    except PlainError as error:
        raise ImageError(f"the image's notes are not J3DAI's, or damaged ({error}); compile it again") from error
