# SPDX-License-Identifier: Apache-2.0
"""J3DAI's host without its core: every access of both buses, the memories' ends, counters, against plain arrays."""

import random

import numpy as np
import pytest
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.host import Host
from nncosim.regress.j3dai_stub_core import CORE_PORTS, CORE_VERILOG
from nncosim.regress.puppet import Puppet
from nncosim.tb.model import Model
from nncosim.tb.verilate import build

DMEM, MMIO = 0x0010_0000, 0x1000_0000
"""By hand, from the manual."""
SIZES = [(8 * 1024, 1024 * 1024), (1024 * 1024, 8 * 1024)]
NO_STATE = 7


@pytest.fixture(scope="module", params=SIZES)
def host(request):
    imem, dmem = request.param
    sources = emit_design(Host(imem, dmem), "host_alone") | {"core.v": CORE_VERILOG}
    with Model(build(sources, "host_alone", optimize="-O0"), seed=1) as model:
        model.poison(1)
        yield model, imem, dmem


def address(rng: random.Random, dmem: int) -> tuple[str, int]:
    """Where a data access goes, and its address."""
    word = 4 * rng.choice([0, 1, dmem // 4 - 1, 1 << rng.randrange(dmem.bit_length() - 3), rng.randrange(dmem // 4)])
    return rng.choice([("dmem", DMEM + word), ("dmem", DMEM + word), ("mmio", MMIO + 4 * rng.randrange(64)),
                       ("mmio", MMIO + DMEM + 4 * rng.randrange(64)), ("nothing", 4 * rng.randrange(dmem // 4)),
                       ("nothing", 0x8000_0000 + 4 * rng.randrange(64))])


def test_every_access(host, seed):
    """Both buses at once, each cycle: what is granted, answered, stored, and shown to the registers."""
    model, imem, dmem = host
    rng, core = random.Random(seed), Puppet(model, "core", CORE_PORTS)
    code, data = model.memory("imem"), model.memory("dmem")
    stored: dict[int, int] = {}
    for name, (direction, bits) in CORE_PORTS.items():
        if direction == "out":
            core[name] = (1 << bits) - 1
    core["data_we_o"] = core["data_req_o"] = 0
    model.irq = model.in_frame = 1
    model.reset()
    model.eval()
    answer: tuple[str, int] | None = None  # where the access of the cycle before was to, and what a read gives
    fetched = state = None
    counters, pc = [0] * 6, 0
    for step in range(3000):
        fetch, where, access = rng.random() < 0.6, *address(rng, dmem)
        fetch_at = 4 * rng.choice([0, imem // 4 - 1, 1 << rng.randrange(imem.bit_length() - 3),
                                   rng.randrange(imem // 4)])
        request, write, enables = rng.random() < 0.7, rng.random() < 0.5, rng.randrange(16)
        word, sleep, irq, in_frame, mmio_data = (
            rng.getrandbits(32), rng.random() < 0.4, rng.random() < 0.5, rng.random() < 0.5, rng.getrandbits(32))
        core["instr_req_o"], core["instr_addr_o"], core["core_sleep_o"] = fetch, fetch_at, sleep
        core["data_req_o"], core["data_we_o"], core["data_be_o"] = request, write, enables
        core["data_addr_o"], core["data_wdata_o"] = access, word
        model.irq, model.in_frame, model.mmio_r_data = irq, in_frame, mmio_data
        model.eval()
        # This cycle: grants, the registers' port, answers to the cycle before.
        assert (core["instr_gnt_i"], core["data_gnt_i"]) == (fetch, request)
        assert model.mmio_r_en == (request and not write and where == "mmio")
        assert model.mmio_w_en == (request and write and where == "mmio")
        if where == "mmio":
            assert (model.mmio_addr, model.mmio_w_data) == (access & 0xFF, word)
        assert core["instr_rvalid_i"] == (fetched is not None) and core["data_rvalid_i"] == (answer is not None)
        if fetched is not None:
            assert core["instr_rdata_i"] == fetched
        if answer is not None and answer[0] != "write":
            assert core["data_rdata_i"] == (mmio_data if answer[0] == "mmio" else answer[1]), answer
        assert (core["irq_i"], model.sleeping) == (irq << 16, sleep)
        if step:
            assert model.pc == pc or pc is None
        assert model.probe_state == (NO_STATE if state is None else state)
        assert model.counters == sum(value << 32 * k for k, value in enumerate(counters))
        # What the edge does.
        index = (access - DMEM) // 4
        if request and write and where == "dmem":
            mask = sum(0xFF << 8 * k for k in range(4) if enables >> k & 1)
            stored[index] = (stored[index] if index in stored else int(data[index])) & ~mask | word & mask
        answer = None if not request else ("write", 0) if write else (
            (where, stored.get(index, int(data[index])) if where == "dmem" else 0))
        fetched = int(code[fetch_at // 4]) if fetch else None
        pc = fetch_at if fetch else pc
        if state is not None:
            counters[state] += 1
        state = (1 if in_frame else 5) if sleep else 0  # waiting for data, idle, busy
        model.tick()
        if request and where == "dmem":
            assert int(data[index]) == stored.get(index, int(data[index]))
    assert {k: int(data[k]) for k in stored} == stored and len(stored) > 50
    assert all(counters[k] for k in (0, 1, 5)) and not any(counters[k] for k in (2, 3, 4))


def test_writes_elsewhere_change_nothing(host, seed):
    model, _, dmem = host
    core, before = Puppet(model, "core", CORE_PORTS), model.memory("dmem").copy()
    rng = random.Random(seed)
    for _ in range(300):
        core["data_req_o"], core["data_we_o"], core["data_be_o"] = 1, 1, 15
        core["data_addr_o"] = rng.choice([0, MMIO, MMIO + DMEM]) + 4 * rng.randrange(dmem // 4)
        core["data_wdata_o"] = rng.getrandbits(32)
        model.eval()
        model.tick()
    assert np.array_equal(model.memory("dmem"), before)


def test_constants_and_reset(host):
    """What the core is told once and for all; it is in reset exactly while the host is."""
    model, *_ = host
    core = Puppet(model, "core", CORE_PORTS)
    for reset in (1, 0):
        model.rst = reset
        model.eval()
        assert core["rst_ni"] == 1 - reset
        for name in ("boot_addr_i", "mtvec_addr_i", "dm_halt_addr_i", "hart_id_i", "dm_exception_addr_i",
                     "debug_req_i", "scan_cg_en_i"):
            assert core[name] == 0, name
        assert core["fetch_enable_i"] == core["pulp_clock_en_i"] == 1
