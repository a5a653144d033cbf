# SPDX-License-Identifier: Apache-2.0
"""Descriptor lists: a layer's transfers with the addresses that placement found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from nncosim.compiler.j3dai.transfers import Transfer
from nncosim.hdl.j3dai.asm import DescriptorList, address
from nncosim.hdl.j3dai.isa import DmpaOp, Space
from nncosim.platforms.j3dai import J3dai

__all__ = ["descriptor_list"]


def descriptor_list(transfers: Iterable[Transfer], at: Mapping[str, int], platform: J3dai) -> DescriptorList:
    """The list of a layer. `at`: byte address in L2 of each buffer."""
    out = DescriptorList(platform)
    size = {Space.L1: platform.l1_words, Space.WMEM: platform.wmem_words, Space.IMEM: platform.imem_words}
    for transfer in transfers:
        for number, piece in enumerate(transfer.pieces):
            word, fields = at[piece.buffer] // platform.word_bytes, dict[str, int]()
            if piece.gather is None:
                op, word = transfer.op, word + piece.offset
            else:
                op, fields = DmpaOp.GATHER, asdict(piece.gather)
                word, fields["offset"] = word + piece.offset // platform.word_bytes, piece.offset % platform.word_bytes
            fields |= {
                "clusters": transfer.clusters, "l2": word,
                "local": address(piece.space, piece.local % size[piece.space]), "n0": piece.n0, "n1": piece.n1,
                "l2_step1": piece.l2_step1, "local_step1": piece.local_step1, "n2": piece.n2,
                "l2_step2": piece.l2_step2, "local_step2": piece.local_step2,
            }
            if number == 0 and transfer.wait is not None:
                fields |= {"wait_mask": transfer.clusters, "wait_semaphore": transfer.wait}
            if number == len(transfer.pieces) - 1 and transfer.signal is not None:
                fields |= {"signal_mask": transfer.clusters, "signal_semaphore": transfer.signal}
            out.add(op, **fields)
    return out
