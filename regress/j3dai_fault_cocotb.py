# SPDX-License-Identifier: Apache-2.0
"""`nncosim.tb.run.cocotb_drive` with data spoilt on its way into a memory; see `nncosim.regress.j3dai_faults`.

The fault is in ``fault.pickle``, beside the job.
"""

import pickle
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from nncosim.compiler.image.image import Image
from nncosim.regress.j3dai_faults import rtl_site
from nncosim.regress.spoilt import Spoiler
from nncosim.tb.cocotb_bench import arguments
from nncosim.tb.run.cocotb_drive import run_image as whole
from nncosim.tb.sim.backdoor import attach

__all__ = ["run_spoilt"]


async def _spoil(dut):
    folder = Path(arguments()["folder"])
    job = pickle.loads((folder / "job.pickle").read_bytes())
    fault = pickle.loads((folder.parent / "fault.pickle").read_bytes())
    await RisingEdge(dut.frame)
    model = attach()
    platform, image = job["chip"].platform, Image.from_bytes(job["chip"].image)
    site = rtl_site(model, lambda: int(dut.lists_done.value), platform, image, fault)
    spoiler = Spoiler(fault, site)
    while True:
        await FallingEdge(dut.clk)
        spoiler.step()
        (folder.parent / "count").write_text(str(spoiler.count))


@cocotb.test()
async def run_spoilt(dut):
    """Run the job while its fault is there."""
    cocotb.start_soon(_spoil(dut))
    await whole.func(dut)
