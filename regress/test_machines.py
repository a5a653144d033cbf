# SPDX-License-Identifier: Apache-2.0
"""Clusters of other shapes: other numbers of NCBs (bytes of a word) and of PEs (banks, words of a line).

The shipped network and layers of each kind run on the simulator; on the RTL one small machine as a rule, the others
when asked for. The blocks' own benches run for other shapes too.
"""

from __future__ import annotations

import pytest
from nncosim.compiler.ir.operators import Conv
from nncosim.compiler.j3dai.tiling import compile_nest
from nncosim.kernels.base import KernelError
from nncosim.kernels.j3dai.conv import DenseConv
from nncosim.platforms.errors import PlatformError
from nncosim.platforms.j3dai import L1_PORTS, NCBS, PE_FLIP_FLOP_BITS, PES, PLATFORM, SHARING, J3dai
from nncosim.platforms.parameters import parse_overrides
from nncosim.regress.harness import ComparedRun, compile_case, compile_digits, digits_images, run_case, run_compiled

SHAPES = ((8, 4), (8, 16), (32, 16))
"""NCBs and PEs for layers of each kind: the smallest line, the longest, and one of narrow words and many banks."""
LAYERS = ("conv3x3_24ch_odd", "conv1x1_16", "conv3x3_large_k", "conv_groups_small", "dw3x3_s2", "gemm",
          "maxpool3_s2_pad", "global_avgpool", "add_mixed_signs", "requantize", "table_sigmoid", "concat_shifted",
          "resize_2x2", "resize_3x5", "chain")  # fmt: skip
ON_RTL = ("conv3x3_24ch_odd", "dw3x3_s2", "add_mixed_signs", "table_sigmoid", "resize_2x2")
IMAGES = (5, 17)  # of the test split

RTL_MACHINES = (
    {"ncbs_per_cluster": 8, "pes_per_ncb": 4, "ncbs_per_requantizer": 2, "l1_ports": 1},
    pytest.param({"ncbs_per_cluster": 32, "pes_per_ncb": 16, "ncbs_per_requantizer": 4}, marks=pytest.mark.slow),
    pytest.param({"ncbs_per_cluster": 8, "pes_per_ncb": 8, "dmpa_bits": 64, "ncbs_per_requantizer": 8, "l1_ports": 1},
                 marks=pytest.mark.slow),
    pytest.param({"ncbs_per_cluster": 32, "pes_per_ncb": 4, "dmpa_bits": 512}, marks=pytest.mark.slow),
)
"""Two clusters each and 1 MiB of L2, to be built soon."""


def label(value: object) -> str:
    return "x".join(map(str, value.values() if isinstance(value, dict) else value))  # type: ignore[call-overload]


def digits(platform: J3dai, backend: str) -> ComparedRun:
    compiled = compile_digits(platform)
    return run_compiled(compiled, backend, inputs=digits_images(compiled, *IMAGES))


def exact(run: ComparedRun) -> list[str]:
    """What is wrong, cycles that are not those of the ISS to the cycle included."""
    found = run.problems()
    for frame in range(0 if found else len(run.result.frames)):
        found += [f"{name}: {got} cycles, {want} on the ISS" for name, want, got in run.layers(frame) if want != got]
    return found


@pytest.mark.parametrize("ncbs", NCBS)
@pytest.mark.parametrize("pes", PES)
def test_the_trained_network_on_iss(ncbs: int, pes: int) -> None:
    run = digits(PLATFORM.with_parameters(ncbs_per_cluster=ncbs, pes_per_ncb=pes), "iss")
    assert exact(run) == []


def test_what_sharing_a_requantizer_and_a_port_costs() -> None:
    """Cycles that grow with each NCB that waits, and with one port; and logic that shrinks."""
    found = {}
    for shared in SHARING:
        for ports in L1_PORTS:
            platform = PLATFORM.with_parameters(ncbs_per_requantizer=shared, l1_ports=ports)
            run = digits(platform, "iss")
            assert exact(run) == []
            found[shared, ports] = run.cycles, platform.area
    for ports in L1_PORTS:
        cycles = [found[shared, ports][0] for shared in SHARING]
        logic = [found[shared, ports][1].logic_nand2 for shared in SHARING]
        assert cycles == sorted(set(cycles)) and logic == sorted(set(logic), reverse=True)
    for shared in SHARING:
        assert found[shared, 1][0] >= found[shared, 2][0]
        assert found[shared, 1][1].sram_nand2 < found[shared, 2][1].sram_nand2


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_layers_on_iss(shape: tuple[int, int], seed: int) -> None:
    platform = PLATFORM.with_parameters(clusters=3, ncbs_per_cluster=shape[0], pes_per_ncb=shape[1])
    for case in LAYERS:
        assert exact(run_case(case, "iss", seed=seed, platform=platform)) == [], case


@pytest.mark.parametrize("settings", RTL_MACHINES, ids=label)
def test_on_rtl(settings: dict[str, int], seed: int) -> None:
    """The same bits as the reference, the same cycles as the simulator."""
    platform = PLATFORM.with_parameters(clusters=2, l2_bytes=1 << 20, **settings)
    assert exact(digits(platform, "rtl")) == []
    for case in ON_RTL:
        assert exact(run_case(case, "rtl", "direct", seed, 2, platform)) == [], case


def test_more_pes_and_ncbs_are_faster() -> None:
    """A layer that fills all of them: twice as many do it in little more than half the cycles."""
    def cycles(ncbs: int, pes: int) -> int:
        return run_case("conv3x3_128", "iss", platform=PLATFORM.with_parameters(
            ncbs_per_cluster=ncbs, pes_per_ncb=pes, dmpa_bits=64 * ncbs)).cycles

    base = cycles(16, 8)
    assert cycles(8, 8) > 1.8 * base and cycles(16, 4) > 1.8 * base
    assert cycles(32, 8) < 0.6 * base


@pytest.mark.parametrize(("settings", "message"), [
    ({"ncbs_per_cluster": 4}, "ncbs_per_cluster must be 8, 16 or 32, not 4"),
    ({"ncbs_per_cluster": 12}, "ncbs_per_cluster must be 8, 16 or 32, not 12"),
    ({"pes_per_ncb": 2}, "pes_per_ncb must be 4, 8 or 16, not 2"),
    ({"pes_per_ncb": 32}, "pes_per_ncb must be 4, 8 or 16, not 32"),
    ({"ncbs_per_cluster": 32, "dmpa_bits": 128}, "power of two from 256 .a word of 32 NCBs. to 2048, not 128"),
    ({"dmpa_bits": 2048}, "dmpa_bits must be a power of two from 128 .* to 1024, not 2048"),
    ({"dmpa_bits": 384}, "dmpa_bits must be a power of two"),
    ({"ncbs_per_cluster": 8, "l1_bytes": 256 * 1024}, "l1_bytes must be a power of two from 1024 to 131072"),
    ({"ncbs_per_cluster": 8, "l2_bytes": 16 << 20}, "whole lines of 64 bytes, at most 8388608, not 16777216"),
    ({"ncbs_per_cluster": 32, "pes_per_ncb": 16, "l2_bytes": 5 * 1024 * 1024 + 128}, "whole lines of 512 bytes"),
    ({"ncbs_per_cluster": 32, "pes_per_ncb": 16, "wmem_bytes": 4096}, "wmem_bytes must be a power of two from 8192"),
    ({"imem_bytes": 8192}, r"imem_bytes must be a power of two from 2048 to 4096 \(9-bit program counter\)"),
    ({"ncbs_per_requantizer": 16}, "ncbs_per_requantizer must be 1, 2, 4 or 8, not 16"),
    ({"l1_ports": 3}, "l1_ports must be 1 or 2, not 3"),
    ({"clock_hz": 0}, r"clock_hz must be 1 to 1000000000 \(1 GHz\), not 0"),
    ({"host_imem_bytes": 2 << 20}, "host_imem_bytes must be a power of two from 8192 to 1048576, not 2097152"),
    ({"host_dmem_bytes": 4096}, "host_dmem_bytes must be a power of two from 8192"),
], ids=label)  # fmt: skip
def test_machines_that_cannot_be(settings: dict[str, int], message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        PLATFORM.with_parameters(**settings)


@pytest.mark.parametrize(("settings", "message"), [
    (("clusters",), "must look like clusters=6, not 'clusters'"),
    (("clusters=2.5",), "takes a whole number, such as clusters=6, not '2.5'"),
    (("clusters=2", "clusters=4"), "clusters is given twice, as 2 and as 4"),
])  # fmt: skip
def test_settings_that_are_none(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        parse_overrides(PLATFORM, settings)
    assert parse_overrides(PLATFORM, ("clusters=0x2", " l1_bytes = 4096")) == {"clusters": 2, "l1_bytes": 4096}


def test_what_follows_from_ncbs_and_pes() -> None:
    small = PLATFORM.with_parameters(ncbs_per_cluster=8, pes_per_ncb=4)
    assert (small.word_bytes, small.banks, small.line_bytes, small.beat_words) == (8, 4, 32, 4)
    assert (small.word_instructions, small.line_descriptors, small.peak_macs_per_cycle) == (1, 1, 6 * 32)
    assert small.movers[0].width_bits == 256, "a line, though the DMPA could be wider"
    large = PLATFORM.with_parameters(ncbs_per_cluster=32, pes_per_ncb=16)
    assert (large.word_bytes, large.banks, large.line_bytes, large.beat_words) == (32, 16, 512, 4)
    assert (large.word_instructions, large.line_descriptors, large.peak_macs_per_cycle) == (4, 16, 6 * 512)
    eight, sixteen = (int(p.facts["flip-flops of an NCB"].split()[0]) for p in (PLATFORM, large))
    assert sixteen - eight == 8 * PE_FLIP_FLOP_BITS and sixteen < 8192


def test_code_for_another_machine_is_refused() -> None:
    """A nest cut for one shape of words cannot be compiled for another."""
    network = compile_case("conv3x3_16", 1).network
    (layer,) = network.ops
    assert isinstance(layer, Conv)
    nest = DenseConv().code(layer, network, PLATFORM)
    with pytest.raises(KernelError, match="cut for words of 16 bytes and lines of 8 words, not 8 and 8"):
        compile_nest(nest, PLATFORM.with_parameters(ncbs_per_cluster=8))
