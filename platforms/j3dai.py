# SPDX-License-Identifier: Apache-2.0
"""J3DAI: CEA-List's near-sensor accelerator (Tain et al., ISLPED 2025, arXiv 2506.15316).

Published: 768 multiply-accumulates a cycle at 200 MHz, a DMPA of 1024 bit a cycle, 5 MiB of L2
(2 + 3), 256 + 256 KiB of host memory, a 32-bit RISC-V host, a program per layer in each cluster's
instruction memory. The choices below are ours; each says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nncosim.platforms.area import Area
from nncosim.platforms.base import Engine, Memory, Mover, Platform, Published, is_power_of_two, macro_words
from nncosim.platforms.errors import PlatformError
from nncosim.platforms.j3dai_area import logic_blocks

__all__ = [
    "IMEM_BYTES", "L1_PORTS", "L2_WORDS", "LEAST_HOST_BYTES", "MEMORY_WORDS", "MOST_HOST_BYTES", "MOST_HZ", "NCBS",
    "NCB_FLIP_FLOP_BITS", "PES", "PE_FLIP_FLOP_BITS", "PLATFORM", "SHARING", "J3dai",
]  # fmt: skip

NCBS = (8, 16, 32)
PES = (4, 8, 16)
SHARING = (1, 2, 4, 8)
L1_PORTS = (1, 2)
MEMORY_WORDS = 1 << 14
"""A cluster-local address has 14 bits for the word."""
L2_WORDS = 1 << 20
"""A descriptor has 20 bits for a word of L2."""
IMEM_BYTES = 4096
"""A program counter has 9 bits, an instruction 8 bytes."""
LEAST_HOST_BYTES, MOST_HOST_BYTES = 8 * 1024, 1024 * 1024
"""4 KiB of the data memory are the host's stack; its address map gives each of the two 1 MiB."""
MOST_HZ = 1_000_000_000
"""Periods are whole picoseconds."""

NCB_FLIP_FLOP_BITS = 1178
"""Counted in the mapped netlist by regress/test_timing.py, which fails when this is not what it counts."""
PE_FLIP_FLOP_BITS = 90
"""Of these, what one of 8 PEs has: operand 9, product 17, accumulator 32, shadow register 32."""
REQUANTIZER_FLIP_FLOP_BITS = 202
"""And those of the requantizer's pipeline, which NCBs may share; each NCB has its two parameter sets."""

_CHAPTER = "Szczepanski et al., Closing the Gap Between AI Models and Silicon (2025), table 4.1"
_V1, _V2, _FPN = "7e64dd2f80f5fe0a", "7bdb5ba438ceac6c", "5b15d1723173c79a"
"""Topologies; of 557,154,304, 294,662,144 and 871,612,416 multiply-accumulates. The table prints 557, 289 and 877
million."""


@dataclass(frozen=True)
class J3dai(Platform):
    """Parameters of the J3DAI accelerator.

    clusters x ncbs_per_cluster x pes_per_ncb: 6 x 16 x 8 = 768 is the one clean reading of "1024 bit a
        cycle": a DMPA beat is one byte for every PE of a cluster. An NCB is one output channel, a PE one
        pixel, so a cluster makes 16 channels x 8 pixels at a time.
    ncbs_per_cluster: 8, 16 or 32: a word has a byte an NCB, and must hold whole 64-bit instructions and a whole number
        of words must make a descriptor (32 bytes), so 4 is too narrow and 64 too wide; lane numbers have 5 bits.
    pes_per_ncb: 4, 8 or 16: as many banks of L1, so that a window of neighbouring words is one read. With 2, a line of
        8 NCBs would not hold a descriptor; with 32, a drain (a PE a cycle) would last longer than most jobs, and
        32 words to rotate would not meet the clock. Both are powers of two: words are found by slices of an address.
    ncbs_per_requantizer: 1, 2, 4 or 8 NCBs share a requantizer, which gives a result a cycle. With one each, the 8
        results of a job take 8 cycles, and a job of a 3x3 depthwise kernel takes 9: shared ones are what such
        layers, and sums of tensors, then wait for.
    l1_ports: 2 ports read and write a bank in the same cycle, where 1 makes the window read wait for results and LOADs:
        depthwise layers read in every cycle, and lose a cycle of ten.
    dmpa_bits: from one word to a line. A line is what a cluster can take at a time: a smaller cluster than the default
        one leaves the rest of the 1024 bits unused.
    l1_bytes: 64 KiB of feature maps a cluster, in one bank per PE, so that a window of 8 pixels is read in
        one cycle. It holds two row tiles of a 32 x 32 x 128 map with their results.
    wmem_bytes: 32 KiB of weights a cluster: twice 16 output channels of a 1x1 kernel over 1024 channels.
    imem_bytes: 4 KiB, 512 instructions: two layers' programs.
        Together 100 KiB, under the 128 KiB that a cluster may have.
    l2_bytes: published. One port, a line of dmpa_bits.
    """

    name: ClassVar[str] = "j3dai"
    title: ClassVar[str] = "J3DAI (CEA-List): clusters of neural compute blocks, DMPA, RISC-V host"
    published_for: ClassVar[str] = "CEA's J3DAI"
    front: ClassVar[tuple[str, ...]] = ("cycles", "area_nand2")
    cycle_model: ClassVar[str] = "ISS"
    reconstruction: ClassVar[str] = "this is a reconstruction whose L1, WMEM, NCB and instruction set are ours"
    published: ClassVar[tuple[Published, ...]] = (
        Published("MobileNetV1 256x192", "latency at 200 MHz", 992_000, "cycles", _CHAPTER, topology=_V1),
        Published("MobileNetV2 256x192", "latency at 200 MHz", 808_000, "cycles", _CHAPTER, topology=_V2),
        Published("MobileNetV1-0.5 FPN 512x384", "latency at 200 MHz", 1_486_000, "cycles", _CHAPTER, topology=_FPN),
        Published("MobileNetV1 256x192", "MAC/cycle", 561.5, "MAC/cycle", _CHAPTER, topology=_V1),
        Published("MobileNetV2 256x192", "MAC/cycle", 357.7, "MAC/cycle", _CHAPTER, topology=_V2),
        Published("MobileNetV1-0.5 FPN 512x384", "MAC/cycle", 590.2, "MAC/cycle", _CHAPTER, topology=_FPN),
    )

    clusters: int = 6
    ncbs_per_cluster: int = 16
    pes_per_ncb: int = 8
    ncbs_per_requantizer: int = 1
    l1_ports: int = 2
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
        for field, allowed in (
            ("ncbs_per_cluster", NCBS), ("pes_per_ncb", PES), ("ncbs_per_requantizer", SHARING), ("l1_ports", L1_PORTS),
        ):
            if getattr(self, field) not in allowed:
                known = ", ".join(map(str, allowed[:-1])) + f" or {allowed[-1]}"
                raise PlatformError(f"{field} must be {known}, not {getattr(self, field)}")
        word, line = 8 * self.word_bytes, 8 * self.line_bytes
        if not is_power_of_two(self.dmpa_bits) or not word <= self.dmpa_bits <= max(line, 1024):
            raise PlatformError(
                f"dmpa_bits must be a power of two from {word} (a word of {self.ncbs_per_cluster} NCBs) to "
                f"{max(line, 1024)}, not {self.dmpa_bits}"
            )
        if not 1 <= self.clock_hz <= MOST_HZ:
            raise PlatformError(f"clock_hz must be 1 to {MOST_HZ} (1 GHz), not {self.clock_hz}")
        self._check_memories()

    def _check_memories(self) -> None:
        least, most = 16 * self.line_bytes, min(256 * 1024, MEMORY_WORDS * self.word_bytes)
        for field in ("l1_bytes", "wmem_bytes", "imem_bytes"):
            value = getattr(self, field)
            high = IMEM_BYTES if field == "imem_bytes" else most
            if not is_power_of_two(value) or not min(least, high) <= value <= high:
                why = " (9-bit program counter)" if field == "imem_bytes" else ""
                raise PlatformError(
                    f"{field} must be a power of two from {min(least, high)} to {high}{why}, not {value}"
                )
        for field in ("host_imem_bytes", "host_dmem_bytes"):
            value = getattr(self, field)
            if not is_power_of_two(value) or not LEAST_HOST_BYTES <= value <= MOST_HOST_BYTES:
                allowed = f"a power of two from {LEAST_HOST_BYTES} to {MOST_HOST_BYTES}"
                raise PlatformError(f"{field} must be {allowed}, not {value}")
        if self.l2_bytes % self.line_bytes or not 0 < self.l2_bytes <= self.most_l2_bytes:
            whole = f"whole lines of {self.line_bytes} bytes, at most {self.most_l2_bytes}"
            raise PlatformError(f"l2_bytes must be {whole}, not {self.l2_bytes}")

    @property
    def word_bytes(self) -> int:
        """A word is one pixel of `ncbs_per_cluster` channels: a byte an NCB."""
        return self.ncbs_per_cluster

    @property
    def banks(self) -> int:
        """Banks of L1, WMEM, IMEM and L2, each one word wide."""
        return self.pes_per_ncb

    @property
    def line_bytes(self) -> int:
        """A line is a word in each bank."""
        return self.word_bytes * self.banks

    @property
    def word_bits(self) -> int:
        return 8 * self.word_bytes

    @property
    def line_bits(self) -> int:
        return 8 * self.line_bytes

    @property
    def lane_bits(self) -> int:
        """Bits of a lane's number, the number of a byte in a word."""
        return self.word_bytes.bit_length() - 1

    @property
    def bank_bits(self) -> int:
        """Bits of a bank's number, the lowest of a word address; and of a PE's."""
        return self.banks.bit_length() - 1

    @property
    def word_instructions(self) -> int:
        """Instructions of 64 bits in a word of IMEM."""
        return self.word_bytes // 8

    @property
    def line_descriptors(self) -> int:
        """DMPA descriptors of 32 bytes in a line of L2."""
        return self.line_bytes // 32

    @property
    def beat_words(self) -> int:
        """Words that the DMPA moves in a cycle: what `dmpa_bits` hold, but no more than a line."""
        return min(self.dmpa_bits // 8 // self.word_bytes, self.banks)

    def gather_words(self, step: int) -> int:
        """Words of a GATHER's beat, each `step` bytes behind the one before: their bytes lie within a line from any
        word of L2 on, wherever in that word the first begins."""
        return min(self.beat_words, (self.line_bytes - 2 * self.word_bytes + 1) // step + 1)

    @property
    def most_l2_bytes(self) -> int:
        """The most L2 that a descriptor can address, and 16 MiB at most."""
        return min(16 * 1024 * 1024, L2_WORDS * self.word_bytes)

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
    def l2_macros(self) -> int:
        """SRAM macros behind each other in a bank of L2."""
        rows = self.l2_bytes // self.line_bytes
        return -(-rows // macro_words(rows, self.word_bits))

    @property
    def facts(self) -> dict[str, str]:
        """What limits the design, for `nncosim platforms j3dai`."""
        storage = self.l1_bytes + self.wmem_bytes + self.imem_bytes
        shared = self.ncbs_per_requantizer
        flip_flops = NCB_FLIP_FLOP_BITS + PE_FLIP_FLOP_BITS * (self.pes_per_ncb - 8) - (
            REQUANTIZER_FLIP_FLOP_BITS * (shared - 1) // shared)
        beat = self.beat_words * self.word_bytes
        return {
            "word, line": f"{self.word_bytes} bytes (one an NCB), {self.banks} words (one a PE)",
            "beat of the DMPA": f"{beat} bytes",
            "SRAM of a cluster": f"{storage // 1024} KiB (L1, WMEM, IMEM), of 128 KiB it may have",
            "flip-flops of an NCB": f"{flip_flops} bits, of 8,192 it may have",
        }

    @property
    def memories(self) -> tuple[Memory, ...]:
        word = self.word_bytes * 8
        return (
            Memory("l2", self.l2_bytes, word, self.banks),
            Memory("l1", self.l1_bytes, word, self.banks, self.clusters, ports=self.l1_ports),
            Memory("wmem", self.wmem_bytes, word, self.banks, self.clusters, ports=2),
            Memory("imem", self.imem_bytes, word, self.banks, self.clusters, ports=2),
            Memory("host_imem", self.host_imem_bytes, 32),
            Memory("host_dmem", self.host_dmem_bytes, 32),
        )

    @property
    def area(self) -> Area:
        """Logic by a model fitted to mapped netlists; see `nncosim.platforms.j3dai_area`."""
        return Area(logic_blocks(self), self.memories)

    @property
    def movers(self) -> tuple[Mover, ...]:
        return (Mover("dmpa", ("l2", "l1", "wmem", "imem"), 8 * self.beat_words * self.word_bytes),)

    @property
    def engines(self) -> tuple[Engine, ...]:
        return (Engine("cluster", self.ncbs_per_cluster * self.pes_per_ncb, self.clusters),)


PLATFORM = J3dai()
