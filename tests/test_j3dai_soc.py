# SPDX-License-Identifier: Apache-2.0
"""The chip's top: what is at its pins, and what is there for benches only."""

import re

from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.soc import SOC_MODULE, Soc, emit_soc
from nncosim.platforms.j3dai import J3dai

SMALL = J3dai(clusters=1, ncbs_per_cluster=8, pes_per_ncb=4, dmpa_bits=256, l2_bytes=1 << 20)


def ports(text: str) -> set[str]:
    """Of the first module of a Verilog file."""
    found = re.search(r"module \w+\((.*?)\);", text, re.DOTALL)
    assert found is not None
    return {name.strip() for name in found[1].split(",")}


def test_the_chip_has_no_ports_for_benches() -> None:
    chip = ports(emit_design(Soc(SMALL), SOC_MODULE)[f"{SOC_MODULE}.v"])
    assert chip == {"clk", "rst", "boot", "frame", "entry__payload", "entry__valid", "entry__ready", "input_free",
                    "trap", "error", "frames_done", "lists_done"}
    bench = ports(emit_soc(SMALL)[f"{SOC_MODULE}.v"])
    assert chip < bench and all(name.startswith("probe_") for name in bench - chip) and len(bench - chip) > 20
