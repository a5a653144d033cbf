"""J3DAI: CEA-List's near-sensor accelerator (Tain et al., ISLPED 2025, arXiv 2506.15316).

Published: 768 multiply-accumulates a cycle at 200 MHz, a DMPA of 1024 bit a cycle, 5 MiB of L2
(2 + 3), 256 + 256 KiB of host memory, a 32-bit RISC-V host, a program per layer in each cluster's
instruction memory. The choices below are ours; each says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nncosim.platforms.base import Engine, Memory, Mover, Platform, Published, is_power_of_two
from nncosim.platforms.errors import PlatformError

__all__ = ["NCB_FLIP_FLOP_BITS", "PLATFORM", "J3dai"]

NCB_FLIP_FLOP_BITS = 2179
"""Counted in the mapped netlist by regress/test_timing.py, which fails when this is not what it counts."""

_CHAPTER = "Szczepanski et al., Closing the Gap Between AI Models and Silicon (2025), table 4.1"


@dataclass(frozen=True)
class J3dai(Platform):
    """Parameters of the J3DAI accelerator.

    clusters x ncbs_per_cluster x pes_per_ncb: 6 x 16 x 8 = 768 is the one clean reading of "1024 bit a
        cycle": a DMPA beat is one byte for every PE of a cluster. An NCB is one output channel, a PE one
        pixel, so a cluster makes 16 channels x 8 pixels at a time.
    l1_bytes: 64 KiB of feature maps a cluster, in one bank per PE, so that a window of 8 pixels is read in
        one cycle. It holds two row tiles of a 32 x 32 x 128 map with their results.
    wmem_bytes: 32 KiB of weights a cluster: twice 16 output channels of a 1x1 kernel over 1024 channels.
    imem_bytes: 4 KiB, 512 instructions: two layers' programs.
        Together 100 KiB, under the 128 KiB that a cluster may have.
    l2_bytes: published. One port, a line of dmpa_bits.
    """

    name: ClassVar[str] = "j3dai"
    title: ClassVar[str] = "J3DAI (CEA-List): clusters of neural compute blocks, DMPA, RISC-V host"
    published: ClassVar[tuple[Published, ...]] = (
        Published("MobileNetV1 256x192", "latency at 200 MHz", 992_000, "cycles", _CHAPTER),
        Published("MobileNetV2 256x192", "latency at 200 MHz", 808_000, "cycles", _CHAPTER),
        Published("MobileNetV1-0.5 FPN 512x384", "latency at 200 MHz", 1_486_000, "cycles", _CHAPTER),
        Published("MobileNetV1 256x192", "MAC/cycle", 561.5, "MAC/cycle", _CHAPTER),
        Published("MobileNetV2 256x192", "MAC/cycle", 357.7, "MAC/cycle", _CHAPTER),
        Published("MobileNetV1-0.5 FPN 512x384", "MAC/cycle", 590.2, "MAC/cycle", _CHAPTER),
    )

    clusters: int = 6
    ncbs_per_cluster: int = 16
    pes_per_ncb: int = 8
    clock_hz: int = 200_000_000
    dmpa_bits: int = 1024
    l1_bytes: int = 64 * 1024
    wmem_bytes: int = 32 * 1024
    imem_bytes: int = 4 * 1024
    l2_bytes: int = 5 * 1024 * 1024
    host_imem_bytes: int = 256 * 1024
    host_dmem_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        if not 1 <= self.clusters <= 8:
            raise PlatformError(f"clusters must be 1 to 8 (a descriptor's mask has 8 bits), not {self.clusters}")
        if self.ncbs_per_cluster != 16 or self.pes_per_ncb != 8:
            raise PlatformError(
                "the cluster is built for 16 NCBs of 8 PEs (a 16-byte word, 8 banks), "
                f"not {self.ncbs_per_cluster} x {self.pes_per_ncb}"
            )
        if self.dmpa_bits not in (128, 256, 512, 1024):
            raise PlatformError(f"dmpa_bits must be 128, 256, 512 or 1024, not {self.dmpa_bits}")
        for field in ("l1_bytes", "wmem_bytes", "imem_bytes"):
            value = getattr(self, field)
            if not is_power_of_two(value) or value < 16 * self.line_bytes or value > 256 * 1024:
                raise PlatformError(f"{field} must be a power of two from 2 KiB to 256 KiB, not {value}")
        if self.imem_bytes > 4096:
            raise PlatformError(f"imem_bytes must be at most 4096 (9-bit program counter), not {self.imem_bytes}")
        if self.l2_bytes % self.line_bytes or not 0 < self.l2_bytes <= 16 * 1024 * 1024:
            raise PlatformError(f"l2_bytes must be whole 128-byte lines, at most 16 MiB, not {self.l2_bytes}")

    @property
    def word_bytes(self) -> int:
        """A word is one pixel of `ncbs_per_cluster` channels."""
        return self.ncbs_per_cluster

    @property
    def banks(self) -> int:
        """Banks of L1, WMEM, IMEM and L2, each one word wide."""
        return self.pes_per_ncb

    @property
    def line_bytes(self) -> int:
        return self.word_bytes * self.banks

    @property
    def beat_words(self) -> int:
        """Words that the DMPA moves in a cycle."""
        return self.dmpa_bits // 8 // self.word_bytes

    @property
    def l1_words(self) -> int:
        return self.l1_bytes // self.word_bytes

    @property
    def wmem_words(self) -> int:
        return self.wmem_bytes // self.word_bytes

    @property
    def imem_words(self) -> int:
        return self.imem_bytes // self.word_bytes

    @property
    def l2_words(self) -> int:
        return self.l2_bytes // self.word_bytes

    @property
    def facts(self) -> dict[str, str]:
        """What limits the design, for `nncosim platforms j3dai`."""
        storage = self.l1_bytes + self.wmem_bytes + self.imem_bytes
        return {
            "SRAM of a cluster": f"{storage // 1024} KiB (L1, WMEM, IMEM), of 128 KiB it may have",
            "flip-flops of an NCB": f"{NCB_FLIP_FLOP_BITS} bits, of 8,192 it may have",
        }

    @property
    def memories(self) -> tuple[Memory, ...]:
        word = self.word_bytes * 8
        return (
            Memory("l2", self.l2_bytes, word, self.banks),
            Memory("l1", self.l1_bytes, word, self.banks, self.clusters),
            Memory("wmem", self.wmem_bytes, word, self.banks, self.clusters),
            Memory("imem", self.imem_bytes, word, self.banks, self.clusters),
            Memory("host_imem", self.host_imem_bytes, 32),
            Memory("host_dmem", self.host_dmem_bytes, 32),
        )

    @property
    def movers(self) -> tuple[Mover, ...]:
        return (Mover("dmpa", ("l2", "l1", "wmem", "imem"), self.dmpa_bits),)

    @property
    def engines(self) -> tuple[Engine, ...]:
        return (Engine("cluster", self.ncbs_per_cluster * self.pes_per_ncb, self.clusters),)


PLATFORM = J3dai()
